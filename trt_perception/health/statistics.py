# SPDX-License-Identifier: Apache-2.0
"""What happened to the frames, and how long each stage took."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping

import numpy as np


class FrameCounts:
    """Where every received frame went; counted from several threads.

    Once no frame is under way, received is the sum of all its fates.
    """

    #: received: came in. lost: sent but never came, as far as the middleware can tell.
    ARRIVALS = ('received', 'lost')
    #: published: detections were sent. dropped: a newer frame came first. rejected: the image was
    #: unusable. limited: the rate limit skipped it. failed: the network could not be run.
    #: discarded: the node was deactivated meanwhile. unserved: the engine was not built yet.
    FATES = ('published', 'dropped', 'rejected', 'limited', 'failed', 'discarded', 'unserved')
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
        names = (*self.ARRIVALS, *self.FATES, self.OVER_LIMIT)
        fixed = {name: counts.pop(name, 0) for name in names}
        return fixed | dict(sorted(counts.items()))


class StageLatencies:
    """Durations of the last frames by stage, in constant memory."""

    def __init__(self, window: int = 1000) -> None:
        self._lock = threading.Lock()
        self._window = window
        self._stages: dict[str, deque[float]] = {}

    def add(self, durations_ms: Mapping[str, float]) -> None:
        with self._lock:
            for stage, duration in durations_ms.items():
                if stage not in self._stages:
                    self._stages[stage] = deque(maxlen=self._window)
                self._stages[stage].append(duration)

    def percentiles(self) -> dict[str, tuple[float, float]]:
        """Median and 95th percentile of each stage, milliseconds, over the window."""
        with self._lock:
            stages = {name: np.array(values) for name, values in self._stages.items()}
        return {
            name: (float(np.percentile(values, 50)), float(np.percentile(values, 95)))
            for name, values in stages.items()
        }
