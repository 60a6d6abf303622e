# SPDX-License-Identifier: Apache-2.0
"""What breaks while a detector of two cameras runs, over real DDS: each fault is named on
diagnostics, is recovered from, disturbs nothing else, and every image is accounted for.

`rig` says how; how long it took is printed and not asserted.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from typing import NoReturn

import pytest
from models import constant_detector

pytest.importorskip('rclpy')

from processes import TIMEOUT, parameters, start
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rig import CAMERAS, RATE, Outcome, Rig
from world import NO_BUDGET, World

from trt_perception.build.engine import recovery, store
from trt_perception.build.engine.cache import EngineCache
from trt_perception.nodes import backend, detector
from trt_perception.runtime.worker import FAILURES

if not os.environ.get('CI'):
    pytest.importorskip('tensorrt_rtx_bindings', reason='TensorRT-RTX is not installed')

from fake_gpu import FakeGpu


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return constant_detector(tmp_path / 'm.onnx')


@pytest.fixture
def make_rig(world: World) -> Iterator[Callable[..., Rig]]:
    rigs: list[Rig] = []

    def make(model: Path, **parameters: object) -> Rig:
        rigs.append(Rig(world, model, **parameters))
        return rigs[-1].start()

    yield make
    for rig in rigs:
        rig.close()


def tell(fault: str, outcome: Outcome) -> Outcome:
    """Print what is shown of a test that fails, or with -s."""
    print(
        f'{fault}: named after {outcome.detected:.2f} s, answers {outcome.recovered:.2f} s and all'
        f' well {outcome.well:.2f} s after its end; lost {outcome.lost} of {outcome.sent}, of the'
        f' other camera {outcome.others_lost} of {outcome.others_sent}: {outcome.named}'
    )
    return outcome


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is done once in a while is done more often."""
    monkeypatch.setattr(recovery, 'FIRST_PAUSE', 0.2)
    monkeypatch.setattr(backend, 'RECENT', 0.5)
    monkeypatch.setattr(backend, 'STEADY', 1.0)
    monkeypatch.setattr(detector, 'REPORT_PERIOD', 0.2)


