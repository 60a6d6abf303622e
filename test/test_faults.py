# SPDX-License-Identifier: Apache-2.0
"""What breaks while a detector of two cameras runs, over real DDS: each fault is named on
diagnostics, is recovered from, disturbs nothing else, and every image is accounted for.

`injections` holds the faults, `rig` what they are injected into. How long it took is printed, not
asserted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep

import pytest
from models import constant_detector

pytest.importorskip('rclpy')

from fake_gpu import FakeGpu
from injections import (
    CAMERAS,
    DEVICES,
    FILES,
    TWO_CAMERAS,
    TWO_GPUS,
    Fault,
    Lab,
    processes,
    storm,
)
from rig import RATE, Rig
from world import World

from trt_perception.build.engine import recovery
from trt_perception.build.engine.cache import EngineCache
from trt_perception.nodes import backend, detector


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return constant_detector(tmp_path / 'm.onnx')


@pytest.fixture
def make_lab(
    world: World, gpu: FakeGpu, model: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Lab]]:
    """Makes one in which all that is done once in a while is done more often."""
    monkeypatch.setattr(recovery, 'FIRST_PAUSE', 0.2)
    monkeypatch.setattr(backend, 'RECENT', 0.5)
    monkeypatch.setattr(backend, 'STEADY', 1.0)
    monkeypatch.setattr(detector, 'REPORT_PERIOD', 0.2)
    rigs: list[Rig] = []

    def make(**parameters: object) -> Lab:
        rigs.append(Rig(world, model, **parameters))
        return Lab(rigs[-1].start(), model, gpu, patch)

    with monkeypatch.context() as patch:
        yield make
    for rig in rigs:
        rig.close()


def endure(lab: Lab, fault: Fault) -> None:
    outcome = lab.endure(fault)
    print(
        f'{fault.name}: named after {outcome.detected:.2f} s, answers {outcome.recovered:.2f} s and'
        f' all well {outcome.well:.2f} s after its end; lost {outcome.lost} of {outcome.sent}, of'
        f' the other camera {outcome.others_lost} of {outcome.others_sent}: {outcome.named}'
    )
    if fault.spares:
        assert outcome.others_lost == 0
    if fault.spares == 'both':
        assert outcome.lost == 0


def test_devices_and_files(make_lab: Callable[..., Lab], gpu: FakeGpu) -> None:
    pytest.importorskip('tensorrt_rtx_bindings', reason='TensorRT-RTX is not installed')
    gpu.count = 2
    lab = make_lab(**TWO_GPUS)
    lab.rig.world.until(lambda: len(gpu.opened) == 2, 'both are open')
    for fault in DEVICES:
        endure(lab, fault)
    assert [entry.fault for entry in EngineCache().entries()] == ['']
    for fault in FILES:
        endure(lab, fault)
    assert not list(EngineCache().folder.glob('.*.tmp'))
    lab.rig.finish()


def test_cameras(make_lab: Callable[..., Lab], gpu: FakeGpu, model: Path) -> None:
    gpu.absent = 'the GPU is on holiday'
    constant_detector(model, work=4)  # some 50 images a second are all that can be looked at
    lab = make_lab(**TWO_CAMERAS)
    front, rear = lab.rig.front, lab.rig.rear
    for fault in CAMERAS:
        endure(lab, fault)

    # Of a flood that is over nothing is looked at any more.
    front.rate = 10 * RATE
    lab.rig.until_says('front', r', [1-9]\d* of \d+ dropped', monotonic())
    front.rate = RATE
    over, at = front.clock(), monotonic()
    first = len(front.sent)
    lab.rig.world.until(lambda: any(stamp in front.answered for stamp in front.sent[first:]))
    late = [stamp for stamp, when in front.answered.items() if stamp < over and when > at]
    assert len(late) <= 7  # looked at, waiting, and on their way to and fro

    first = len(rear.sent)
    assert storm(lab.rig.world, [0.1, 7.0, 0.2, -1.0] * 50 + [0.3]) == 100
    assert lab.rig.node is not None
    assert lab.rig.node.get_parameter('front.score_threshold').value == 0.3
    lab.rig.world.until(lambda: rear.answered.keys() >= {*rear.sent[first:-1]}, 'all of rear')

    counts = lab.rig.finish()
    assert counts['front']['received'] + counts['front']['lost'] in front.heard
    assert counts['front']['failed'] == counts['front']['rejected'] == 0
    assert counts['rear']['received'] == counts['rear']['published'] in rear.heard


def test_processes_that_stand_still(world: World, model: Path) -> None:
    with processes(world, model) as ours:
        rig = ours.rig
        rig.rear.rate = RATE  # whatever is answered: there is a backlog
        begun = monotonic()
        ours.stop(ours.camera)
        sleep(2.5)
        ours.stop(ours.detector, 2.5)
        rig.until_says('inference', 'this process stood still for ', begun)
        rig.until_says('front', 'no image for ', begun)
        ours.resume(ours.camera)
        rig.until_says('front', r'^[1-9]\S* images/s', monotonic())
        # Nobody took that for an inference that hangs, nor lost count.
        assert not [s for _, s in rig.said if 'has not come back' in s.message]
        ours.stop(ours.camera)  # for its images to be counted
        counts = rig.finish()
        assert counts['front']['failed'] == counts['rear']['failed'] == 0
        assert counts['rear']['received'] + counts['rear']['lost'] in rig.rear.heard
        assert counts['rear']['dropped'] > RATE  # and not looked at when it was old
