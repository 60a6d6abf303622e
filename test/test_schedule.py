# SPDX-License-Identifier: Apache-2.0
"""The scheduler against a simulated engine: shares, ages, deadlines, nobody starves."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trt_perception.runtime.schedule import CREDIT, Scheduler


class Camera(NamedTuple):
    """Frames a second, weight, seconds of the first frame, jitter as a part of the interval."""

    rate: float
    priority: float = 1.0
    phase: float = 0.0
    jitter: float = 0.0


class Look(NamedTuple):
    camera: int
    came: float
    began: float
    ended: float
    excused: bool  # a lull, or the camera was behind by all its credit


def simulate(
    cameras: list[Camera], looks: int, service: float = 1.0, runners: int = 1, spread: float = 0.0
) -> list[Look]:
    """Run an engine on paper; each look takes ``service``, give or take ``spread`` of it."""
    chance = random.Random(7)
    scheduler: Scheduler[tuple[int, float]] = Scheduler()
    number = iter(range(10**9))
    events: list[tuple[float, int, str, int]] = []
    bases = [camera.phase for camera in cameras]

    def at(time: float, kind: str, which: int) -> None:
        heapq.heappush(events, (time, next(number), kind, which))

    for k, camera in enumerate(cameras):
        scheduler.add(k, camera.priority)
        at(camera.phase, 'frame', k)
    for runner in range(runners):
        scheduler.served(runner, service)
    free, done, last = set(range(runners)), [], -1e9
    # Nobody knows a camera's rate before its third frame.
    settled = max(camera.phase + 3 / camera.rate for camera in cameras)
    while len(done) < looks:
        now, _, kind, which = heapq.heappop(events)
        if kind == 'frame':
            scheduler.offer(which, (which, now), now)
            camera = cameras[which]
            bases[which] += 1 / camera.rate
            shift = chance.uniform(-camera.jitter, camera.jitter) / camera.rate
            at(max(now, bases[which] + shift), 'frame', which)
            last = now
        elif kind == 'free':
            free.add(which)
        while free:
            before = {k: (c.tag, c.weight) for k, c in scheduler._cameras.items()}
            virtual = scheduler._virtual_time
            taken = scheduler.take(now)
            if not taken:
                if (wait := scheduler.look_again(now)) is not None:
                    at(now + wait, 'look', 0)
                break
            ((camera_number, came),) = taken
            tag, weight = before[camera_number]
            behind = tag <= virtual - CREDIT / weight
            runner = free.pop()
            seconds = service * (1 + chance.uniform(-spread, spread))
            scheduler.served(runner, seconds)
            coming = min(time for time, _, kind, _ in events if kind == 'frame')
            excused = behind or coming - last >= 1.8 * service
            if now >= settled:
                done.append(Look(camera_number, came, now, now + seconds, excused))
            at(now + seconds, 'free', runner)
    return done


def shares(done: list[Look], cameras: list[Camera]) -> list[float]:
    """Of each camera: what it got over what it is due."""
    counts, whole = Counter(look.camera for look in done), sum(c.priority for c in cameras)
    return [counts[k] / len(done) / (c.priority / whole) for k, c in enumerate(cameras)]


def at_three_times(priorities: list[float], factors: list[float], **more: float) -> list[float]:
    """Rates of which the sum is 3, about in the proportion of the priorities."""
    wanted = [p * f for p, f in zip(priorities, factors, strict=True)]
    return [3 * w / sum(wanted) for w in wanted]


@st.composite
def overloads(draw: st.DrawFn) -> tuple[list[Camera], dict[str, float]]:
    number = draw(st.integers(1, 12))
    runners = draw(st.integers(1, 3))
    service = draw(st.floats(0.002, 0.2))
    priorities = [float(draw(st.sampled_from((1, 1, 2, 3, 5)))) for _ in range(number)]
    factors = [draw(st.floats(0.7, 1.4)) for _ in range(number)]
    jitter = draw(st.floats(0.0, 0.4))
    cameras = [
        Camera(rate * runners / service, p, draw(st.floats(0, 1)) * service * number, jitter)
        for rate, p in zip(at_three_times(priorities, factors), priorities, strict=True)
    ]
    return cameras, {
        'service': service,
        'runners': runners,
        'spread': draw(st.sampled_from((0.0, 0.0, 0.2))),
    }


@settings(max_examples=12)
@given(overloads())
def test_at_three_times_the_capacity(given: tuple[list[Camera], dict[str, float]]) -> None:
    """Shares hold, however the frames come; so do ages, but for the exceptions that are told."""
    cameras, engine = given
    least = min(c.priority for c in cameras) / sum(c.priority for c in cameras)
    done = simulate(cameras, int(120 / least) + 50, **engine)
    assert shares(done, cameras) == pytest.approx([1.0] * len(cameras), abs=0.1)
    bound = 2 * engine['service'] * (1 + engine['spread'])
    for look in done:
        if look.ended - look.came >= bound * 1.0001:
            assert look.excused
            assert look.began - look.came <= 2.5 / cameras[look.camera].rate
    assert any(not look.excused for look in done)


@pytest.mark.parametrize('runners', [1, 2])
@pytest.mark.parametrize('number', [2, 3, 5, 8, 16])
def test_ages_of_cameras_side_by_side(number: int, runners: int) -> None:
    """Free-running cameras of one rate, evenly spread: no exception at all."""
    interval = number / 3 / runners
    cameras = [
        Camera(1 / interval, phase=k * interval / number, jitter=0.02) for k in range(number)
    ]
    done = simulate(cameras, 150 * number, runners=runners)
    assert max(look.ended - look.came for look in done) <= 2.0001
    assert shares(done, cameras) == pytest.approx([1.0] * number, abs=0.1)


def test_cameras_that_are_triggered_at_once() -> None:
    """Then ages and shares cannot both hold: shares do, and the engine is kept busy."""
    cameras = [Camera(3 / 12) for _ in range(12)]
    done = simulate(cameras, 1200)
    assert shares(done, cameras) == pytest.approx([1.0] * 12, abs=0.1)
    assert done[-1].ended - done[0].began < 1200 * 1.02
    assert max(look.began - look.came for look in done) <= 4.0001


@settings(max_examples=40)
@given(st.lists(st.tuples(st.floats(0.2, 5), st.floats(0, 1)), min_size=1, max_size=8))
def test_below_the_capacity_nothing_is_lost(given: list[tuple[float, float]]) -> None:
    """Every frame whose deadline EDF can keep: a demand of 0.5 and one frame that is under way."""
    whole = sum(rate for rate, _ in given)
    cameras = [Camera(0.5 * rate / whole, phase=phase / rate) for rate, phase in given]
    fastest = max(c.rate for c in cameras)
    done = simulate(cameras, 400)
    for k, camera in enumerate(cameras):
        seen = [look.came for look in done if look.camera == k]
        gaps = [b - a for a, b in itertools.pairwise(seen)]
        assert all(gap < 1.5 / camera.rate for gap in gaps), (k, fastest)


def test_the_one_that_wants_little_gets_all_of_it() -> None:
    """One camera of a tenth of the capacity beside one that brings five times the capacity."""
    done = simulate([Camera(0.1), Camera(5.0)], 3000)
    slow = [look for look in done if look.camera == 0]
    seconds = done[-1].began - done[0].began
    assert len(slow) == pytest.approx(0.1 * seconds, abs=2)
    assert len(done) == pytest.approx(seconds, rel=0.01)


def test_nobody_starves() -> None:
    """The least important of many, at ten times the capacity."""
    cameras = [Camera(1.0, 100.0, k / 10) for k in range(9)] + [Camera(1.0, 1.0, 0.95)]
    done = simulate(cameras, 20000)
    seen = [n for n, look in enumerate(done) if look.camera == 9]
    due = 901
    assert len(seen) == pytest.approx(20000 / due, abs=CREDIT + 1)
    assert max(b - a for a, b in itertools.pairwise(seen)) <= (CREDIT + 2) * due


def test_the_earliest_deadline_goes_first() -> None:
    scheduler: Scheduler[str] = Scheduler()
    scheduler.add('slow')
    scheduler.add('fast')
    for k in range(20):
        scheduler.offer('fast', 'fast', k * 0.1)
    for k in range(3):
        scheduler.offer('slow', 'slow', k * 1.0 - 0.12)
    scheduler.served('gpu', 0.01)
    # The slow one has waited longer, the fast one will be overtaken sooner.
    assert scheduler.take(1.95) == ['fast']
    assert scheduler.take(1.95) == ['slow']
    assert scheduler.take(1.95) == []
    scheduler.add('slow', 20.0)
    scheduler.offer('fast', 'fast', 2.0)
    scheduler.offer('slow', 'slow', 2.0)
    assert scheduler.take(2.0, 5) == ['slow', 'fast']


def test_slots() -> None:
    scheduler: Scheduler[int] = Scheduler()
    scheduler.add('a')
    scheduler.add('b')
    assert scheduler.take(0) == [] and scheduler.look_again(0) is None
    assert scheduler.offer('a', 1, 0) is None
    assert scheduler.offer('a', 2, 1) == 1
    assert scheduler.offer('b', 3, 2) is None
    assert scheduler.waiting == 2 and scheduler.look_again(2) < 0.01
    assert sorted(scheduler.take(2, 9)) == [2, 3]
    assert scheduler.put_back('a', 2, 1)
    assert not scheduler.put_back('a', 1, 0)
    assert scheduler.withdraw('a') == 2 and scheduler.waiting == 0
    scheduler.served('gpu', 0.5)
    scheduler.served('dla', 1.5)
    assert scheduler.service_time == 1.0
    scheduler.retire('dla')
    assert scheduler.service_time == 0.5


def test_a_camera_that_comes_back_is_not_taken_for_a_slow_one() -> None:
    scheduler: Scheduler[str] = Scheduler()
    for camera in ('front', 'rear'):
        scheduler.add(camera)
    scheduler.served('gpu', 0.05)
    for number in range(30):
        for camera in ('front', 'rear'):
            scheduler.offer(camera, camera, number / 30)
            scheduler.withdraw(camera)
    # An hour later; the two want three times what can be done.
    for number in range(5):
        for camera in ('front', 'rear'):
            scheduler.offer(camera, camera, 3600 + number / 30)
    assert scheduler.demand(3600 + 4 / 30) > 2
