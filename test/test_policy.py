# SPDX-License-Identifier: Apache-2.0
"""The degradation policy: when its levels begin and end, and what cameras give."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trt_perception.health.policy import (
    LEAST_SHARE,
    Heat,
    Policy,
    PolicyError,
    Settings,
    State,
    Trend,
    shares_of,
)

NOMINAL, WARM, HOT, CRITICAL = Heat
SETTINGS = Settings((6, 4, 2), hysteresis_c=3, horizon_s=20, hold_s=30)


def follow(
    policy: Policy, margins: Iterable[float | None], throttled: str = '', begin: float = 0.0
) -> list[State]:
    """A reading a second."""
    return [policy.update(begin + k, margin, throttled) for k, margin in enumerate(margins)]


def levels(states: Iterable[State]) -> list[Heat]:
    """Each level once, in its order."""
    found = [state.level for state in states]
    return [level for k, level in enumerate(found) if not k or level != found[k - 1]]


# When


def test_a_board_that_warms_up_slowly_and_cools_down_again() -> None:
    policy = Policy(SETTINGS)
    states = follow(policy, np.linspace(12, 1, 2000))
    assert levels(states) == [NOMINAL, WARM, HOT, CRITICAL]
    # The trend is ahead of the margin by what it is in 20 s, 0.11 degrees.
    began = [next(s for s in states if s.level == level) for level in (WARM, HOT, CRITICAL)]
    assert [s.margin_c for s in began] == pytest.approx([6.11, 4.11, 2.11], abs=0.02)
    assert began[0].heating_c_s == pytest.approx(11 / 1999)
    assert began[0].seconds_to_throttle == pytest.approx(6.11 / (11 / 1999), rel=0.01)
    assert began[1].since == states.index(began[1])
    assert 'below the trip point' in began[2].why
    back = follow(policy, np.linspace(1, 12, 2000), begin=2000)
    assert levels(back) == [CRITICAL, HOT, WARM, NOMINAL]
    ended = [next(s for s in back if s.level == level) for level in (HOT, WARM, NOMINAL)]
    assert [s.margin_c for s in ended] == pytest.approx([5.17, 7.17, 9.17], abs=0.02)
    assert back[-1].seconds_to_throttle is None


def test_what_heats_fast_is_met_before_it_is_there_but_not_from_afar() -> None:
    states = follow(Policy(SETTINGS), np.arange(60, 0, -0.5))
    began = {level: next(s for s in states if s.level == level) for level in (WARM, HOT, CRITICAL)}
    assert [s.margin_c for s in began.values()] == pytest.approx([16.0, 6.0, 4.0])
    assert began[WARM].why == '16.0 C below the trip point, 6.0 in 20 s'
    assert began[WARM].seconds_to_throttle == pytest.approx(32)


def test_one_jump_of_the_sensor_is_no_trend() -> None:
    margins = [8.0 + 0.1 * (-1) ** k for k in range(60)]
    margins[30] = 6.5
    assert levels(follow(Policy(SETTINGS), margins)) == [NOMINAL]


def test_beyond_the_trip_point_all_is_done_at_once() -> None:
    (state,) = follow(Policy(SETTINGS), [-0.5])
    assert (state.level, state.seconds_to_throttle) == (CRITICAL, 0.0)


def test_a_throttled_board_is_hot_however_cold_it_is_and_until_that_is_over() -> None:
    policy = Policy(SETTINGS)
    assert levels(follow(policy, [40.0] * 5, 'over-current')) == [HOT]
    assert policy.state.why == 'throttled: over-current'
    states = follow(policy, [40.0] * 100, begin=5)
    assert levels(states) == [HOT, WARM, NOMINAL]
    assert [s.level for s in states].index(WARM) == 30
    assert [s.level for s in states].index(NOMINAL) == 60


def test_where_no_zone_tells_a_trip_point_throttling_alone_is_judged() -> None:
    policy = Policy(SETTINGS)
    assert levels(follow(policy, [None] * 3, 'power')) == [HOT]
    # Sensors that hang are no sign that it is over.
    hung = [policy.update(at, None, None) for at in range(3, 100)]
    assert levels(hung) == [HOT] and {s.why for s in hung} == {'the sensors do not answer'}
    states = follow(policy, [None] * 62, begin=100)
    assert levels(states) == [HOT, WARM, NOMINAL] and not any(s.blind for s in states)


def test_without_a_reading_the_level_stays_and_it_is_told() -> None:
    policy = Policy(SETTINGS)
    assert not any(s.blind or s.level for s in follow(policy, [None] * 100))
    follow(policy, [3.0], begin=100)
    states = follow(policy, [None, math.nan] * 100, begin=101)
    assert levels(states) == [HOT]
    assert all(s.blind and s.why == 'no temperature is known any more' for s in states)
    # The time without does not count as a time that was cool.
    back = follow(policy, [20.0] * 62, begin=400)
    assert [s.level for s in back].index(WARM) == 30
    assert back[-1].level == NOMINAL and not back[0].blind


def test_a_level_that_comes_back_at_once_is_held_longer_each_time() -> None:
    policy, at, held = Policy(Settings((6, 4, 2), hysteresis_c=3, horizon_s=0, hold_s=30)), 0, []
    for _ in range(6):
        follow(policy, [3.0] * 25, begin=at)
        at += 25
        assert policy.state.level == HOT
        began = at
        while policy.update(at, 7.5).level == HOT:
            at += 1
        held.append(at - began)
    assert held == [30, 60, 120, 240, 240, 240]
    # Once it has been away for long that is forgotten.
    follow(policy, [20.0] * 2000, begin=at)
    follow(policy, [3.0] * 25, begin=at + 2000)
    assert follow(policy, [7.5] * 31, begin=at + 2025)[-1].level == WARM


READINGS = st.lists(
    st.one_of(st.none(), st.floats(-5, 30), st.floats(1, 11)), min_size=1, max_size=200
)


@given(READINGS, st.sets(st.integers(0, 199), max_size=5))
def test_it_never_goes_back_but_by_one_and_after_the_whole_hold_time(
    margins: list[float | None], throttled: set[int]
) -> None:
    policy = Policy(SETTINGS)
    calm = 0  # readings in a row that all allow for the level below
    before = NOMINAL
    for k, margin in enumerate(margins):
        why = 'power' if k in throttled else ''
        level = policy.update(k, margin, why).level
        # At least what the margin alone asks for, with the hysteresis where it is so already.
        assert margin is None or level >= sum(margin <= c for c in SETTINGS.margins_c)
        assert not why or level >= HOT
        if level < before:
            assert level == before - 1
            assert calm >= SETTINGS.hold_s
        begins = SETTINGS.margins_c[before - 1] + SETTINGS.hysteresis_c if before else 0.0
        allowed = before and margin is not None and margin > begins and (not why or before > HOT)
        calm = calm + 1 if allowed and level == before else 0
        before = level


@given(
    st.floats(1.0, 9.0),
    st.floats(0, 1.4),
    st.floats(60, 3600),
    st.integers(0, 2**31),
    st.floats(0, 7),
)
def test_what_swings_less_than_the_hysteresis_never_makes_it_go_back(
    centre: float, swing: float, period: float, seed: int, phase: float
) -> None:
    """A slow swing with a sensor's noise on it: the level may rise, and then is what it is."""
    noise = np.random.default_rng(seed).uniform(-0.1, 0.1, 600)
    margins = centre + swing * np.sin(phase + 2 * np.pi * np.arange(600) / period) + noise
    found = [s.level for s in follow(Policy(SETTINGS), margins.tolist())]
    assert found == sorted(found)


