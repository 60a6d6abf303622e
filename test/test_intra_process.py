# SPDX-License-Identifier: Apache-2.0
"""Nodes of one process: frames by reference, and messages for who listens outside, over DDS."""

from __future__ import annotations

import gc
import itertools
import json
import re
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy')

from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray
from world import Camera, Robot, World, classes, jpeg, picture, values

from trt_perception.core import Detections, Frame, FrameError, Selection, Sighting, Stamp
from trt_perception.nodes.detector import DetectorNode
from trt_perception.nodes.overlay import OverlayNode
from trt_perception.ros import detections_output, image_output
from trt_perception.ros.detections_input import DetectionsInput
from trt_perception.ros.detections_output import DetectionsOutput
from trt_perception.ros.image_input import RAW, ImageInput
from trt_perception.ros.image_output import ImageOutput
from trt_perception.ros.images import frame_from_compressed
from trt_perception.ros.intra_process import Place, bus_of, intra_process
from trt_perception.runtime.pipeline import Result, StageTimes

RAW_IMAGE = Place('/image', RAW)


@pytest.fixture
def outside(world: World) -> Iterator[World]:
    """Others in the same domain, who hear by DDS alone: a context is what a process is."""
    other = World(world.domain_id)
    yield other
    other.close()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What messages are made for sending; by the name of what makes them."""
    names: list[str] = []

    def counted(make: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            names.append(make.__name__)
            return make(*args, **kwargs)

        return call

    for module, name in (
        (image_output, 'image_msg'),
        (image_output, 'compressed_msg'),
        (detections_output, 'detection_array_cdr'),
    ):
        monkeypatch.setattr(module, name, counted(getattr(module, name)))
    return names


@pytest.fixture
def idle(world: World) -> Iterator[list[Node]]:
    """Nodes that no executor runs; destroyed after the test, where that did not."""
    nodes: list[Node] = []
    yield nodes
    for node in nodes:
        node.destroy_node()


def active_detector(world: World, idle: list[Node], model: Path) -> DetectorNode:
    """A detector that takes images, without an executor."""
    overrides = [Parameter('model', value=str(model)), Parameter('autostart', value=False)]
    detector = DetectorNode(context=world.context, parameter_overrides=overrides)
    idle.append(detector)
    detector.trigger_configure()
    detector.trigger_activate()
    return detector


def active_overlay(world: World, idle: list[Node]) -> OverlayNode:
    """An overlay that draws, without an executor."""
    overlay = OverlayNode(context=world.context)
    idle.append(overlay)
    overlay.trigger_configure()
    overlay.trigger_activate()
    return overlay


class Source:
    """A camera in the world's process."""

    def __init__(self, world: World, topic: str = 'image', **options: Any) -> None:
        self.node = Node(f'camera_{id(self)}', context=world.context)
        self.output = ImageOutput(self.node, topic, **options)
        world.add(self.node)

    def send(self, number: int) -> np.ndarray:
        """A 64x64 image whose stamp is its number; its pixels."""
        pixels = np.full((64, 64, 3), number % 256, np.uint8)
        self.output.send(Frame.from_array(pixels, stamp=Stamp(number, 5), frame_id='front'))
        return pixels


class Sink:
    """A reader of images in the world's process."""

    def __init__(self, world: World, *ros_args: str, **options: Any) -> None:
        self.world = world
        self.frames: list[Frame] = []
        self.threads: set[threading.Thread] = set()
        self.errors: list[FrameError] = []
        cli_args = ['--ros-args', *ros_args]
        self.node = Node(f'sink_{id(self)}', context=world.context, cli_args=cli_args)
        self.images = ImageInput(self.node, self._take, self.errors.append, **options)
        self.images.start()
        world.add(self.node)

    def until_from(self, what: str) -> Sink:
        self.world.until(lambda: str(self.images.source) == what, f'source is {what}')
        return self

    def numbers(self) -> list[int]:
        return [frame.stamp.sec for frame in self.frames]

    def _take(self, frame: Frame) -> None:
        self.threads.add(threading.current_thread())
        self.frames.append(frame)


def address(array: np.ndarray) -> int:
    return int(array.__array_interface__['data'][0])


