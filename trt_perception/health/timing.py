# SPDX-License-Identifier: Apache-2.0
"""When the images of one camera came, and how soon what was found in them was published."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import NamedTuple

from trt_perception.health.histogram import Summary
from trt_perception.health.statistics import Durations

#: Nanoseconds; an older image comes from a recording, or from a machine with another clock.
OLDEST = 10_000_000_000
#: Nanoseconds; what is longer between two images is a pause and says nothing of their rate.
PAUSE = 5_000_000_000
#: Nanoseconds; where stamps go back so far a recording has begun anew. Less is a packet overtaken.
BACK = 1_000_000_000

AGE, TOTAL, STAMP_TO_PUBLISH = 'age', 'total', 'stamp to publish'
RECEIVE_INTERVAL, PUBLISH_INTERVAL = 'receive interval', 'publish interval'


class Moment(NamedTuple):
    """When something happened to an image.

    Attributes:
        at: nanoseconds, steady.
        stamp: of the image, nanoseconds.
        age: since its stamp by the node's clock, nanoseconds.
        simulated: that clock is a simulation's, or a recording's.
    """

    at: int
    stamp: int
    age: int
    simulated: bool = False

    @property
    def plausible(self) -> bool:
        """Whether its stamp may be of the node's clock."""
        return 0 <= self.age < OLDEST

    @property
    def live(self) -> bool:
        """Whether its age is that of an image of the real world, and may be judged."""
        return self.plausible and not self.simulated


class Timing:
    """Ages, stages and intervals of one camera's images over the last while; thread-safe.

    **Age** is by the node's clock, the stages by a steady one. The age of an image that cannot be
    of that clock (a recording played without its clock, a camera with a clock of its own) is left
    out.
    **Intervals** of live images are by the steady clock. Those of others are the differences of
    their stamps: a recording has the rate that it was recorded with, however fast it is played.
    **Jitter** is that of RFC 3550, 6.4.1: the mean difference of the ages of two successive images
    when they are published, each new one counting for a sixteenth.
    """

    _received: Moment | None
    _published: Moment | None
    _jitter: float
    _live: bool
    _strange: int  # images since the last turn whose age cannot be judged, less the others
    _steady: float  # nanoseconds that went by of late
    _own: float  # those of the stamps

    def __init__(self) -> None:
        self.durations = Durations()
        self._lock = threading.Lock()
        self._clear()

    def clear(self) -> None:
        """Forget all: a clock was set, or what follows has nothing to do with what was before."""
        with self._lock:
            self._clear()

    def received(self, moment: Moment) -> None:
        """An image came."""
        durations = {}
        with self._lock:
            last, self._received = self._received, moment
            if last is not None and moment.stamp < last.stamp - BACK:
                self._clear()
                self._received, last = moment, None
            if moment.plausible:
                durations[AGE] = moment.age
            self._strange += 1 if not moment.live else -1
            if last is not None and (interval := _interval(RECEIVE_INTERVAL, last, moment)):
                durations |= interval
                self._steady += moment.at - last.at
                self._own += moment.stamp - last.stamp
        self.durations.add(durations)

    def published(self, moment: Moment, stages: Mapping[str, int]) -> int:
        """What was found in an image was published.

        Args:
            stages: nanoseconds, `TOTAL` from the image's coming among them.

        Returns:
            The latency to judge: since its stamp, or since it came if that cannot be known.
        """
        durations = dict(stages)
        with self._lock:
            last, self._published = self._published, moment
            if moment.plausible:
                durations[STAMP_TO_PUBLISH] = moment.age
            if last is not None:
                durations |= _interval(PUBLISH_INTERVAL, last, moment)
                if moment.plausible and last.plausible:
                    self._jitter += (abs(moment.age - last.age) - self._jitter) / 16
        self.durations.add(durations)
        return moment.age if moment.live else stages[TOTAL]

    def turn(self) -> None:
        """Begin a new part of the window; to be called once a second."""
        self.durations.turn()
        with self._lock:
            if self._strange:  # else there was none, or as many of each
                self._live = self._strange < 0
            self._strange = 0
            self._steady /= 2
            self._own /= 2

    @property
    def latency(self) -> str:
        """The name of what is judged: `STAMP_TO_PUBLISH`, or `TOTAL` if that cannot be."""
        return STAMP_TO_PUBLISH if self._live else TOTAL

    @property
    def obstacle(self) -> str:
        """Why the age of images cannot be judged; '' if it can."""
        received = self._received
        if self._live or received is None:
            return ''
        if received.simulated:
            return 'time is that of /clock'
        age = received.age / 1e9
        old = f'{age:.0f} s old when they come' if age >= 0 else f'stamped {-age:.3f} s ahead'
        return (
            f'images are {old}: a recording without use_sim_time, or a camera whose clock is not'
            ' synchronised'
        )

    @property
    def speed(self) -> float:
        """How fast the time of the stamps goes; 1 for live images."""
        with self._lock:
            if self._live or self._own <= 0 or self._steady <= 0:
                return 1.0
            return self._own / self._steady

    @property
    def jitter_ms(self) -> float:
        """See above."""
        return self._jitter / 1e6

    def silence(self, at: int) -> int:
        """Nanoseconds since something was published, in the time of the stamps; 0 if never."""
        last = self._published
        return 0 if last is None else max(0, int((at - last.at) * self.speed))

    def summaries(self) -> dict[str, Summary]:
        """Of all durations there are, by name."""
        return self.durations.summaries()

    def _clear(self) -> None:
        self.durations.clear()
        self._received = self._published = None
        self._jitter = self._steady = self._own = 0.0
        self._live = True
        self._strange = 0


def _interval(name: str, last: Moment, moment: Moment) -> dict[str, int]:
    own = moment.stamp - last.stamp
    interval = own if own > 0 and not moment.live else moment.at - last.at
    return {name: interval} if interval < PAUSE else {}
