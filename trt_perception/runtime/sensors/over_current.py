# SPDX-License-Identifier: Apache-2.0
"""How often a Jetson had too little voltage or drew too much current.

Source: the Jetson Linux Developer Guide, "Platform Power and Performance": OC1 is under-voltage,
OC2 average over-current, OC3 instantaneous over-current.
"""

from __future__ import annotations

from pathlib import Path

from trt_perception.runtime.sensors.files import chips, number, numbered

_ROOT = Path('/')

#: What each counter counts.
MEANINGS = {
    'oc1': 'under-voltage',
    'oc2': 'average over-current',
    'oc3': 'instantaneous over-current',
}


class OverCurrent:
    """The counters, which count from the boot on."""

    def __init__(self, root: Path = _ROOT) -> None:
        folders = [folder for _, folder in chips(root, 'soctherm_oc')]
        folders += numbered(root, 'sys/devices/platform/soctherm-oc-event/hwmon/hwmon*')
        self._files = {
            name: file
            for folder in folders[:1]
            for name in MEANINGS
            if (file := folder / f'{name}_event_cnt').exists()
        }

    @property
    def present(self) -> bool:
        """Whether there is any counter."""
        return bool(self._files)

    def read(self) -> dict[str, int]:
        """Each counter that answers, by name: ``oc1``."""
        found = {name: number(file) for name, file in self._files.items()}
        return {name: int(count) for name, count in found.items() if count is not None}
