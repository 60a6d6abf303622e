# SPDX-License-Identifier: Apache-2.0
"""Calibration frames from pictures, bags and videos: which are taken, which are not, and why."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip('av')
pytest.importorskip('rosbags')

from videos import number_of, write_video

from trt_perception.build.calibration import (
    FEW,
    Calibration,
    CalibrationError,
    StoredFrames,
    collect,
)
from trt_perception.core import Frame
from trt_perception.replay.bag_writer import write_bag
from trt_perception.replay.sources import SourceError, TimedFrame, open_source
from trt_perception.runtime.host.color import to_bgr

SECOND = 1_000_000_000


def scene(number: int, noise: int = 0) -> np.ndarray:
    """A picture of its own for each number, with the noise of a camera."""
    image = np.random.default_rng(number).integers(30, 220, (6, 8, 3), np.uint8)
    image = cv2.resize(image, (128, 96), interpolation=cv2.INTER_NEAREST)
    if noise:
        grain = np.random.default_rng(noise).normal(0, 4, image.shape)
        image = np.clip(image + grain, 0, 255).astype(np.uint8)
    return image


def pictures(folder: Path, images: list[np.ndarray]) -> Path:
    folder.mkdir(exist_ok=True)
    for number, image in enumerate(images):
        cv2.imwrite(str(folder / f'{number:04d}.png'), image)
    return folder


def bag(path: Path, images: list[np.ndarray], storage: str, compressed: bool, **more: str) -> Path:
    frames = [TimedFrame(n * SECOND, Frame.from_array(i)) for n, i in enumerate(images)]
    write_bag(path, frames, storage, compressed=compressed, **more)  # type: ignore[arg-type]
    return path


def numbers(frames: StoredFrames, images: list[np.ndarray]) -> list[int]:
    """Which of the images each frame is."""
    return [
        min(
            range(len(images)),
            key=lambda k: float(np.abs(images[k].astype(int) - to_bgr(f)).mean()),
        )
        for f in frames
    ]


def test_a_folder_is_read_in_place(tmp_path):
    images = [scene(n) for n in range(60)]
    folder = pictures(tmp_path / 'in', images)
    chosen = collect(folder, tmp_path / 'kept')
    assert numbers(chosen.frames, images) == list(range(60))
    assert all(file.parent == folder for file in chosen.frames.files)
    assert not (tmp_path / 'kept').exists()
    assert (chosen.seen, chosen.alike, chosen.unreadable, chosen.warnings) == (60, 0, (), ())
    assert len(chosen.held_out) == 0


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
@pytest.mark.parametrize('compressed', [False, True])
def test_a_bag(tmp_path, storage, compressed):
    images = [scene(n) for n in range(12)]
    path = bag(tmp_path / 'bag', images, storage, compressed)
    chosen = collect(path, tmp_path / 'kept', held_out=4)
    calibrated, held_out = (numbers(f, images) for f in (chosen.frames, chosen.held_out))
    assert sorted(calibrated + held_out) == list(range(12))
    assert held_out == [2, 6, 10]
    if not compressed:  # kept without loss
        for number, frame in zip(calibrated, chosen.frames, strict=True):
            np.testing.assert_array_equal(to_bgr(frame), images[number])


def test_the_topic_of_a_bag(tmp_path):
    path = bag(tmp_path / 'bag', [scene(0)], 'mcap', False, topic='/front')
    assert collect(path, tmp_path, topic='front').source.endswith('bag front')
    with pytest.raises(SourceError, match="no image topic '/rear'"):
        collect(path, tmp_path, topic='rear')


def test_a_video(tmp_path):
    chosen = collect(write_video(tmp_path / 'v.mp4', 28), tmp_path / 'kept', count=4)
    taken = [number_of(to_bgr(f)) for f in chosen.frames]
    assert len(taken) == 4 and chosen.seen == 28
    assert np.diff([-1, *taken, 28]).max() < 28 / 2
    still = collect(write_video(tmp_path / 's.mp4', 12, bright_left=True), tmp_path / 'kept')
    assert (len(still.frames), still.alike) == (1, 11)


def test_what_looks_the_same_is_taken_once(tmp_path):
    order = [0, 0, 0, 1, 1, 0, 2, 2, 2, 1]
    folder = pictures(tmp_path / 'in', [scene(n, 1 + k) for k, n in enumerate(order)])
    chosen = collect(folder, tmp_path)
    assert [int(f.stem) for f in chosen.frames.files] == [0, 3, 6]
    assert (chosen.seen, chosen.alike) == (10, 7)


def test_one_small_thing_that_moved_is_a_difference(tmp_path):
    images = [scene(0), scene(0)]
    images[1][40:52, 60:72] = 255 - images[1][40:52, 60:72]
    assert len(collect(pictures(tmp_path / 'in', images), tmp_path).frames) == 2


def test_all_alike_is_told_with_the_number(tmp_path):
    folder = pictures(tmp_path / 'in', [scene(0, 1 + n) for n in range(15)])
    few, alike = collect(folder, tmp_path).warnings
    assert few.startswith('1 frames are few')
    assert alike.startswith('14 of 15 frames looked at are nearly the same')


def test_too_few_are_told_with_the_number(tmp_path):
    folder = pictures(tmp_path / 'in', [scene(n) for n in range(FEW - 1)])
    (warning,) = collect(folder, tmp_path).warnings
    assert warning.startswith(f'{FEW - 1} frames are few')
    pictures(folder, [scene(n) for n in range(FEW)])
    assert collect(folder, tmp_path).warnings == ()


@pytest.mark.parametrize('count', [1, 3, 7, 20])
def test_they_are_spread_over_the_whole_recording(tmp_path, count):
    images = [scene(n) for n in range(100)]
    chosen = collect(pictures(tmp_path / 'in', images), tmp_path, count=count)
    taken = [int(f.stem) for f in chosen.frames.files]
    assert len(taken) == count
    # One from each of so many stretches, and a part of one at each end at most.
    edges = np.array([-1, *taken, 100])
    assert np.diff(edges).max() <= 1.6 * 100 / count + 1


def test_held_out_frames_are_of_other_times(tmp_path):
    images = [scene(n) for n in range(160)]
    chosen = collect(pictures(tmp_path / 'in', images), tmp_path, count=500, held_out=500)
    held_out = {int(f.stem) for f in chosen.held_out.files}
    calibrated = {int(f.stem) for f in chosen.frames.files}
    assert held_out.isdisjoint(calibrated)
    assert len(held_out) == 40
    # Whole stretches: of the neighbours of a held-out frame, nearly all are held out.
    assert sum(n + 1 in held_out for n in held_out) == 36


def test_unreadable_pictures_are_counted_and_named(tmp_path):
    folder = pictures(tmp_path / 'in', [scene(n) for n in range(60)])
    (folder / '0000.png').write_bytes(b'no picture')
    (folder / '0031.png').write_bytes((folder / '0031.png').read_bytes()[:100])
    (folder / '0059.png').write_bytes(b'')
    chosen = collect(folder, tmp_path)
    assert len(chosen.frames) == 57
    assert len(chosen.unreadable) == 3
    assert all(any(n in u for u in chosen.unreadable) for n in ('0000.png', '0031.png', '0059.png'))
    (warning,) = chosen.warnings
    assert 'unreadable' in warning and 'and 2 more' in warning


def test_nothing_readable(tmp_path):
    folder = pictures(tmp_path / 'in', [])
    (folder / '1.jpg').write_bytes(b'hello')
    with pytest.raises(SourceError, match=r'holds no images; picture .*1\.jpg.*neither JPEG'):
        collect(folder, tmp_path)


def test_a_recording_that_breaks_off(tmp_path):
    whole = write_video(tmp_path / 'v.mp4', 28, width=256, height=256, faststart=True)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size * 3 // 4])
    chosen = collect(whole, tmp_path / 'kept')
    assert 1 < len(chosen.frames) < 28
    assert 'not a whole video' in chosen.unreadable[0]


def test_too_few_to_compare_with(tmp_path):
    folder = pictures(tmp_path / 'in', [scene(0)])
    with pytest.raises(CalibrationError, match='holds 1 image, too few'):
        collect(folder, tmp_path, held_out=8)
    chosen = collect(pictures(folder, [scene(0), scene(1)]), tmp_path, held_out=8)
    assert (len(chosen.frames), len(chosen.held_out)) == (1, 1)


def test_it_is_known_by_its_content(tmp_path):
    def used(name: str, first: int) -> Calibration:
        return collect(pictures(tmp_path / name, [scene(n + first) for n in range(4)]), tmp_path)

    one, same, other = used('a', 0), used('b', 0), used('c', 1)
    assert one.sha256 == same.sha256 != other.sha256
    digests = [hashlib.sha256(f.read_bytes()).hexdigest() for f in one.frames.files]
    assert one.digests == set(digests)


def test_progress_reaches_the_end_and_never_goes_back(tmp_path):
    told: list[float] = []
    collect(write_video(tmp_path / 'v.mp4'), tmp_path / 'k', on_progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1


def test_a_long_recording_is_thinned_while_it_is_read(tmp_path):
    """1000 frames and room for few: every part of it is still there."""
    images = [scene(n) for n in range(1000)]
    frames = (TimedFrame(n * SECOND, Frame.from_array(i)) for n, i in enumerate(images))
    write_bag(tmp_path / 'bag', frames)
    chosen = collect(tmp_path / 'bag', tmp_path / 'kept', count=8)
    taken = numbers(chosen.frames, images)
    assert len(taken) == 8 and taken == sorted(taken)
    assert np.diff([-1, *taken, 1000]).max() < 2 * 1000 / 8
    assert chosen.seen == 1000
    assert len(list((tmp_path / 'kept').iterdir())) == 8


def test_a_frame_is_read_when_it_is_asked_for(tmp_path):
    folder = pictures(tmp_path / 'in', [scene(0), scene(1)])
    frames = collect(folder, tmp_path).frames
    assert [f.source for f in frames[1:]] == [str(folder / '0001.png')]
    (folder / '0000.png').unlink()
    with pytest.raises(CalibrationError, match='changed while it was used'):
        frames[0]


def test_real_video(assets, tmp_path):
    video = assets / 'data' / 'carnd_vehicle_test_video.mp4'
    chosen = collect(video, tmp_path / 'kept', count=10, held_out=5)
    assert (len(chosen.frames), len(chosen.held_out), chosen.seen) == (10, 5, 38)
    first = next(open_source(video).frames()).frame.pixels()
    np.testing.assert_array_equal(to_bgr(chosen.frames[0]).shape, first.shape)
