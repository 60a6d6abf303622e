# SPDX-License-Identifier: Apache-2.0
"""A stand-in for NVIDIA's management library and its Python package."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType, SimpleNamespace
from typing import Any


class NVMLError(Exception):
    """As pynvml's."""


class FakeGpu:
    """What a GPU tells: values by the function's name, or by name and argument."""

    def __init__(self, bus_id: str, uuid: str, **told: Any) -> None:
        self.bus_id, self.uuid, self.told = bus_id, uuid, told


H200 = {
    'nvmlDeviceGetName': 'NVIDIA H200',
    'nvmlDeviceGetTemperature': 41,
    'nvmlDeviceGetTemperatureThreshold': {3: 86, 1: 89, 0: 92},
    'nvmlDeviceGetClockInfo': {1: 1980, 2: 3201},
    'nvmlDeviceGetMaxClockInfo': {1: 1980, 2: 3201},
    'nvmlDeviceGetUtilizationRates': SimpleNamespace(gpu=97),
    'nvmlDeviceGetCurrentClocksThrottleReasons': 0x4,
    'nvmlDeviceGetPowerUsage': 512345,
    'nvmlDeviceGetMemoryInfo': SimpleNamespace(used=5 << 30),
}


class FakeNvml(ModuleType):
    """A module with GPUs in the order of their slots."""

    NVMLError = NVMLError
    NVML_TEMPERATURE_GPU, NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_SUCCESS = 0, 1, 2, 0

    def __init__(self, *gpus: FakeGpu, starts: bool = True) -> None:
        super().__init__('pynvml')
        self.gpus, self._starts = gpus, starts

    def nvmlInit(self) -> None:  # noqa: N802
        if not self._starts:
            raise NVMLError('Driver Not Loaded')

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return '570.86.15'

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:  # noqa: N802
        return self._found(lambda n, gpu: n == index)

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> FakeGpu:  # noqa: N802
        return self._found(lambda n, gpu: gpu.uuid.startswith(uuid))

    def nvmlDeviceGetHandleByPciBusId(self, bus_id: str) -> FakeGpu:  # noqa: N802
        return self._found(lambda n, gpu: gpu.bus_id == bus_id)

    def _found(self, fits: Any) -> FakeGpu:
        for number, gpu in enumerate(self.gpus):
            if fits(number, gpu):
                return gpu
        raise NVMLError('Not Found')

    def __getattr__(self, function: str) -> Any:
        if not function.startswith('nvmlDeviceGet'):
            raise AttributeError(function)

        def ask(gpu: FakeGpu, *arguments: Any) -> Any:
            told = gpu.told.get(function)
            if isinstance(told, Mapping):
                told = told.get(*arguments)
            if told is None:
                raise NVMLError('Not Supported')
            return told

        return ask


def cuda(*bus_ids: str) -> SimpleNamespace:
    """CUDA's bindings, which see these GPUs in this order."""

    def bus_id(length: int, index: int) -> tuple[int, bytes]:
        return 0, bus_ids[index].encode() + b'\0'

    def device(index: int) -> tuple[int, int]:
        return (0, index) if index < len(bus_ids) else (101, 0)

    return SimpleNamespace(
        cuInit=lambda flags: (0,),
        cuDeviceGet=device,
        cuDeviceGetPCIBusId=bus_id,
        cuGetErrorName=lambda status: (0, b'CUDA_ERROR_INVALID_DEVICE'),
        cuGetErrorString=lambda status: (0, b'invalid device ordinal'),
    )