def test_by_reference_and_on_the_topic_only_while_somebody_outside_listens(
    world: World, outside: World, made: list[str]
) -> None:
    source, sink = Source(world), Sink(world)
    sink.until_from('/image (in this process)')
    assert sink.images.problem() == ''
    pixels = source.send(1)
    (frame,) = sink.frames
    # The very bytes, read-only; the header as it was.
    assert address(frame.data) == address(frame.pixels()) == address(pixels)
    assert (frame.stamp, frame.frame_id, frame.source) == (Stamp(1, 5), 'front', '/image')
    assert pixels.flags.writeable
    with pytest.raises(ValueError, match='read-only'):
        frame.pixels()[0, 0, 0] = 1
    # On the camera's own thread, and kept by nobody else.
    assert sink.threads == {threading.current_thread()}
    dead = weakref.ref(frame)
    held = sys.getrefcount(pixels)
    del frame
    sink.frames.clear()
    assert dead() is None and sys.getrefcount(pixels) < held
    # Nothing is subscribed to, and no message was made.
    assert (world.node.count_publishers('image'), world.node.count_subscribers('image')) == (1, 0)
    assert (source.output.subscribers, made) == (1, [])
    # Somebody outside begins to listen, and ends.
    heard = outside.subscribe(Image, 'image')
    world.until(lambda: source.output.subscribers == 2, 'the listener')
    source.send(2)
    outside.until(lambda: heard, 'an image')
    header = heard[0].header
    assert (header.stamp.sec, header.stamp.nanosec, header.frame_id) == (2, 5, 'front')
    assert heard[0].data.tobytes() == bytes([2]) * (64 * 64 * 3)
    assert (sink.numbers(), made) == ([2], ['image_msg'])
    outside.node.destroy_subscription(next(iter(outside.node.subscriptions)))
    world.until(lambda: source.output.subscribers == 1, 'nobody listens')
    source.send(3)
    assert (sink.numbers(), made) == ([2, 3], ['image_msg'])
    # Who is closed hears and sends no more.
    source.output.close()
    source.output.close()
    source.send(4)
    assert (sink.numbers(), source.output.subscribers, made) == ([2, 3], 0, ['image_msg'])
    world.until(lambda: 'nobody publishes /image' in sink.images.problem(), 'the end')
    sink.images.close()


def test_it_goes_over_to_a_camera_in_this_process_and_back(world: World, outside: World) -> None:
    sink = Sink(world)
    world.until(lambda: 'nobody publishes /image' in sink.images.problem(), 'nobody')
    camera = Camera(outside)
    sink.until_from('/image (Image, reliable)')
    camera.until_heard().send(picture(1))
    world.until(lambda: sink.numbers() == [1], 'from outside')
    # None is missed and none comes twice, though the subscription is there for a moment more.
    source = Source(world)
    for number in range(2, 50):
        source.send(number)
    assert sink.numbers() == list(range(1, 50))
    sink.until_from('/image (in this process)')
    world.until(lambda: not camera.publisher.get_subscription_count(), 'unsubscribed')
    camera.send(picture(50))
    source.send(51)
    world.remove(source.node)
    source.output.close()
    sink.until_from('/image (Image, reliable)')
    camera.until_heard().send(picture(52))
    world.until(lambda: sink.numbers()[-1] == 52, 'from outside again')
    assert sink.numbers() == [*range(1, 50), 51, 52]
    # What is stopped takes nothing, from either side, and can be started again.
    sink.images.stop()
    late = Source(world)
    late.send(53)
    sink.images.start()
    late.send(54)
    assert sink.numbers()[-2:] == [52, 54]


def test_compressed_images_keep_their_topic(world: World, made: list[str]) -> None:
    auto, raw = Sink(world), Sink(world, transport='raw')
    remapped = Sink(world, '-r', 'image:=/image/compressed')
    source = Source(world, compressed=True)
    frame = frame_from_compressed(jpeg())
    source.output.send(frame)
    (taken,) = auto.frames
    assert (address(taken.data), taken.encoding) == (address(frame.data), 'jpeg')
    assert [f.encoding for f in remapped.frames] == ['jpeg']
    auto.until_from('/image/compressed (in this process)')
    world.until(lambda: 'image_transport is raw' in raw.images.problem(), 'a problem')
    assert (raw.frames, made) == ([], [])
    with pytest.raises(FrameError, match='bgr8 frame for compressed /image/compressed'):
        source.send(2)
    # Raw comes first, as it does from outside.
    better = Source(world)
    source.output.send(frame)
    better.send(3)
    assert [f.encoding for f in auto.frames] == ['jpeg', 'bgr8']
    assert raw.numbers() == [3]


