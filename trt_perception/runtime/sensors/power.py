# SPDX-License-Identifier: Apache-2.0
"""Power of a Jetson's supply rails.

Source: Documentation/hwmon/ina3221.rst and ina238.rst of Linux; the Jetson Linux Developer Guide
for the rails.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from trt_perception.runtime.sensors.files import chips, number, numbered, text

_ROOT = Path('/')
#: Rails that feed all others: the whole board of Thor, the module of Orin NX and Nano, of Nano.
_WHOLE = ('vin', 'vdd_in', 'pom_5v_in')
#: On AGX Orin this one is fed by vin_sys_5v0, which is measured, too.
_PARTS = frozenset({'vddq_vdd2_1v8ao'})


class Power:
    """The rails that monitors of the kinds INA3221 and INA238 measure."""

    def __init__(self, root: Path = _ROOT) -> None:
        self._rails: dict[str, tuple[Path, ...]] = {}  # files whose product is the power
        self._units: dict[str, float] = {}
        for kind, folder in chips(root, 'ina3221', 'ina238'):
            labels = [(label, text(label).lower()) for label in numbered(folder, 'in*_label')]
            if kind == 'ina238':  # it measures one, and multiplies itself
                rail = next((rail for _, rail in labels if rail), text(folder / 'label').lower())
                self._add(rail or 'vin', 1e-6, folder / 'power1_input')
                continue
            for label, rail in labels:
                volts = folder / label.name.replace('_label', '_input')
                amperes = folder / volts.name.replace('in', 'curr', 1)
                if amperes.exists() and not rail.startswith('sum of'):
                    self._add(rail, 1e-6, volts, amperes)

    @property
    def present(self) -> bool:
        """Whether any rail is measured."""
        return bool(self._rails)

    def read(self) -> dict[str, float]:
        """Watts of each rail that answers, by its name in small letters."""
        found = {}
        for rail, files in self._rails.items():
            watts = self._units[rail]
            for file in files:
                value = number(file)
                if value is None:
                    break
                watts *= value
            else:
                found[rail] = max(watts, 0.0)  # a rail without current reads a little below 0
        return found

    def _add(self, rail: str, unit: float, *files: Path) -> None:
        if rail and rail not in ('nc', *self._rails) and all(file.exists() for file in files):
            self._rails[rail], self._units[rail] = files, unit


def supplying(rails: Collection[str]) -> list[str]:
    """Those whose sum is all that is measured, each watt counted once."""
    whole = [rail for rail in _WHOLE if rail in rails]
    return whole[:1] or [rail for rail in rails if rail not in _PARTS]
