# SPDX-License-Identifier: Apache-2.0
"""The detector node over real DDS, with networks whose answer is known."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from models import color_detector, constant_detector, ultralytics_metadata

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String
from vision_msgs.msg import LabelInfo, VisionInfo
from world import BEST_EFFORT, RELIABLE, Camera, Robot, World, picture, values

from trt_perception.core import Frame, Stamp
from trt_perception.ros.images import compressed_msg, image_msg
from trt_perception.runtime.gate_result import METADATA_KEY, GateResult

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A detector that sees a car and, less sure, a person in every image; 64x64."""
    return constant_detector(
        tmp_path / 'two.onnx', [[8, 16, 40, 32], [4, 4, 12, 60]], [0.9, 0.6], [0, 1]
    )


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """The same car, after some seconds of thinking."""
    return constant_detector(tmp_path / 'slow.onnx', work=300)


def inference_threads() -> int:
    return sum(t.name == 'inference' for t in threading.enumerate())


def classes(message) -> list[str]:
    return [d.results[0].hypothesis.class_id for d in message.detections]


def all_is_well(robot: Robot) -> None:
    """Wait for it to say so of its first answer."""
    robot.until_says(
        lambda s: values(s)['published'] == '1' and s.level == DiagnosticStatus.OK, 'all is well'
    )


# The message


def test_the_message(world: World, two: Path) -> None:
    robot = Robot(world, two)
    camera = Camera(world).until_heard()
    image = picture(7, width=128, height=64)
    answer = robot.answer(camera, image)
    assert answer.header == image.header
    assert [d.header for d in answer.detections] == [image.header] * 2
    car, person = answer.detections
    # Twice the network's size, and 16 of its rows of padding above.
    center = car.bbox.center.position
    assert (center.x, center.y, car.bbox.center.theta) == (48.0, 16.0, 0.0)
    assert (car.bbox.size_x, car.bbox.size_y) == (64.0, 32.0)
    assert car.results[0].hypothesis.score == pytest.approx(0.9)
    assert classes(answer) == ['car', 'person']
    # Clipped to the image.
    center = person.bbox.center.position
    assert (center.x, center.y) == (16.0, 32.0)
    assert (person.bbox.size_x, person.bbox.size_y) == (16.0, 64.0)


def test_nothing_seen_is_an_empty_array(world: World, two: Path) -> None:
    robot = Robot(world, two, score_threshold=0.95)
    answer = robot.answer(Camera(world).until_heard(), picture(3))
    assert answer.header == picture(3).header
    assert not answer.detections


def test_class_numbers(world: World, two: Path) -> None:
    robot = Robot(world, two, class_id_format='index')
    assert classes(robot.answer(Camera(world).until_heard(), picture())) == ['0', '1']


def test_one_output_for_each_image(world: World, two: Path) -> None:
    robot = Robot(world, two)
    camera = Camera(world).until_heard()
    for number in range(20):
        robot.answer(camera, picture(number))
    assert [d.header.stamp.sec for d in robot.detections] == list(range(20))
    counts = robot.until_counted(received=20)
    assert counts['published'] == 20


# Images of all kinds


