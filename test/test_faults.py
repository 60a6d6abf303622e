# SPDX-License-Identifier: Apache-2.0
"""What breaks while a detector of two cameras runs, over real DDS: each fault is named on diagnostics,
is recovered from, costs no more images than it must, and every image is accounted for.

`rig` says how; how long it took is printed and not asserted.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from models import constant_detector

pytest.importorskip('rclpy')

from rig import CAMERAS, Outcome, Rig
from world import World

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
    monkeypatch.setattr(recovery, 'FIRST_PAUSE', 0.05)
    monkeypatch.setattr(backend, 'RECENT', 0.5)
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

    outcome = rig.endure(lambda: gpu.full.add(0), 'OUT_OF_MEMORY', gpu.full.clear)
    tell('no memory on one of two', outcome)
    outcome = rig.endure(lambda: gpu.full.update(both), '; runs on ONNX', gpu.full.clear)
    tell('no memory at all', outcome)
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
    assert 'there is no engine: ' in outcome.named and 'runs on ' in outcome.named
    assert not list(cache.folder.glob('.*.tmp'))

    counts = rig.finish()
    for name in CAMERAS:
        assert counts[name]['published'] + counts[name]['failed'] > 0
