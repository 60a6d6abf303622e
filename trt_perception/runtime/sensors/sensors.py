# SPDX-License-Identifier: Apache-2.0
"""All sensors of a board, read together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from trt_perception.runtime.sensors.clocks import Clock, Clocks
from trt_perception.runtime.sensors.fan import Fan, FanSensor
from trt_perception.runtime.sensors.nvml import Nvml
from trt_perception.runtime.sensors.over_current import OverCurrent
from trt_perception.runtime.sensors.power import Power
from trt_perception.runtime.sensors.power_mode import PowerMode
from trt_perception.runtime.sensors.thermal import Thermal

_ROOT = Path('/')


class Sample(NamedTuple):
    """What the sensors say now; whatever cannot be read is left out.

    Attributes:
        temperatures: degrees Celsius by zone.
        trips: of each zone, the lowest temperature of each kind.
        slowed: what the kernel does against heat now that makes the board slower.
        limits: of each GPU that tells, what keeps its clock down now, by the clock's name.
        over_current: counters since the boot.
        clocks: by name; those of a second GPU begin with ``gpu1``.
        power_w: watts by rail, or by GPU where no rail is measured.
        power_mode: of nvpmodel, else ''.
        fan: None where there is none.
        gpu_memory_used: bytes, of the first GPU that tells.
    """

    temperatures: Mapping[str, float]
    trips: Mapping[str, Mapping[str, float]]
    slowed: Sequence[str]
    limits: Mapping[str, tuple[str, ...]]
    over_current: Mapping[str, int]
    clocks: Mapping[str, Clock]
    power_w: Mapping[str, float]
    power_mode: str
    fan: Fan | None
    gpu_memory_used: int | None


class Sensors:
    """The board's, and those of some of its GPUs.

    Attributes:
        driver: version of the GPU's, where NVML tells it.
        absent: kinds of sensors that are not here, in words.
    """

    def __init__(self, gpus: Sequence[int] = (0,), root: Path = _ROOT) -> None:
        """Find out what can be read.

        Args:
            gpus: their numbers, as CUDA counts them.
            root: where the system's files lie.
        """
        self._thermal = Thermal(root)
        self._clocks = Clocks(root)
        self._over_current = OverCurrent(root)
        self._power = Power(root)
        self._mode = PowerMode(root)
        self._fan = FanSensor(root)
        self._nvml = Nvml(gpus)
        self.driver = self._nvml.driver
        found = {
            'thermal zones': self._thermal.present,
            'over-current counters': self._over_current.present,
            'power rails': self._power.present,
            'power mode': bool(self._mode.read()),
            'fan': self._fan.read() is not None,
            f'NVML ({self._nvml.absent})': not self._nvml.absent,
        }
        self.absent = [kind for kind, present in found.items() if not present]

    def read(self) -> Sample:
        """All there is now."""
        temperatures, clocks = self._thermal.temperatures(), self._clocks.read()
        power, trips = self._power.read(), dict(self._thermal.trips)
        fan = self._fan.read()
        limits, memory = {}, None
        for index, gpu in self._nvml.gpus.items():
            # Jetson's own files come first: they tell more, and NVML nothing else.
            name = f'gpu{index or ""}'
            if name not in temperatures and (now := gpu.temperature()) is not None:
                temperatures[name], trips[name] = now, trips.get(name) or gpu.trips
            for part, clock in gpu.clocks().items():
                label = name if part == 'gpu' else f'{name}_{part}' if index else part
                known = clocks.get(label, clock)
                load = clock.load if known.load is None else known.load
                clocks[label] = known._replace(load=load)
            if (reasons := gpu.limits()) is not None:
                limits[name] = reasons
            if not self._power.present and (watts := gpu.power_w()) is not None:
                power[name] = watts
            fan = fan or gpu.fan()
            memory = gpu.memory_used() if memory is None else memory
        return Sample(
            temperatures, trips, self._thermal.slowed(), limits, self._over_current.read(), clocks,
            power, self._mode.read(), fan, memory,
        )  # fmt: skip


def figures(sample: Sample) -> dict[str, float]:
    """What a sample says of the GPU and of power, as plain figures: MHz, W, C, 0..1, bytes."""
    found: dict[str, float] = {}
    for name, clock in sample.clocks.items():
        found[f'{name}_clock_mhz'] = clock.mhz
        if clock.load is not None:
            found[f'{name}_load'] = clock.load
    if 'gpu' in sample.temperatures:
        found['gpu_temperature_c'] = sample.temperatures['gpu']
    found |= {f'power_{rail}_w': watts for rail, watts in sample.power_w.items()}
    if sample.gpu_memory_used is not None:
        found['gpu_memory_used_bytes'] = float(sample.gpu_memory_used)
    return found
