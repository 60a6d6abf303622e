# SPDX-License-Identifier: Apache-2.0
"""The status ``board``: read on a thread of its own, told over real DDS."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from models import constant_detector
from rcl_interfaces.msg import Log
from rclpy.node import Node
from sysfs_trees import AGX_ORIN_JETPACK_7, OFF, Tree
from world import Robot, World, values

from trt_perception.nodes import board
from trt_perception.nodes.board import Board, BoardMonitor
from trt_perception.ros.diagnostics import ERROR, OK, WARN, Diagnostics
from trt_perception.ros.parameters import ParameterError

GPU = 'sys/class/thermal/thermal_zone2/temp'


@pytest.fixture
def world(domain_id: int) -> Iterator[World]:
    world = World(domain_id)
    yield world
    world.close()


@pytest.fixture
def orin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tree]:
    monkeypatch.setitem(sys.modules, 'pynvml', None)
    monkeypatch.setattr(board, 'PERIOD', 0.02)
    tree = Tree(tmp_path / 'board', *AGX_ORIN_JETPACK_7)
    yield tree
    tree.close()


def threads() -> int:
    return sum(thread.name == 'board' for thread in threading.enumerate())


def of_board(statuses: list[DiagnosticArray]) -> list[DiagnosticStatus]:
    return [s for m in list(statuses) for s in m.status if s.name.endswith(': board')]


def test_a_board_in_trouble_tells_and_recovers(world, orin):
    heard = world.subscribe(DiagnosticArray, '/diagnostics')
    log: list[Log] = world.log()
    node = world.add(Node('watcher', namespace='robot', context=world.context))
    monitor = BoardMonitor(node, Diagnostics(node), orin.root)
    monitor.report(0)
    monitor.watch([0])
    monitor.watch([0])  # no other one for the same
    assert threads() == 1
    frames = 0

    def told(level: bytes, words: str) -> DiagnosticStatus:
        def reported() -> DiagnosticStatus | None:
            nonlocal frames
            frames += 2
            monitor.report(frames)
            fits = [s for s in of_board(heard) if s.level == level and words in s.message]
            return fits[-1] if fits else None

        return world.until(reported, words)

    first = told(OK, 'tj is the hottest with 64.5 C')
    assert (first.name, first.hardware_id) == (
        'robot/watcher: board', 'NVIDIA Jetson AGX Orin Developer Kit'
    )  # fmt: skip
    said = values(first)
    assert said.pop('energy J per frame', '0')
    assert said == {
        'tj C': '64.5', 'tj active trip C': '74.0', 'tj passive trip C': '99.0',
        'tj critical trip C': '104.5', 'soc0 C': '60.2', 'soc0 passive trip C': '99.0',
        'soc0 critical trip C': '104.5', 'gpu C': '63.1', 'gpu passive trip C': '99.0',
        'gpu critical trip C': '104.5', 'cpu C': '64.5', 'cpu passive trip C': '99.0',
        'cpu critical trip C': '104.5', 'tboard C': '55.0', 'margin C': '34.5', 'throttled': 'no',
        'oc1': '0', 'oc2': '0', 'oc3': '0', 'gpu clock MHz': '612', 'gpu clock at most MHz': '612',
        'gpu load': '0.87', 'emc clock MHz': '2133', 'emc clock at most MHz': '3199',
        'vdd_gpu_soc W': '11.82', 'vdd_cpu_cv W': '2.99', 'vin_sys_5v0 W': '5.96',
        'vddq_vdd2_1v8ao W': '0.99', 'power W': '20.78', 'power mode': 'MODE_30W',
        'fan duty': '0.50', 'fan rpm': '3210',
    }  # fmt: skip
    orin.set(GPU, 96000)
    told(WARN, 'gpu is at 96.0 C, 3.0 below where it is slowed down (99.0 C)')
    orin.set(GPU, 103000)
    assert 'slowed down' in values(told(ERROR, 'is switched off at 104.5 C'))['throttled']
    orin.set(GPU, 92000)
    told(WARN, 'was slowed down')
    orin.set(GPU, OFF)
    world.until(lambda: 'gpu C' not in values(told(WARN, 'gpu is at 92.0 C')), 'a zone that sleeps')
    per_frame = [values(s).get('energy J per frame') for s in of_board(heard)]
    assert any(float(joules) > 0 for joules in per_frame if joules)

    monitor.watch(None)
    assert (threads(), monitor.latest()) == (0, None)
    count = len(of_board(heard))
    monitor.report(frames)
    assert len(of_board(heard)) == count

    def lines() -> list[str]:
        return [line.msg for line in log if line.msg.startswith('board: ')]

    world.until(lambda: len(lines()) >= 4, 'log')
    assert lines()[0] == 'board: not here, and left out: NVML (nvidia-ml-py is not installed)'
    assert [line.partition(' C')[0] for line in lines()[1:3]] == [
        'board: gpu is at 96.0', 'board: gpu is at 103.0'
    ]  # fmt: skip
    assert len(lines()) == 4


def test_a_sensor_that_hangs_or_breaks_is_told(world, orin, monkeypatch):
    entered, go = threading.Event(), threading.Event()

    class Hanging:
        absent = ()

        def __init__(self, *given: Any) -> None:
            self._reads = 0

        def read(self) -> Any:
            self._reads += 1
            if self._reads == 1:
                entered.set()
                go.wait()
            raise RuntimeError('a driver went\naway')

    monkeypatch.setattr(board, 'Sensors', Hanging)
    monkeypatch.setattr(board, 'PATIENCE', 0.05)
    log: list[Log] = world.log()
    watched = Board([0], world.node.get_logger(), orin.root)
    assert entered.wait(60)
    world.until(lambda: watched.verdict().level == WARN)
    assert 'the sensors have not answered for' in watched.verdict().message
    assert watched.latest() is None
    watched.close()  # does not wait for ever
    assert threads() == 1
    go.set()
    world.until(lambda: threads() == 0)
    world.until(lambda: any(m.msg == 'board not read: a driver went away' for m in log))


def test_a_detector_tells_of_its_board(world, tmp_path):
    heard = world.subscribe(DiagnosticArray, '/diagnostics')
    robot = Robot(world, constant_detector(tmp_path / 'm.onnx'), board=False).until_active()
    assert threads() == 0
    assert robot.set(board=True) == ''
    assert robot.change('deactivate') and robot.change('cleanup') and robot.change('configure')
    assert threads() == 1
    status = world.until(lambda: of_board(heard), 'board')[-1]
    assert status.name == 'detector: board'
    world.remove(robot.node)
    assert threads() == 0


def test_no_camera_goes_by_its_name(world):
    with pytest.raises(ParameterError, match="'board' cannot be the name of a camera"):
        Robot(world, 'm.onnx', cameras=['front', 'board'])
    assert threads() == 0
