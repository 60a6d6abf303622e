# SPDX-License-Identifier: Apache-2.0
"""The recorder over real DDS, and the parts that it is made of."""

from __future__ import annotations

import array
import json
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip('rclpy')
pytest.importorskip('av')

from processes import TIMEOUT, parameters, start
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage, Image
from videos import read_video
from vision_msgs.msg import Detection2DArray
from world import Camera, World, picture

from trt_perception.core import Detections, Frame, PerceptionError, Stamp
from trt_perception.core.cdr import detection_array_cdr
from trt_perception.nodes.recorder import RecorderNode
from trt_perception.replay.highlights import Highlight, Highlights
from trt_perception.replay.pairing import Found, Pair, Pairing
from trt_perception.replay.recording import Recording
from trt_perception.replay.video_writer import ENCODERS, VideoWriter
from trt_perception.ros.diagnostics import OK, Diagnostics, Verdict
from trt_perception.runtime.host.overlay import draw_boxes

CAR, PERSON = 0, 1
NAMES = ('car', 'person')
NOTHING = Found(np.zeros((0, 4)), np.zeros(0), [])


class Detector:
    """What a recorder sees of one: its topics."""

    def __init__(self, world: World) -> None:
        self.publisher = world.node.create_publisher(Detection2DArray, 'detections', 100)
        self._diagnostics = Diagnostics(world.node)

    def answer(self, image: Image, *objects: tuple[int, float, Sequence[float]]) -> None:
        """Say what is in an image: class, score and box."""
        boxes = np.array([o[2] for o in objects], np.float32).reshape(-1, 4)
        scores = np.array([o[1] for o in objects], np.float32)
        classes = np.array([o[0] for o in objects], np.int32)
        stamp = Stamp(image.header.stamp.sec, image.header.stamp.nanosec)
        found = Detections(boxes, scores, classes)
        self.publisher.publish(detection_array_cdr(found, stamp, 'camera', NAMES))

    def report(self, **values: object) -> None:
        self._diagnostics.publish('inference', Verdict(OK, 'active'), 'cpu', values)


class Studio:
    """A recorder, and a camera and a detector that it listens to."""

    def __init__(self, world: World, folder: Path, kind: Any = Image, **parameters: Any) -> None:
        self.world = world
        self.folder = folder
        self.detector = Detector(world)
        topic = 'image' if kind is Image else 'image/compressed'
        self.camera = Camera(world, topic, kind)
        values = {'output': str(folder), 'idle_timeout': 0.0, **parameters}
        overrides = [Parameter(name, value=value) for name, value in values.items()]
        self.node = RecorderNode(context=world.context, parameter_overrides=overrides)
        world.add(self.node)
        self.camera.until_heard()
        world.until(self.detector.publisher.get_subscription_count, 'detections are heard')

    def told(self) -> dict[str, Any]:
        """What the detector has told it of itself."""
        return self.node._detector or {}

    def close(self, images: int, answers: int) -> dict[str, Any]:
        """The summary, once so many messages have come."""
        self.world.until(lambda: self.node.received == images, f'{images} images')
        self.world.until(lambda: self.node.answered == answers, f'{answers} answers')
        self.world.remove(self.node)
        return summary(self.folder)


def summary(folder: Path) -> dict[str, Any]:
    return json.loads((folder / 'summary.json').read_text())


def files(folder: Path) -> set[str]:
    return {f.name for f in folder.iterdir()}


@pytest.fixture
def studio(world: World, tmp_path: Path) -> Studio:
    return Studio(world, tmp_path / 'out')