def encoded(encoding: str, color: tuple[int, int, int], width: int, height: int) -> np.ndarray:
    """Rows of bytes of an image of one colour."""
    rgb = np.full((height, width, 3), color, np.uint8)
    yuv = cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV)
    y, u, v = (int(yuv[0, 0, k]) for k in range(3))
    luma = 16 + round(y * 219 / 255)  # what OpenCV reads is limited range
    u, v = (128 + round((c - 128) * 224 / 255) for c in (u, v))
    pixel = {
        'rgb8': color,
        'bgr8': color[::-1],
        'rgba8': (*color, 9),
        'bgra8': (*color[::-1], 9),
    }.get(encoding)
    if pixel:
        return np.tile(np.array(pixel, np.uint8), (height, width))
    if encoding.startswith('bayer'):
        rows = np.zeros((height, width), np.uint8)
        for k, letter in enumerate(encoding[6:10]):
            rows[k // 2 :: 2, k % 2 :: 2] = color['rgb'.index(letter)]
        return rows
    pairs = {'yuv422': (u, luma, v, luma), 'yuv422_yuy2': (luma, u, luma, v)}.get(encoding)
    if pairs:
        return np.tile(np.array(pairs, np.uint8), (height, width // 2))
    chroma = (u, v) if encoding == 'nv12' else (v, u)
    below = np.tile(np.array(chroma, np.uint8), (height // 2, width // 2))
    return np.vstack((np.full((height, width), luma, np.uint8), below))


COLORED = [
    'rgb8', 'bgr8', 'rgba8', 'bgra8', 'yuv422', 'yuv422_yuy2', 'nv12', 'nv21',
    'bayer_rggb8', 'bayer_bggr8', 'bayer_gbrg8', 'bayer_grbg8',
]  # fmt: skip


def test_every_encoding_with_padded_rows(world: World, tmp_path: Path) -> None:
    robot = Robot(world, color_detector(tmp_path / 'm.onnx'), score_threshold=0.5)
    camera = Camera(world).until_heard()
    for encoding in COLORED:
        for name, color in (('red', RED), ('green', GREEN), ('blue', BLUE)):
            rows = encoded(encoding, color, 64, 48)
            padded = np.hstack((rows, np.full((len(rows), 5), 200, np.uint8)))
            frame = Frame.checked(padded.reshape(-1), 64, 48, encoding, padded.shape[1])
            assert classes(robot.answer(camera, image_msg(frame))) == [name], encoding
    for encoding, white in (('mono8', np.uint8(255)), ('mono16', np.uint16(65535))):
        rows = np.full((48, 64), white).view(np.uint8)
        frame = Frame.checked(rows.reshape(-1), 64, 48, encoding, rows.shape[1])
        found = robot.answer(camera, image_msg(frame))
        assert sorted(classes(found)) == ['blue', 'green', 'red']


def jpeg(color: tuple[int, int, int], extension: str = '.jpg') -> CompressedImage:
    _, data = cv2.imencode(extension, np.full((48, 64, 3), color[::-1], np.uint8))
    return compressed_msg(Frame.from_compressed(data.reshape(-1), stamp=Stamp(5, 6)))


@pytest.mark.parametrize('topic', ['image', 'image/compressed'])
@pytest.mark.parametrize('transport', ['auto', 'compressed'])
def test_compressed_images(world: World, tmp_path: Path, topic: str, transport: str) -> None:
    model = color_detector(tmp_path / 'm.onnx')
    robot = Robot(world, model, score_threshold=0.5, image_transport=transport)
    camera = Camera(world, topic, CompressedImage).until_heard()
    for name, color in (('red', RED), ('green', GREEN), ('blue', BLUE)):
        for extension in ('.jpg', '.png'):
            answer = robot.answer(camera, jpeg(color, extension))
            assert classes(answer) == [name]
            assert answer.header.stamp.sec == 5


def test_bad_images_are_counted_and_the_next_good_one_works(world: World, two: Path) -> None:
    robot = Robot(world, two, image_depth=100)
    robot.node._monitor._errors._period = float('inf')  # seconds; a busy machine takes some
    log = world.log()
    camera = Camera(world).until_heard()
    bad = []
    for change in (
        {'width': 0},
        {'height': 0, 'step': 0},
        {'step': 100},
        {'data': picture().data[:100]},
        {'encoding': '8UC7'},
        {'is_bigendian': 1},
        {'encoding': 'nv12', 'width': 63},
    ):
        image = picture()
        for field, value in change.items():
            setattr(image, field, value)
        bad.append(image)
    for image in bad * 3:
        camera.send(image)
    assert len(robot.answer(camera, picture(1)).detections) == 2
    counts = robot.until_counted(received=22)
    assert (counts['rejected'], counts['published']) == (21, 1)
    causes = {k.removeprefix('rejected '): v for k, v in counts.items() if 'rejected ' in k}
    assert causes == {
        'empty': 6, 'step': 3, 'truncated': 3, 'encoding': 3, 'big_endian': 3, 'odd_size': 3,
    }  # fmt: skip
    # Said once for each reason, not 21 times. What comes last shows that all has come.
    robot.node.get_logger().info('that was all')
    world.until(lambda: any(m.msg == 'that was all' for m in log))
    said = [m.msg for m in log if m.level == 40]
    assert len(said) == len(causes)
    assert any("encoding '8UC7' is not one of rgb8" in text for text in said)


def test_a_bad_picture_in_diagnostics(world: World, two: Path) -> None:
    robot = Robot(world, two)
    camera = Camera(world, 'image/compressed', CompressedImage).until_heard()
    broken = jpeg(RED)
    broken.data = broken.data[:-200]
    camera.send(broken)
    status = robot.until_says(lambda s: s.level == DiagnosticStatus.ERROR)
    assert status.message.startswith('image not used: JPEG of')
    # And is forgotten once it is over.
    robot.answer(camera, jpeg(RED))
    all_is_well(robot)


# Latest only


def test_services_answer_during_a_long_inference(world: World, slow: Path) -> None:
    robot = Robot(world, slow, image_depth=100)
    camera = Camera(world).until_heard()
    received = robot.node._monitor.values
    camera.send(picture(0))
    world.until(lambda: received()['received'] == 1, 'the first image')
    world.until(lambda: robot.node._stream._worker._waiting is None, 'it is being looked at')
    for number in range(1, 10):
        camera.send(picture(number))
    world.until(lambda: received()['received'] == 10, 'images')
    assert robot.state() == 'active'
    assert robot.set(score_threshold=0.3) == ''
    assert robot.set(classes=['dog']) != ''
    # All of that while the first image was still being looked at.
    assert received()['published'] == 0
    world.until(lambda: len(robot.detections) == 2, 'two detections')
    assert [d.header.stamp.sec for d in robot.detections] == [0, 9]
    counts = robot.until_counted(received=10)
    assert (counts['published'], counts['dropped']) == (2, 8)


def test_deactivating_during_a_long_inference(world: World, slow: Path) -> None:
    robot = Robot(world, slow)
    camera = Camera(world).until_heard()
    camera.send(picture(0))
    world.until(lambda: robot.node._monitor.values()['received'] == 1, 'image')
    assert robot.change('deactivate')
    assert robot.change('cleanup')
    assert robot.state() == 'unconfigured'
    assert robot.change('configure') and robot.change('activate')
    camera.until_heard()
    assert robot.answer(camera, picture(1)).header.stamp.sec == 1
    assert len(robot.detections) == 1
    counts = robot.until_counted(received=2)
    assert (counts['published'], counts['discarded']) == (1, 1)


# Parameters


def test_parameters_change_while_running(world: World, two: Path) -> None:
    robot = Robot(world, two)
    camera = Camera(world).until_heard()
    latched = world.subscribe(LabelInfo, 'label_info', LATCHED)
    assert robot.set(score_threshold=0.7) == ''
    assert classes(robot.answer(camera, picture())) == ['car']
    world.until(lambda: latched and latched[-1].threshold == pytest.approx(0.7))
    assert robot.set(score_threshold=0.1, classes=['person']) == ''
    assert classes(robot.answer(camera, picture())) == ['person']
    assert robot.set(classes=['0']) == ''
    assert classes(robot.answer(camera, picture())) == ['car']
    assert robot.set(classes=['*'], max_detections=1) == ''
    assert classes(robot.answer(camera, picture())) == ['car']
    assert robot.set(max_detections=9, region_of_interest=[64, 64, 64, 64]) == ''
    answer = robot.answer(camera, picture(0, 128, 128))
    assert answer.detections[0].bbox.center.position.x == 64 + 24


@pytest.mark.parametrize(
    ('wrong', 'reason'),
    [
        ({'classes': ['car', 'tractor']}, "no class 'tractor', it has car, person"),
        ({'classes': ['7']}, "no class '7'"),
        ({'score_threshold': 1.5}, 'score_threshold'),
        ({'score_threshold': 'high'}, 'Wrong parameter type'),  # rclpy's own words
        ({'max_detections': 0}, 'max_detections'),
        ({'max_rate': -1.0}, 'max_rate'),
        ({'region_of_interest': [0, 0, 5]}, 'region_of_interest: [0, 0, 5] is not x, y'),
        ({'region_of_interest': [0, 0, 5, -5]}, 'is not x, y, width, height'),
        ({'backend': 'cuda'}, "'cuda' is not one of auto, onnxruntime, tensorrt"),
        ({'image_transport': 'theora'}, 'auto, raw, compressed'),
    ],
)
def test_wrong_parameters_are_refused_whole(
    world: World, two: Path, wrong: dict[str, object], reason: str
) -> None:
    robot = Robot(world, two)
    camera = Camera(world).until_heard()
    assert reason in robot.set(nms_threshold=0.5, **wrong)
    assert robot.get('nms_threshold') == 0.7
    assert reason in robot.set(**wrong, nms_threshold=0.5)
    assert robot.get('nms_threshold') == 0.7
    assert classes(robot.answer(camera, picture())) == ['car', 'person']


def test_rate_limit(world: World, two: Path) -> None:
    robot = Robot(world, two, max_rate=0.001)
    camera = Camera(world).until_heard()
    robot.answer(camera, picture(0))
    for number in range(1, 6):
        camera.send(picture(number))
    assert robot.until_counted(received=6)['limited'] == 5
    assert robot.set(max_rate=0.0) == ''
    robot.answer(camera, picture(6))


def test_a_region_that_no_image_has(world: World, two: Path) -> None:
    robot = Robot(world, two, region_of_interest=[500, 0, 10, 10])
    camera = Camera(world).until_heard()
    camera.send(picture())
    assert robot.until_counted(received=1)['rejected region'] == 1
    assert robot.set(region_of_interest=[0, 0, 0, 0]) == ''
    robot.answer(camera, picture())


# Lifecycle


def test_the_whole_lifecycle(world: World, two: Path) -> None:
    robot = Robot(world, two, autostart=False)
    assert robot.state() == 'unconfigured'
    assert not robot.change('activate')
    assert inference_threads() == 0
    for number in range(2):
        assert robot.change('configure')
        assert robot.state() == 'inactive'
        assert robot.node.count_subscribers('image') == 0
        assert robot.change('activate')
        camera = Camera(world).until_heard()
        robot.answer(camera, picture(number))
        assert robot.change('deactivate')
        world.until(lambda: world.node.count_subscribers('image') == 0)
        assert robot.change('cleanup')
        assert robot.state() == 'unconfigured'
        world.until(lambda: inference_threads() == 0, 'the model is freed')
        camera.close()
    assert robot.change('shutdown')
    assert robot.state() == 'finalized'


def test_another_model_by_configuring_again(world: World, two: Path, tmp_path: Path) -> None:
    robot = Robot(world, two)
    camera = Camera(world).until_heard()
    assert classes(robot.answer(camera, picture())) == ['car', 'person']
    other = constant_detector(tmp_path / 'other.onnx', classes=['tree'], boxes=[[0, 0, 9, 9]])
    assert robot.set(model=str(other)) == ''
    # Not before it is configured.
    assert classes(robot.answer(camera, picture())) == ['car', 'person']
    info = world.subscribe(VisionInfo, 'vision_info', LATCHED)
    world.until(lambda: info)
    assert all(robot.change(c) for c in ('deactivate', 'cleanup', 'configure', 'activate'))
    camera.until_heard()
    assert classes(robot.answer(camera, picture())) == ['tree']
    world.until(lambda: len(info) == 2)
    assert [i.database_version for i in info] == [1, 2]
    assert info[1].method.startswith('other.onnx, yolov8, ONNX Runtime')
    assert info[1].database_location == '/label_info'


def test_a_model_that_is_not_there(world: World, two: Path, tmp_path: Path) -> None:
    robot = Robot(world, tmp_path / 'absent.onnx')
    world.until(lambda: robot.status().level == DiagnosticStatus.ERROR)
    assert 'absent.onnx' in robot.status().message
    assert robot.state() == 'unconfigured'
    for where, words in (('~nobody-at-all/m', 'home folder'), ('m' * 300, 'File name too long')):
        assert robot.set(model=where) == ''
        assert not robot.change('configure')
        world.until(lambda w=words: w in robot.status().message)
    assert robot.set(model='') == ''
    assert not robot.change('configure')
    world.until(lambda: 'model is empty' in robot.status().message)
    assert robot.set(model=str(two), classes=['boat']) == ''
    assert not robot.change('configure')
    world.until(lambda: "no class 'boat'" in robot.status().message)
    assert inference_threads() == 0
    assert robot.set(classes=['*']) == ''
    assert robot.change('configure') and robot.change('activate')
    robot.answer(Camera(world).until_heard(), picture())
    all_is_well(robot)


def test_an_error_in_a_transition(world: World, two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong, the node can be configured again."""
    robot = Robot(world, two, autostart=False)

    def break_down(*args: object, **kwargs: object) -> None:
        raise RuntimeError('out of luck')

    with monkeypatch.context() as patch:
        patch.setattr('trt_perception.build.engine.serving.open_pipeline', break_down)
        assert not robot.change('configure')
    world.until(lambda: robot.status().level == DiagnosticStatus.ERROR)
    assert robot.status().message == 'on_configure failed: RuntimeError: out of luck'
    assert robot.state() == 'unconfigured'
    assert robot.change('configure')
    with monkeypatch.context() as patch:
        patch.setattr('trt_perception.nodes.stream.DetectionStream.start', break_down)
        assert not robot.change('activate')
    assert robot.state() == 'unconfigured'
    world.until(lambda: inference_threads() == 0, 'the model is freed')
    assert robot.change('configure') and robot.change('activate')
    robot.answer(Camera(world).until_heard(), picture())


def test_an_inference_that_fails(world: World, two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    robot = Robot(world, two)
    camera = Camera(world).until_heard()
    with monkeypatch.context() as patch:
        patch.setattr(
            'trt_perception.runtime.host.onnx_runtime.OnnxRuntimeEngine.infer',
            lambda self, inputs: 1 / 0,
        )
        camera.send(picture())
        status = robot.until_says(lambda s: s.level == DiagnosticStatus.ERROR)
    assert status.message == 'inference failed: division by zero'
    robot.answer(camera, picture())
    assert robot.until_counted(received=2)['failed'] == 1


# Beside the detections


def test_latched_labels(world: World, tmp_path: Path) -> None:
    names = ('car', 'person', 'café')
    model = constant_detector(tmp_path / 'm.onnx', classes=names)
    robot = Robot(world, model, score_threshold=0.5)
    robot.until_active()
    # Who comes late still gets them.
    labels = world.subscribe(LabelInfo, 'label_info', LATCHED)
    vision = world.subscribe(VisionInfo, 'vision_info', LATCHED)
    world.until(lambda: labels and vision)
    assert [(c.class_id, c.class_name) for c in labels[0].class_map] == list(enumerate(names))
    assert labels[0].threshold == pytest.approx(0.5)


def test_classes_without_names(world: World, tmp_path: Path) -> None:
    metadata = ultralytics_metadata(('a', 'b'), 64, 64)
    del metadata['names']
    robot = Robot(world, constant_detector(tmp_path / 'm.onnx', metadata=metadata))
    assert classes(robot.answer(Camera(world).until_heard(), picture())) == ['0']
    labels = world.subscribe(LabelInfo, 'label_info', LATCHED)
    world.until(lambda: labels)
    assert [c.class_name for c in labels[0].class_map] == ['0', '1']


def test_annotated_only_while_somebody_looks(
    world: World, two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import trt_perception.nodes.stream as stream

    drawn: list[int] = []
    draw = stream.draw
    monkeypatch.setattr(stream, 'draw', lambda *a: (drawn.append(1), draw(*a)))
    robot = Robot(world, two)
    camera = Camera(world).until_heard()
    robot.answer(camera, picture())
    robot.answer(camera, picture())
    assert not drawn
    pictures = world.subscribe(Image, 'detector/annotated')
    world.until(lambda: robot.node.count_subscribers('detector/annotated'))
    world.until(lambda: robot.node._stream._annotated.get_subscription_count(), 'matched')
    sent = picture(5, 128, 64, (10, 20, 30))
    robot.answer(camera, sent)
    world.until(lambda: pictures)
    (seen,) = pictures
    assert (seen.width, seen.height, seen.encoding) == (128, 64, 'bgr8')
    assert seen.header == sent.header
    pixels = np.array(seen.data).reshape(64, 128, 3)
    assert (pixels[60, 120] == (30, 20, 10)).all()  # nothing there
    assert (pixels != (30, 20, 10)).any()  # but elsewhere


# The graph


@pytest.mark.parametrize('qos', [RELIABLE, BEST_EFFORT])
def test_reliability_matches_the_camera(world: World, two: Path, qos: QoSProfile) -> None:
    robot = Robot(world, two)
    robot.answer(Camera(world, qos=qos).until_heard(), picture())
    reliable = qos is RELIABLE
    word = 'reliable' if reliable else 'best effort'
    world.until(lambda: robot.values()['images'] == f'/image (Image, {word})')
    (subscription,) = world.node.get_subscriptions_info_by_topic('image')
    assert (subscription.qos_profile.reliability == RELIABLE.reliability) is reliable


def test_a_camera_that_comes_back_as_another(world: World, two: Path) -> None:
    robot = Robot(world, two)
    for topic, kind, qos, image in (
        ('image', Image, RELIABLE, picture()),
        ('image', Image, BEST_EFFORT, picture()),
        ('image/compressed', CompressedImage, RELIABLE, jpeg(RED)),
        ('image', Image, RELIABLE, picture()),
    ):
        camera = Camera(world, topic, kind, qos).until_heard()
        robot.answer(camera, image)
        camera.close()
        world.until(lambda t=topic: world.node.count_publishers(t) == 0)


def test_raw_is_preferred_and_kept(world: World, two: Path) -> None:
    robot = Robot(world, two, autostart=False)
    raw, compressed = Camera(world), Camera(world, 'image/compressed', CompressedImage)
    world.until(lambda: robot.node.count_publishers('image/compressed'))
    world.until(lambda: robot.node.count_publishers('image'))
    assert robot.change('configure') and robot.change('activate')
    robot.answer(raw.until_heard(), picture())
    assert world.node.count_subscribers('image/compressed') == 0
    raw.close()
    robot.answer(compressed.until_heard(), jpeg(RED))
    back = Camera(world)
    world.until(lambda: robot.node.count_publishers('image'))
    robot.next_status()
    assert robot.values()['images'] == '/image/compressed (CompressedImage, reliable)'
    assert back.publisher.get_subscription_count() == 0


def problem(robot: Robot, words: str) -> None:
    status = robot.until_says(lambda s: words in s.message, words)
    assert status.level == DiagnosticStatus.WARN


def test_nobody_publishes(world: World, two: Path) -> None:
    log = world.log()
    robot = Robot(world, two)
    problem(robot, 'nobody publishes /image or /image/compressed; start the camera')
    Camera(world).until_heard()
    problem(robot, 'no image for')
    # Said in the log once, when it began.
    world.until(lambda: sum('nobody publishes /image' in m.msg for m in log) == 1)


def test_a_quality_of_service_that_does_not_match(world: World, two: Path) -> None:
    robot = Robot(world, two, image_reliability='reliable')
    camera = Camera(world, qos=BEST_EFFORT)
    problem(robot, '/observer publishes /image best_effort and image_reliability is reliable')
    assert camera.publisher.get_subscription_count() == 0
    assert robot.set(image_reliability='auto') == ''
    assert all(robot.change(c) for c in ('deactivate', 'cleanup', 'configure', 'activate'))
    robot.answer(camera.until_heard(), picture())
    all_is_well(robot)


def test_a_transport_that_is_not_published(world: World, two: Path) -> None:
    robot = Robot(world, two, image_transport='compressed')
    Camera(world)
    problem(robot, '/image as sensor_msgs/msg/Image only and image_transport is compressed')


def test_a_topic_of_another_type(world: World, two: Path) -> None:
    robot = Robot(world, two)
    Camera(world, kind=String)
    problem(
        robot,
        '/observer publishes /image as std_msgs/msg/String; it has to be sensor_msgs/msg/Image or',
    )


def test_diagnostics_say_what_runs(world: World, two: Path) -> None:
    robot = Robot(world, two)
    camera = Camera(world).until_heard()
    robot.answer(camera, picture())
    robot.until_counted(received=1)
    status, values = robot.status(), robot.values()
    assert status.name == 'detector: inference'
    assert status.hardware_id == values['device'] != ''
    assert values['backend'].startswith('ONNX Runtime')
    assert (values['precision'], values['model']) == ('float32', str(two))
    for stage in ('queue', 'preprocess', 'infer', 'decode', 'publish', 'total'):
        assert 0 <= float(values[f'{stage} p50 ms']) <= float(values[f'{stage} p95 ms'])


def test_a_model_that_lost_too_much_in_int8_is_refused(world: World, two: Path) -> None:
    model = onnx.load(str(two))
    prop = model.metadata_props.add()
    gate = GateResult('map', 0.9, 0.98, None, 27, 173, {}, 'val.json', 'ONNX Runtime', 'ab', True)
    prop.key, prop.value = METADATA_KEY, json.dumps(gate.to_dict())
    onnx.save(model, str(two))
    robot = Robot(world, two)
    words = 'failed its gate: INT8 keeps 0.900 of FP32'
    world.until(lambda: words in robot.status().message, words)
    assert robot.status().level == DiagnosticStatus.ERROR
    assert robot.state() == 'unconfigured'
    assert robot.set(accept_failed_gate=True) == ''
    assert robot.change('configure') and robot.change('activate')
    camera = Camera(world).until_heard()
    assert len(robot.answer(camera, picture()).detections) == 2


def test_simulated_time(world: World, two: Path) -> None:
    robot = Robot(world, two, use_sim_time=True)
    clock = world.node.create_publisher(Clock, '/clock', 10)
    robot.until_active()  # though no clock ticks yet
    camera = Camera(world).until_heard()
    tick = Clock()
    tick.clock.sec = 100
    world.until(lambda: clock.get_subscription_count())
    clock.publish(tick)
    world.until(lambda: robot.node.get_clock().now().nanoseconds)
    image = picture(99)
    robot.answer(camera, image)
    status = robot.until_says(lambda s: values(s)['published'] == '1')
    assert float(values(status)['stamp to publish p50 ms']) == pytest.approx(1000, abs=1)
    assert status.level == DiagnosticStatus.OK


def test_two_domains_do_not_meet(two: Path, domain_id: int, other_domain_id: int) -> None:
    worlds = World(domain_id), World(other_domain_id)
    try:
        robots = [Robot(world, two) for world in worlds]
        cameras = [Camera(world).until_heard() for world in worlds]
        for robot, camera, number in zip(robots, cameras, (1, 2), strict=True):
            assert robot.answer(camera, picture(number)).header.stamp.sec == number
        assert [len(robot.detections) for robot in robots] == [1, 1]
    finally:
        for world in worlds:
            world.close()
