# SPDX-License-Identifier: Apache-2.0
"""When images came, by their stamps and by clocks that may jump."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trt_perception.health.timing import Moment, Timing

MS = 1_000_000
SECOND = 1000 * MS
NOW = 1_700_000_000 * SECOND  # what a stamp of today looks like


def play(
    timing: Timing,
    number: int,
    *,
    period: int = 33 * MS,
    speed: float = 1.0,
    age: int = 5 * MS,
    total: int = 10 * MS,
    start: int = 0,
    simulated: bool = False,
) -> int:
    """Images at even intervals, each published after it came; when the last one was."""
    at = start
    for k in range(number):
        stamp, at = NOW + k * period, start + int(k * period / speed)
        timing.received(Moment(at, stamp, age, simulated))
        at += total
        timing.published(
            Moment(at, stamp, age + total, simulated), {'infer': 8 * MS, 'total': total}
        )
    return at


def test_a_live_camera():
    timing = Timing()
    play(timing, 30)
    timing.turn()
    summaries = timing.summaries()
    assert summaries['age'].p99 == 5
    assert summaries['stamp to publish'].mean == 15
    assert summaries['receive interval'].number == summaries['publish interval'].number == 29
    assert summaries['publish interval'].mean == 33
    assert (timing.latency, timing.obstacle, timing.speed) == ('stamp to publish', '', 1.0)
    assert timing.jitter_ms == 0


@given(st.lists(st.integers(0, 40), min_size=2, max_size=50))
def test_jitter_is_that_of_rfc_3550(totals):
    timing, jitter = Timing(), 0.0
    for k, total in enumerate(totals):
        stamp = NOW + k * 33 * MS
        timing.published(Moment(stamp + total * MS, stamp, total * MS), {'total': total * MS})
        if k:
            jitter += (abs(total - totals[k - 1]) - jitter) / 16
    assert timing.jitter_ms == pytest.approx(jitter)


@pytest.mark.parametrize('speed', [0.25, 1.0, 4.0])
def test_a_recording_has_the_rate_that_it_was_recorded_with(speed):
    """Its stamps are years old, and it is played without its clock."""
    timing = Timing()
    play(timing, 40, speed=speed, age=5 * 10**16)
    timing.turn()
    summaries = timing.summaries()
    assert summaries['receive interval'].p50 == summaries['publish interval'].p50 == 33
    assert 'age' not in summaries
    assert 'stamp to publish' not in summaries
    assert timing.speed == pytest.approx(speed, rel=1e-3)
    assert timing.latency == 'total'
    assert '50000000 s old when they come: a recording without use_sim_time' in timing.obstacle


def test_a_simulation_is_measured_and_not_judged():
    timing = Timing()
    play(timing, 30, speed=0.5, simulated=True)
    timing.turn()
    assert timing.summaries()['stamp to publish'].mean == 15
    assert timing.summaries()['receive interval'].mean == 33
    assert (timing.latency, timing.obstacle) == ('total', 'time is that of /clock')
    assert timing.speed == pytest.approx(0.5, rel=1e-3)


def test_latency_is_counted_from_the_stamp_where_that_is_possible():
    timing = Timing()
    for age, simulated, latency in (
        (30, False, 30), (30, True, 9), (-1, False, 9), (10_001, False, 9),
    ):  # fmt: skip
        moment = Moment(0, NOW, age * MS, simulated)
        assert timing.published(moment, {'total': 9 * MS}) == latency * MS


def test_stamps_ahead_of_the_clock():
    timing = Timing()
    play(timing, 10, age=-20 * MS)
    timing.turn()
    assert timing.latency == 'total'
    assert timing.obstacle.startswith('images are stamped 0.020 s ahead')


def test_a_recording_that_begins_anew_begins_new_figures():
    timing = Timing()
    at = play(timing, 40, age=5 * 10**16)
    play(timing, 2, age=5 * 10**16, start=at)
    assert timing.summaries()['receive interval'].number == 1
    assert timing.summaries()['infer'].number == 2


def test_packets_that_overtake_each_other_are_no_new_beginning():
    timing = Timing()
    play(timing, 30)
    timing.received(Moment(SECOND, NOW + 28 * 33 * MS - 1, 5 * MS))
    assert timing.summaries()['infer'].number == 30


def test_a_pause_is_no_interval():
    timing = Timing()
    play(timing, 2)
    play(timing, 2, start=60 * SECOND)
    assert timing.summaries()['publish interval'].mean == 33


def test_stamps_that_stand_still():
    """A driver that stamps nothing: all that there is is the steady clock."""
    timing = Timing()
    for k in range(10):
        timing.received(Moment(k * 33 * MS, 0, NOW))
    timing.turn()
    assert timing.summaries()['receive interval'].mean == 33
    assert timing.speed == 1


def test_silence():
    timing = Timing()
    assert timing.silence(SECOND) == 0
    last = play(timing, 40, speed=0.5, age=5 * 10**16)
    timing.turn()
    assert timing.silence(last + SECOND) == pytest.approx(SECOND / 2, rel=1e-3)