def test_a_reader_that_fails_hurts_nobody(world: World) -> None:
    log = world.log()

    def fail(frame: Frame) -> None:
        raise RuntimeError('clumsy')

    node = Node('clumsy', context=world.context)
    images = ImageInput(node, fail, print)
    images.start()
    sink, source = Sink(world), Source(world)
    for number in range(3):
        source.send(number)
    assert sink.numbers() == [0, 1, 2]
    world.until(lambda: log, 'a word of it')
    said = [m.msg for m in log if m.name == 'clumsy' and m.level == 40]
    assert said == ['image not taken: RuntimeError: clumsy']
    images.close()
    node.destroy_node()


def test_off_for_one_component(world: World) -> None:
    """Decided where it is made, also for what it makes later."""
    with intra_process(False):
        apart = Sink(world)
        plain = Node('plain', context=world.context)
        assert bus_of(plain) is None
    assert bus_of(plain) is None
    together = Sink(world)
    assert bus_of(together.node) is bus_of(world.node) is not None
    source = Source(world)
    apart.until_from('/image (Image, reliable)')
    together.until_from('/image (in this process)')
    world.until(lambda: source.output.subscribers == 2, 'one here, one over DDS')
    pixels = source.send(1)
    world.until(lambda: apart.frames, 'over DDS')
    assert address(apart.frames[0].data) != address(pixels)
    assert address(together.frames[0].data) == address(pixels)
    # The other way round: it sends to nobody by reference.
    with intra_process(False):
        other = Source(world, 'other')
    reader = Sink(world, '-r', 'image:=other')
    reader.until_from('/other (Image, reliable)')
    assert not bus_of(world.node).sends(Place('/other', RAW))
    plain.destroy_node()
    other.output.close()


def test_contexts_keep_apart(world: World, other_domain_id: int) -> None:
    other = World(other_domain_id)
    try:
        here, there = Sink(world), Sink(other)
        source = Source(world)
        source.send(1)
        assert (here.numbers(), there.numbers()) == ([1], [])
        assert bus_of(here.node) is not bus_of(there.node)
    finally:
        other.close()
    ref = weakref.ref(bus_of(other.node))
    del there, other
    gc.collect()
    assert ref() is None


# Detections


def found(number: int = 1) -> Sighting:
    boxes = np.array([[8.25, 16, 40, 32.5]] * number, np.float32).reshape(-1, 4)
    scores, ids = np.full(number, 0.75, np.float32), np.arange(number, dtype=np.int32) + 1
    return Sighting(Stamp(7, 8), 'front', Detections(boxes, scores, ids), ('car', 'person'))


def test_detections_by_reference_or_by_message_are_the_same(
    world: World, outside: World, made: list[str]
) -> None:
    near: list[Sighting] = []
    far: list[Sighting] = []
    inputs = []
    for place, seen in ((world, near), (outside, far)):
        node = Node('tracker', context=place.context)
        inputs.append(DetectionsInput(node, seen.append))
        inputs[-1].start()
        place.add(node)
    world.until(lambda: 'nobody publishes /detections' in inputs[1].problem(), 'nobody')
    node = Node('detector', context=world.context)
    output = DetectionsOutput(node)
    world.add(node)
    # The one here subscribed too, while there was no detector here.
    world.until(lambda: inputs[0]._subscription is None, 'it does not any more')
    world.until(lambda: output.subscribers == 2, 'one here, one outside')
    for number in (3, 0):
        sent = found(number)
        output.send(sent)
        assert near[-1] is sent
        world.until(lambda: far and len(far[-1].detections) == number, 'by message')  # noqa: B023
        got = far.pop()
        assert got[:2] == sent[:2]
        assert got.names == sent.names == ['person', '2', '3'][:number]
        for name in ('boxes', 'scores'):
            here, there = getattr(sent.detections, name), getattr(got.detections, name)
            np.testing.assert_array_equal(here, there)
            assert there.dtype == here.dtype == np.float32
            assert not here.flags.writeable
    assert made == ['detection_array_cdr'] * 2
    assert inputs[0].problem() == inputs[1].problem() == ''
    # Nobody outside: no message.
    inputs[1].close()
    world.until(lambda: output.subscribers == 1, 'one here')
    output.send(found())
    assert (len(near), len(made)) == (3, 2)
    # The detector ends; another one outside is heard.
    world.remove(node)
    output.close()
    publisher = outside.node.create_publisher(Detection2DArray, 'detections', 10)
    outside.until(publisher.get_subscription_count, 'subscribed to')
    publisher.publish(Detection2DArray())
    world.until(lambda: len(near) == 4, 'from outside')
    inputs[0].close()