@given(st.floats(-3, 3), st.lists(st.floats(-100, 100), min_size=31, max_size=31))
def test_a_trend_is_not_misled_by_some_that_are_far_off(slope: float, wrong: list[float]) -> None:
    trend = Trend()
    for k in range(31):
        trend.add(k, wrong[k] if k % 5 == 3 else slope * k)
    assert trend.slope(30) == pytest.approx(slope, abs=1e-9)


def test_a_trend_needs_time() -> None:
    trend = Trend()
    for k in range(10):
        trend.add(k, 2 * k)
        trend.add(k, 100.0)  # the same reading again
    assert trend.slope(20) is None
    trend.add(10, 20)
    assert trend.slope(20) == pytest.approx(2)
    assert trend.slope(0) is None
    trend.add(1000, 20)
    assert trend.slope(20) is None


def test_settings_that_contradict_each_other() -> None:
    with pytest.raises(PolicyError, match='hot_margin 4 and'):
        Settings(margins_c=(2, 4, 2))
    with pytest.raises(PolicyError, match='warm_load'):
        Settings(loads=(0.5, 0.6, 0.3))


# What


def test_who_gives_first() -> None:
    three = {'left': 1.0, 'front': 2.0, 'right': 1.0}
    assert shares_of(three, 1.0, shed=True) == dict.fromkeys(three, 1.0)
    assert shares_of(three, 0.8, shed=True) == pytest.approx(
        {'left': 0.7, 'front': 1.0, 'right': 0.7}
    )
    assert shares_of(three, 0.3, shed=True) == pytest.approx(
        {'left': 0.0, 'front': 0.9, 'right': 0.0}
    )
    assert shares_of(three, 0.3, shed=False) == pytest.approx(
        {'left': 0.1, 'front': 0.7, 'right': 0.1}
    )
    assert shares_of({'': 1.0}, 0.3, shed=True) == {'': 0.3}
    by_rank = shares_of({'a': 3.0, 'b': 2.0, 'c': 1.0}, 0.6, shed=False)
    assert by_rank == pytest.approx({'a': 1.0, 'b': 0.5, 'c': 0.3})


