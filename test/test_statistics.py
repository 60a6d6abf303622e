# SPDX-License-Identifier: Apache-2.0
"""Counters and latencies, from many threads at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trt_perception.health.statistics import FrameCounts, StageLatencies

NAMES = (*FrameCounts.ARRIVALS, *FrameCounts.FATES, FrameCounts.OVER_LIMIT)


def test_all_counters_are_there_from_the_start():
    assert FrameCounts().snapshot() == dict.fromkeys(NAMES, 0)


def test_causes_follow_the_counters_in_order():
    counts = FrameCounts()
    for name in ('rejected truncated', 'published', 'rejected encoding', 'rejected truncated'):
        counts.add(name)
    counts.add('received', 4)
    counts.add('lost', 0)
    seen = counts.snapshot()
    assert list(seen) == [*NAMES, 'rejected encoding', 'rejected truncated']
    assert {k: v for k, v in seen.items() if v} == {
        'received': 4, 'published': 1, 'rejected encoding': 1, 'rejected truncated': 2,
    }  # fmt: skip


def test_a_snapshot_stays_as_it_was():
    counts = FrameCounts()
    before = counts.snapshot()
    counts.add('received')
    before['dropped'] = 7
    assert before['received'] == 0
    assert counts.snapshot()['received'] == 1
    assert counts.snapshot()['dropped'] == 0


def test_no_count_is_lost_between_threads():
    counts = FrameCounts()

    def work(worker: int) -> None:
        for k in range(500):
            counts.add('received')
            counts.add('published' if k % 2 else 'dropped', 2)
            counts.add(f'rejected {worker}')
            counts.snapshot()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    seen = counts.snapshot()
    assert (seen['received'], seen['published'], seen['dropped']) == (4000, 4000, 4000)
    assert [seen[f'rejected {k}'] for k in range(8)] == [500] * 8


def test_no_latencies_before_the_first_frame():
    assert StageLatencies().percentiles() == {}


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=40), st.integers(1, 50))
def test_percentiles_are_those_of_the_last_frames(durations, window):
    latencies = StageLatencies(window)
    for duration in durations:
        latencies.add({'infer': duration, 'decode': duration / 2})
    last = durations[-window:]
    expected = np.percentile(last, 50), np.percentile(last, 95)
    seen = latencies.percentiles()
    assert seen['infer'] == expected
    assert seen['decode'] == pytest.approx(np.array(expected) / 2)
    assert all(type(value) is float for pair in seen.values() for value in pair)


def test_stages_are_apart():
    """A stage that not every frame passes keeps its own window."""
    latencies = StageLatencies(window=2)
    latencies.add({'draw': 100.0})
    for duration in (1.0, 2.0, 4.0):
        latencies.add({'infer': duration})
    assert latencies.percentiles() == {'draw': (100, 100), 'infer': (3, pytest.approx(3.9))}
    assert list(latencies.percentiles()) == ['draw', 'infer']


def test_latencies_are_read_while_they_are_written():
    latencies = StageLatencies(window=100)

    def work(worker: int) -> None:
        for _ in range(300):
            latencies.add({f'stage {worker}': 1.0, 'all': 2.0})
            latencies.percentiles()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert latencies.percentiles() == {'all': (2, 2)} | {f'stage {k}': (1, 1) for k in range(4)}
