# SPDX-License-Identifier: Apache-2.0
"""A GPU for tests where there is none: engines are built for real, and ONNX Runtime runs them."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from trt_perception.build.engine import store
from trt_perception.build.engine.cache import EngineCache
from trt_perception.build.engine.make import identify
from trt_perception.build.engine.serving import Wish, request_for
from trt_perception.core import Frame, Selection
from trt_perception.runtime.cuda import compiler
from trt_perception.runtime.engine import EngineError, EngineInfo
from trt_perception.runtime.gate_result import GateError
from trt_perception.runtime.pipeline import Result, open_pipeline
from trt_perception.runtime.tensorrt.plan import load_plan

NAME = 'a GPU of the tests'


class LostError(EngineError):
    """As `CudaError` where nothing works any more."""

    sticky = True


class FakeGpu:
    """Stands where the package asks for a GPU and opens engines on it.

    Attributes:
        absent: why there is none.
        no_compiler: why no kernel can be compiled for it.
        refuses: why it loads no engine; '' if it does.
        loads: while it is not set, an engine that is opened keeps one waiting.
        frees: while it is not set, whoever closes an engine waits.
        opened, closed: the engines' files.
        lanes, devices, batches: of each that was opened.
        count: how many GPUs there are.
        lost: those where what is open fails from now on, even after they are here again.
        gone: those where nothing can be opened.
        full: those that have no memory for a frame.
        stuck: those where a frame hangs until `returns` is set.
        hanging: frames that hang.
        looks: frames that each has looked at.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ('device', 'pipeline'):
            module: Any = ModuleType(f'trt_perception.runtime.cuda.{name}')
            module.why_absent, module.open_engine = self.why_absent, self.open_engine
            monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(compiler, 'why_absent', lambda: self.no_compiler)
        self.absent = ''
        self.no_compiler = ''
        self.refuses = ''
        self.loads = threading.Event()
        self.loads.set()
        self.frees = threading.Event()
        self.frees.set()
        self.opened: list[Path] = []
        self.closed: list[Path] = []
        self.lanes: list[int] = []
        self.devices: list[int] = []
        self.batches: list[int] = []
        self.count = 1
        self.lost: set[int] = set()
        self.gone: set[int] = set()
        self.full: set[int] = set()
        self.stuck: set[int] = set()
        self.hanging = 0
        self.returns = threading.Event()
        self.pipelines: list[OnFakeGpu] = []
        self.looks: Counter[int] = Counter()

    def why_absent(self) -> str:
        return self.absent

    def open_engine(
        self,
        engine: Path,
        *,
        labels: str = '',
        accept_failed_gate: bool = False,
        device: int = 0,
        lanes: int = 1,
        batch: int = 1,
        priority: int = 0,
    ) -> OnFakeGpu:
        manifest = load_plan(engine).manifest
        if manifest.gate_passed is False and not accept_failed_gate:
            raise GateError(f"engine '{engine}' failed its gate")
        if device >= self.count:
            raise EngineError(f'there is no GPU {device} here, CUDA shows {self.count}')
        self.opened.append(engine)
        self.devices.append(device)
        self.batches.append(batch)
        self.lanes.append(lanes)
        assert self.loads.wait(120)
        if self.refuses:
            raise EngineError(self.refuses)
        if device in self.gone:
            raise LostError('the CUDA context is lost')
        pipeline = OnFakeGpu(self, engine, labels, device)
        self.pipelines.append(pipeline)
        return pipeline

    def let_go(self) -> None:
        """What hangs comes back, and nothing hangs any more."""
        self.stuck.clear()
        self.returns.set()
        self.returns = threading.Event()

    def break_context(self, *devices: int) -> None:
        """What is open there works no more; what is opened from now on does."""
        for pipeline in self.pipelines:
            pipeline.lost |= pipeline.device in devices


class OnFakeGpu:
    """A pipeline that detects what the engine's model does."""

    def __init__(self, gpu: FakeGpu, engine: Path, labels: str, device: int) -> None:
        manifest = load_plan(engine).manifest
        model = Path(manifest.model['path'])
        self._pipeline = open_pipeline(model, labels=labels, threads=1, accept_failed_gate=True)
        self._gpu, self._path, self.device = gpu, engine, device
        self.lost = False
        self._lock = threading.Lock()  # cameras that have a lane each call at once
        self.spec = manifest.spec
        self.info = EngineInfo(manifest.library, NAME, manifest.precision)

    def __call__(self, frame: Frame, selection: Selection) -> Result:
        self.lost |= self.device in self._gpu.lost
        if self.lost:
            raise LostError('the CUDA context is lost')
        if self.device in self._gpu.full:
            raise EngineError('cuMemAlloc failed: CUDA_ERROR_OUT_OF_MEMORY (out of memory)')
        returns = self._gpu.returns
        if self.device in self._gpu.stuck:
            self._gpu.hanging += 1
            assert returns.wait(120)
        with self._lock:
            self._gpu.looks[self.device] += 1
            return self._pipeline(frame, selection)

    def warm_up(self) -> None:
        self._pipeline.warm_up()

    def close(self) -> None:
        assert self._gpu.frees.wait(120)
        self._gpu.closed.append(self._path)
        self._pipeline.close()


@contextlib.contextmanager
def held_up(model: Path) -> Iterator[None]:
    """The build of a model's engine waits, for another process seems to be at it."""
    cache = EngineCache()
    handle = store.try_lock(cache.lock_path(cache.path(identify(request_for(Wish(model))).key)))
    assert handle is not None
    try:
        yield
    finally:
        os.close(handle)
