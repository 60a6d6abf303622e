# SPDX-License-Identifier: Apache-2.0
"""Stamps that cannot be true, images that repeat, files that change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trt_perception.core.files import Watched
from trt_perception.health.frozen import FEWEST, Frozen, fingerprint
from trt_perception.health.stamps import Stamps
from trt_perception.health.timing import Moment

MS, SECOND = 10**6, 10**9
NOON = 1_700_000_000 * SECOND


def looks(*ages_ms: int, step_ms: int = 33, simulated: bool = False) -> list[str]:
    """What is said of images that come every so often and are so old by their stamps."""
    stamps = Stamps()
    said = []
    for number, age in enumerate(ages_ms):
        now = NOON + number * step_ms * MS
        said.append(stamps.look(Moment(now, now - age * MS, age * MS, simulated)))
    return said


@pytest.mark.parametrize(
    ('ages_ms', 'said'),
    [
        ((5, 5, -50, 5), ['', '', '', '']),  # as near as clocks that are synchronised
        ((5, -2000, -2000, 5), ['', 'ahead', 'ahead', '']),
        ((5, 38, 5), ['', 'repeated', '']),
        ((5, 90, 5), ['', 'back', '']),
        ((5, 60_000, 60_000, 5), ['', 'old', 'old', '']),
        ((-2000, 5), ['ahead', '']),
        # A recording is old from the first, and may begin anew.
        ((10**9, 10**9, 10**9 + 50_000, 10**9), ['', '', '', '']),
    ],
)
def test_what_is_said_of_stamps(ages_ms: tuple[int, ...], said: list[str]) -> None:
    assert looks(*ages_ms) == said


def test_of_a_simulation_only_what_is_ahead_is_said() -> None:
    assert looks(5, 60_000, 5, -500, -1500, simulated=True) == ['', '', '', '', 'ahead']


def test_a_driver_that_sets_no_stamp() -> None:
    stamps = Stamps()
    assert [stamps.look(Moment(at, 0, NOON)) for at in range(3)] == ['missing'] * 3
    assert Stamps().look(Moment(0, 0, 5 * MS, simulated=True)) == ''  # which has just begun


def test_a_clock_that_is_set_is_no_fault_of_the_images() -> None:
    stamps = Stamps()
    assert stamps.look(Moment(NOON, NOON, 0)) == ''
    stamps.clear(jumped_at=NOON)
    late = NOON + SECOND // 2  # of the time before, and the first two of the time after
    for at, age in ((late, -20 * SECOND), (late + 1, 0), (late + SECOND, 0)):
        assert stamps.look(Moment(at, at - age, age)) == ''


def test_what_is_said_names_how_many_and_how_far() -> None:
    stamps = Stamps()
    for age in (0, -SECOND, -3 * SECOND, -2 * SECOND):
        stamps.look(Moment(NOON, NOON - age, age))
    assert stamps.tell('ahead', 3).startswith(
        '3 images stamped ahead of this clock, by up to 3.000'
    )
    stamps.look(Moment(NOON, NOON + SECOND, -SECOND))
    assert stamps.tell('ahead', 1).startswith('1 image stamped ahead of this clock, by up to 1.0')


def noise(seed: int, size: int = 640 * 480 * 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 3, size, np.uint8)


@pytest.mark.parametrize('size', [0, 1, 100, 61 * 64, 61 * 64 + 1, 640 * 480 * 3])
def test_the_same_bytes_have_the_same_fingerprint(size: int) -> None:
    assert fingerprint(noise(1, size)) == fingerprint(noise(1, size).copy())
    if size > 1:
        assert fingerprint(noise(1, size)) != fingerprint(noise(2, size))
        assert fingerprint(noise(1, size)) != fingerprint(noise(1, size)[:-1])


def test_the_noise_of_a_sensor_is_in_what_is_read() -> None:
    """One grey level up or down in a tenth of the pixels of a scene that stands still."""
    scene = np.full(1920 * 1080 * 3, 100, np.uint8)
    prints = set()
    for seed in range(50):
        random = np.random.default_rng(seed)
        scene[random.integers(0, scene.size, scene.size // 10)] ^= 1
        prints.add(fingerprint(scene))
    assert len(prints) == 50


def test_a_frozen_camera_is_told_and_its_end_too() -> None:
    frozen = Frozen(after=1.0)
    for number in range(40):
        frozen.look(noise(number), number * SECOND // 10)
        assert frozen.problem == ''
    for number in range(40, 60):
        frozen.look(noise(0), number * SECOND // 10)
        assert bool(frozen.problem) == (number >= 50)
    assert frozen.problem.startswith('the same image for 2 s, 20 times')
    frozen.look(noise(1), 60 * SECOND)
    assert frozen.problem == ''


def test_a_slow_camera_of_a_still_scene_is_not_frozen() -> None:
    frozen = Frozen(after=1.0)
    for number in range(FEWEST - 1):
        frozen.look(noise(0), number * 2 * SECOND)
    assert frozen.problem == ''
    frozen.after = 0.0  # never
    for number in range(FEWEST):
        frozen.look(noise(0), (100 + number) * SECOND)
    assert frozen.problem == ''


def test_a_file_that_changes(tmp_path: Path) -> None:
    path, other = tmp_path / 'model.onnx', tmp_path / 'other'
    path.write_bytes(b'a')
    watched = Watched(path)
    assert watched.change == ''
    other.write_bytes(b'a')
    other.replace(path)
    assert watched.change == 'replaced'
    path.unlink()
    assert watched.change == 'gone'
    assert Watched(path).change == ''