# The whole graph


class Watched:
    """A pipeline that keeps the addresses of what it was given, and finds one car in it."""

    def __init__(self) -> None:
        self.addresses: list[int] = []

    def __call__(self, frame: Frame, selection: Selection) -> Result:
        self.addresses.append(address(frame.data))
        return Result(found().detections, StageTimes(1, 2, 3))

    def close(self) -> None:
        pass


def test_camera_detector_overlay_without_an_executor(
    world: World, idle: list[Node], two: Path, made: list[str]
) -> None:
    """Nothing of a frame's way waits for, or wakes, an executor: none runs for these nodes."""
    camera = Node('camera', context=world.context)
    idle.append(camera)
    output = ImageOutput(camera)
    detector = active_detector(world, idle, two)
    active_overlay(world, idle)
    assert detector._detection is not None
    pipeline = Watched()
    detector._detection._worker.run_on('gpu', pipeline)
    bus = bus_of(camera)
    assert bus is not None
    drawn: list[Frame] = []
    answers: list[Sighting] = []
    readers = [
        bus.reader(Place('/annotated', RAW), drawn.append),
        bus.reader(Place('/detections', detections_output.DETECTIONS), answers.append),
    ]
    for number in range(1, 21):
        pixels = np.zeros((64, 64, 3), np.uint8)
        frame = Frame.from_array(pixels, stamp=Stamp(number), frame_id='front')
        output.send(frame)
        world.until(lambda: len(drawn) == number, 'drawn')  # noqa: B023
        assert pipeline.addresses[-1] == address(pixels)
        assert not pixels.any() and drawn[-1].pixels().any()  # it drew on a copy of its own
        assert drawn[-1].stamp == answers[-1].stamp == Stamp(number)
        assert drawn[-1].frame_id == answers[-1].frame_id == 'front'
    assert made == []
    counts = detector._monitors[''].values()
    assert (counts['received'], counts['published'], counts['lost']) == (20, 20, 0)
    assert world.node.count_subscribers('image') == world.node.count_subscribers('detections') == 0
    # Nobody keeps the last frame: not the bus, not the detector, not the overlay.
    dead = weakref.ref(pixels)
    del pixels, frame
    world.until(lambda: dead() is None, 'the last frame is let go')
    for reader in readers:
        reader.close()


def test_diagnostics_and_counts_of_a_detector(world: World, outside: World, two: Path) -> None:
    robot = Robot(world, two, score_threshold=0.7).until_active()
    assert robot.status().message.startswith('nobody publishes /image')
    source = Source(world)
    robot.until_says(lambda s: values(s)['images'] == '/image (in this process)')
    for number in range(1, 11):
        source.send(number)
        world.until(lambda: len(robot.detections) == number, 'an answer')  # noqa: B023
    assert [m.header.stamp.sec for m in robot.detections] == list(range(1, 11))
    assert classes(robot.detections[-1]) == ['car']
    counts = robot.until_counted(received=10)
    assert (counts['published'], counts['dropped'], counts['lost']) == (10, 0, 0)
    assert robot.change('deactivate')
    source.send(11)
    assert source.output.subscribers == 0
    assert robot.change('activate')
    source.send(12)
    world.until(lambda: len(robot.detections) == 11, 'an answer')
    assert robot.detections[-1].header.stamp.sec == 12
    assert robot.until_counted(received=11)['published'] == 11
    world.remove(source.node)
    source.output.close()
    robot.until_says(lambda s: s.message.startswith('nobody publishes /image'))
    # An overlay somewhere else gets both by message.
    camera = Camera(outside)
    overlay = OverlayNode(context=outside.context)
    outside.add(overlay)
    annotated = outside.subscribe(Image, 'annotated')
    outside.until(lambda: overlay._wiring and overlay._wiring.output.subscribers, 'somebody looks')
    outside.until(lambda: camera.publisher.get_subscription_count() == 2, 'both subscribe')
    outside.until(lambda: overlay.count_publishers('detections'), 'the detector is known')
    camera.send(picture(20, color=(9, 9, 9)))
    outside.until(lambda: annotated, 'an annotated image')
    (image,) = annotated
    assert (image.header.stamp.sec, image.header.frame_id) == (20, 'camera_optical')
    pixels = np.frombuffer(image.data, np.uint8).reshape(64, 64, 3)
    assert (pixels[60, 60] == 9).all() and pixels[30, 8].max() > 100  # the box's left side


