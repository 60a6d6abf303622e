# SPDX-License-Identifier: Apache-2.0
"""What is asked of TensorRT where a plan is loaded and run; TensorRT itself is a stand-in."""

from __future__ import annotations

import threading
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip('tensorrt_rtx_bindings', reason='no TensorRT')

from trt_perception.runtime.engine import EngineError
from trt_perception.runtime.tensorrt import api
from trt_perception.runtime.tensorrt import engine as engine_module
from trt_perception.runtime.tensorrt.engine import TensorRtEngine
from trt_perception.runtime.tensorrt.manifest import Manifest
from trt_perception.runtime.tensorrt.plan import Plan


class Runtime:
    """Attributes: DLA_core, of the last; gives: what becomes of a plan; log: of the last."""

    made: list[weakref.ref[Runtime]]
    core: int
    gives: Any

    def __init__(self, log: Any) -> None:
        Runtime.log = log
        Runtime.made.append(weakref.ref(self))
        self.DLA_core = -1

    def deserialize_cuda_engine(self, plan: bytes) -> Any:
        Runtime.core = self.DLA_core
        return Runtime.gives


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    Runtime.made, Runtime.gives = [], SimpleNamespace(num_io_tensors=0)
    monkeypatch.setattr(engine_module, 'trt', SimpleNamespace(Runtime=Runtime))
    monkeypatch.setattr(engine_module, '_shared_kernels', lambda engine: (None, None))


def load(device: str = 'gpu') -> TensorRtEngine:
    return TensorRtEngine(Plan(b'ftrt', Manifest('', 4, device=device), {}), Path('m.engine'))


@pytest.mark.parametrize('device, core', [('gpu', -1), ('dla0', 0), ('dla1', 1)])
def test_an_engine_runs_on_the_dla_that_it_was_made_for(device: str, core: int) -> None:
    load(device)
    assert Runtime.core == core


def test_an_engine_that_is_refused_leaves_no_runtime() -> None:
    """Not even while its error is held: the context of the GPU is gone by the time it is not."""
    Runtime.gives = None
    with pytest.raises(EngineError, match='does not run with'):
        try:
            load()
        except EngineError:
            assert Runtime.made[0]() is None
            raise


def test_an_error_is_of_the_context_whose_call_it_was() -> None:
    """Cameras run on one engine, each in its thread."""
    both, told = threading.Barrier(2), threading.Barrier(2)

    def good(stream: int) -> bool:
        both.wait(60)
        told.wait(60)
        return True

    def bad(stream: int) -> bool:
        both.wait(60)
        Runtime.log.log(api.ILogger.Severity.ERROR, 'out of luck')
        told.wait(60)
        return False

    runs = iter((good, bad))
    Runtime.gives.create_execution_context = lambda: SimpleNamespace(execute_async_v3=next(runs))
    engine = load()
    contexts = [engine.context(), engine.context()]
    outcomes: list[str] = ['', '']

    def run(number: int) -> None:
        try:
            contexts[number].enqueue(1)
        except EngineError as error:
            outcomes[number] = str(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes[0] == ''
    assert outcomes[1].endswith('execute_async_v3 failed: out of luck')
