# SPDX-License-Identifier: Apache-2.0
"""The bond with a lifecycle manager that plays Nav2's sequence, over DDS."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('bond.msg')

from bond.msg import Status
from components import Container
from lifecycle_msgs.srv import ChangeState
from processes import TIMEOUT, parameters, start
from sensor_msgs.msg import Image
from world import Robot, World

from trt_perception.ros import bond
from trt_perception.ros.bond import BondError


class Manager:
    """The other side of a bond, as bondcpp in Nav2's lifecycle manager keeps it.

    Attributes:
        heard: all that the node has said.
    """

    PERIOD, TIMEOUT = 0.25, 2.0

    def __init__(self, world: World, node: str) -> None:
        self.world = world
        self.node = node
        self.heard: list[Status] = []
        self._last = 0.0
        self._publisher = world.node.create_publisher(Status, 'bond', 5)
        world.node.create_subscription(Status, 'bond', self._hear, 100)
        self._timer = world.node.create_timer(self.PERIOD, lambda: self.say(True))
        self._timer.cancel()

    def change(self, transition: str) -> bool:
        request = ChangeState.Request()
        request.transition.label = transition
        return self.world.call(ChangeState, f'{self.node}/change_state', request).success

    def say(self, active: bool, who: str = 'manager', bond: str = '') -> None:
        self._publisher.publish(
            Status(
                id=bond or self.node,
                instance_id=who,
                active=active,
                heartbeat_timeout=self.TIMEOUT,
                heartbeat_period=self.PERIOD,
            )
        )

    def begin(self) -> None:
        self._timer.reset()

    def end(self) -> None:
        self._timer.cancel()

    def beats(self, active: bool = True) -> int:
        return sum(message.active == active for message in list(self.heard))

    def instances(self) -> list[str]:
        return list(dict.fromkeys(message.instance_id for message in list(self.heard)))

    def expired(self) -> bool:
        return monotonic() - self._last > self.TIMEOUT

    def _hear(self, message: Status) -> None:
        if message.id == self.node and message.instance_id != 'manager':
            self._last = monotonic()
            self.heard.append(message)


@pytest.fixture
def managed(world: World, two: Path) -> Iterator[subprocess.Popen[str]]:
    """A detector as a process that waits for its manager."""
    options = parameters(model=two, threads=1, autostart='false', bond='true')
    process = start('detector', world.domain_id, *options)
    yield process
    process.kill()
    process.communicate()


def until_logged(world: World, log: list[Any], words: str) -> None:
    world.until(lambda: any(words in line.msg for line in list(log)), words)


def test_a_managed_node(world: World, managed: subprocess.Popen[str]) -> None:
    """Configure, activate, the bond forms, beats, and ends with the activity or the process."""
    log = world.log()
    manager = Manager(world, 'detector')
    assert manager.change('configure')
    assert not manager.heard
    assert manager.change('activate')
    manager.begin()
    until_logged(world, log, 'bond formed with a lifecycle manager')
    already = manager.beats()
    world.until(lambda: manager.beats() > already + 20, 'heartbeats')
    first = manager.heard[0]
    assert (first.id, round(first.heartbeat_timeout, 3)) == ('detector', 4.0)
    assert len(manager.instances()) == 1 and not manager.beats(active=False)

    # Nav2's manager drops its own side when the node has been deactivated.
    manager.end()
    assert manager.change('deactivate')
    world.until(lambda: manager.beats(active=False) >= 3, 'it says so until it is heard')
    manager.say(False)
    beats = manager.beats()

    # Once more, with a bond of its own; what is not meant for it does not form one.
    assert manager.change('activate')
    manager.say(True, bond='planner')
    world.until(lambda: manager.beats() > beats + 5, 'heartbeats')
    assert len(manager.instances()) == 2
    assert sum('bond formed' in line.msg for line in log) == 1
    manager.begin()
    world.until(lambda: sum('bond formed' in line.msg for line in log) == 2, 'a second bond')

    managed.send_signal(signal.SIGKILL)
    managed.wait(TIMEOUT)
    ends = manager.beats(active=False)
    world.until(manager.expired, 'it expires')
    assert manager.beats(active=False) == ends  # nobody said so


def test_an_end_by_signal_is_said(world: World, managed: subprocess.Popen[str]) -> None:
    manager = Manager(world, 'detector')
    assert manager.change('configure') and manager.change('activate')
    manager.begin()
    world.until(lambda: manager.beats() > 5, 'heartbeats')
    managed.send_signal(signal.SIGTERM)
    world.until(lambda: manager.beats(active=False), 'its end')
    assert managed.wait(TIMEOUT) == 0


def test_a_manager_of_all(world: World, two: Path, tmp_path: Path) -> None:
    """Twice up in order and down in reverse, in one process, each node with a bond."""
    graph = tmp_path / 'graph.yaml'
    managed = 'autostart: false, bond: true'
    graph.write_text(f"""
        components:
        - plugin: trt_perception::CameraNode
          parameters: {{source: pattern, rate: 10.0, {managed}}}
        - plugin: trt_perception::DetectorNode
          parameters: {{model: '{two}', threads: 1, {managed}}}
        - plugin: trt_perception::OverlayNode
          parameters: {{{managed}}}
    """)
    log = world.log()
    pictures = world.subscribe(Image, 'annotated')
    container = Container(world, tmp_path, '--config', str(graph))
    managers = [Manager(world, name) for name in ('camera', 'detector', 'overlay')]
    for turn in (1, 2):
        assert [m.change('configure') for m in managers] == [True] * 3
        for manager in managers:
            assert manager.change('activate')
            manager.begin()
        world.until(lambda: sum('bond formed' in m.msg for m in list(log)) == 3 * turn, 'bonds')  # noqa: B023
        already = len(pictures)
        world.until(lambda: len(pictures) > already + 2, 'pictures')  # noqa: B023
        for manager in reversed(managers):
            manager.end()
            ends = manager.beats(active=False)
            assert manager.change('deactivate')
            world.until(lambda: manager.beats(active=False) > ends, 'it says so')  # noqa: B023
            manager.say(False)
        assert [m.change('cleanup') for m in reversed(managers)] == [True] * 3
    code, said = container.end(signal.SIGTERM)
    assert code == 0, said
    assert 'rror' not in said, said


def test_a_manager_that_goes_first(world: World, two: Path) -> None:
    """Its end is acknowledged, and the node works on: nobody else is there to stop it."""
    log = world.log()
    manager = Manager(world, 'detector')
    robot = Robot(world, two, bond=True).until_active()
    manager.begin()
    until_logged(world, log, 'bond formed')
    manager.end()
    manager.say(False)
    until_logged(world, log, 'the bond with the lifecycle manager has ended')
    world.until(lambda: manager.beats(active=False) == 1, 'acknowledged')
    beats = manager.beats()
    robot.next_status()
    assert manager.beats() == beats
    assert robot.state() == 'active'


def test_a_manager_that_never_comes(
    world: World, two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bond, 'CONNECT_TIMEOUT', 0.5)
    log = world.log()
    robot = Robot(world, two, bond=True).until_active()
    until_logged(world, log, 'its bond_timeout may be 0')
    assert robot.state() == 'active'


def test_none_unless_it_is_asked_for(world: World, two: Path) -> None:
    robot = Robot(world, two).until_active()
    assert robot.node.count_publishers('bond') == 0


def test_without_the_package(world: World, two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'bond.msg', None)
    with pytest.raises(BondError, match='bond is not installed; sudo apt install'):
        Robot(world, two, bond=True)