@pytest.mark.parametrize('order', list(itertools.permutations(range(3))))
def test_nodes_end_in_any_order_under_fire(
    world: World, idle: list[Node], two: Path, order: tuple[int, ...]
) -> None:
    camera = Node('camera', context=world.context)
    output = ImageOutput(camera)
    detector = active_detector(world, idle, two)
    overlay = active_overlay(world, idle)
    idle.append(camera)
    frames: list[weakref.ref[np.ndarray]] = []
    failures: list[BaseException] = []
    over = threading.Event()

    def send(output: ImageOutput) -> None:
        try:
            while not over.is_set():
                pixels = np.zeros((64, 64, 3), np.uint8)
                frames.append(weakref.ref(pixels))
                output.send(Frame.from_array(pixels, stamp=Stamp(len(frames))))
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=send, args=(output,))
    thread.start()
    try:
        counts = overlay._counts
        world.until(lambda: counts['answered'] > 3, 'frames pass')
        for number in order:
            if number == 2:
                output.close()
            sent = len(frames)
            idle[number].destroy_node()
            world.until(lambda: len(frames) > sent + 10, 'the camera goes on')  # noqa: B023
    finally:
        over.set()
        thread.join()
    assert failures == []
    counts = detector._monitors[''].values()
    fates = ('published', 'dropped', 'discarded', 'failed', 'rejected', 'limited', 'unserved')
    assert counts['received'] == sum(counts[fate] for fate in fates)
    assert (counts['failed'], counts['rejected']) == (0, 0)
    idle.clear()
    del camera, output, detector, overlay, thread
    gc.collect()
    assert [ref for ref in frames if ref() is not None] == []


def test_a_recording_by_reference(world: World, two: Path, tmp_path: Path, made: list[str]) -> None:
    """Player, detector and recorder of one process: each image once, and no message of them."""
    pytest.importorskip('av')
    from trt_perception.nodes.player import PlayerNode
    from trt_perception.nodes.recorder import RecorderNode

    folder = tmp_path / 'pictures'
    folder.mkdir()
    for number in range(12):
        cv2.imwrite(str(folder / f'{number}.jpg'), np.full((48, 64, 3), 20 * number, np.uint8))
    robot = Robot(world, two).until_active()
    recorder = RecorderNode(
        context=world.context,
        parameter_overrides=[
            Parameter('output', value=str(tmp_path / 'out')),
            Parameter('idle_timeout', value=0.0),
        ],
    )
    world.add(recorder)
    given = {'input': str(folder), 'rate': 50.0, 'wait_for_subscribers': 2}
    player = PlayerNode(
        context=world.context,
        parameter_overrides=[Parameter(name, value=value) for name, value in given.items()],
    )
    world.add(player)
    world.until(lambda: player.finished, 'all is played')
    counts = robot.until_counted(received=12)
    answered = counts['published']
    world.until(lambda: recorder.answered == answered, 'all answers')
    world.remove(recorder)
    frames = json.loads((tmp_path / 'out' / 'summary.json').read_text())['frames']
    assert (frames['received'], frames['annotated'], frames['unpaired']) == (
        12,
        answered,
        12 - answered,
    )
    # The observer subscribes to the detections, and nobody to the images.
    assert made == ['detection_array_cdr'] * answered
    assert player.published == 12 and answered > 0


def test_the_node_of_the_documentation(world: World, idle: list[Node]) -> None:
    text = (Path(__file__).parents[1] / 'docs' / 'frame_bus.md').read_text(encoding='utf-8')
    (code,) = re.findall('```python\n(.*?)```', text, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    source = Source(world)
    idle.append(names['Flip'](context=world.context))
    sink = Sink(world, '-r', 'image:=flipped')
    pixels = np.arange(8 * 6 * 3, dtype=np.uint8).reshape(8, 6, 3)
    source.output.send(Frame.from_array(pixels, 'rgb8', stamp=Stamp(3)))
    (frame,) = sink.frames
    assert (frame.encoding, frame.stamp) == ('rgb8', Stamp(3))
    np.testing.assert_array_equal(frame.pixels(), pixels[::-1])
