# SPDX-License-Identifier: Apache-2.0
"""Heat and power of the board: what was read, what it means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trt_perception.health.level import Judgement, Level
from trt_perception.runtime.sensors import Clock, Fan

#: Degrees below a trip from which on it is told, and above which it is over.
_NEAR, _AWAY = 5.0, 8.0
#: The same for the trip at which the board is switched off.
_NEAR_END, _AWAY_FROM_END = 3.0, 5.0
#: Seconds for which a slowdown is told after its end.
_HOLD = 10.0


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
        limits: of each GPU that tells, what keeps its clock down, with what is no fault.
        over_current: how often each counter (``oc1`` to ``oc3``) has risen since the start.
        clocks: ``gpu``, ``emc``, ...
        power_w: watts by rail.
        power_total_w: watts of all that is measured, each counted once; None if nothing is.
        energy_j: joules of all that is measured since the start; None if nothing is.
        power_mode: of nvpmodel; '' where there is none.
        fan: None where there is none.
    """

    at: float
    temperatures: Mapping[str, float] = field(default_factory=dict)
    trips: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    throttled: str = ''
    limits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    over_current: Mapping[str, int] = field(default_factory=dict)
    clocks: Mapping[str, Clock] = field(default_factory=dict)
    power_w: Mapping[str, float] = field(default_factory=dict)
    power_total_w: float | None = None
    energy_j: float | None = None
    power_mode: str = ''
    fan: Fan | None = None

    @property
    def margins_c(self) -> dict[str, float]:
        """How far each zone is below the trip at which it is slowed down; negative above."""
        trips = {zone: self.slowing_trip(zone) for zone in self.temperatures}
        return {
            zone: trip - self.temperatures[zone] for zone, trip in trips.items() if trip is not None
        }

    @property
    def margin_c(self) -> float | None:
        """The smallest of `margins_c`; None where no zone tells."""
        return min(self.margins_c.values(), default=None)

    def slowing_trip(self, zone: str) -> float | None:
        """Degrees Celsius at which a zone is slowed down; None where it does not tell."""
        trips = self.trips.get(zone, {})
        return trips.get('passive', trips.get('hot'))


class Judge:
    """Judges one reading after the other; what it has told once stays a little longer."""

    def __init__(self) -> None:
        self._near: set[tuple[str, str]] = set()  # zone and kind of trip
        self._seen: dict[str, tuple[float, float]] = {}  # when and how warm each zone was last
        self._throttled = ''
        self._throttled_at = 0.0

    def judge(self, reading: Reading) -> Judgement:
        """How the board is by this reading and those before."""
        # A busy Jetson does not answer every time; what was hot a moment ago still is.
        self._seen |= {zone: (reading.at, t) for zone, t in reading.temperatures.items()}
        self._seen = {z: seen for z, seen in self._seen.items() if reading.at - seen[0] < _HOLD}
        self._near = {(zone, kind) for zone, kind in self._near if zone in self._seen}
        errors = [
            f'{zone} is at {t:.1f} C, and the board is switched off at {limit:.1f} C'
            for zone, t, limit in self._close(reading, 'critical', _NEAR_END, _AWAY_FROM_END)
        ]
        if reading.throttled:
            self._throttled, self._throttled_at = reading.throttled, reading.at
        ago = reading.at - self._throttled_at
        warnings = []
        if reading.throttled:
            warnings.append(f'slowed down: {reading.throttled}')
        elif self._throttled and ago < _HOLD:
            warnings.append(f'was slowed down {ago:.0f} s ago: {self._throttled}')
        warnings += [
            f'{zone} is at {t:.1f} C, {limit - t:.1f} below where it is slowed down ({limit:.1f} C)'
            for zone, t, limit in self._close(reading, 'passive', _NEAR, _AWAY)
            if t < limit  # else it is slowed down, which is told
        ]
        if errors:
            return Judgement(Level.ERROR, '; '.join(errors + warnings))
        if warnings:
            return Judgement(Level.WARN, '; '.join(warnings))
        return Judgement(Level.OK, _usual(reading))

    def _close(
        self, reading: Reading, kind: str, near: float, away: float
    ) -> list[tuple[str, float, float]]:
        """Zones near a trip: zone, temperature, trip."""
        found = []
        for zone, (_, temperature) in self._seen.items():
            trips = reading.trips.get(zone, {})
            limit = reading.slowing_trip(zone) if kind == 'passive' else trips.get(kind)
            key = zone, kind
            if limit is not None and limit - temperature < (away if key in self._near else near):
                self._near.add(key)
                found.append((zone, temperature, limit))
            else:
                self._near.discard(key)
        return found


def _usual(reading: Reading) -> str:
    parts = []
    if reading.temperatures:
        zone = max(reading.temperatures, key=reading.temperatures.__getitem__)
        parts.append(f'{zone} is the hottest with {reading.temperatures[zone]:.1f} C')
    if reading.margin_c is not None:
        parts.append(f'{reading.margin_c:.1f} C are left until it is slowed down')
    if reading.power_total_w is not None:
        parts.append(f'{reading.power_total_w:.1f} W')
    return ', '.join(parts) or 'no sensors'


def board_values(reading: Reading) -> dict[str, object]:
    """A reading as the values of a status; their names stay as they are."""
    values: dict[str, object] = {}
    for zone, temperature in reading.temperatures.items():
        values[f'{zone} C'] = f'{temperature:.1f}'
        for kind, trip in reading.trips.get(zone, {}).items():
            values[f'{zone} {kind} trip C'] = f'{trip:.1f}'
    if reading.margin_c is not None:
        values['margin C'] = f'{reading.margin_c:.1f}'
    values['throttled'] = reading.throttled or 'no'
    for gpu, limits in reading.limits.items():
        values[f'{gpu} limited by'] = ', '.join(limits) or 'nothing'
    for name, rise in reading.over_current.items():
        values[name] = rise
    for name, clock in reading.clocks.items():
        values[f'{name} clock MHz'] = f'{clock.mhz:.0f}'
        if clock.max_mhz is not None:
            values[f'{name} clock at most MHz'] = f'{clock.max_mhz:.0f}'
        if clock.load is not None:
            values[f'{name} load'] = f'{clock.load:.2f}'
    for rail, watts in reading.power_w.items():
        values[f'{rail} W'] = f'{watts:.2f}'
    if reading.power_total_w is not None:
        values['power W'] = f'{reading.power_total_w:.2f}'
    if reading.power_mode:
        values['power mode'] = reading.power_mode
    if reading.fan is not None:
        if reading.fan.duty is not None:
            values['fan duty'] = f'{reading.fan.duty:.2f}'
        if reading.fan.rpm is not None:
            values['fan rpm'] = f'{reading.fan.rpm:.0f}'
    return values
