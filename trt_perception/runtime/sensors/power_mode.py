# SPDX-License-Identifier: Apache-2.0
"""The power mode of nvpmodel, without asking it."""

from __future__ import annotations

import re
from pathlib import Path

from trt_perception.runtime.sensors.files import text

_ROOT = Path('/')


class PowerMode:
    """The mode that is set, by its name in nvpmodel's own configuration.

    Attributes:
        modes: names of all modes by number.
    """

    def __init__(self, root: Path = _ROOT) -> None:
        self._status = root / 'var/lib/nvpmodel/status'
        models = re.findall(
            r'<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>', text(root / 'etc/nvpmodel.conf')
        )
        self.modes = {int(number): name for number, name in models}

    def read(self) -> str:
        """Such as ``MAXN`` or ``30W``; the number where it has no name; '' without nvpmodel."""
        found = re.search(r'pmode:\s*(\d+)', text(self._status))
        return '' if found is None else self.modes.get(int(found[1]), str(found[1]))
