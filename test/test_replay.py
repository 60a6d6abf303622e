# SPDX-License-Identifier: Apache-2.0
"""Bags through the pipeline: every image once, in its order, and the same every time."""

from __future__ import annotations

import io
import itertools
import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip('rosbags')

from bags import FRONT, REAR, START, STEP, files, gray, packed, raw, tear, two_cameras, write
from models import color_detector, constant_detector

from trt_perception.cli.main import main
from trt_perception.core import Detections, Frame, FrameError, Selection
from trt_perception.replay.bag_reader import BagReader
from trt_perception.replay.looking import look_at
from trt_perception.replay.replay import detection_topics
from trt_perception.replay.result import BAG, STAGES, open_result
from trt_perception.replay.sources.bag import image_of
from trt_perception.runtime.engine import EngineError, EngineInfo
from trt_perception.runtime.pipeline import Result, StageTimes, open_pipeline

TOPICS = (FRONT, REAR)


@pytest.fixture(scope='module')
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tells how bright an image is."""
    return color_detector(tmp_path_factory.mktemp('model') / 'color.onnx')


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    return write(tmp_path / 'bag', two_cameras(count=10))


def run(*args: str | Path, code: int = 0) -> None:
    assert main([str(argument) for argument in args]) == code


def replayed(out: Path) -> dict[str, Any]:
    return json.loads((out / 'replay.json').read_text())


def test_every_image_in_its_order(tmp_path: Path, bag: Path, model: Path) -> None:
    """What is found is what the pipeline finds in each image alone, bit for bit."""
    run('replay', bag, '--model', model, '-o', tmp_path / 'out')
    result = open_result(tmp_path / 'out')
    pipeline = open_pipeline(model)
    frames = list(result.frames())
    messages = list(BagReader(bag).messages(TOPICS, pytest.fail))
    assert len(frames) == len(messages) == 20
    for seen, message in zip(frames, messages, strict=True):
        image = image_of(message)
        assert (seen.topic, seen.time) == (message.topic, message.time)
        assert (seen.stamp, seen.frame_id, seen.size) == (image.stamp, 'camera', (64, 48))
        alone = pipeline(image, Selection()).detections
        assert len(alone) == len(seen.detections)
        for name in ('boxes', 'scores', 'class_ids'):
            assert np.array_equal(getattr(alone, name), getattr(seen.detections, name))
        times = seen.latencies_ms
        assert set(times) == set(STAGES) and min(times.values()) > 0
        assert times['total'] >= sum(times[s] for s in STAGES if s != 'total') * 0.999
    summary = result.summary
    assert (summary['frames'], summary['complete'], summary['damage']) == (20, True, [])
    front, rear = (summary['cameras'][topic] for topic in TOPICS)
    assert front['detections_topic'] == '/front/detections'
    assert rear['detections_topic'] == '/rear/detections'
    for camera, encoding in ((front, 'bgr8'), (rear, 'jpeg')):
        assert camera['frames'] == {'expected': 10, 'read': 10, 'looked_at': 10, 'rejected': {}}
        assert (camera['encodings'], camera['sizes']) == ({encoding: 10}, {'64x48': 10})
        assert camera['stamps'] == {'repeated': 0, 'backwards': 0, 'unset': 0}
        assert set(camera['latency_ms']) == set(STAGES)
    # The brighter half of the shades reaches the threshold, in all three colours.
    bright = sum(int(gray(n)[0, 0, 0]) * 48 / 64 + 114 / 4 >= 0.25 * 255 for n in range(10))
    assert front['detections'] == {'red': bright, 'green': bright, 'blue': bright}


def test_the_same_again(tmp_path: Path, bag: Path, model: Path) -> None:
    """Byte for byte; and a replay replaces an earlier one, but nothing else."""
    for out in ('one', 'two', 'two'):
        run('replay', bag, '--model', model, '-o', tmp_path / out)
    assert (tmp_path / 'one' / BAG).read_bytes() == (tmp_path / 'two' / BAG).read_bytes()
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'thesis.txt').write_text('years of work')
    run('replay', bag, '--model', model, '-o', tmp_path / 'mine', code=2)
    assert [p.name for p in (tmp_path / 'mine').iterdir()] == ['thesis.txt']


def test_what_is_asked_for(
    tmp_path: Path, bag: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'out'
    options = ['--topics', REAR, '--limit', '3', '--score-threshold', '0', '--max-detections', '2']
    run('replay', bag, '--model', model, '-o', out, *options, '--json', '-')
    captured = capsys.readouterr()
    summary = json.loads(captured.out)
    assert summary == replayed(out)
    assert list(summary['cameras']) == [REAR]
    assert (summary['frames'], summary['complete']) == (3, False)
    assert sum(summary['cameras'][REAR]['detections'].values()) == 6
    assert summary['selection']['score_threshold'] == 0
    assert [f['name'] for f in summary['bag']['files']] == ['bag.mcap', 'metadata.yaml']
    assert summary['model']['path'] == str(model)
    run('replay', bag, '--model', model, '-o', out, '--json', tmp_path / 'copy.json')
    assert (tmp_path / 'copy.json').read_text() == (out / 'replay.json').read_text()
    assert '20 in' in capsys.readouterr().out


def test_topics_of_detections() -> None:
    wanted = {
        '/front/image_raw': '/front/detections',
        '/rear/image_raw/compressed': '/rear/detections',
        '/image': '/detections',
        '/top/image_raw': '/top/image_raw/detections',
        '/top/image_rect': '/top/image_rect/detections',
        '/lidar_view': '/lidar_view/detections',
    }
    assert detection_topics(wanted) == wanted


def odd_bag(path: Path) -> Path:
    """Every mistake that one image can be, between good ones."""
    torn = packed(gray(3), START + 3 * STEP)
    torn.data = torn.data[: len(torn.data) // 2]
    other = packed(gray(4), START + 4 * STEP)
    other.data = np.frombuffer(b'RIFF not a picture', np.uint8)
    depth = raw(np.zeros((48, 64), np.uint16), START + 5 * STEP, '16UC1')
    again = raw(gray(6), START + 2 * STEP)
    back = raw(gray(7), START)
    unset = raw(gray(8), 0)
    messages = [
        raw(gray(1), START + STEP), raw(gray(2)[..., 0], START + 2 * STEP, 'mono8'), again, torn,
        other, depth, back, b'\0\1\0\0', unset, raw(gray(9)[:24], START + 9 * STEP),
    ]  # fmt: skip
    return write(path, [(FRONT, START + n * STEP, m) for n, m in enumerate(messages)])


def test_images_that_cannot_be_used(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = odd_bag(tmp_path / 'bag')
    run('replay', bag, '--model', model, '-o', tmp_path / 'out')
    camera = replayed(tmp_path / 'out')['cameras'][FRONT]
    assert camera['frames'] == {
        'expected': 10, 'read': 10, 'looked_at': 6,
        'rejected': {'truncated': 1, 'encoding': 2, 'message': 1},
    }  # fmt: skip
    assert camera['sizes'] == {'64x48': 5, '64x24': 1}
    assert camera['encodings'] == {'bgr8': 5, 'mono8': 1}
    assert camera['stamps'] == {'repeated': 1, 'backwards': 1, 'unset': 1}
    assert 'end marker' in camera['rejected_because']['truncated']
    printed = ' '.join(capsys.readouterr().out.split())
    assert 'not usable' in printed and 'neither JPEG nor PNG' in printed
    assert len(list(open_result(tmp_path / 'out').frames())) == 6


def test_a_bag_that_was_cut_off(
    tmp_path: Path, bag: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write(tmp_path / 'torn', two_cameras(count=10), 'sqlite3')
    tear(files(bag)[0], 0.6)
    run('replay', bag, '--model', model, '-o', tmp_path / 'out')
    summary = replayed(tmp_path / 'out')
    assert 4 < summary['frames'] < 20
    lost = 20 - summary['frames']
    assert sum(int(t.split()[2]) for t in summary['damage'] if 'are lost' in t) == lost
    assert any("'torn.db3' is damaged after" in text for text in summary['damage'])
    assert "'torn.db3' is damaged after" in capsys.readouterr().err
    run('bag', 'info', bag, '--json', code=1)
    report = json.loads(capsys.readouterr().out)
    assert report['usable'] and report['damage']


@pytest.mark.parametrize(
    'make, words',
    [
        (lambda p: p / 'nothing', 'does not exist'),
        (lambda p: write(p / 'b', []), 'has no topic of'),
        (lambda p: write(p / 'b', [(FRONT, 1, b'\0\1\0\0')]), 'no image of it can be used'),
        (lambda p: odd_bag(p / 'b'), 'has no image topic'),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, model: Path, make: Any, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    topics = ['--topics', 'up'] if 'topic ' not in words and 'image topic' in words else []
    bag = make(tmp_path)
    run('replay', bag, '--model', model, '-o', tmp_path / 'out', *topics, code=2)
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith('error: bag ') and words in told and str(bag) in told
    assert not (tmp_path / 'out').exists()
    assert not list(tmp_path.glob('.out-*'))


def test_live_needs_ros(
    tmp_path: Path, bag: Path, model: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.delitem(sys.modules, 'trt_perception.cli.live', raising=False)
    monkeypatch.setitem(sys.modules, 'rclpy', None)
    run('replay', bag, '--model', model, '-o', tmp_path / 'out', '--online', code=2)
    assert 'this needs ROS 2' in capsys.readouterr().err


def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    bag = write(tmp_path / 'bag', two_cameras(count=100))
    slow = constant_detector(tmp_path / 'slow.onnx', work=30)
    here, there = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, '-m', 'trt_perception.cli.main', 'replay', bag, '--model', slow, '-o',
         tmp_path / 'out'],
        stdout=subprocess.PIPE, stderr=there,
    )  # fmt: skip
    os.close(there)
    with process, open(here, 'rb', buffering=0) as terminal:
        seen = b''
        while b'of 200' not in seen:  # the progress bar
            seen += terminal.read(1000)
        process.send_signal(signal.SIGINT)
        threading.Thread(target=_drain, args=(terminal,), daemon=True).start()
        assert process.wait(120) == 130
    assert sorted(p.name for p in tmp_path.iterdir()) == ['bag', 'slow.onnx']


def _drain(terminal: io.RawIOBase) -> None:
    try:
        while terminal.read(1000):
            pass
    except (OSError, ValueError):
        pass


# The flow


class Slow:
    """A pipeline with several lanes, of which some take longer."""

    lanes = 3
    info = EngineInfo('none', 'none', 'none')

    def __init__(self) -> None:
        self.running = self.most = self.calls = 0
        self.fail_at = 1 << 30
        self._lock = threading.Lock()
        self._met = threading.Barrier(self.lanes)

    def __call__(self, frame: Frame, selection: Selection) -> Result:
        with self._lock:
            number, self.calls = self.calls, self.calls + 1
            self.running += 1
            self.most = max(self.most, self.running)
        try:
            if number < self.lanes:
                self._met.wait(60)  # that there are so many at a time
            if number == self.fail_at:
                raise EngineError('the GPU is gone')
            mean = np.float32(frame.pixels().mean())
        finally:
            with self._lock:
                self.running -= 1
        found = Detections(
            np.array([[0, 0, mean, 1]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int32)
        )
        return Result(found, StageTimes(1, 2, 3))


def test_several_at_a_time_in_their_order(bag: Path) -> None:
    pipeline = Slow()
    messages = list(BagReader(bag).messages([FRONT], pytest.fail))
    many = list(itertools.islice(itertools.cycle(messages), 200))
    looks = list(look_at(iter(many), pipeline, {FRONT: Selection()}))
    assert pipeline.most == 3
    assert [look.time for look in looks] == [m.time for m in many]
    for number, look in enumerate(looks):
        assert isinstance(look.detections, Detections)
        assert look.detections.boxes[0, 2] == gray(number % 10)[0, 0, 0]
        assert look.frame is not None and not look.frame.data.size


def test_few_images_are_in_memory(bag: Path) -> None:
    """Whoever reads waits for who writes."""
    (message, *_) = BagReader(bag).messages([FRONT], pytest.fail)
    read = 0

    def endless() -> Iterator[Any]:
        nonlocal read
        while True:
            read += 1
            yield message

    looks = look_at(endless(), Slow(), {FRONT: Selection()})
    ahead = []
    for number in range(1, 101):
        next(looks)
        ahead.append(read - number)
    looks.close()
    assert max(ahead) <= 2 * (3 + min(os.cpu_count() or 1, 16)) + 1


def test_failures_end_it(bag: Path) -> None:
    before = threading.active_count()
    messages = list(BagReader(bag).messages([FRONT], pytest.fail))

    def breaking() -> Iterator[Any]:
        yield from messages
        raise OSError('the disk is gone')

    with pytest.raises(OSError, match='disk is gone'):
        list(look_at(breaking(), Slow(), {FRONT: Selection()}))
    pipeline = Slow()
    pipeline.fail_at = 5
    with pytest.raises(EngineError, match='GPU is gone'):
        list(look_at(iter(messages), pipeline, {FRONT: Selection()}))
    assert threading.active_count() == before


def test_an_image_that_a_pipeline_refuses(bag: Path, model: Path) -> None:
    pipeline = open_pipeline(model)
    messages = list(BagReader(bag).messages([FRONT], pytest.fail))
    selection = Selection(region=Selection().region._replace(x=100, width=60, height=60))
    looks = list(look_at(iter(messages), pipeline, {FRONT: selection}))
    assert all(isinstance(look.detections, FrameError) for look in looks)


# Bags


def test_bag_make_and_info(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import cv2

    pictures = tmp_path / 'pictures'
    pictures.mkdir()
    for number in range(3):
        cv2.imwrite(str(pictures / f'{number}.png'), gray(number))
    run('bag', 'make', pictures, '-o', tmp_path / 'a', '--fps', '20', '--frames', '7')
    assert "7 images of topic /camera/image_raw in '" in capsys.readouterr().out
    run('bag', 'info', tmp_path / 'a', '--json')
    report = json.loads(capsys.readouterr().out)
    assert report['topics'] == {
        '/camera/image_raw': {
            'types': ['sensor_msgs/msg/Image'], 'messages': 7, 'usable': True, 'encoding': 'bgr8',
            'size': [64, 48], 'frame_id': '',
        }
    }  # fmt: skip
    assert (report['usable'], report['damage'], report['seconds']) == (True, [], 0.3)
    stamps = [image_of(m).stamp for m in BagReader(tmp_path / 'a').messages(
        ['/camera/image_raw'], pytest.fail
    )]  # fmt: skip
    assert stamps == sorted(set(stamps)) and stamps[0].sec > 10**9
    # A bag of another bag, and its images as they were.
    options = ['--jpeg', '--storage', 'sqlite3', '--topic', 'up/image']
    run('bag', 'make', tmp_path / 'a', '-o', tmp_path / 'b', *options)
    (made, *_) = BagReader(tmp_path / 'b').messages(['/up/image'], pytest.fail)
    assert (image_of(made).encoding, image_of(made).stamp) == ('jpeg', stamps[0])
    run('bag', 'info', tmp_path / 'b')
    assert 'images, 64x48, jpeg' in ' '.join(capsys.readouterr().out.split())
    run('bag', 'make', pictures, '-o', tmp_path / 'b', code=2)
    run('bag', 'info', tmp_path / 'nothing', code=2)
    told = capsys.readouterr().err.splitlines()
    assert 'exists already' in told[-2] and 'does not exist' in told[-1]


def test_bag_make_of_a_broken_bag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What can be read is made a bag of; a bad image and a missing end are told."""
    pixels = np.zeros((480, 640, 3), np.uint8)
    messages = [(FRONT, START + n, raw(pixels + n, START + n)) for n in range(8)]
    bag = write(tmp_path / 'bag', [(FRONT, START, b'\0\1\0\0'), *messages])
    tear(files(bag)[0], 0.7)
    run('bag', 'make', bag, '-o', tmp_path / 'made', code=1)
    both = capsys.readouterr()
    assert 'that are no sensor_msgs/msg/Image' in both.err and 'ends before its end' in both.err
    number = int(both.out.split()[0])
    assert 0 < number < 8
    run('bag', 'info', tmp_path / 'made')
    bag = write(tmp_path / 'none', [(FRONT, START, b'\0\1\0\0')])
    run('bag', 'make', bag, '-o', tmp_path / 'nothing', code=2)
    assert 'that are no sensor_msgs/msg/Image' in capsys.readouterr().err
    assert not (tmp_path / 'nothing').exists()


def test_bag_info_of_images_that_are_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write(tmp_path / 'bag', [(FRONT, START, b'\0\1\0\0')])
    run('bag', 'info', bag, code=1)
    printed = ' '.join(capsys.readouterr().out.split())
    assert 'images that cannot be used' in printed and 'usable no' in printed