def test_video_pictures_and_summary(studio: Studio) -> None:
    seconds = [5, 6, 8, 9, 20]
    for number, second in enumerate(seconds):
        image = picture(second, 128, 96)
        studio.camera.send(image)
        cars = [(CAR, 0.9, (20, 30, 60, 50))] * number
        studio.detector.answer(image, (PERSON, 0.5, (90, 40, 100, 80)), *cars)
    # At its end a detector no longer says what it ran on.
    studio.detector.report(received=4, backend='ONNX Runtime', device='a CPU')
    studio.detector.report(received=5, **{'infer p50 ms': '3.125', 'infer p95 ms': '4'})
    studio.world.until(lambda: 'infer' in studio.told().get('stages', {}), 'both reports')
    told = studio.close(5, 5)
    assert told['frames'] == {
        'received': 5, 'lost': 0, 'annotated': 5, 'unpaired': 0, 'dropped': 0, 'unusable': 0,
    }  # fmt: skip
    assert told['classes'] == {'car': 10, 'person': 5}
    assert (told['duration_s'], told['fps']) == (15.0, round(4 / 15, 2))
    assert told['detections_without_image'] == 0
    detector = told['detector']
    assert (detector['received'], detector['device']) == (5, 'a CPU')
    assert detector['stages'] == {'infer': {'p50_ms': 3.125, 'p95_ms': 4.0}}
    names = ['annotated.mp4', *(f'annotated_{n}.png' for n in range(1, 6)), 'summary.json']
    assert files(studio.folder) == set(names)
    assert [told['video'], *told['pictures']] == names[:-1]
    # Each frame at its own time.
    video = read_video(studio.folder / 'annotated.mp4')
    assert [time for time, _ in video] == pytest.approx([0, 1, 3, 4, 15], abs=1e-4)
    # A black image with boxes.
    png = cv2.imread(str(studio.folder / 'annotated_5.png'))
    for image in (png, video[4][1]):
        assert image.shape == (96, 128, 3)
        assert image[45, 20].max() > 150 and image[45, 60].max() > 150  # the car's sides
        assert image[60, 90].max() > 150
        assert image[45, 40].max() < 50 and image[90, 120].max() < 50
    np.testing.assert_allclose(video[4][1].mean(axis=(0, 1)), png.mean(axis=(0, 1)), atol=6)


def test_answers_may_come_first_or_never(studio: Studio) -> None:
    images = [picture(n) for n in range(6)]
    studio.detector.answer(images[0], (CAR, 0.9, (8, 8, 40, 24)))
    studio.world.until(lambda: studio.node.answered == 1, 'the first answer')
    for image in images:
        studio.camera.send(image)
    studio.world.until(lambda: studio.node.received == 6, 'all images')
    studio.detector.answer(images[3])
    studio.detector.answer(picture(77))
    told = studio.close(6, 3)
    assert told['frames']['annotated'] == 2
    assert told['frames']['unpaired'] == 4
    assert told['detections_without_image'] == 1
    assert told['classes'] == {'car': 1}
    assert [time for time, _ in read_video(studio.folder / 'annotated.mp4')] == [0, 3]


def test_compressed_images(world: World, tmp_path: Path) -> None:
    studio = Studio(world, tmp_path, CompressedImage)
    good = cv2.imencode('.jpg', np.full((48, 64, 3), 99, np.uint8))[1].tobytes()
    empty = good[: good.index(b'\xff\xda')] + b'\xff\xd9'  # states its size, and holds nothing
    for number, data in enumerate((good, empty, good, b'no picture')):
        message = CompressedImage(data=array.array('B', data))
        message.header.stamp = picture(number).header.stamp
        studio.camera.send(message)
        studio.detector.answer(picture(number), (CAR, 0.9, (8, 8, 40, 24)))
    told = studio.close(4, 4)
    assert told['frames'] == {
        'received': 4, 'lost': 0, 'annotated': 2, 'unpaired': 0, 'dropped': 0, 'unusable': 2,
    }  # fmt: skip
    assert told['detections_without_image'] == 1
    assert [time for time, _ in read_video(tmp_path / 'annotated.mp4')] == [0, 2]


def test_ends_when_nothing_comes(world: World, tmp_path: Path) -> None:
    studio = Studio(world, tmp_path, idle_timeout=0.5)
    image = picture(1)
    studio.camera.send(image)
    studio.detector.answer(image)
    world.until(lambda: studio.node.finished, 'the end')
    told = studio.close(1, 1)
    assert (told['frames']['annotated'], told['duration_s'], told['fps']) == (1, 0.0, None)
    assert studio.node.exit_code == 0


def test_waits_for_the_first_image(world: World, tmp_path: Path) -> None:
    studio = Studio(world, tmp_path, idle_timeout=0.01)
    for number in range(3):  # answers alone are no beginning
        studio.detector.answer(picture(number))
    world.until(lambda: studio.node.answered == 3, 'answers')
    assert not studio.node.finished
    # What an earlier recording left.
    for name in ('annotated.mp4', 'annotated_1.png', 'annotated_12.png', 'annotated_of_mine.png'):
        (tmp_path / name).write_bytes(b'old')
    told = studio.close(0, 3)
    assert (told['video'], told['pictures'], told['detector']) == (None, [], None)
    assert set(told['frames'].values()) == {0}
    assert told['detections_without_image'] == 3
    assert files(tmp_path) == {'summary.json', 'annotated_of_mine.png'}


