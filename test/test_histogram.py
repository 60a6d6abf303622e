# SPDX-License-Identifier: Apache-2.0
"""Histograms of durations against NumPy's percentiles of the same durations."""

from __future__ import annotations

import sys
from array import array
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trt_perception.health.histogram import RELATIVE_ERROR, SlidingHistogram

durations = st.lists(st.integers(0, 60_000_000_000) | st.integers(0, 200_000), min_size=1)


def filled(*slices: list[int], window: int = 10) -> SlidingHistogram:
    histogram = SlidingHistogram(window)
    for number, part in enumerate(slices):
        if number:
            histogram.turn()
        for duration in part:
            histogram.add(duration)
    return histogram


@given(durations)
def test_percentiles_are_numpys_to_within_the_error(given_ns):
    summary = filled(given_ns).summary()
    for seen, percent in ((summary.p50, 50), (summary.p95, 95), (summary.p99, 99)):
        # np.percentile(..., method='inverted_cdf'), which older NumPy does not have.
        exact = np.sort(given_ns)[-(-percent * len(given_ns) // 100) - 1] / 1e6
        assert abs(seen - exact) <= exact * RELATIVE_ERROR + 0.0005 + 1e-9
    assert summary.number == len(given_ns)
    assert summary.max == max(given_ns) / 1e6
    assert summary.mean == pytest.approx(np.mean(given_ns) / 1e6)
    assert summary.p50 <= summary.p95 <= summary.p99 <= summary.max


@given(st.lists(durations, min_size=1, max_size=8), st.integers(1, 6))
def test_the_window_holds_the_last_slices(slices, window):
    histogram = filled(*slices, window=window)
    assert histogram.summary() == filled([*chain(*slices[-window:])]).summary()


@given(durations, st.integers(1, 60_000_000_000))
def test_what_is_above_a_duration(given_ns, limit):
    above = filled(given_ns).above(limit)
    slack = limit * 2 * RELATIVE_ERROR + 1000
    assert sum(d > limit + slack for d in given_ns) <= above <= sum(d > limit for d in given_ns)


def test_equal_durations_are_told_exactly():
    assert filled([1_000_123_456] * 3).summary()[1:] == pytest.approx([1000.123456] * 5)


def test_silence_keeps_what_was_last_seen():
    histogram = filled([1000, 2000], window=2)
    for _ in range(5):
        histogram.turn()
    assert histogram.count == 2
    histogram.add(3000)
    assert histogram.count == 3
    histogram.clear()
    assert (histogram.count, histogram.summary(), histogram.above(0)) == (0, None, 0)


def test_the_total_is_of_all_that_ever_came():
    histogram = SlidingHistogram(2)
    for duration in (1000, 2000, -5, 4000):
        histogram.add(duration)
        histogram.turn()
    assert (histogram.count, histogram.total) == (1, (4, 7000))
    histogram.clear()
    assert histogram.total == (4, 7000)


def test_what_is_too_long_or_impossible():
    summary = filled([-5, 3_600_000_000_000]).summary()
    assert summary.max == 3_600_000
    assert summary.p50 == pytest.approx(0.0005)
    assert summary.p99 > 60_000


def test_memory_does_not_grow():
    """Each slice holds one array, whatever comes."""
    histogram = SlidingHistogram(3)

    def size() -> int:
        return sum(sys.getsizeof(part.counts) for part in histogram._slices)

    before = size()
    assert all(isinstance(part.counts, array) for part in histogram._slices)
    for duration in range(0, 10**11, 10**7):
        histogram.add(duration)
        if duration % 10**9 == 0:
            histogram.turn()
    assert size() == before <= 3 * 6000
