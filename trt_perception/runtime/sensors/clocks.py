# SPDX-License-Identifier: Apache-2.0
"""Clocks of the GPU and of the memory, against the most that they may be."""

from __future__ import annotations

from typing import NamedTuple


class Clock(NamedTuple):
    """One clock.

    Attributes:
        mhz: now.
        max_mhz: the most that it may be now, where that can be read.
        load: busy share of what it drives, 0..1, where that can be read.
    """

    mhz: float
    max_mhz: float | None = None
    load: float | None = None
