# SPDX-License-Identifier: Apache-2.0
"""The folder that a replay leaves: what is written comes back, and all of it or nothing."""

from __future__ import annotations

import json
import resource
import signal
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rosbags')

from rosbags.rosbag2 import Reader

from trt_perception.core import Detections, Stamp
from trt_perception.replay.message_types import DETECTIONS, LABELS, message_types
from trt_perception.replay.result import (
    BAG,
    FRAMES,
    STAGES,
    SUMMARY,
    ResultError,
    ResultWriter,
    SeenFrame,
    open_result,
)

CAMERAS = {'/front/image_raw': '/front/detections', '/rear/image_raw': '/rear/detections'}
CLASSES = ('pallet', 'person')


def seen(number: int, count: int = 2) -> SeenFrame:
    random = np.random.default_rng(number)
    boxes = random.uniform(0, 640, (count, 4)).astype(np.float32)
    found = Detections(
        boxes, random.random(count, np.float32), random.integers(0, 4, count).astype(np.int32)
    )
    latencies = {stage: float(np.float32(number + k / 3)) for k, stage in enumerate(STAGES)}
    topic = list(CAMERAS)[number % 2]
    return SeenFrame(
        topic,
        Stamp(number, 7),
        10**18 + number,
        found,
        (640, 480 + number),
        latencies,
        f'lens{number}',
    )


def write(path: Path, frames: list[SeenFrame]) -> Path:
    cameras = {topic: {'detections_topic': found} for topic, found in CAMERAS.items()}
    with ResultWriter(path, CAMERAS, CLASSES, 0.25) as writer:
        for frame in frames:
            writer.add(frame)
        assert len(writer.times()) == len(frames)
        writer.finish({'cameras': cameras, 'frames': len(frames)})
        assert not path.exists() or (path / SUMMARY).exists()
    return path


def same(one: SeenFrame, other: SeenFrame) -> bool:
    fields = ('topic', 'stamp', 'frame_id', 'time', 'size', 'latencies_ms')
    return all(getattr(one, f) == getattr(other, f) for f in fields) and all(
        np.array_equal(getattr(one.detections, f), getattr(other.detections, f))
        for f in ('boxes', 'scores', 'class_ids')
    )


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    """Bit for bit, also nothing found and classes without a name; and twice the same bytes."""
    frames = [seen(n, count=n % 4) for n in range(9)]
    result = open_result(write(tmp_path / 'out', frames))
    assert result.class_names == CLASSES
    assert result.cameras == tuple(CAMERAS)
    assert result.summary['frames'] == 9
    assert all(map(same, frames, result.frames()))
    assert len(list(result.frames())) == len(result.rows()) == 9
    again = write(tmp_path / 'again', frames)
    for name in (BAG, FRAMES):
        assert (again / name).read_bytes() == (tmp_path / 'out' / name).read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ['again', 'out']


def test_the_bag_is_one_that_others_read(tmp_path: Path) -> None:
    frames = [seen(n) for n in range(3)]
    write(tmp_path / 'out', frames)
    types = message_types()
    with Reader(tmp_path / 'out' / BAG) as reader:
        kinds = {c.topic: c.msgtype for c in reader.connections}
        assert kinds == {'/label_info': LABELS} | dict.fromkeys(CAMERAS.values(), DETECTIONS)
        messages = [
            (c.topic, time, types.deserialize_cdr(raw, c.msgtype))
            for c, time, raw in reader.messages()
        ]
    (topic, time, labels), *found = messages
    assert (topic, time) == ('/label_info', frames[0].time)
    assert [c.class_name for c in labels.class_map] == list(CLASSES)
    assert labels.threshold == 0.25
    for frame, (topic, time, message) in zip(frames, found, strict=True):
        assert (CAMERAS[frame.topic], frame.time) == (topic, time)
        assert message.header.frame_id == frame.frame_id
        assert (message.header.stamp.sec, message.header.stamp.nanosec) == frame.stamp
        scores = [d.results[0].hypothesis.score for d in message.detections]
        assert scores == frame.detections.scores.tolist()


def test_whole_or_not_there(tmp_path: Path) -> None:
    out = tmp_path / 'out'
    with pytest.raises(OSError, match='on fire'), ResultWriter(out, CAMERAS, CLASSES) as writer:
        writer.add(seen(0))
        raise OSError('camera on fire')
    assert not list(tmp_path.iterdir())
    write(out, [seen(0)])
    with pytest.raises(KeyboardInterrupt), ResultWriter(out, CAMERAS, CLASSES) as writer:
        raise KeyboardInterrupt
    assert len(list(open_result(out).frames())) == 1  # the earlier one stays
    write(out, [seen(0), seen(1)])
    assert len(list(open_result(out).frames())) == 2
    assert [p.name for p in tmp_path.iterdir()] == ['out']
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'thesis.txt').write_text('years of work')
    with pytest.raises(ResultError, match='is no replay'):
        ResultWriter(tmp_path / 'mine', CAMERAS, CLASSES)
    (out / 'notes.txt').write_text('looked at')
    with pytest.raises(ResultError, match=r"holds 'notes\.txt'"):
        ResultWriter(out, CAMERAS, CLASSES)


@pytest.mark.parametrize('most', [100, 900])  # nothing more, or the end of the bag
def test_a_full_disk_leaves_nothing(tmp_path: Path, most: int) -> None:
    signals = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with (
            pytest.raises(ResultError, match='cannot be written: File too large'),
            ResultWriter(tmp_path / 'out', CAMERAS, CLASSES) as writer,
        ):
            for number in range(3):
                writer.add(seen(number))
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
            writer.times()
            writer.finish({})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, signals)
    assert not list(tmp_path.iterdir())


def test_what_a_link_leads_to_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / 'disk', [seen(0)])
    (tmp_path / 'out').symlink_to(tmp_path / 'disk')
    write(tmp_path / 'out', [seen(0), seen(1)])
    assert (tmp_path / 'out').is_symlink()
    assert len(list(open_result(tmp_path / 'disk').frames())) == 2
    monkeypatch.chdir(tmp_path / 'disk')
    with pytest.raises(ResultError, match='the current folder'):
        ResultWriter(Path(), CAMERAS, CLASSES)


def test_what_is_no_replay_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match=r'replay\.json'):
        open_result(tmp_path)
    out = write(tmp_path / 'out', [seen(n) for n in range(4)])
    (out / FRAMES).write_bytes((out / FRAMES).read_bytes()[:-3])
    with pytest.raises(ResultError, match='cannot be read'):
        list(open_result(out).frames())
    (out / FRAMES).write_bytes(b'')
    with pytest.raises(ResultError, match='cannot be read'):
        list(open_result(out).frames())
    out = write(tmp_path / 'out', [seen(n) for n in range(4)])
    other = write(tmp_path / 'other', [seen(n) for n in range(5)])
    (other / FRAMES).replace(out / FRAMES)
    with pytest.raises(ResultError, match='holds 4 of 5'):
        list(open_result(out).frames())
    (out / BAG).write_bytes((out / BAG).read_bytes()[:100])
    with pytest.raises(ResultError, match='ends before its end'):
        list(open_result(out).frames())
    summary = json.loads((out / SUMMARY).read_text())
    (out / SUMMARY).write_text(json.dumps(summary | {'schema': 'trt_perception.replay/0'}))
    with pytest.raises(ResultError, match='replay the bag anew'):
        open_result(out)
