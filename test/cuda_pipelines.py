# SPDX-License-Identifier: Apache-2.0
"""Pipelines of the GPU path on a stand-in driver: the real kernels on the CPU, graphs that really
are replayed, ONNX Runtime for TensorRT on the same buffers. Fixtures for the tests of it.
"""

from __future__ import annotations

import ctypes
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cuda_on_cpu import KERNELS, Cpu, build
from fake_cuda import Driver

from trt_perception.core import TensorInfo
from trt_perception.core.decoders import decoders
from trt_perception.runtime.cuda import device as device_module
from trt_perception.runtime.cuda import driver
from trt_perception.runtime.cuda.device import CudaDevice
from trt_perception.runtime.cuda.lane import Lane
from trt_perception.runtime.cuda.launch import Launch
from trt_perception.runtime.cuda.pipeline import CudaPipeline
from trt_perception.runtime.engine import EngineError, EngineInfo
from trt_perception.runtime.host.onnx_runtime import open_session
from trt_perception.runtime.model_file import load_spec
from trt_perception.runtime.onnx_file import read_signature

ROOT = Path(__file__).resolve().parents[1]
WAREHOUSE = ROOT / 'resource' / 'models' / 'warehouse.onnx'


class Kernels:
    """`runtime.cuda.kernels.Kernels` on the CPU."""

    def __init__(self, fake: Driver, cpu: Cpu) -> None:
        self._fake, self._cpu = fake, cpu

    def launch(self, what: Launch, stream: Any) -> None:
        self._fake.do(lambda: self._cpu.run([what]))


class Network:
    """`TensorRtEngine` and one context of it, for batches of any size."""

    def __init__(self, fake: Driver, model: Path) -> None:
        self._fake = fake
        self._session = open_session(model, 1)
        self.signature = read_signature(model)
        self.refuses = False

    def context(self, batch: int, spec: Any) -> SimpleNamespace:
        def sized(tensors: Any) -> list[TensorInfo]:
            return [dataclasses.replace(t, shape=(batch, *t.shape[1:])) for t in tensors]

        inputs, outputs = sized(self.signature.inputs), sized(self.signature.outputs)
        places: dict[str, int] = {}

        def view(tensor: TensorInfo) -> np.ndarray:
            size = int(np.prod(tensor.shape)) * np.dtype(tensor.dtype).itemsize
            raw = (ctypes.c_uint8 * size).from_address(places[tensor.name])
            return np.frombuffer(raw, tensor.dtype).reshape(tensor.shape)

        def run() -> None:
            for row in range(batch):
                feeds = {t.name: view(t)[row : row + 1].copy() for t in inputs}
                for tensor, array in zip(outputs, self._session.run(None, feeds), strict=True):
                    view(tensor)[row] = array[0]

        def enqueue(stream: Any) -> None:
            if self.refuses:
                raise EngineError('execute_async_v3 failed: as asked')
            self._fake.do(run)

        return SimpleNamespace(
            inputs=inputs, outputs=outputs, enqueue=enqueue, close=places.clear,
            bind=places.__setitem__,
        )  # fmt: skip


@pytest.fixture(scope='session')
def cpu(tmp_path_factory: pytest.TempPathFactory) -> Cpu:
    folder = tmp_path_factory.mktemp('kernels')
    sources = [KERNELS / f'{name}.cu' for name in ('preprocess', 'decode', 'suppress')]
    return Cpu({name: run for source in sources for name, run in build(source, folder).items()})


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Driver:
    fake = Driver()
    monkeypatch.setattr(driver, 'bindings', lambda: fake)
    monkeypatch.setattr(device_module, '_current', SimpleNamespace())
    return fake


Open = Callable[..., CudaPipeline]


@pytest.fixture
def opened(fake: Driver, cpu: Cpu) -> Iterator[Open]:
    """Opens as `open_engine` does; all is given back at the end."""
    pipelines = []

    def opening(model: Path, lanes: int = 1) -> CudaPipeline:
        device = CudaDevice()
        with ExitStack() as undo:
            undo.callback(device.close)
            spec, network = load_spec(model), Network(fake, model)
            made = [
                Lane(
                    device, Kernels(fake, cpu), network, spec, decoders()[spec.layout],
                    uploads=lanes > 1,
                )
                for _ in range(lanes)
            ]  # fmt: skip
            info = EngineInfo('stand-in', 'a GPU', 'float32')
            pipeline = CudaPipeline(device, spec, made, info)
            undo.pop_all()
        pipeline.network = network
        pipelines.append(pipeline)
        return pipeline

    yield opening
    for pipeline in pipelines:
        pipeline.close()
    assert not fake.alive
