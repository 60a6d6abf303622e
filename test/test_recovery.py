# SPDX-License-Identifier: Apache-2.0
"""A device that was lost: when it is opened again, what runs meanwhile, and what does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import monotonic, sleep

import pytest
from models import constant_detector

pytest.importorskip('tensorrt_rtx_bindings', reason='TensorRT-RTX is not installed')

from fake_gpu import NAME, FakeGpu

from trt_perception.build.engine import recovery as module
from trt_perception.build.engine.cache import EngineCache
from trt_perception.build.engine.make import make_engine
from trt_perception.build.engine.recovery import (
    LONGEST_PAUSE,
    RESTART,
    Known,
    Recovery,
    instead_of,
    longer,
)
from trt_perception.build.engine.serving import Offer, Wish, request_for
from trt_perception.core.files import Watched

TIMEOUT = 60.0


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return constant_detector(tmp_path / 'm.onnx')


@pytest.fixture
def begin(gpu: FakeGpu, model: Path) -> Callable[..., Recovery]:
    """Begins to bring back the engine of the model, which is in the cache."""
    made = make_engine(request_for(Wish(model)), EngineCache())
    assert made.manifest.spec is not None
    known = Known(Watched(model), made.manifest.spec)

    def begin(pause: float = 0.0, **wish: object) -> Recovery:
        return Recovery(replace(Wish(model, threads=1), **wish), known, True, 'lost', pause)

    return begin


def until(recovery: Recovery, condition: Callable[[], object], **look: bool) -> list[Offer]:
    """Go on until something is so; what was to run meanwhile."""
    offers = []
    given = {'in_use': False, 'alone': True, **look}
    give_up = monotonic() + TIMEOUT
    while not condition():
        assert monotonic() < give_up, recovery.plan
        offer = recovery.look(**given)
        offers += [] if offer is None else [offer]
        sleep(0.01)
    return offers


def test_pauses_grow_up_to_a_minute() -> None:
    pauses = [0.0]
    while pauses[-1] < LONGEST_PAUSE:
        pauses.append(longer(pauses[-1]))
    assert pauses == [0, 1, 2, 4, 8, 16, 32, 60]
    assert longer(LONGEST_PAUSE) == LONGEST_PAUSE


def test_what_may_take_the_place_of_what(model: Path, tmp_path: Path, gpu: FakeGpu) -> None:
    wish = Wish(model, backend='tensorrt', precision='int8')
    assert instead_of(wish, True) == Wish(model, backend='onnxruntime')
    assert instead_of(replace(wish, device='gpu1'), True) == Wish(model, backend='onnxruntime')
    assert instead_of(replace(wish, device='dla1'), True) == replace(wish, device='gpu')
    assert instead_of(wish, False) is None  # it has run on the processor
    assert instead_of(replace(wish, fallback=False), True) is None
    engine = make_engine(request_for(Wish(model)), EngineCache()).path
    assert instead_of(Wish(engine), True) is None


def test_it_is_opened_at_once_and_nothing_else_runs(begin: Callable[..., Recovery]) -> None:
    recovery = begin()
    (offer,) = until(recovery, lambda: recovery.mended)
    assert (offer.pipeline.info.device, offer.reason) == (NAME, 'engine from the cache')
    assert recovery.attempts == 1
    offer.pipeline.close()


def test_it_is_not_opened_while_it_is_in_use(begin: Callable[..., Recovery]) -> None:
    recovery = begin()
    for _ in range(3):
        assert recovery.look(in_use=True, alone=False) is None
    assert recovery.attempts == 0
    assert recovery.plan == 'it is opened again when what was under way has come back'
    (offer,) = until(recovery, lambda: recovery.mended, alone=False)
    offer.pipeline.close()


def test_attempts_fail_and_something_else_runs(
    begin: Callable[..., Recovery], gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, 'FIRST_PAUSE', 0.05)
    gpu.gone = {0}
    recovery = begin()
    (offer,) = until(recovery, lambda: recovery.attempts == 3)
    assert offer.pipeline.info.backend.startswith('ONNX Runtime')
    assert recovery.failure == f'the CUDA context is lost ({RESTART})'
    gpu.gone.clear()
    (mended,) = until(recovery, lambda: recovery.mended)
    assert mended.pipeline.info.device == NAME
    for each in (offer, mended):
        each.pipeline.close()


def test_where_nothing_else_may_run_nothing_does(
    begin: Callable[..., Recovery], gpu: FakeGpu
) -> None:
    gpu.gone = {0}
    recovery = begin(fallback=False)
    assert until(recovery, lambda: recovery.failure) == []
    assert recovery.plan.startswith('attempt 1 failed: the CUDA context is lost')
    assert 'attempt 2 in ' in recovery.plan
    recovery.close()
    recovery.join()


def test_a_gpu_that_is_away_is_not_taken_for_one_that_is_back(
    begin: Callable[..., Recovery], gpu: FakeGpu
) -> None:
    gpu.absent = 'the GPU is on holiday'
    recovery = begin(backend='auto')
    until(recovery, lambda: recovery.failure, alone=False)
    assert 'the GPU is on holiday' in recovery.failure and recovery.mended is None


def test_another_model_does_not_take_its_place(
    begin: Callable[..., Recovery], model: Path, gpu: FakeGpu
) -> None:
    recovery = begin()
    constant_detector(model, classes=['lorry', 'tram'])
    assert until(recovery, lambda: recovery.failure and recovery.lack) == []
    assert recovery.failure == 'its file holds another model by now; configure the node anew'
    assert recovery.lack == recovery.failure
    recovery.close()


def test_what_comes_after_the_end_is_freed(begin: Callable[..., Recovery], gpu: FakeGpu) -> None:
    gpu.loads.clear()
    recovery = begin()
    until(recovery, lambda: gpu.opened)
    recovery.close()
    gpu.loads.set()
    recovery.join()
    until(recovery, lambda: gpu.closed, alone=False)
    assert gpu.closed == gpu.opened
