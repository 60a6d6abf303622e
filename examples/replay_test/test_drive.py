# SPDX-License-Identifier: Apache-2.0
"""What the robot's detector has to see in a recorded drive."""

from __future__ import annotations

import pytest

from trt_perception.testing import Replay, ReplayBag


@pytest.fixture
def drive(replay_bag: ReplayBag) -> Replay:
    """The drive, as the robot's detector sees it; replayed once for all tests."""
    return replay_bag('drive', params='detector.yaml')


def test_the_recording_is_whole(drive: Replay) -> None:
    drive.assert_whole()
    assert drive.images >= 20


def test_people_and_forklifts_are_seen(drive: Replay) -> None:
    assert drive.count('person') >= 10
    drive.assert_count('forklift', at_least=10)


def test_only_what_was_asked_for(drive: Replay) -> None:
    assert set(drive.classes) <= {'person', 'forklift', 'pallet'}


def test_nobody_is_seen_in_the_sky(drive: Replay) -> None:
    for seen in drive.frames():
        bottom = seen.detections.boxes[:, 3]
        assert (bottom > 0.2 * seen.size[1]).all(), seen.stamp


def test_it_is_fast_enough(drive: Replay) -> None:
    # Generous: this is the time of the machine that runs the test, not of the robot.
    drive.assert_latency(p95_ms=10_000)