@pytest.mark.usefixtures('hasty')
def test_devices_and_files(
    make_rig: Callable[..., Rig], gpu: FakeGpu, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu.count = 2
    both = {0, 1}
    rig = make_rig(model, devices=['0', '1'], watchdog=0.6)
    rig.world.until(lambda: len(gpu.opened) == 2, 'both are open')

    outcome = rig.endure(lambda: gpu.break_context(0), 'the CUDA context is lost')
    tell('the context of one of two is lost', outcome)
    assert (outcome.lost, outcome.others_lost) == (0, 0)

    tell('all are lost', rig.endure(lambda: gpu.break_context(0, 1), 'the CUDA context is lost'))

    def vanish() -> None:
        gpu.gone |= both
        gpu.break_context(0, 1)

    outcome = rig.endure(vanish, '; runs on ONNX Runtime', gpu.gone.clear)
    tell('all are gone for a while', outcome)
    assert 'attempt' in outcome.named

    outcome = rig.endure(lambda: gpu.full.update(both), '; runs on ONNX', gpu.full.clear)
    tell('no memory', outcome)
    assert outcome.lost + outcome.others_lost >= FAILURES

    def return_() -> None:
        gpu.stuck.clear()
        gpu.returns.set()

    outcome = rig.endure(lambda: gpu.stuck.add(0), 'has not come back for 0.6 s', return_)
    tell('one of two hangs', outcome)
    assert outcome.lost + outcome.others_lost == 1

    def corrupt() -> None:
        for path in cache.folder.glob('*.engine'):
            path.write_bytes(path.read_bytes()[:-9])
        gpu.break_context(0, 1)

    cache = EngineCache()
    outcome = tell('the engine is corrupt', rig.endure(corrupt, 'is out of use'))
    assert [entry.fault for entry in cache.entries()] == ['']

    aside = model.with_suffix('.aside')
    outcome = rig.endure(
        lambda: model.rename(aside), "m.onnx' is gone on disk", lambda: aside.rename(model)
    )
    tell('the model is deleted', outcome)
    assert (outcome.lost, outcome.others_lost) == (0, 0)

    other = constant_detector(aside, scores=[0.7])
    outcome = rig.endure(
        lambda: other.replace(model), "m.onnx' is replaced on disk", rig.configure_anew
    )
    tell('the model is replaced', outcome)

    def refuse(descriptor: int) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fill() -> None:
        patch.setattr(store.os, 'fsync', refuse)
        constant_detector(model, scores=[0.8])
        rig.configure_anew()

    def empty() -> None:
        patch.undo()
        rig.configure_anew()

    with monkeypatch.context() as patch:
        outcome = rig.endure(fill, 'cannot be written: No space left on device', empty)
    tell('the disk of the engines is full', outcome)
    assert 'there is no engine: ' in outcome.named
    assert not list(cache.folder.glob('.*.tmp'))

    counts = rig.finish()
    for name in CAMERAS:
        assert counts[name]['published'] + counts[name]['failed'] > 0


def storm(world: World, thresholds: list[float]) -> int:
    """Set a parameter to these, as fast as it can be; how many were refused."""
    client = world.node.create_client(SetParameters, 'detector/set_parameters')
    world.until(client.service_is_ready, 'the service')
    refused, waves = 0, [thresholds[n : n + 8] for n in range(0, len(thresholds), 8)]
    for wave in waves:  # no more at once than the middleware keeps
        futures = [
            client.call_async(
                SetParameters.Request(
                    parameters=[Parameter('front.score_threshold', value=v).to_parameter_msg()]
                )
            )
            for v in wave
        ]
        world.until(lambda: all(future.done() for future in futures), 'an answer')  # noqa: B023
        refused += sum(not future.result().results[0].successful for future in futures)
    return refused


@pytest.mark.usefixtures('hasty')
def test_cameras(make_rig: Callable[..., Rig], tmp_path: Path) -> None:
    # Some 100 images a second are all that can be looked at.
    model = constant_detector(tmp_path / 'slow.onnx', work=2)
    # What the middleware overwrites of a flood it does not tell of.
    rig = make_rig(model, frozen_after=0.5, image_depth=100)
    front = rig.front

    def endure(
        fault: str,
        inject: Callable[[], object],
        words: str,
        clear: Callable[[], object] = lambda: None,
    ) -> Outcome:
        outcome = tell(fault, rig.endure(inject, words, clear, task='front'))
        assert outcome.others_lost == 0
        return outcome

    endure('unplugged', front.leave, 'nobody publishes /front/image', front.come_back)
    for name, value, well, words in (
        ('frozen', True, False, 'the same image for '),
        ('skew', 3.0, 0.0, 'images? stamped ahead of this clock, by up to 3.0'),
        ('skew', -60.0, 0.0, 'images? old when they came, up to 60 s by their stamps'),
    ):
        inject, clear = partial(setattr, front, name, value), partial(setattr, front, name, well)
        endure(f'{name} {value}', inject, words, clear)

    def again() -> None:
        front.send(front.sent[-1])

    def overtaken() -> None:
        front.send(front.sent[-1] - 300_000_000)

    endure('sent twice', again, '1 image with the stamp of the one before', lambda: None)
    endure(
        'overtaken', overtaken, '1 image stamped before the one before, by up to 0.3', lambda: None
    )

    calmed: list[float] = []

    def calm() -> None:
        front.rate = RATE
        calmed.extend((front.clock(), monotonic()))

    flood = partial(setattr, front, 'rate', 10 * RATE)
    assert endure('flood', flood, r', [1-9]\d* of \d+ dropped', calm).lost > 0
    old = [at for stamp, at in front.answered.items() if stamp < calmed[0] and at > calmed[1]]
    assert len(old) <= 7  # what the middleware holds back, what waits, and what was looked at

    others = len(rig.rear.sent)
    refused = storm(rig.world, [0.1, 7.0, 0.2, -1.0] * 50 + [0.3])
    assert refused == 100 and rig.node.get_parameter('front.score_threshold').value == 0.3
    rig.world.until(lambda: rig.rear.answered.keys() >= {*rig.rear.sent[others:-1]}, 'all of rear')

    counts = rig.finish()
    assert counts['front']['received'] + counts['front']['lost'] in front.heard
    assert counts['front']['failed'] == counts['front']['rejected'] == 0
    assert counts['rear']['received'] == counts['rear']['published'] in rig.rear.heard


def test_processes_that_stand_still(world: World, model: Path) -> None:
    """A camera and a detector as processes of their own, each stopped for a while."""
    rig = Rig(world, model, node=False)
    budget = {**NO_BUDGET, 'watchdog': 1.0, 'image_depth': 100}
    eye = start(
        'camera', world.domain_id, '-r', 'image:=front/image',
        *parameters(source='pattern', width=64, height=64, rate=20.0),
    )  # fmt: skip
    detector = start(
        'detector', world.domain_id,
        *parameters(model=model, threads=1, cameras='[front, rear]', **budget),
    )  # fmt: skip
    try:
        rig.start(sources=[rig.rear])
        rig.rear.rate = RATE  # whatever is answered: there is a backlog
        begun = monotonic()
        eye.send_signal(signal.SIGSTOP)
        sleep(2.5)
        detector.send_signal(signal.SIGSTOP)
        sleep(2.5)
        detector.send_signal(signal.SIGCONT)
        rig.until_says('inference', 'this process stood still for ', begun)
        rig.until_says('front', 'no image for ', begun)
        eye.send_signal(signal.SIGCONT)
        rig.until_says('front', r'^[1-9]\S* images/s', monotonic())
        # Nobody took that for an inference that hangs, nor lost count.
        assert not [s for _, s in rig.said if 'has not come back' in s.message]
        eye.send_signal(signal.SIGINT)
        assert eye.wait(TIMEOUT) == 0
        counts = rig.finish()
        assert counts['front']['failed'] == counts['rear']['failed'] == 0
        assert counts['rear']['received'] + counts['rear']['lost'] in rig.rear.heard
        assert counts['rear']['dropped'] > RATE  # and not looked at when it was old
    finally:
        rig.close()
        for process in (eye, detector):
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=TIMEOUT)
    assert (eye.returncode, detector.returncode) == (0, 0)
