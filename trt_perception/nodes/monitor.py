# SPDX-License-Identifier: Apache-2.0
"""What happened to the frames of one stream: counted, timed, logged, judged."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter

from rclpy.impl.rcutils_logger import RcutilsLogger

from trt_perception.core import FrameError
from trt_perception.health.statistics import FrameCounts, StageLatencies
from trt_perception.ros.diagnostics import ERROR, OK, WARN, ThrottledErrors, Verdict

#: Seconds without an image that are worth a warning: there are slow cameras.
NO_IMAGE_AFTER = 5.0


class StreamMonitor:
    """Used from the executor and from the worker's thread."""

    def __init__(self, logger: RcutilsLogger) -> None:
        self._counts = FrameCounts()
        self._latencies = StageLatencies()
        self._errors = ThrottledErrors(logger)
        self._last_error = ''
        self._judged = self._counts.snapshot()
        self._judged_at = self._last_image = perf_counter()

    def count(self, fate: str) -> None:
        """Count one of `FrameCounts.ARRIVALS` or `FATES`."""
        self._counts.add(fate)

    def lost(self, number: int) -> None:
        """Count images that were sent but never came."""
        self._counts.add('lost', number)

    def published(self, durations_ms: Mapping[str, float], over_limit: int) -> None:
        """Count a frame whose detections were sent, and the time of each of its stages.

        Args:
            over_limit: candidates in it that were not looked at.
        """
        self._latencies.add(durations_ms)
        self._counts.add(FrameCounts.OVER_LIMIT, over_limit)
        self._counts.add('published')  # last: who sees the count finds the times

    @property
    def frames(self) -> int:
        """How many were published so far."""
        return self._counts.snapshot()['published']

    def failed(self, error: Exception) -> None:
        """Count and log a frame that gave nothing, by its cause."""
        if isinstance(error, FrameError):
            kind, self._last_error = error.kind, f'image not used: {error}'
            self._counts.add('rejected')
            self._counts.add(f'rejected {kind}')
        else:
            kind, self._last_error = 'inference', f'inference failed: {error}'
            self._counts.add('failed')
        self._errors.error(kind, self._last_error)

    def judge(self, problem: str) -> Verdict:
        """How it went since the last time.

        Args:
            problem: why no image can arrive; '' if nothing is in the way.
        """
        now, counts = perf_counter(), self._counts.snapshot()
        new = {key: counts[key] - self._judged.get(key, 0) for key in counts}
        seconds = now - self._judged_at
        self._judged, self._judged_at = counts, now
        if new['received']:
            self._last_image = now
        if problem:
            return Verdict(WARN, problem)
        if new['failed'] or new['rejected']:
            works = new['published'] and not new['failed']
            return Verdict(WARN if works else ERROR, self._last_error)
        if new['lost']:
            return Verdict(
                WARN,
                f'{new["lost"]} images were lost on their way here, {new["received"]} came; large'
                ' ones need config/fastdds_large_images.xml at the camera (README, Large images)',
            )
        if now - self._last_image > NO_IMAGE_AFTER:
            return Verdict(WARN, f'no image for {now - self._last_image:.0f} s')
        rate = new['published'] / seconds
        return Verdict(OK, f'{rate:.1f} images/s, {new["dropped"]} of {new["received"]} dropped')

    def values(self) -> dict[str, object]:
        """All counts, and median and 95th percentile of each stage, for diagnostics."""
        values: dict[str, object] = dict(self._counts.snapshot())
        for stage, (median, p95) in self._latencies.percentiles().items():
            values[f'{stage} p50 ms'] = f'{median:.3f}'
            values[f'{stage} p95 ms'] = f'{p95:.3f}'
        return values