def test_a_folder_that_vanishes(studio: Studio) -> None:
    image = picture(1)
    studio.camera.send(image)
    studio.detector.answer(image)
    # From here on it makes no more files until the end.
    studio.world.until((studio.folder / '.annotated.mp4.part').exists, 'something is drawn')
    shutil.rmtree(studio.folder)
    studio.world.remove(studio.node)
    assert studio.node.exit_code == 1
    assert not studio.folder.exists()


@pytest.mark.parametrize(
    'parameters, words',
    [
        ({'output': '/proc/nothing'}, "'/proc/nothing' cannot be made"),
        ({'pictures': -1}, 'pictures'),
        ({'image_transport': 'pigeon'}, "'pigeon' is not one of auto, raw, compressed"),
    ],
)
def test_mistakes(world: World, tmp_path: Path, parameters: dict[str, Any], words: str) -> None:
    overrides = {'output': str(tmp_path), **parameters}
    with pytest.raises(PerceptionError) as caught:
        RecorderNode(
            context=world.context,
            parameter_overrides=[Parameter(name, value=v) for name, v in overrides.items()],
        )
    assert words in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_process_finishes_its_files_on_a_signal(
    world: World, tmp_path: Path, number: signal.Signals
) -> None:
    camera, detector = Camera(world), Detector(world)
    folder = tmp_path / 'out'
    process = start('recorder', world.domain_id, *parameters(output=folder))
    camera.until_heard()
    world.until(detector.publisher.get_subscription_count, 'detections are heard')
    for second in range(8):
        detector.answer(picture(second))
        camera.send(picture(second))
    world.until((folder / '.annotated.mp4.part').exists, 'something is drawn')
    process.send_signal(number)
    _, log = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, log
    told = summary(folder)
    frames = told['frames']
    assert frames['received'] == frames['annotated'] + frames['unpaired']
    assert len(read_video(folder / 'annotated.mp4')) == frames['annotated'] > 0
    assert files(folder) == {told['video'], *told['pictures'], 'summary.json'}


# Its parts


def gray(number: int, side: int = 8) -> Frame:
    return Frame.from_array(np.full((side, side, 3), number, np.uint8), stamp=Stamp(number, 5))


@given(st.data())
def test_pairing(data: st.DataObject) -> None:
    """A detector answers some of the frames in their order; the two ways are not in step."""
    count = data.draw(st.integers(0, 12))
    answered = sorted(data.draw(st.sets(st.integers(0, max(0, count - 1)))) if count else [])
    order = data.draw(st.permutations(['frame'] * count + ['answer'] * len(answered)))
    pairing = Pairing()
    frames, answers = iter(range(count)), iter(answered)
    paired = []
    for kind in order:
        if kind == 'frame':
            pair = pairing.frame(gray(next(frames)))
        else:
            number = next(answers)
            pair = pairing.answer(Stamp(number, 5), Found(np.zeros((0, 4)), np.zeros(0), [number]))
        if pair is not None:
            assert pair.frame.stamp == Stamp(pair.found.names[0], 5)
            paired.append(pair.frame.stamp.sec)
    pairing.close()
    assert paired == answered
    assert (pairing.unpaired, pairing.orphans) == (count - len(answered), 0)


def test_pairing_is_bounded() -> None:
    size = gray(0).data.nbytes
    pairing = Pairing(capacity=3 * size, answers=2)
    for number in range(10):
        assert pairing.frame(gray(number)) is None
    assert pairing.unpaired == 7
    for number in (0, 1, 2):
        assert pairing.answer(Stamp(number, 5), NOTHING) is None
    assert pairing.orphans == 1
    assert pairing.answer(Stamp(9, 5), NOTHING) is not None
    pairing.close()
    assert (pairing.unpaired, pairing.orphans) == (9, 3)


def test_pairing_of_equal_stamps() -> None:
    """A camera that does not stamp: the last image is the best guess, and none is forgotten."""
    pairing = Pairing()
    for _ in range(3):
        pairing.frame(gray(4))
    assert pairing.answer(Stamp(4, 5), NOTHING) is not None
    pairing.close()
    assert pairing.unpaired == 2


