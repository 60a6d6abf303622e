# SPDX-License-Identifier: Apache-2.0
"""Take some of a stream's frames, evenly."""

from __future__ import annotations

import math


class RateLimit:
    """Lets through at most so many a second, on average exactly so many of a faster stream.

    The distance from the last one alone would halve the rate of a stream that jitters around a
    multiple of the limit: frames are due on a schedule instead, and one that is late by less than
    a period does not put off the next.
    """

    def __init__(self) -> None:
        self._due = -math.inf

    def passes(self, now: float, rate: float) -> bool:
        """Say whether a frame may pass.

        Args:
            now: seconds, steady.
            rate: frames a second, at most; 0 is no limit. May change from call to call.
        """
        if rate <= 0:
            return True
        period = 1 / rate
        # After a lower rate nothing is due for longer than the new one's period.
        due = min(self._due, now + period)
        if now < due:
            return False
        self._due = (due if now - due < period else now) + period
        return True
