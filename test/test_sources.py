# SPDX-License-Identifier: Apache-2.0
"""Recorded images: videos, bags and folders, whole and broken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip('av')
pytest.importorskip('rosbags')

import av
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from videos import number_of, write_video

from trt_perception.core import Frame, Stamp
from trt_perception.replay.bag_writer import BagError, write_bag
from trt_perception.replay.sources import Source, SourceError, TimedFrame, open_source, timeline
from trt_perception.runtime.host.color import to_bgr

STORAGES = ('mcap', 'sqlite3')
MILLISECOND = 1_000_000
TYPES = get_typestore(Stores.ROS2_HUMBLE)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / 'drive.mp4')


def gray(number: int, **header) -> Frame:
    return Frame.from_array(np.full((48, 64, 3), 16 + 8 * number, np.uint8), **header)


def camera_frames(count: int = 5) -> list[TimedFrame]:
    """Frames as a camera stamps them: a little before they are received."""
    return [
        TimedFrame(
            number * 100 * MILLISECOND,
            gray(number, stamp=Stamp(1000, number * 100 * MILLISECOND + 7), frame_id='front'),
        )
        for number in range(count)
    ]


def raw_image(encoding: str = 'bgr8', width: int = 4, height: int = 2, step: int = 12):
    """A message as it is, right or wrong."""
    header = TYPES.types['std_msgs/msg/Header'](
        stamp=TYPES.types['builtin_interfaces/msg/Time'](sec=1, nanosec=0), frame_id=''
    )
    return TYPES.types['sensor_msgs/msg/Image'](
        header=header, height=height, width=width, encoding=encoding, is_bigendian=0, step=step,
        data=np.zeros(step * height, np.uint8),
    )  # fmt: skip


def write_topics(path: Path, **topics: list) -> Path:
    """A bag with a topic of images for each name, and one of texts."""
    with Writer(path, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        kind = 'std_msgs/msg/String'
        text = writer.add_connection('/chatter', kind, typestore=TYPES)
        message = TYPES.types[kind](data='hello')
        writer.write(text, 5, TYPES.serialize_cdr(message, kind))
        for name, messages in topics.items():
            kind = 'sensor_msgs/msg/Image'
            connection = writer.add_connection(f'/{name}', kind, typestore=TYPES)
            for number, message in enumerate(messages):
                writer.write(connection, 10 + number, TYPES.serialize_cdr(message, kind))
    return path


def mistake(path: Path, topic: str = '') -> str:
    """What is said of an input that cannot be opened."""
    with pytest.raises(SourceError) as caught:
        open_source(path, topic)
    text = str(caught.value)
    assert '\n' not in text and str(path) in text
    return text


# Videos


def test_video(video: Path) -> None:
    source = open_source(video)
    assert (source.count, source.rate, source.compressed) == (12, 25.0, False)
    frames = list(source.frames())
    assert [f.offset for f in frames] == [n * 40 * MILLISECOND for n in range(12)]
    for number, (_, frame) in enumerate(frames):
        assert (frame.width, frame.height, frame.encoding) == (64, 48, 'bgr8')
        assert (frame.stamp, frame.frame_id) == (Stamp(), '')
        assert number_of(frame.pixels()) == number
    assert len(list(source.frames())) == 12  # and again from the start


def test_video_keeps_uneven_times(tmp_path: Path) -> None:
    times = [500, 540, 700, 701, 1200]
    source = open_source(write_video(tmp_path / 'v.mp4', 5, times=times))
    offsets = [f.offset / MILLISECOND for f in source.frames()]
    assert offsets == pytest.approx([t - 500 for t in times], abs=0.2)


@pytest.mark.parametrize(
    'rotation, edge', [(0, 'left'), (90, 'bottom'), (180, 'right'), (-90, 'top')]
)
def test_video_of_a_telephone_is_upright(tmp_path: Path, rotation: int, edge: str) -> None:
    path = write_video(tmp_path / 'v.mp4', 1, rotation=rotation, bright_left=True)
    frame = next(open_source(path).frames()).frame
    image = frame.pixels()
    assert image.shape == ((48, 64, 3) if rotation % 180 == 0 else (64, 48, 3))
    bright = {
        'left': image[:, :8], 'right': image[:, -8:], 'top': image[:8], 'bottom': image[-8:],
    }  # fmt: skip
    assert max(bright, key=lambda side: bright[side].mean()) == edge


def test_broken_off_video(tmp_path: Path) -> None:
    """What is there is given; then it is said that there should be more."""
    whole = write_video(tmp_path / 'whole.mp4', 28, width=256, height=256, faststart=True)
    data = whole.read_bytes()
    torn = tmp_path / 'torn.mp4'
    torn.write_bytes(data[: len(data) * 3 // 4])
    seen = []
    with pytest.raises(SourceError, match='not a whole video'):
        for _, frame in open_source(torn).frames():
            seen.append(number_of(frame.pixels()))
    assert 0 < len(seen) < 28
    assert seen == list(range(len(seen)))


# Folders of pictures


def test_pictures(tmp_path: Path) -> None:
    names = ['1.png', '2.jpg', '09.JPG', '10.jpeg', 'a1.png', 'a1b.png']
    for number, name in enumerate(names):
        data = cv2.imencode(Path(name).suffix.lower(), gray(number).pixels())[1]
        (tmp_path / name).write_bytes(data.tobytes())
    (tmp_path / 'notes.txt').write_text('no picture')
    source = open_source(tmp_path)
    assert (source.count, source.rate, source.compressed) == (6, 10.0, True)
    frames = list(source.frames())
    assert [f.offset for f in frames] == [n * 100 * MILLISECOND for n in range(6)]
    assert [Path(f.frame.source).name for f in frames] == names
    for number, (name, (_, frame)) in enumerate(zip(names, frames, strict=True)):
        assert frame.data.tobytes() == (tmp_path / name).read_bytes()
        assert number_of(to_bgr(frame)) == number


# Bags


@pytest.mark.parametrize('storage', STORAGES)
@pytest.mark.parametrize('single_file', [False, True])
def test_bag_of_raw_images(tmp_path: Path, storage: str, single_file: bool) -> None:
    frames = camera_frames()
    bag = tmp_path / 'bag'
    assert write_bag(bag, frames, storage, topic='/front/image') == 5
    path = next(f for f in bag.iterdir() if f.suffix in ('.mcap', '.db3')) if single_file else bag
    source = open_source(path)
    assert (source.count, source.compressed) == (5, False)
    assert source.rate == pytest.approx(10)
    for wanted, got in zip(frames, source.frames(), strict=True):
        assert got.offset == wanted.offset
        assert (got.frame.stamp, got.frame.frame_id) == (wanted.frame.stamp, 'front')
        assert (got.frame.encoding, got.frame.source) == ('bgr8', '/front/image')
        np.testing.assert_array_equal(got.frame.pixels(), wanted.frame.pixels())


@pytest.mark.parametrize('storage', STORAGES)
def test_bag_of_compressed_images(tmp_path: Path, storage: str, video: Path) -> None:
    write_bag(tmp_path / 'bag', open_source(video).frames(), storage, compressed=True)
    source = open_source(tmp_path / 'bag')
    assert (source.count, source.compressed) == (12, True)
    for number, (offset, frame) in enumerate(source.frames()):
        assert offset == number * 40 * MILLISECOND
        assert frame.stamp == Stamp(0, offset)
        assert frame.encoding == 'jpeg'
        assert number_of(to_bgr(frame)) == number


def test_bag_of_pictures(tmp_path: Path) -> None:
    """As they are, or decoded."""
    png = cv2.imencode('.png', gray(3).pixels())[1].tobytes()
    (tmp_path / 'pictures').mkdir()
    (tmp_path / 'pictures' / '1.png').write_bytes(png)
    for compressed in (True, False):
        bag = tmp_path / f'bag_{compressed}'
        write_bag(bag, open_source(tmp_path / 'pictures').frames(), compressed=compressed)
        ((_, frame),) = open_source(bag).frames()
        if compressed:
            assert (frame.encoding, frame.data.tobytes()) == ('png', png)
        else:
            np.testing.assert_array_equal(frame.pixels(), gray(3).pixels())


def test_the_topic_of_a_bag(tmp_path: Path) -> None:
    bag = write_topics(
        tmp_path / 'bag', left=[raw_image()], right=[raw_image(), raw_image()], unused=[]
    )
    text = mistake(bag)
    assert 'several image topics' in text
    assert '/left (1 images)' in text and '/right (2 images)' in text
    for name in ('/right', 'right'):
        source = open_source(bag, name)
        assert source.count == len(list(source.frames())) == 2
    assert "no image topic '/up'" in mistake(bag, 'up')
    assert 'no image topic' in mistake(bag, '/chatter')
    assert 'holds no images' in mistake(bag, '/unused')
    alone = write_topics(tmp_path / 'alone', left=[raw_image()], unused=[])
    assert open_source(alone).count == 1


def test_bag_is_whole_or_not_there(tmp_path: Path) -> None:
    def failing():
        yield from camera_frames(3)
        raise OSError('camera on fire')

    bag = tmp_path / 'bag'
    with pytest.raises(OSError, match='on fire'):
        write_bag(bag, failing())
    with pytest.raises(BagError, match='no frames'):
        write_bag(bag, [])
    assert not list(tmp_path.iterdir())
    write_bag(bag, camera_frames(1))
    with pytest.raises(BagError, match='exists already'):
        write_bag(bag, camera_frames(1))
    assert open_source(bag).count == 1


def test_real_video_and_bags_made_from_it(assets: Path, tmp_path: Path) -> None:
    video = open_source(assets / 'data' / 'carnd_vehicle_test_video.mp4')
    frames = list(video.frames())
    assert (len(frames), video.count, video.rate) == (38, 38, 25.0)
    for storage in STORAGES:
        write_bag(tmp_path / storage, iter(frames), storage)
        for wanted, got in zip(frames, open_source(tmp_path / storage).frames(), strict=True):
            assert got.offset == wanted.offset
            assert np.array_equal(got.frame.data, wanted.frame.data)
        write_bag(tmp_path / f'{storage}_jpeg', iter(frames), storage, compressed=True)
        for wanted, got in zip(
            frames, open_source(tmp_path / f'{storage}_jpeg').frames(), strict=True
        ):
            assert cv2.PSNR(to_bgr(got.frame), wanted.frame.pixels()) > 35


def test_real_pictures(assets: Path) -> None:
    source = open_source(assets / 'data' / 'carnd_images')
    shapes = {to_bgr(f.frame).shape for f in source.frames()}
    assert source.count == 12
    assert shapes == {(540, 960, 3), (720, 1280, 3)}


# Broken ones


def torn(path: Path, keep: float = 0.5) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    return path


def storage_file(bag: Path) -> Path:
    return next(f for f in bag.iterdir() if f.name != 'metadata.yaml')


def without_metadata(path: Path) -> Path:
    write_bag(path / 'b', camera_frames(1))
    (path / 'b' / 'metadata.yaml').unlink()
    return path / 'b'


def with_torn_storage(path: Path, storage: str) -> Path:
    write_bag(path / 'b', camera_frames(), storage)
    torn(storage_file(path / 'b'))
    return path / 'b'


def with_text(path: Path, name: str, text: str = 'hello') -> Path:
    (path / name).write_text(text)
    return path / name


def with_metadata(path: Path, text: str) -> Path:
    write_bag(path / 'b', camera_frames(1))
    (path / 'b' / 'metadata.yaml').write_text(text)
    return path / 'b'


def sound_only(path: Path) -> Path:
    with av.open(str(path / 'song.mp4'), 'w') as container:
        stream = container.add_stream('aac', rate=8000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 2048), np.float32), 'fltp', 'mono')
        silence.sample_rate = 8000
        container.mux(stream.encode(silence))
        container.mux(stream.encode(None))
    return path / 'song.mp4'


BROKEN: dict[str, tuple[Callable[[Path], Path], str]] = {
    'nothing there': (lambda p: p / 'drive.mp4', 'does not exist'),
    'empty folder': (lambda p: p, 'without jpg or png'),
    'no video': (lambda p: with_text(p, 'drive.mp4'), 'not a whole video'),
    'empty file': (lambda p: with_text(p, 'drive.mp4', ''), 'not a whole video'),
    'torn video': (lambda p: torn(write_video(p / 'v.mp4')), 'not a whole video'),
    'sound only': (sound_only, 'no pictures'),
    'no picture': (lambda p: with_text(p, '1.jpg').parent, 'neither JPEG nor PNG'),
    'ROS 1': (lambda p: with_text(p, 'drive.bag'), 'rosbags-convert'),
    'torn mcap': (lambda p: with_torn_storage(p, 'mcap'), 'ends before its end'),
    'torn sqlite3': (lambda p: with_torn_storage(p, 'sqlite3'), 'cannot be read'),
    'no mcap': (lambda p: with_text(p, 'a.mcap'), 'is no MCAP file'),
    'no sqlite3': (lambda p: with_text(p, 'a.db3'), 'cannot be read'),
    'no image topic': (lambda p: write_topics(p / 'b'), 'no topic of sensor_msgs'),
    'no images': (lambda p: write_topics(p / 'b', left=[]), 'holds no images'),
    'depth images': (lambda p: write_topics(p / 'b', a=[raw_image('16UC1')]), "encoding '16UC1'"),
    'wrong step': (lambda p: write_topics(p / 'b', a=[raw_image(step=5)]), 'step 5 is shorter'),
}  # fmt: skip


@pytest.mark.parametrize('name', BROKEN)
def test_broken_input_is_named_in_one_line(tmp_path: Path, name: str) -> None:
    make, words = BROKEN[name]
    path = make(tmp_path)
    with pytest.raises(SourceError) as caught:
        open_source(path)
    text = str(caught.value)
    assert words in text
    assert str(path) in text and '\n' not in text


@pytest.mark.parametrize('text', ['hello: world', '{', None])
def test_a_bag_without_its_metadata(tmp_path: Path, text: str | None) -> None:
    bag = without_metadata(tmp_path) if text is None else with_metadata(tmp_path, text)
    assert len(list(open_source(bag).frames())) == 1


def test_only_bags_have_topics(video: Path) -> None:
    assert 'is no bag' in mistake(video, '/image')


def test_an_image_that_is_unusable_is_named(tmp_path: Path) -> None:
    bag = write_topics(tmp_path / 'b', a=[raw_image(), raw_image(width=0)])
    frames = open_source(bag).frames()
    next(frames)
    with pytest.raises(SourceError, match=r'topic /a, .* is empty'):
        next(frames)


# Times


class Steps:
    """A source of bare times."""

    compressed = False

    def __init__(self, *offsets: int, rate: float = 10.0) -> None:
        self.count = len(offsets)
        self.rate = rate
        self._offsets = offsets

    def frames(self, skip):
        return (TimedFrame(offset, gray(n)) for n, offset in enumerate(self._offsets))


def due(source: Source, number: int, **how) -> list[int]:
    return [f.offset for f, _ in zip(timeline(source, **how), range(number), strict=False)]


def test_timeline() -> None:
    third = 1_000_000_000 / 3
    assert due(Steps(0, 30, 70), 9) == [0, 30, 70]
    assert due(Steps(0, 30, 70), 9, rate=3.0) == [0, round(third), round(2 * third)]
    # A lap begins one period of the source after the last frame.
    assert due(Steps(0, 30, 70, rate=1e7), 6, loop=True) == [0, 30, 70, 170, 200, 240]
    assert due(Steps(0, 30), 5, rate=10.0, loop=True) == [n * 100 * MILLISECOND for n in range(5)]
    # Rounding does not add up.
    assert due(Steps(0), 3_001, rate=3.0, loop=True)[-1] == 1_000_000_000_000
    assert due(Steps(), 3, loop=True) == []
    one = due(Steps(0, rate=0.0), 3, loop=True)
    assert one == [0, 1_000_000_000, 2_000_000_000]
