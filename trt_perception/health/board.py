# SPDX-License-Identifier: Apache-2.0
"""Heat and power of the board: what was read, what it means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trt_perception.runtime.sensors.clocks import Clock
from trt_perception.runtime.sensors.fan import Fan


@dataclass(frozen=True)
class Reading:
    """What the board's sensors said at one time; what it does not have is left out.

    Attributes:
        at: when, seconds of the monotonic clock.
        temperatures: degrees Celsius by thermal zone: ``gpu``, ``cpu``, ``tj``, ``soc0``, ...
        trips: of each zone that has any, the lowest temperature of each kind, degrees Celsius:
            ``active`` (the fan), ``passive`` (it is slowed down), ``hot``, ``critical`` (it is
            switched off).
        throttled: why it runs slower than it could, in words; '' if it does not, or nothing
            tells.
        over_current: how often each counter (``oc1`` to ``oc3``) has risen since the start.
        clocks: ``gpu``, ``emc``, ...
        power_w: watts by rail.
        energy_j: joules that the whole board has used since the start; None if it does not tell.
        power_mode: of nvpmodel; '' where there is none.
        fan: None where there is none.
    """

    at: float
    temperatures: Mapping[str, float] = field(default_factory=dict)
    trips: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    throttled: str = ''
    over_current: Mapping[str, int] = field(default_factory=dict)
    clocks: Mapping[str, Clock] = field(default_factory=dict)
    power_w: Mapping[str, float] = field(default_factory=dict)
    energy_j: float | None = None
    power_mode: str = ''
    fan: Fan | None = None

    @property
    def margins_c(self) -> dict[str, float]:
        """How far each zone is below the trip at which it is slowed down; negative above."""
        return {
            zone: self.trips[zone]['passive'] - temperature
            for zone, temperature in self.temperatures.items()
            if 'passive' in self.trips.get(zone, ())
        }

    @property
    def margin_c(self) -> float | None:
        """The smallest of `margins_c`; None where no zone tells."""
        return min(self.margins_c.values(), default=None)