@given(st.lists(st.integers(0, 9)), st.integers(0, 5))
def test_highlights(objects: list[int], wanted: int) -> None:
    highlights = Highlights(wanted)
    for number, count in enumerate(objects):
        highlights.add(Highlight(count, np.full((1, 1, 3), number % 256, np.uint8)))
    chosen = [int(h.image[0, 0, 0]) for h in highlights.chosen()]
    assert len(chosen) == min(wanted, len(objects))
    assert chosen == sorted(set(chosen))
    if chosen:
        assert max(objects[n] for n in chosen) == max(objects)


def test_highlights_are_spread() -> None:
    highlights = Highlights(4)
    for number in range(1000):
        # The busiest second is at the end; one picture of it is enough.
        count = 50 if number > 980 else number % 10
        highlights.add(Highlight(count, np.full((1, 1), number // 4, np.uint8)))
    places = [int(h.image[0, 0]) * 4 for h in highlights.chosen()]
    assert len(places) == 4
    assert [p // 250 for p in places] == [0, 1, 2, 3]
    assert [h.objects for h in highlights.chosen()] == [9, 9, 9, 50]


def test_recording_drops_what_it_cannot_draw_in_time(tmp_path: Path) -> None:
    recording = Recording(tmp_path, capacity=1)
    taken = sum(recording.add(Pair(gray(n % 200, 640), NOTHING)) for n in range(100))
    recording.close()
    assert not recording.failure
    assert 0 < taken < 100
    assert (recording.annotated, recording.dropped) == (taken, 100 - taken)
    assert len(read_video(tmp_path / 'annotated.mp4')) == taken


def test_recording_of_a_camera_that_changes(tmp_path: Path) -> None:
    """Its size, its encoding, and its clock."""
    recording = Recording(tmp_path, pictures=0)
    gray_frame = Frame.from_array(np.full((37, 51), 200, np.uint8), 'mono8', stamp=Stamp(10))
    large = Frame.from_array(np.full((74, 102, 3), 200, np.uint8), 'rgb8', stamp=Stamp(11))
    back = Frame.from_array(np.full((37, 51, 3), 200, np.uint8), 'bgr8', stamp=Stamp(3))
    for frame in (gray_frame, large, back):
        assert recording.add(Pair(frame, NOTHING))
    recording.close()
    assert not recording.failure
    video = read_video(tmp_path / 'annotated.mp4')
    assert [image.shape for _, image in video] == [(37, 51, 3)] * 3
    assert all(abs(image.mean() - 200) < 4 for _, image in video)
    assert [time for time, _ in video] == pytest.approx([0, 1, 1], abs=1e-3)


@pytest.mark.parametrize('encoder', ENCODERS)
def test_video_with_each_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: str
) -> None:
    monkeypatch.setattr(
        'trt_perception.replay.video_writer.ENCODERS', {'no such': {}, encoder: ENCODERS[encoder]}
    )
    writer = VideoWriter(tmp_path / 'v.mp4')
    for number in range(40):
        image = np.zeros((96, 128, 3), np.uint8)
        image[:, number : number + 20] = (40, 200, 90)
        writer.write(image, 10**18 + number * 33_333_333)
    assert files(tmp_path) == {'.v.mp4.part'}
    writer.close()
    writer.close()
    assert writer.encoder == encoder
    assert files(tmp_path) == {'v.mp4'}
    video = read_video(tmp_path / 'v.mp4')
    assert [time for time, _ in video] == pytest.approx([n / 30 for n in range(40)], abs=1e-4)
    for number, (_, image) in enumerate(video):
        expected = np.zeros((96, 128, 3), np.uint8)
        expected[:, number : number + 20] = (40, 200, 90)
        assert cv2.PSNR(image, expected) > 25


def test_labels_at_the_edges_are_whole() -> None:
    def ink(x: int, y: int) -> int:
        image = np.zeros((240, 320, 3), np.uint8)
        draw_boxes(image, np.array([[x, y, x + 8, y + 8]]), np.array([0.5]), ['motorcycle'])
        return np.count_nonzero(image.any(axis=2))

    # Nearly as much as in the middle: parts of box and label cover each other.
    assert all(ink(*at) > 0.9 * ink(100, 100) for at in ((310, 100), (311, 100), (310, 0)))
