# SPDX-License-Identifier: Apache-2.0
"""The detector node over real DDS: whom it finds, what it says beside the detections."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from models import constant_detector, ultralytics_metadata

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String
from vision_msgs.msg import LabelInfo, VisionInfo
from world import (
    BEST_EFFORT,
    LATEST,
    RELIABLE,
    Camera,
    Robot,
    World,
    all_is_well,
    classes,
    jpeg,
    picture,
    values,
)

from trt_perception.runtime.machine import board_model

# Beside the detections


def test_latched_labels(world: World, tmp_path: Path) -> None:
    names = ('car', 'person', 'café')
    model = constant_detector(tmp_path / 'm.onnx', classes=names)
    robot = Robot(world, model, score_threshold=0.5)
    robot.until_active()
    # Who comes late still gets them.
    labels = world.subscribe(LabelInfo, 'label_info', LATEST)
    vision = world.subscribe(VisionInfo, 'vision_info', LATEST)
    world.until(lambda: labels and vision)
    assert [(c.class_id, c.class_name) for c in labels[0].class_map] == list(enumerate(names))
    assert labels[0].threshold == pytest.approx(0.5)


def test_classes_without_names(world: World, tmp_path: Path) -> None:
    metadata = ultralytics_metadata(('a', 'b'), 64, 64)
    del metadata['names']
    robot = Robot(world, constant_detector(tmp_path / 'm.onnx', metadata=metadata))
    assert classes(robot.answer(Camera(world).until_heard(), picture())) == ['0']
    labels = world.subscribe(LabelInfo, 'label_info', LATEST)
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
    world.until(
        lambda: robot.node._detection.streams['']._annotated.get_subscription_count(), 'matched'
    )
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
        ('image/compressed', CompressedImage, RELIABLE, jpeg()),
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
    robot.answer(compressed.until_heard(), jpeg())
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
    assert status.hardware_id == board_model()
    assert values['backend'].startswith('ONNX Runtime')
    assert (values['precision'], values['model']) == ('float32', str(two))
    for stage in ('queue', 'preprocess', 'infer', 'decode', 'publish', 'total'):
        assert 0 <= float(values[f'{stage} p50 ms']) <= float(values[f'{stage} p95 ms'])


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
