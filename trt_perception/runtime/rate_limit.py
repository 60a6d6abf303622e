# SPDX-License-Identifier: Apache-2.0
"""Take some of a stream's frames, evenly."""

from __future__ import annotations

import math


class RateLimit:
    """Lets through at most so many a second, and that many of a stream that brings as many.

    Frames are due on a schedule, and may come half a period early or one late without moving it:
    the distance from the last one alone would halve the rate of a stream that jitters around the
    limit.
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
        # What a lower rate put off does not bind the new one.
        self._due = min(self._due, now + 1.5 * period)
        if now < self._due - period / 2:
            return False
        self._due = (self._due if now - self._due < period else now) + period
        return True


class Thinning:
    """Lets through a share of a stream's frames, evenly: of four frames the fourth, say."""

    def __init__(self) -> None:
        self._owed = 0.0

    def passes(self, share: float) -> bool:
        """Say whether a frame may pass.

        Args:
            share: 1 is all, 0 none. May change from call to call.
        """
        if share >= 1:
            self._owed = 0.0
            return True
        self._owed += share
        if self._owed < 1 - 1e-9:  # ten tenths are a little less than one
            return False
        self._owed -= 1
        return True
