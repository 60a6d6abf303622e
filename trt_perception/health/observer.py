# SPDX-License-Identifier: Apache-2.0
"""What the board's sensors only show over time: slowdowns, counters that rise, energy."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

from trt_perception.health.board import Reading
from trt_perception.runtime.sensors import Sample
from trt_perception.runtime.sensors.nvml import SLOWDOWNS
from trt_perception.runtime.sensors.over_current import MEANINGS
from trt_perception.runtime.sensors.power import supplying

#: A clock below this share of its maximum is slow, if what it drives is busier than the other.
_SLOW, _BUSY = 0.85, 0.9
#: Readings in a row that a clock has to be slow: one may fall into the moment of its rise.
_SLOW_READINGS = 2
#: oc3 counts spikes that change nothing, all the time on some boards; it does not count alone.
_HARMLESS_ALONE = 'oc3'


class Source(Protocol):
    """What is observed: `Sensors`."""

    def read(self) -> Sample: ...


class Observer:
    """Reads the sensors and makes of it what only shows over time."""

    def __init__(self, sensors: Source, clock: Callable[[], float] = time.monotonic) -> None:
        self._sensors = sensors
        self._clock = clock
        self._counters: dict[str, int] = {}  # as they were read last
        self._risen: Counter[str] = Counter()
        self._slow: Counter[str] = Counter()  # readings in a row, by clock
        self._rails: dict[str, None] = {}  # seen so far
        self._energy: float | None = None
        self._power: tuple[float, float] | None = None  # when, watts

    def read(self) -> Reading:
        """What the sensors say now; to be called about once a second."""
        sample, now = self._sensors.read(), self._clock()
        rises = self._rises(sample.over_current)
        slow, watts = self._slow_clocks(sample), self._total(sample.power_w)
        reading = Reading(
            at=now,
            temperatures=sample.temperatures,
            trips=sample.trips,
            limits=sample.limits,
            over_current={name: self._risen[name] for name in sample.over_current},
            clocks=sample.clocks,
            power_w=sample.power_w,
            power_total_w=watts,
            energy_j=self._integrate(now, watts),
            power_mode=sample.power_mode,
            fan=sample.fan,
        )
        reasons = [f'{kind} is on' for kind in sample.slowed]
        reasons += [
            f'{zone} is at {reading.temperatures[zone]:.1f} C and slowed down from'
            f' {reading.slowing_trip(zone):.1f} C on'
            for zone, margin in reading.margins_c.items()
            if margin <= 0
        ]
        reasons += [
            f'{gpu}: {limit}'
            for gpu, limits in sample.limits.items()
            for limit in limits
            if limit in SLOWDOWNS
        ]
        reasons += [
            f'{name} ({MEANINGS[name]}) has risen by {rise}'
            for name, rise in rises.items()
            if name != _HARMLESS_ALONE or slow
        ]
        return replace(reading, throttled='; '.join([*reasons, *slow]))

    def _rises(self, counters: Mapping[str, int]) -> dict[str, int]:
        """Of each counter since it was read last; what was before the first time does not count."""
        rises = {}
        for name, count in counters.items():
            rise = count - self._counters.get(name, count)
            if rise < 0:  # it has begun anew
                rise = count
            if rise:
                rises[name] = rise
                self._risen[name] += rise
            self._counters[name] = count
        return rises

    def _slow_clocks(self, sample: Sample) -> list[str]:
        """Clocks that stay low although there is work, in words."""
        told = []
        for name, (mhz, most, load) in sample.clocks.items():
            # A GPU that tells why its clock is low is believed: it is never at the top.
            if name in sample.limits or most is None or load is None:
                continue
            slow = load >= _BUSY and mhz < _SLOW * most
            self._slow[name] = self._slow[name] + 1 if slow else 0
            if self._slow[name] >= _SLOW_READINGS:
                told.append(f'{name} runs at {mhz:.0f} of {most:.0f} MHz with a load of {load:.0%}')
        return told

    def _total(self, power_w: Mapping[str, float]) -> float | None:
        """Watts of all that is measured; None where a part of it does not answer now."""
        self._rails |= dict.fromkeys(power_w)
        rails = supplying(self._rails)
        return (
            sum(power_w[r] for r in rails) if rails and all(r in power_w for r in rails) else None
        )

    def _integrate(self, now: float, watts: float | None) -> float | None:
        """Joules so far, between two readings as their mean (trapezoidal rule)."""
        if watts is not None:
            if self._power is not None and self._energy is not None:
                before, last = self._power
                self._energy += (now - before) * (last + watts) / 2
            self._energy = self._energy or 0.0
            self._power = now, watts
        return self._energy
