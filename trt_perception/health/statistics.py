# SPDX-License-Identifier: Apache-2.0
"""What happened to the frames, and how long it took."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping

from trt_perception.health.histogram import SlidingHistogram, Summary


class FrameCounts:
    """Where every received frame went; counted from several threads.

    Once no frame is under way, received is the sum of all its fates.
    """

    #: received: came in. lost: sent but never came, as far as the middleware can tell.
    ARRIVALS = ('received', 'lost')
    #: published: detections were sent. dropped: a newer frame came first. rejected: the image was
    #: unusable. limited: the rate limit or the policy skipped it. failed: the network could not be
    #: run. discarded: the node was deactivated meanwhile. unserved: the engine was not built yet.
    FATES = ('published', 'dropped', 'rejected', 'limited', 'failed', 'discarded', 'unserved')
    #: stale: was older than its latency budget when it came. late: was published after it.
    PUNCTUALITY = ('stale', 'late')
    #: Boxes in published frames that were not looked at: there were more than a GPU sorts.
    OVER_LIMIT = 'candidates over the limit'

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def add(self, name: str, number: int = 1) -> None:
        """Count one of the names above, or a cause of rejection as ``rejected <kind>``."""
        with self._lock:
            self._counts[name] += number

    def snapshot(self) -> dict[str, int]:
        """All counts, then those of the causes of rejection seen so far."""
        with self._lock:
            counts = dict(self._counts)
        names = (*self.ARRIVALS, *self.FATES, *self.PUNCTUALITY, self.OVER_LIMIT)
        fixed = {name: counts.pop(name, 0) for name in names}
        return fixed | dict(sorted(counts.items()))


class Durations:
    """Durations by name, each over a sliding window; from several threads, in constant memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._histograms: dict[str, SlidingHistogram] = {}

    def add(self, durations: Mapping[str, int]) -> None:
        """Take one of each name, nanoseconds."""
        with self._lock:
            for name, duration in durations.items():
                histogram = self._histograms.get(name)
                if histogram is None:
                    histogram = self._histograms[name] = SlidingHistogram()
                histogram.add(duration)

    def turn(self) -> None:
        """Begin a new part of the window; to be called once a second."""
        with self._lock:
            for histogram in self._histograms.values():
                histogram.turn()

    def clear(self) -> None:
        """Forget all but the totals."""
        with self._lock:
            for histogram in self._histograms.values():
                histogram.clear()

    def totals(self) -> dict[str, tuple[int, int]]:
        """How many of each name there ever were, and their sum, nanoseconds."""
        with self._lock:
            return {name: histogram.total for name, histogram in self._histograms.items()}

    def above(self, name: str, duration: int) -> int:
        """How many of one name are longer than so many nanoseconds."""
        with self._lock:
            histogram = self._histograms.get(name)
            return histogram.above(duration) if histogram else 0

    def summaries(self) -> dict[str, Summary]:
        """What there is of each name, in the order in which they came."""
        with self._lock:
            found = {name: histogram.summary() for name, histogram in self._histograms.items()}
        return {name: summary for name, summary in found.items() if summary is not None}

    def values(self) -> dict[str, str]:
        """For diagnostics: ``<name> p50 ms`` and so on."""
        return {
            f'{name} {key} ms': f'{getattr(summary, key):.3f}'
            for name, summary in self.summaries().items()
            for key in ('p50', 'p95', 'p99', 'max')
        }
