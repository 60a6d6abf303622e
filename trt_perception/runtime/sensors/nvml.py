# SPDX-License-Identifier: Apache-2.0
"""GPUs by NVIDIA's management library, through the package nvidia-ml-py.

Source: the NVML API Reference Guide.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import Any

from trt_perception.core import PerceptionError
from trt_perception.core.errors import one_line
from trt_perception.runtime.sensors.clocks import Clock
from trt_perception.runtime.sensors.fan import Fan

#: Why a clock is lower than it could be, by the bits of nvmlClocksEventReasons.
_REASONS = {
    0x04: 'power cap',
    0x08: 'hardware slowdown',
    0x20: 'software thermal slowdown',
    0x40: 'hardware thermal slowdown',
    0x80: 'power brake',
}
#: Those that something is wrong with; the power cap is how a busy GPU usually runs.
SLOWDOWNS = frozenset(_REASONS.values()) - {'power cap'}
#: Kinds of trip points as nvmlTemperatureThresholds_t counts them, and the field of newer GPUs that
#: tells how far from the margin's zero it is (NVML_FI_DEV_TEMPERATURE_*_TLIMIT).
_TRIPS = {'passive': (3, 196), 'hot': (1, 194), 'critical': (0, 193)}


class NvmlGpu:
    """One GPU. Whatever it does not tell is None, or left out."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml, self._handle = nvml, handle
        self.name = str(self._ask('nvmlDeviceGetName') or '')
        self.bus_id = str(getattr(self._ask('nvmlDeviceGetPciInfo'), 'busId', ''))
        self.trips = self._trips()
        self._max_mhz = {
            name: self._ask('nvmlDeviceGetMaxClockInfo', kind) for name, kind in self._clocks()
        }

    def temperature(self) -> float | None:
        """Degrees Celsius."""
        return self._ask('nvmlDeviceGetTemperature', self._nvml.NVML_TEMPERATURE_GPU)

    def clocks(self) -> dict[str, Clock]:
        """Of its processors as ``gpu``, of its memory as ``memory``."""
        use = self._ask('nvmlDeviceGetUtilizationRates')
        found = {}
        for name, kind in self._clocks():
            mhz = self._ask('nvmlDeviceGetClockInfo', kind)
            if mhz is not None:
                load = use.gpu / 100 if use is not None and name == 'gpu' else None
                found[name] = Clock(float(mhz), self._max_mhz[name], load)
        return found

    def limits(self) -> tuple[str, ...] | None:
        """What keeps its clock down now, in words; None if it does not tell."""
        # The name that old and new libraries have.
        bits = self._ask('nvmlDeviceGetCurrentClocksThrottleReasons')
        return None if bits is None else tuple(w for bit, w in _REASONS.items() if bits & bit)

    def power_w(self) -> float | None:
        """Watts of the whole card."""
        milliwatts = self._ask('nvmlDeviceGetPowerUsage')
        return None if milliwatts is None else milliwatts / 1e3

    def memory_used(self) -> int | None:
        """Bytes, of all processes together."""
        memory = self._ask('nvmlDeviceGetMemoryInfo')
        return None if memory is None else int(memory.used)

    def fan(self) -> Fan | None:
        """Its first fan; cards for servers have none."""
        percent = self._ask('nvmlDeviceGetFanSpeed')
        return None if percent is None else Fan(percent / 100)

    def _clocks(self) -> tuple[tuple[str, Any], ...]:
        return ('gpu', self._nvml.NVML_CLOCK_SM), ('memory', self._nvml.NVML_CLOCK_MEM)

    def _trips(self) -> dict[str, float]:
        found = {}
        for kind, (threshold, _) in _TRIPS.items():
            limit = self._ask('nvmlDeviceGetTemperatureThreshold', threshold)
            if limit:
                found[kind] = float(limit)
        return found or self._relative_trips()

    def _relative_trips(self) -> dict[str, float]:
        """Newer GPUs tell no temperatures, but how far each point is from the present one."""
        now, margin = self.temperature(), self._ask('nvmlDeviceGetMarginTemperature')
        fields = self._ask('nvmlDeviceGetFieldValues', [field for _, field in _TRIPS.values()])
        if now is None or margin is None or fields is None:
            return {}
        return {
            kind: float(now + margin - value.value.siVal)
            for kind, value in zip(_TRIPS, fields, strict=True)
            if value.nvmlReturn == self._nvml.NVML_SUCCESS
        }

    def _ask(self, function: str, *arguments: Any) -> Any:
        # No GPU has every sensor, and no release of the library every function.
        with contextlib.suppress(self._nvml.NVMLError, AttributeError):
            return getattr(self._nvml, function)(self._handle, *arguments)
        return None


class Nvml:
    """The library and the GPUs that were asked for.

    Attributes:
        gpus: those that were found, by their number as CUDA counts.
        driver: its version; '' without one.
        absent: why there are none, in one line; '' if there are.
    """

    def __init__(self, indices: Sequence[int]) -> None:
        self.gpus: dict[int, NvmlGpu] = {}
        self.driver = self.absent = ''
        try:
            import pynvml
        except ImportError:
            self.absent = 'nvidia-ml-py is not installed'
            return
        try:
            pynvml.nvmlInit()
            self.driver = str(pynvml.nvmlSystemGetDriverVersion())
        except pynvml.NVMLError as error:
            self.absent = f'NVML does not start: {one_line(error)}'
            return
        for index in indices:
            try:
                self.gpus[index] = NvmlGpu(pynvml, _handle(pynvml, index))
            except pynvml.NVMLError as error:
                self.absent = f'NVML has no GPU {index}: {one_line(error)}'


def _handle(nvml: Any, index: int) -> Any:
    """The GPU that CUDA counts so; NVML counts otherwise, and knows no CUDA_VISIBLE_DEVICES."""
    bus_id = _bus_id(index)
    if bus_id and not bus_id.startswith('0000:00:00'):  # as integrated GPUs call themselves
        return nvml.nvmlDeviceGetHandleByPciBusId(bus_id)
    visible = [name.strip() for name in os.environ.get('CUDA_VISIBLE_DEVICES', '').split(',')]
    name = visible[index] if index < len(visible) else ''
    if name and not name.isdecimal():
        return nvml.nvmlDeviceGetHandleByUUID(name)
    return nvml.nvmlDeviceGetHandleByIndex(int(name or index))


def _bus_id(index: int) -> str:
    """As CUDA tells it; '' where there is no CUDA."""
    from trt_perception.runtime.cuda.device import pci_bus_id

    with contextlib.suppress(PerceptionError):
        return pci_bus_id(index)
    return ''
