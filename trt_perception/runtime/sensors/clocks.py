# SPDX-License-Identifier: Apache-2.0
"""Clocks of the GPU and of the memory, against the most that they may be."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from trt_perception.runtime.sensors.files import number

_ROOT = Path('/')
#: Names of Jetson GPUs among the devices with a clock: Orin, Xavier, TX2, Thor.
GPU = re.compile(r'\d+\.(gpu|ga10b|gv11b|gp10b)|gpu-gpc-\d')
_EMC = re.compile(r'bwmgr|emc|\d+\.emc')
#: A limit above it is none: nvpmodel writes the largest number that there is.
_UNLIMITED_MHZ = 1e5


class Clock(NamedTuple):
    """One clock.

    Attributes:
        mhz: now; 0 while it is switched off.
        max_mhz: the most that it may be now, where that can be read.
        load: busy share of what it drives, 0..1, where that can be read.
    """

    mhz: float
    max_mhz: float | None = None
    load: float | None = None


class Clocks:
    """A Jetson's: ``gpu``, and ``emc`` of its memory."""

    def __init__(self, root: Path = _ROOT) -> None:
        self._files: dict[str, tuple[Path, Path, Path]] = {}  # now, at most, load
        # Orin shows the memory's to root alone, unless there is a device for it.
        debug = root / 'sys/kernel/debug/bpmp/debug/clk/emc'
        self._files['emc'] = debug / 'rate', debug / 'max_rate', debug / 'load'
        for folder in sorted(root.glob('sys/class/devfreq/*'), reverse=True):  # the first one wins
            files = folder / 'cur_freq', folder / 'max_freq', folder / 'device/load'
            if GPU.fullmatch(folder.name):
                self._files['gpu'] = files
            elif _EMC.fullmatch(folder.name):
                self._files['emc'] = files

    def read(self) -> dict[str, Clock]:
        """Those that answer."""
        found = {}
        for name, (now, limit, load) in self._files.items():
            mhz, most = number(now, 1e-6), number(limit, 1e-6)
            if mhz is not None:
                capped = most if most and most < _UNLIMITED_MHZ else None
                found[name] = Clock(mhz, capped, number(load, 1e-3))
        return found
