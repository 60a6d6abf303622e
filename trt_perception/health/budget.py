# SPDX-License-Identifier: Apache-2.0
"""Whether a camera's images are looked at in time and often enough."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from trt_perception.core import PerceptionError
from trt_perception.health.histogram import Summary
from trt_perception.health.level import Judgement, Level
from trt_perception.health.timing import (
    AGE,
    PUBLISH_INTERVAL,
    RECEIVE_INTERVAL,
    STAMP_TO_PUBLISH,
    Timing,
)

#: What may have a budget of its own, in the order that an image passes.
STAGES = AGE, 'queue', 'preprocess', 'infer', 'decode', 'publish'

#: Of the images, may be late: a twentieth, and one in any case.
_MAY_BE_LATE = 20
#: Of a limit, above which an alarm stays.
_STAYS = 0.9
#: Of the rate that is wanted, below which there is an alarm and above which it ends; cameras of 30
#: images a second send 29.97, or lose one.
_TOO_SLOW, _FAST_ENOUGH = 0.95, 0.98
#: Judgements that must agree before a level rises, or falls.
_RISES, _FALLS = 2, 3
_MS = 1e6  # nanoseconds


class BudgetError(PerceptionError):
    """A budget that cannot be understood."""


@dataclass(frozen=True)
class Budget:
    """What is expected of a camera's images; 0 expects nothing.

    Attributes:
        latency_ms: from an image's stamp to the publishing of what was found in it.
        rate_hz: images a second, received and published.
        max_rate: images a second that are looked at, at most; 0 is no limit.
        stages_ms: of each stage, by one of `STAGES`.
        error_factor: so many times over a budget is an error.
    """

    latency_ms: float = 20.0
    rate_hz: float = 30.0
    max_rate: float = 0.0
    stages_ms: Mapping[str, float] = field(default_factory=dict)
    error_factor: float = 5.0

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Budget:
        """Read the parameters of these names.

        Raises:
            BudgetError: ``stage_budgets_ms`` is wrong.
        """
        return cls(
            values['latency_budget_ms'],
            values['rate_min_hz'],
            values['max_rate'],
            _stages(values['stage_budgets_ms']),
            values['budget_error_factor'],
        )

    @property
    def wanted_hz(self) -> float:
        """Images a second that can be expected."""
        return min(self.rate_hz, self.max_rate) if self.max_rate else self.rate_hz

    @property
    def silence_s(self) -> float:
        """Seconds without an image that are worth a word: there are slow cameras."""
        return max(5.0, 5 / self.wanted_hz) if self.wanted_hz else 5.0


def _stages(texts: Sequence[str]) -> dict[str, float]:
    stages: dict[str, float] = {}
    for text in filter(None, texts):
        stage, _, number = text.partition('=')
        try:
            budget = float(number)
        except ValueError:
            budget = math.nan
        if stage not in STAGES or not 0 < budget < math.inf:
            raise BudgetError(
                f"stage_budgets_ms: {text!r} is not a stage's budget, such as 'infer=8'; the stages"
                f' are {", ".join(STAGES)}'
            )
        if stage in stages:
            raise BudgetError(f'stage_budgets_ms: {stage} is there twice')
        stages[stage] = budget
    return stages


class Alarm:
    """A level that does not flicker: it rises and falls when several judgements agree."""

    def __init__(self) -> None:
        self.level = Level.OK
        self.since = 0.0
        self._pending: list[Level] = []

    def judge(self, now: float, enters: Level, stays: Level) -> None:
        """Take one more judgement.

        Args:
            now: seconds, steady.
            enters: the level that this would raise an alarm to.
            stays: the level that this would keep an alarm at; no lower than ``enters``.
        """
        rising = enters > self.level
        wanted = enters if rising else min(stays, self.level)
        if wanted == self.level or (self._pending and (self._pending[0] > self.level) != rising):
            self._pending = []
        if wanted == self.level:
            return
        if rising and self.level == Level.OK and not self._pending:
            self.since = now
        self._pending.append(wanted)
        if len(self._pending) >= (_RISES if rising else _FALLS):
            self.level = (min if rising else max)(self._pending)
            self._pending = []

    def hold(self) -> None:
        """Keep the level, and begin to judge anew."""
        self._pending = []


class _Finding(NamedTuple):
    what: str
    enters: Level
    stays: Level
    text: str  # with a place for the time that it has lasted


class BudgetJudge:
    """Judges the times of one camera once a second, with hysteresis.

    A budget is broken while more than one in twenty of the images of the last while, and more than
    one, are over it (p95), and by an error while half of them (p50) are over it
    ``error_factor`` times. A rate is broken below 95 %, and by an error ``error_factor`` times
    below. Two judgements raise a level, three lower it, and only what is below nine tenths of a
    budget, or above 98 % of a rate.
    """

    def __init__(self) -> None:
        self._alarms: dict[str, Alarm] = {}

    def judge(
        self, now: float, timing: Timing, budget: Budget, *, news: bool, share: float = 1.0
    ) -> Judgement:
        """Say how it went.

        Args:
            now: seconds, steady, the clock of the timing's moments.
            news: images came since the last time; else the judgement stays as it is.
            share: of the images that the policy lets through, 0 to 1.
        """
        findings = list(_findings(now, timing, budget, share))
        found = {finding.what for finding in findings}
        self._alarms = {what: alarm for what, alarm in self._alarms.items() if what in found}
        told = []
        for finding in findings:
            alarm = self._alarms.setdefault(finding.what, Alarm())
            if news:
                alarm.judge(now, finding.enters, finding.stays)
            if alarm.level:
                lasted = f'for {now - alarm.since:.0f} s'
                told.append(Judgement(alarm.level, finding.text.format(lasted=lasted)))
        told.sort(key=lambda judgement: -judgement.level)  # stable: the whole before its parts
        level = told[0].level if told else Level.OK
        return Judgement(level, '; '.join(judgement.message for judgement in told))

    def hold(self) -> None:
        """Keep all levels, and begin to judge anew: a clock was set."""
        for alarm in self._alarms.values():
            alarm.hold()


def _findings(now: float, timing: Timing, budget: Budget, share: float) -> Iterator[_Finding]:
    summaries = timing.summaries()
    stages = {stage: summaries[stage] for stage in STAGES if stage in summaries}
    if timing.latency != STAMP_TO_PUBLISH:
        stages.pop(AGE, None)
    most = max(stages, key=lambda stage: stages[stage].p95, default='')
    if budget.latency_ms and timing.latency in summaries:
        where = f'; most of it is {most}, p95 {stages[most].p95:.1f}' if most else ''
        yield _of_duration(
            timing, timing.latency, summaries, budget.latency_ms, budget, 'latency_budget_ms', where
        )
    for stage, limit in budget.stages_ms.items():
        if stage in stages:
            yield _of_duration(
                timing, stage, summaries, limit, budget, f'stage_budgets_ms {stage}', ''
            )
    if budget.wanted_hz and PUBLISH_INTERVAL in summaries and RECEIVE_INTERVAL in summaries:
        yield _of_rate(now, timing, summaries, budget, share, most)


def _of_duration(
    timing: Timing,
    name: str,
    summaries: Mapping[str, Summary],
    limit: float,
    budget: Budget,
    parameter: str,
    where: str,
) -> _Finding:
    summary = summaries[name]

    def level(share: float) -> Level:
        nanoseconds = limit * share * _MS
        if _late(timing, name, nanoseconds * budget.error_factor) > max(1, summary.number // 2):
            return Level.ERROR
        late = _late(timing, name, nanoseconds)
        return Level.WARN if late > max(1, summary.number // _MAY_BE_LATE) else Level.OK

    over = summary.p95 - limit
    how = f'is {over:.1f} over' if over > 0 else 'is back within'
    text = f'{name} p95 {summary.p95:.1f} ms {how} {parameter} {limit:g} {{lasted}}{where}'
    return _Finding(name, level(1), level(_STAYS), text)


def _late(timing: Timing, name: str, nanoseconds: float) -> int:
    return timing.durations.above(name, int(nanoseconds))


def _of_rate(
    now: float,
    timing: Timing,
    summaries: Mapping[str, Summary],
    budget: Budget,
    share: float,
    most: str,
) -> _Finding:
    wanted = budget.wanted_hz
    came = 1000 / max(summaries[RECEIVE_INTERVAL].mean, 1e-3)
    rate = 1000 / max(summaries[PUBLISH_INTERVAL].mean, 1e-3)
    # One that has stopped has no more intervals.
    silence = timing.silence(int(now * 1e9)) / 1e9
    rate = min(rate, 2 / silence) if silence else rate

    def level(share: float) -> Level:
        if rate * budget.error_factor < wanted * share:
            return Level.ERROR
        return Level.WARN if rate < wanted * share else Level.OK

    which = 'rate_min_hz' if wanted == budget.rate_hz else 'max_rate'
    how = f'{wanted - rate:.1f} below' if rate < wanted else 'back at'
    text = (
        f'{rate:.1f} images/s are {how} {which} {wanted:g} {{lasted}}: the camera sends {came:.1f}'
    )
    if came * share < min(came, wanted * _FAST_ENOUGH):
        text += f', of which the policy lets {share:.0%} through'
    if rate < min(came * share, wanted) * _TOO_SLOW and most:
        text += f', and most of the time goes to {most}'
    return _Finding('rate', level(_TOO_SLOW), level(_FAST_ENOUGH), text)
