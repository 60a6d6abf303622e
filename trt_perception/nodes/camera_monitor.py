# SPDX-License-Identifier: Apache-2.0
"""What became of a camera's images: counted, timed, judged."""

from __future__ import annotations

import threading
from collections import Counter
from time import perf_counter

from trt_perception.health.statistics import Durations
from trt_perception.ros.diagnostics import ERROR, OK, STALE, WARN, Verdict

#: Seconds without an image that are worth a warning: there are slow cameras.
NO_IMAGE_AFTER = 5.0


class CameraMonitor:
    """Used from the executor and from the camera's threads.

    Attributes:
        state: ``connecting``, ``running``, ``waiting`` for the next attempt, ``ended`` or
            ``failed`` for good.
        problem: why there are no images, or '' if nothing is known to be in the way.
        misfit: why they come without their calibration, or ''.
    """

    #: read: came from the source. published: were sent. unheard: nobody would have taken them.
    #: dropped: a newer one came first. limited: above the rate. unusable: could not be decoded or
    #: sent. skipped: left out before they were read, damaged, cut off or to catch up.
    #: connected, disconnected: how often.
    COUNTS = (
        'read', 'published', 'unheard', 'dropped', 'limited', 'unusable', 'skipped', 'connected',
        'disconnected',
    )  # fmt: skip

    def __init__(self) -> None:
        self.state = 'connecting'
        self.problem = self.misfit = ''
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._durations = Durations()
        self._judged: Counter[str] = Counter()
        self._judged_at = self._last_image = perf_counter()
        self._unusable = ''

    def begin(self) -> None:
        """Judge from now on what comes of a source; the counts go on."""
        self.state = 'connecting'
        self.problem = self.misfit = ''
        with self._lock:
            self._judged = Counter(self._counts)
        self._judged_at = self._last_image = perf_counter()

    def count(self, what: str, number: int = 1) -> None:
        """Count one of `COUNTS`."""
        with self._lock:
            self._counts[what] += number

    def published(self, age: int) -> None:
        """Count an image that was sent, and how many nanoseconds after it was taken."""
        self._durations.add({'age': age})
        self.count('published')

    def unusable(self, reason: str) -> None:
        """Count an image that could not be sent."""
        self._unusable = reason
        self.count('unusable')

    def judge(self) -> Verdict:
        """How it went since the last time."""
        with self._lock:
            counts = Counter(self._counts)
        now, new = perf_counter(), counts - self._judged
        seconds = now - self._judged_at
        self._judged, self._judged_at = counts, now
        self._durations.turn()
        if new['read'] or self.state != 'running':
            self._last_image = now
        if self.state in ('waiting', 'failed'):
            return Verdict(ERROR, self.problem)
        if self.state != 'running':
            return Verdict(WARN if self.state == 'connecting' else OK, self.state)
        if new['unusable']:
            return Verdict(WARN if new['published'] else ERROR, self._unusable)
        if now - self._last_image > NO_IMAGE_AFTER:
            level = STALE if counts['read'] else WARN
            return Verdict(level, f'no image for {now - self._last_image:.0f} s')
        if self.misfit:
            return Verdict(WARN, self.misfit)
        rate = (new['published'] + new['unheard']) / seconds
        if new['unheard'] and not new['published']:
            return Verdict(OK, f'{rate:.1f} images/s, nobody listens')
        return Verdict(OK, f'{rate:.1f} images/s, {new["dropped"] + new["skipped"]} dropped')

    def values(self) -> dict[str, object]:
        """All counts, and the percentiles of the age, for diagnostics."""
        with self._lock:
            values: dict[str, object] = {name: self._counts[name] for name in self.COUNTS}
        return {'state': self.state, **values, **self._durations.values()}
