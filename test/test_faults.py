# SPDX-License-Identifier: Apache-2.0
"""What breaks while a detector of two cameras runs, over real DDS: each fault is named on
diagnostics, is recovered from, disturbs nothing else, and every image is accounted for.

`injections` holds the faults, `rig` what they are injected into. How long it took is printed, not
asserted.
"""

from __future__ import annotations

import random
import threading
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
    JUMP,
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
from trt_perception.ros.diagnostics import OK


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return constant_detector(tmp_path / 'm.onnx')


@pytest.fixture
def make_lab(
    world: World, gpu: FakeGpu, model: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Lab]]:
    """Makes one in which all that is done once in a while is done more often."""
    monkeypatch.setattr(recovery, 'FIRST_PAUSE', 0.2)
    monkeypatch.setattr(backend, 'RECENT', 0.2)
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
    spoilt = lab.rig.spoilt('front')
    outcome = lab.endure(fault)
    print(
        f'{fault.name}: named after {outcome.detected:.2f} s, answers {outcome.recovered:.2f} s and'
        f' all well {outcome.well:.2f} s after its end; lost {outcome.lost} of {outcome.sent}, of'
        f' the other camera {outcome.others_lost} of {outcome.others_sent}: {outcome.named}'
    )
    if fault.spares:
        assert outcome.others_lost == 0
    if fault.spares == 'both':
        assert lab.rig.spoilt('front') == spoilt


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

    # Nor does the end of the node wait for what hangs.
    gpu.stuck, gpu.hanging = {0, 1}, 0
    lab.rig.front.send()
    lab.rig.world.until(lambda: gpu.hanging, 'it hangs')
    assert lab.rig.node is not None
    lab.rig.world.remove(lab.rig.node)
    assert not gpu.returns.is_set()
    gpu.returns.set()


def test_devices_and_transitions_in_any_order(
    make_lab: Callable[..., Lab], gpu: FakeGpu, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever comes while something else is under way: in the end all runs, and all is freed."""
    pytest.importorskip('tensorrt_rtx_bindings', reason='TensorRT-RTX is not installed')
    monkeypatch.setattr(recovery, 'PATIENCE', 0.3)
    monkeypatch.setattr(recovery, 'LONGEST_PAUSE', 0.4)
    gpu.count = 2
    lighter = constant_detector(model.with_name('lighter.onnx'), scores=[0.5])
    lab = make_lab(**TWO_GPUS | {'watchdog': 0.3, 'policy.lighter_models': [str(lighter)]})
    order, node = random.Random(5), lab.rig.node
    assert node is not None and node.executor is not None

    def heal() -> None:
        gpu.gone.clear()
        gpu.full.clear()
        gpu.let_go()

    def change_model(step: int) -> None:  # as the policy does, on the executor
        assert node is not None and node.executor is not None
        task = node.executor.create_task(lambda: node._detection and node._detection.lighter(step))
        lab.rig.world.until(task.done, 'another model')
        task.result()

    def configure_anew() -> None:
        gpu.gone.clear()  # else a device is left out
        lab.rig.configure_anew()

    acts: list[Callable[[], object]] = [
        lambda: gpu.break_context(0),
        lambda: gpu.break_context(0, 1),
        lambda: (gpu.gone.add(1), gpu.break_context(0, 1)),
        lambda: gpu.full.add(0),
        lambda: gpu.stuck.add(order.randrange(2)),
        heal,
        lambda: change_model(0),
        lambda: change_model(1),
        configure_anew,
    ]
    for act in order.choices(acts, k=40):
        act()
        sleep(order.uniform(0.0, 0.15))
    heal()

    def all_runs() -> bool:
        models = node._detection.replicas._models
        backends = [b for m in models for b in m.replicas.backends.values()]
        return len(backends) == 4 and all(b.info and not b.loss for b in backends)

    lab.rig.world.until(all_runs, 'both models run on both devices again')
    change_model(0)
    first = len(lab.rig.front.sent)
    lab.rig.world.until(lambda: lab.rig.front.answered.keys() & {*lab.rig.front.sent[first:]})
    lab.rig.finish()
    lab.rig.world.remove(node)
    threads = {'inference', 'recovery', 'freeing', 'build'}
    lab.rig.world.until(lambda: not threads & {t.name for t in threading.enumerate()}, 'the end')
    assert len(gpu.closed) == len(gpu.pipelines)


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


def test_a_clock_that_jumps(make_lab: Callable[..., Lab], gpu: FakeGpu) -> None:
    gpu.absent = 'the GPU is on holiday'
    lab = make_lab(use_sim_time=True)
    begun = monotonic()
    endure(lab, JUMP)
    for counts in lab.rig.finish().values():
        assert counts['clock jumps'] == 3  # from nowhere to the simulation, and two
        assert counts['received'] == counts['published'] + counts['dropped']
    messages = [status.message for at, status in lab.rig.said if at > begun and status.level != OK]
    assert not [text for text in messages if 'stood still' not in text]  # on a busy machine


def test_processes_that_stand_still(world: World, model: Path) -> None:
    with processes(world, model) as ours:
        rig = ours.rig
        rig.rear.rate = RATE  # whatever is answered: there is a backlog
        begun = monotonic()
        ours.stop(ours.camera)
        sleep(0.3)
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
