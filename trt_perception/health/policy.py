# SPDX-License-Identifier: Apache-2.0
"""How much of its work a detector does as the board gets hot: when, and what is left out first.

Nothing here reads a clock or a sensor, so that a simulated board drives it as a real one does.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from statistics import median

from trt_perception.core import PerceptionError

#: A camera looks at no less than this share of its images; with less it is shed.
LEAST_SHARE = 0.1
#: Readings that a trend is made of, at most: its cost grows with their square.
_READINGS = 64
#: A level that comes back within so many hold times has been left too early,
_TOO_EARLY = 4
#: and is held longer the next time, up to so many times.
_LONGEST_HOLD = 8


class PolicyError(PerceptionError):
    """Settings that contradict each other."""


class Heat(IntEnum):
    """How close the board is to slowing itself down."""

    NOMINAL = 0
    WARM = 1
    HOT = 2
    CRITICAL = 3

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True)
class Settings:
    """When a level begins and ends, and what is done in it.

    Attributes:
        margins_c: of warm, hot and critical: degrees Celsius below the trip point where it begins.
        hysteresis_c: as much more margin it takes to end.
        horizon_s: the trend of the last so many seconds is carried on for as many; 0: it is not.
        hold_s: a level ends when it could have ended for as long.
        loads: of warm, hot and critical: the share of all images that is looked at, 0.1 to 1.
        lighter_from: the level in which the first lighter model runs, in the next one the second;
            None: in no level. As in the following.
        pause_overlay_from: that from which on nothing is drawn.
        shed_from: that from which on cameras may be left out.
    """

    margins_c: tuple[float, float, float] = (6.0, 4.0, 2.0)
    hysteresis_c: float = 3.0
    horizon_s: float = 20.0
    hold_s: float = 30.0
    loads: tuple[float, float, float] = (0.8, 0.6, 0.3)
    lighter_from: Heat | None = Heat.HOT
    pause_overlay_from: Heat | None = Heat.WARM
    shed_from: Heat | None = Heat.CRITICAL

    def __post_init__(self) -> None:
        for what, numbers in (('margin', self.margins_c), ('load', self.loads)):
            if list(numbers) != sorted(numbers, reverse=True):
                warm, hot, critical = numbers
                raise PolicyError(
                    f'policy.warm_{what} {warm:g}, policy.hot_{what} {hot:g} and'
                    f' policy.critical_{what} {critical:g} do not go down; a hotter level begins'
                    ' closer to the trip point and does less'
                )

    def measures(self, level: Heat, priorities: Mapping[str, float]) -> Measures:
        """What is done in a level.

        Args:
            priorities: of the cameras by name.
        """

        def since(first: Heat | None) -> int:
            return 0 if first is None or level < first else level - first + 1

        load = (1.0, *self.loads)[level]
        return Measures(
            shares_of(priorities, load, shed=since(self.shed_from) > 0),
            since(self.lighter_from),
            since(self.pause_overlay_from) > 0,
        )


@dataclass(frozen=True)
class Measures:
    """What is done against the heat.

    Attributes:
        shares: of each camera's images, how many are looked at: 1 is all, 0 none.
        model: 0 is the one that was asked for, 1 the first of the lighter ones, and so on.
        overlay_paused: nothing is drawn.
    """

    shares: Mapping[str, float]
    model: int = 0
    overlay_paused: bool = False


def shares_of(priorities: Mapping[str, float], load: float, *, shed: bool) -> dict[str, float]:
    """Divide what may be looked at among cameras: who has the highest priority gives last.

    Cameras of the highest priority keep all their images as long as the others have any to give.
    What is left is divided among the others by priority; none gets more than it brings.

    Args:
        priorities: by camera.
        load: the share of all their images, `LEAST_SHARE` to 1.
        shed: leave a camera out for which less than `LEAST_SHARE` is left, instead of keeping that
            for it. One of the highest priority is never left out.
    """
    if not priorities:
        return {}
    highest = max(priorities.values())
    others = {c: p for c, p in priorities.items() if p < highest}
    first = len(priorities) - len(others)
    kept = 0.0 if shed else LEAST_SHARE
    left = load * len(priorities) - kept * len(others)
    of_first = min(1.0, left / first)
    left -= of_first * first
    shares = dict.fromkeys(priorities, of_first)
    weight = sum(others.values())
    for camera, priority in sorted(others.items(), key=lambda each: -each[1]):
        more = min(1.0 - kept, max(0.0, left) * priority / weight)
        left, weight = left - more, weight - priority
        shares[camera] = kept + more if kept + more >= LEAST_SHARE else 0.0
    return shares


@dataclass(frozen=True)
class State:
    """What a policy has made of the readings so far.

    Attributes:
        level: it is in.
        since: when that began, in the readings' time; of the first reading while it is nominal.
        why: what brought it there, or keeps it there; '' in a nominal level that nothing presses.
        margin_c: that was read last; None where the last reading told none.
        heating_c_s: degrees Celsius a second, by the trend; None where that is not known yet.
        seconds_to_throttle: until the trip point, should the trend go on; None where it does not
            lead there.
        blind: there was a margin once, and there is none now.
    """

    level: Heat = Heat.NOMINAL
    since: float = 0.0
    why: str = ''
    margin_c: float | None = None
    heating_c_s: float | None = None
    seconds_to_throttle: float | None = None
    blind: bool = False


class Trend:
    """The slope of the last readings, by Theil and Sen: the median of the slopes between any two.

    A fifth of them may be far off (the bound is 29 %) without any effect, which no mean has; see
    Sen, Estimates of the regression coefficient based on Kendall's tau, 1968.
    """

    def __init__(self) -> None:
        self._readings: deque[tuple[float, float]] = deque(maxlen=_READINGS)

    def add(self, at: float, value: float) -> None:
        """Take a reading; one that is not younger than the last is none."""
        if not self._readings or at > self._readings[-1][0]:
            self._readings.append((at, value))

    def slope(self, window: float) -> float | None:
        """Change a second over so many seconds before the last reading.

        Returns:
            None where there are fewer than three readings, or where they span less than half.
        """
        if not self._readings or window <= 0:
            return None
        now = self._readings[-1][0]
        recent = [(at, value) for at, value in self._readings if at >= now - window]
        if len(recent) < 3 or now - recent[0][0] < window / 2:
            return None
        return median(
            (value - earlier) / (at - then)
            for k, (at, value) in enumerate(recent)
            for then, earlier in recent[:k]
        )


class Policy:
    """The state machine of `Heat`.

    **Up**, at once and over as many levels as it takes: the margin is within the level's, or will
    be within the horizon if the trend goes on. The trend leads at most one level further than the
    margin does, so that a cold board that warms up quickly is let be. A board that is throttled,
    for whatever reason, is hot at least.

    **Down**, one level at a time: what brought it here has been over, with the hysteresis on top of
    the margin, for all of the hold time. That is doubled each time that a level was left too early,
    so that a board in steady heat does not swing between two levels.

    **Without a margin** any more, or without a reading, the level stays as it is. Where there never
    was one, as on a board whose zones have no such trip point, throttling alone is judged.

    Attributes:
        settings: may be replaced at any time.
        state: after the last reading.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.state = State()
        self._trend = Trend()
        self._began: float | None = None
        self._calm: float | None = None  # since when the level could have ended
        self._left = -math.inf  # when a level ended last
        self._patience = 1  # hold times that it takes

    def update(self, at: float, margin_c: float | None, throttled: str | None = '') -> State:
        """Take a reading.

        Args:
            at: seconds, steady; when it was read, or is missed.
            margin_c: degrees Celsius to the trip point, negative above; None if nothing tells.
            throttled: why the board runs slower than it could; '' if it does not, None if there is
                no reading.

        Returns:
            The new state.
        """
        if margin_c is not None and not math.isfinite(margin_c):
            margin_c = None
        before = self.state
        blind = margin_c is None and (before.margin_c is not None or before.blind)
        stays = blind or throttled is None
        slope = ahead = None
        if margin_c is not None:
            self._trend.add(at, margin_c)
            slope = self._trend.slope(self.settings.horizon_s)
            ahead = margin_c + min(slope or 0.0, 0.0) * self.settings.horizon_s
        asked, why = self._asked(margin_c, ahead, throttled, 0.0)
        level, since = before.level, before.since
        if self._began is None:
            self._began = since = at
        hold = self.settings.hold_s * self._patience
        if asked > level:
            early = at - self._left < _TOO_EARLY * hold
            self._patience = min(2 * self._patience, _LONGEST_HOLD) if early else 1
            level, since, self._calm = asked, at, None
        else:
            kept, why = self._asked(margin_c, ahead, throttled, self.settings.hysteresis_c)
            if stays and not throttled:
                why = 'no temperature is known any more' if blind else 'the sensors do not answer'
            if stays or kept >= level:
                self._calm = None
            elif self._calm is None:
                self._calm = at
            elif at - self._calm >= hold:
                level, since, self._calm, self._left = Heat(level - 1), at, at, at
        self.state = State(
            level,
            since,
            why if level else '',
            margin_c,
            None if slope is None else 0.0 - slope,
            _seconds(margin_c, slope),
            blind=blind,
        )
        return self.state

    def _asked(
        self, margin: float | None, ahead: float | None, throttled: str | None, extra: float
    ) -> tuple[Heat, str]:
        """The level that a reading asks for, and why.

        Args:
            ahead: the margin at the horizon.
            extra: degrees Celsius that each level begins earlier.
        """
        found, why = Heat.NOMINAL, 'cooling down'
        if margin is not None and ahead is not None:
            found, soon = self._within(margin, extra), self._within(ahead, extra)
            if found:
                why = f'{margin:.1f} C below the trip point'
            if soon > found:
                found = Heat(found + 1)
                seconds = self.settings.horizon_s
                why = f'{margin:.1f} C below the trip point, {ahead:.1f} in {seconds:.0f} s'
        if throttled:
            found, why = max(found, Heat.HOT), f'throttled: {throttled}'
        return found, why

    def _within(self, margin: float, extra: float) -> Heat:
        return Heat(sum(margin <= begins + extra for begins in self.settings.margins_c))


def _seconds(margin: float | None, slope: float | None) -> float | None:
    if margin is None:
        return None
    if margin <= 0:
        return 0.0
    return margin / -slope if slope is not None and slope < 0 else None
