# SPDX-License-Identifier: Apache-2.0
"""What happened to the frames of one stream: counted, timed, logged, judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from time import perf_counter, perf_counter_ns, time_ns

from rclpy.clock import ROSClock
from rclpy.impl.rcutils_logger import RcutilsLogger

from trt_perception.core import Frame, FrameError
from trt_perception.health.budget import Budget, BudgetJudge
from trt_perception.health.frozen import Frozen
from trt_perception.health.level import Level
from trt_perception.health.stamps import KINDS, Stamps
from trt_perception.health.statistics import FrameCounts
from trt_perception.health.timing import Moment, Timing
from trt_perception.ros.diagnostics import ERROR, OK, STALE, WARN, ThrottledErrors, Verdict


class StreamMonitor:
    """Used from the executor and from the worker's thread.

    Attributes:
        budget: what is expected; replaced whole by others.
        frozen: whether images repeat.
    """

    def __init__(self, logger: RcutilsLogger, clock: ROSClock) -> None:
        """Begin.

        Args:
            clock: the node's, of which the images' stamps are.
        """
        self.budget = Budget()
        self._logger = logger
        self._clock = clock
        self._counts = FrameCounts()
        self._timing = Timing()
        self._stamps = Stamps()
        self.frozen = Frozen()
        self._errors = ThrottledErrors(logger)
        self._last_error = ''
        self._jumps = 0
        self._told = False
        self.begin()

    def begin(self) -> None:
        """Images come from now on, which have nothing to do with those before."""
        self._timing.clear()
        self._stamps.clear()
        self.frozen.clear()
        self._punctuality = BudgetJudge()
        self._level = Level.OK
        self._judged = self._counts.snapshot()
        self._judged_at = self._last_image = perf_counter()
        self._had_images = False
        self._time = -1

    def clock_jumped(self) -> None:
        """What was measured across it means nothing."""
        self._jumps += 1
        self._timing.clear()
        self._stamps.clear(perf_counter_ns())
        counts = self._counts.snapshot()
        self._judged |= {key: counts[key] for key in counts if key.startswith('stamp ')}
        self._punctuality.hold()
        self._last_image = perf_counter()

    def count(self, fate: str) -> None:
        """Count one of `FrameCounts.FATES` for which nothing was published."""
        self._counts.add(fate)

    def received(self, frame: Frame) -> None:
        """Count an image that came."""
        moment = self._moment(frame)
        self._timing.received(moment)
        if strange := self._stamps.look(moment):
            self._counts.add(f'stamp {strange}')
        self.frozen.look(frame.data, moment.at)
        budget = self.budget.latency_ms * 1e6
        if budget and moment.live and moment.age > budget:
            self._counts.add('stale')
        self._counts.add('received')

    def unusable(self, error: FrameError) -> None:
        """Count an image that came and cannot be used."""
        self._counts.add('received')
        self.failed(error)

    def lost(self, number: int) -> None:
        """Count images that were sent but never came."""
        self._counts.add('lost', number)

    def published(self, frame: Frame, stages: Mapping[str, int], over_limit: int) -> None:
        """Count a frame whose detections were sent, and the time of each of its stages.

        Args:
            stages: nanoseconds, ``total`` among them.
            over_limit: candidates in it that were not looked at.
        """
        latency = self._timing.published(self._moment(frame), stages)
        budget = self.budget.latency_ms * 1e6
        if budget and latency > budget:
            self._counts.add('late')
        if over_limit:
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

    def judge(self, problem: str, share: float = 1.0) -> Verdict:
        """How it went since the last time; to be called once a second.

        Args:
            problem: why no image can arrive; '' if nothing is in the way.
            share: of the images that the policy lets through, 0 to 1.
        """
        now, counts = perf_counter(), self._counts.snapshot()
        new = {key: counts[key] - self._judged.get(key, 0) for key in counts}
        seconds = now - self._judged_at
        self._judged, self._judged_at = counts, now
        time = self._clock.now().nanoseconds
        stands, self._time = time == self._time, time  # a simulation that is paused
        came = new['received'] > 0
        if came or stands:
            self._last_image = now
        self._had_images |= came
        self._timing.turn()
        self._tell_obstacle()
        silence = list(self._silence(now))
        verdicts = [
            *self._mishaps(new),
            *silence,
            *self._oddities(new),
            self._judge_times(now, came, share),
        ]
        if problem:
            verdicts = [Verdict(max([WARN, *(v.level for v in silence)]), problem), *silence]
        amiss = sorted((v for v in verdicts if v.level != OK), key=lambda v: v.level, reverse=True)
        if amiss:  # the worst first: one does not hide another
            return Verdict(amiss[0].level, '; '.join(verdict.message for verdict in amiss))
        if stands and not came:
            return Verdict(OK, 'no image, and /clock stands still')
        rate = new['published'] / seconds
        text = f'{rate:.1f} images/s, {new["dropped"]} of {new["received"]} dropped'
        return Verdict(OK, text + self._by_stamps())

    def counts(self) -> dict[str, int]:
        """Where the images went so far."""
        return self._counts.snapshot()

    @property
    def timing(self) -> Timing:
        """How long it took; thread-safe."""
        return self._timing

    def values(self) -> dict[str, object]:
        """All counts, and the percentiles of each stage, for diagnostics."""
        timing, obstacle = self._timing, self._timing.obstacle
        return {
            **self._counts.snapshot(),
            'clock jumps': self._jumps,
            'latency judged by': timing.latency + (f' ({obstacle})' if obstacle else ''),
            'speed of stamps': f'{timing.speed:.3f}',
            'jitter ms': f'{timing.jitter_ms:.3f}',
            **timing.durations.values(),
        }

    def _mishaps(self, new: Mapping[str, int]) -> Iterator[Verdict]:
        if new['failed'] or new['rejected']:
            works = new['published'] and not new['failed']
            yield Verdict(WARN if works else ERROR, self._last_error)
        if new['lost']:
            yield Verdict(
                WARN,
                f'{new["lost"]} images were lost on their way here, {new["received"]} came; large'
                ' ones need config/fastdds_large_images.xml at the camera (README, Large images)',
            )

    def _silence(self, now: float) -> Iterator[Verdict]:
        silence = now - self._last_image
        if silence > self.budget.silence_s:
            yield Verdict(STALE if self._had_images else WARN, f'no image for {silence:.0f} s')

    def _oddities(self, new: Mapping[str, int]) -> Iterator[Verdict]:
        for kind in KINDS:
            if count := new.get(f'stamp {kind}', 0):
                yield Verdict(WARN, self._stamps.tell(kind, count))
        if new['received'] and self.frozen.problem:
            yield Verdict(WARN, self.frozen.problem)

    def _judge_times(self, now: float, news: bool, share: float) -> Verdict:
        level, message = self._punctuality.judge(
            now, self._timing, self.budget, news=news, share=share
        )
        message += self._by_stamps()
        if level == Level.ERROR and self._level != Level.ERROR:
            self._logger.error(message)
        self._level = level
        return Verdict(bytes([level]), message)

    def _by_stamps(self) -> str:
        speed = self._timing.speed
        return f'; at {speed:.2f} of the speed of the stamps' if abs(speed - 1) > 0.05 else ''

    def _tell_obstacle(self) -> None:
        obstacle = self._timing.obstacle
        if obstacle and self.budget.latency_ms and not self._told:
            self._told = True
            self._logger.info(f'latency_budget_ms holds from when an image comes: {obstacle}')

    def _moment(self, frame: Frame) -> Moment:
        simulated, stamp = self._clock.ros_time_is_active, frame.stamp.nanoseconds
        # Else it is the system's, which costs less to ask.
        now = self._clock.now().nanoseconds if simulated else time_ns()
        return Moment(perf_counter_ns(), stamp, now - stamp, simulated)
