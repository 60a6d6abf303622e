# SPDX-License-Identifier: Apache-2.0
"""Whether the stamps of a camera's images can be true."""

from __future__ import annotations

from trt_perception.health.timing import OLDEST, Moment

#: Nanoseconds that a stamp may be ahead: clocks that are synchronised over a network differ by a
#: few milliseconds. /clock ticks at 10 Hz or more, each tick ten times as long where a recording is
#: played ten times as fast.
AHEAD, AHEAD_SIMULATED = 100_000_000, 1_000_000_000

#: Nanoseconds after a jump of this clock in which images may still be of the time before.
QUIET = 1_000_000_000

#: What may be wrong with a stamp, and what to say of so many of them and the worst, in seconds.
KINDS = {
    'ahead': '{images} stamped ahead of this clock, by up to {worst:.3f} s: synchronise the clocks'
    ' (chrony, PTP)',
    'missing': '{images} without a stamp: the driver has to set header.stamp',
    'old': '{images} old when they came, up to {worst:.0f} s by their stamps, and those before were'
    " not: the camera's clock was set, or it sends what it had kept",
    'repeated': '{images} with the stamp of the one before: a camera that sends them twice, or two'
    ' cameras on one topic',
    'back': '{images} stamped before the one before, by up to {worst:.3f} s: two cameras on one'
    ' topic, or a clock that was set',
}


class Stamps:
    """Looks at each stamp beside this clock and the one before it.

    Images that have been old from the first are those of a recording: that is no fault, nor is it
    when it begins anew.
    """

    def __init__(self) -> None:
        self._last: Moment | None = None
        self._lived = False
        self._worst: dict[str, int] = {}
        self._quiet_until = 0

    def clear(self, jumped_at: int = -QUIET) -> None:
        """What follows has nothing to do with what was before.

        Args:
            jumped_at: when this clock was set, nanoseconds, steady.
        """
        self._quiet_until = jumped_at + QUIET
        self._last = None
        self._lived = False
        self._worst = {}

    def look(self, moment: Moment) -> str:
        """What is wrong with a stamp, by its name in `KINDS`; '' if nothing is."""
        last, self._last = self._last, moment
        kind, by = self._judge(moment, last)
        self._lived = self._lived or moment.live
        if kind:
            self._worst[kind] = max(by, self._worst.get(kind, 0))
        return kind

    def tell(self, kind: str, count: int) -> str:
        """What to say of so many that were found since this was last asked."""
        images = '1 image' if count == 1 else f'{count} images'
        return KINDS[kind].format(images=images, worst=self._worst.pop(kind, 0) / 1e9)

    def _judge(self, moment: Moment, last: Moment | None) -> tuple[str, int]:
        if moment.at < self._quiet_until:
            return '', 0
        if moment.age < -(AHEAD_SIMULATED if moment.simulated else AHEAD):
            return 'ahead', -moment.age
        if not moment.stamp and moment.age > OLDEST:  # a simulation begins at 0
            return 'missing', 0
        if self._lived and not moment.simulated and not moment.plausible and moment.age > 0:
            return 'old', moment.age
        if last is None or moment.stamp > last.stamp:
            return '', 0
        back = last.stamp - moment.stamp
        if not back:
            return 'repeated', 0
        return ('back', back) if last.live else ('', 0)
