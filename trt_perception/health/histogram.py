# SPDX-License-Identifier: Apache-2.0
"""How long things take: histograms of constant memory, over a sliding window.

The buckets are those of an HDR histogram (Gil Tene, hdrhistogram.org): linear within each power of
two, so that the error is relative.
"""

from __future__ import annotations

from array import array
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_UNIT = 1000  # nanoseconds
_LINEAR = 6  # bits: so many buckets, 64, lie between a power of two and the next
_BITS = 26  # of the longest duration that is told apart, in units: 67 s

#: Of a percentile: no more than half a bucket, that is this share of it, or half a microsecond.
RELATIVE_ERROR = 0.5 / (1 << _LINEAR)

_BUCKETS = ((_BITS - _LINEAR - 1) << _LINEAR) + (2 << _LINEAR)
_LONGEST = (1 << _BITS) - 1
_ZEROS = bytes(4 * _BUCKETS)


def _bucket(duration: int) -> int:
    # Each frame comes here ten times: comparisons are faster than min and max.
    units = duration // _UNIT
    if units < 2 << _LINEAR:
        return units
    if units > _LONGEST:
        units = _LONGEST
    shift = units.bit_length() - _LINEAR - 1
    return (shift << _LINEAR) + (units >> shift)


def _middles() -> NDArray[np.float64]:
    """Of each bucket, nanoseconds."""
    bucket = np.arange(_BUCKETS)
    shift = np.maximum((bucket >> _LINEAR) - 1, 0)
    middles: NDArray[np.float64] = (bucket - (shift << _LINEAR) + 0.5) * (1 << shift) * _UNIT
    return middles


_MIDDLES = _middles()


class Summary(NamedTuple):
    """What a histogram holds; milliseconds.

    Attributes:
        number: of durations; not 0.
        mean, max: exact.
        p50, p95, p99: the smallest duration that no more than the other share exceeds (nearest
            rank), to within `RELATIVE_ERROR`.
    """

    number: int
    mean: float
    p50: float
    p95: float
    p99: float
    max: float


class _Slice:
    """Durations of one part of the window."""

    __slots__ = ('count', 'counts', 'longest', 'shortest', 'total')

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.counts = array('I', _ZEROS)
        self.count = self.total = self.longest = 0
        self.shortest = 1 << 63

    @property
    def array(self) -> NDArray[np.int64]:
        """Of each bucket."""
        return np.frombuffer(self.counts, np.uint32).astype(np.int64)


class SlidingHistogram:
    """Durations of the last while, in constant memory. Not safe between threads.

    The window is so many slices. Who owns it calls `turn` once a period; the oldest slice is
    forgotten for a new one. A period without durations does not count: what was last seen stays.
    """

    def __init__(self, slices: int = 10) -> None:
        self._slices = [_Slice() for _ in range(slices)]  # the oldest first
        self._now = self._slices[-1]
        self._before = np.zeros(_BUCKETS, np.int64)  # counts of all slices before this one
        self._forgotten = 0, 0  # how many, and their sum

    def add(self, duration: int) -> None:
        """Take one more.

        Args:
            duration: nanoseconds; below 0 is taken for 0, and above a minute all are one to the
                percentiles.
        """
        now = self._now
        if duration < 0:
            duration = 0
        now.counts[_bucket(duration)] += 1
        now.count += 1
        now.total += duration
        if duration > now.longest:
            now.longest = duration
        if duration < now.shortest:
            now.shortest = duration

    def turn(self) -> None:
        """Begin a new slice, unless this one is still empty."""
        if self._now.count:
            oldest = self._slices.pop(0)
            self._slices.append(oldest)
            self._before += self._now.array - oldest.array
            self._now = oldest
            self._forget(oldest)

    def clear(self) -> None:
        """Forget all but the total."""
        for part in self._slices:
            self._forget(part)
        self._before[:] = 0

    @property
    def count(self) -> int:
        """How many durations there are."""
        return sum(part.count for part in self._slices)

    @property
    def total(self) -> tuple[int, int]:
        """How many there ever were, and their sum, nanoseconds."""
        count, total = self._forgotten
        return count + self.count, total + sum(part.total for part in self._slices)

    def above(self, duration: int) -> int:
        """How many are longer than this, to within a bucket."""
        return int(self._counts()[_bucket(duration) + 1 :].sum())

    def summary(self) -> Summary | None:
        """All that it tells; None while it is empty."""
        parts = [part for part in self._slices if part.count]
        if not parts:
            return None
        count = sum(part.count for part in parts)
        ranks = [-(-count * percent // 100) for percent in (50, 95, 99)]  # rounded up
        found = _MIDDLES[self._counts().cumsum().searchsorted(ranks)].tolist()
        shortest, longest = min(part.shortest for part in parts), max(p.longest for p in parts)
        p50, p95, p99 = (min(max(middle, shortest), longest) / 1e6 for middle in found)
        mean = sum(part.total for part in parts) / count
        return Summary(count, mean / 1e6, p50, p95, p99, longest / 1e6)

    def _forget(self, part: _Slice) -> None:
        if part.count:
            count, total = self._forgotten
            self._forgotten = count + part.count, total + part.total
            part.clear()

    def _counts(self) -> NDArray[np.int64]:
        """Of each bucket."""
        return self._before + self._now.array