CAMERAS = st.dictionaries(st.text(max_size=3), st.floats(0.01, 100), min_size=1, max_size=8)


@given(CAMERAS, st.floats(LEAST_SHARE, 1), st.booleans())
def test_shares(priorities: dict[str, float], load: float, shed: bool) -> None:
    shares = shares_of(priorities, load, shed=shed)
    assert list(shares) == list(priorities)
    whole, highest = load * len(shares), max(priorities.values())
    least = LEAST_SHARE - 1e-9
    assert all(share >= least or (shed and share == 0) for share in shares.values())
    assert all(share <= 1 for share in shares.values())
    others = [shares[c] for c, p in priorities.items() if p < highest]
    for camera, priority in priorities.items():
        if priority == highest:
            assert shares[camera] >= least
            # It gives nothing as long as another has anything to give.
            assert shares[camera] > 1 - 1e-9 or max(others, default=0) <= LEAST_SHARE + 1e-9
        for other, lower in priorities.items():
            assert lower >= priority or shares[other] <= shares[camera] + 1e-9
    assert sum(shares.values()) <= whole + 1e-9
    assert shed or sum(shares.values()) == pytest.approx(whole)


def test_what_is_done_in_each_level() -> None:
    two = {'front': 2.0, 'rear': 1.0}
    settings = Settings(loads=(0.9, 0.6, 0.5), pause_overlay_from=WARM, lighter_from=HOT)
    done = [settings.measures(level, two) for level in Heat]
    assert [m.model for m in done] == [0, 0, 1, 2]
    assert [m.overlay_paused for m in done] == [False, True, True, True]
    assert [m.shares['front'] for m in done] == [1, 1, 1, 1]
    assert [m.shares['rear'] for m in done] == pytest.approx([1, 0.8, 0.2, 0])
    never = Settings(lighter_from=None, pause_overlay_from=None, shed_from=None, loads=(1, 1, 0.5))
    done = [never.measures(level, two) for level in Heat]
    assert [m.model for m in done] == [0, 0, 0, 0]
    assert not any(m.overlay_paused for m in done)
    assert [m.shares['rear'] for m in done] == pytest.approx([1, 1, 1, 0.1])
