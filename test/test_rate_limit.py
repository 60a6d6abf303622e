# SPDX-License-Identifier: Apache-2.0
"""The rate limit: never more than asked for, and not much less."""

from __future__ import annotations

import numpy as np
import pytest

from trt_perception.runtime.rate_limit import RateLimit, Thinning


def passed(times: np.ndarray, rate: float) -> np.ndarray:
    limit = RateLimit()
    return np.array([t for t in times if limit.passes(t, rate)])


@pytest.mark.parametrize('camera', [10, 15, 20, 24, 30, 31, 60])
@pytest.mark.parametrize('rate', [1.0, 7.5, 10.0, 15.0, 29.0, 100.0])
def test_average_rate_of_a_jittering_stream(camera: int, rate: float) -> None:
    random = np.random.default_rng(0)
    times = 5000 + np.arange(60 * camera) / camera + random.uniform(0, 0.3 / camera, 60 * camera)
    found = passed(times, rate)
    assert len(found) == pytest.approx(60 * min(rate, camera), abs=2)
    # Never more than one beyond the rate, in any window.
    for window in (1.0, 5.0):
        seen = np.searchsorted(found, found + window) - np.arange(len(found))
        assert seen.max() <= rate * window + 2


def test_no_limit() -> None:
    times = np.zeros(100)
    assert len(passed(times, 0.0)) == 100


def test_the_first_and_what_follows_a_pause_make_no_burst() -> None:
    times = np.array([0, 0.1, 0.2, 1000, 1000.1, 1000.2])
    assert passed(times, 1.0).tolist() == [0, 1000]


def test_a_higher_rate_works_at_once() -> None:
    limit = RateLimit()
    assert limit.passes(0.0, 0.001)
    assert not limit.passes(1.0, 0.001)
    assert not limit.passes(1.0, 10.0)
    assert not limit.passes(1.09, 10.0)
    assert limit.passes(1.11, 10.0)


@pytest.mark.parametrize('share', [0.0, 0.1, 0.3, 0.5, 0.75, 0.9, 1.0])
def test_thinning_is_even(share: float) -> None:
    thinning = Thinning()
    passed = np.array([k for k in range(1000) if thinning.passes(share)])
    assert len(passed) == pytest.approx(1000 * share, abs=1)
    gaps = set(np.diff(passed).tolist())
    assert not share or gaps <= {int(1 / share), int(np.ceil(1 / share))}
    assert thinning.passes(1.0)
