# SPDX-License-Identifier: Apache-2.0
"""Temperatures, the points at which something is done about them, and whether it is.

Source: Documentation/driver-api/thermal/sysfs-api.rst and Documentation/hwmon/coretemp.rst of
Linux.
"""

from __future__ import annotations

import re
from pathlib import Path

from trt_perception.runtime.sensors.files import chips, number, numbered, text

_ROOT = Path('/')
#: Below this, degrees Celsius, is no temperature: a zone that is switched off reads -256, and a
#: trip point that nobody has set 0 or -274.
_ABSURD = -100.0
#: Cooling that makes it slower, unlike a fan: Jetson's alarms, and caps of the clocks.
_SLOWS = re.compile(r'(.+)-throttle-alert|devfreq-.+|cpufreq-.+')
_PACKAGE = re.compile(r'Package id \d+|Tctl')


class Thermal:
    """The thermal zones, by type; and the packages of a PC's processor, as ``cpu``, ``cpu_2``.

    Attributes:
        trips: of each zone that has any, the lowest temperature of each kind (``active``,
            ``passive``, ``hot``, ``critical``), degrees Celsius.
    """

    def __init__(self, root: Path = _ROOT) -> None:
        self.trips: dict[str, dict[str, float]] = {}
        self._files: dict[str, Path] = {}  # of each zone's temperature, thousandths of a degree
        for folder in numbered(root, 'sys/class/thermal/thermal_zone*'):
            kind = text(folder / 'type')
            name = kind.removesuffix('-thermal').removesuffix('-therm').lower()
            self._add(name, folder / 'temp', _trips(folder))
        for _, folder in chips(root, 'coretemp', 'k10temp'):
            for label in numbered(folder, 'temp*_label'):
                if _PACKAGE.fullmatch(text(label)):
                    prefix = label.name.removesuffix('_label')
                    # What the kernel calls critical is where an Intel processor slows itself down.
                    limit = number(folder / f'{prefix}_crit', 1e-3)
                    self._add('cpu', folder / f'{prefix}_input', {'passive': limit})
        self._cooling = [
            (kind, folder / 'cur_state')
            for folder in numbered(root, 'sys/class/thermal/cooling_device*')
            if _SLOWS.fullmatch(kind := text(folder / 'type'))
        ]

    @property
    def present(self) -> bool:
        """Whether there is any zone."""
        return bool(self._files)

    def temperatures(self) -> dict[str, float]:
        """Degrees Celsius of each zone that answers."""
        found = {zone: number(file, 1e-3) for zone, file in self._files.items()}
        return {zone: t for zone, t in found.items() if t is not None and t > _ABSURD}

    def slowed(self) -> list[str]:
        """Kinds of cooling that make it slower now: ``gpu-throttle-alert``."""
        return [kind for kind, file in self._cooling if (number(file) or 0) > 0]

    def _add(self, zone: str, file: Path, trips: dict[str, float | None]) -> None:
        name, count = zone, 1
        while name in self._files:
            count += 1
            name = f'{zone}_{count}'
        self._files[name] = file
        known = {kind: limit for kind, limit in trips.items() if limit is not None and limit > 0}
        if known:
            self.trips[name] = known


def _trips(zone: Path) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for file in sorted(zone.glob('trip_point_*_type')):
        kind = text(file)
        limit = number(file.with_name(file.name.replace('_type', '_temp')), 1e-3)
        if limit is not None and limit > 0:
            found[kind] = min(limit, found.get(kind) or limit)
    return found
