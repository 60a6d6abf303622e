# SPDX-License-Identifier: Apache-2.0
"""How hard a Jetson's fan works."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from trt_perception.runtime.sensors.files import chips, number

_ROOT = Path('/')
_FANS = ('pwmfan', 'pwm-fan', 'tegra_pwmfan')
#: Chips with the file ``rpm``: L4T 36 and newer, and 35.
_TACHOMETERS = ('pwm_tach', 'generic_pwm_tachometer')


class Fan(NamedTuple):
    """The fan; None for what cannot be read."""

    duty: float | None = None  # 0..1
    rpm: float | None = None


class FanSensor:
    """The fan of a Jetson's module."""

    def __init__(self, root: Path = _ROOT) -> None:
        fans = [folder for _, folder in chips(root, *_FANS)]
        self._duty = [folder / 'pwm1' for folder in fans]
        self._rpm = [folder / 'fan1_input' for folder in fans]
        self._rpm += [folder / 'rpm' for _, folder in chips(root, *_TACHOMETERS)]

    def read(self) -> Fan | None:
        """What can be read of it; None if nothing can."""
        duty = next((d for f in self._duty if (d := number(f, 1 / 255)) is not None), None)
        rpm = next((r for f in self._rpm if (r := number(f)) is not None), None)
        return None if duty is None and rpm is None else Fan(duty, rpm)
