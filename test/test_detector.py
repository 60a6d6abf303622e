# SPDX-License-Identifier: Apache-2.0
"""The detector node over real DDS, with networks whose answer is known."""

from __future__ import annotations

import gc
import json
import threading
from pathlib import Path

import onnx
import pytest
from models import constant_detector

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticStatus
from vision_msgs.msg import LabelInfo, VisionInfo
from world import LATEST, Camera, Robot, World, all_is_well, classes, picture

from trt_perception.runtime.gate_result import METADATA_KEY, GateResult
from trt_perception.runtime.pipeline import Pipeline


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """A car, after some seconds of thinking."""
    return constant_detector(tmp_path / 'slow.onnx', work=300)


def inference_threads() -> int:
    return sum(t.name == 'inference' for t in threading.enumerate())


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


# Latest only


def test_services_answer_during_a_long_inference(world: World, slow: Path) -> None:
    robot = Robot(world, slow, image_depth=100)
    camera = Camera(world).until_heard()
    received = robot.node._monitors[''].values
    camera.send(picture(0))
    world.until(lambda: received()['received'] == 1, 'the first image')
    world.until(
        lambda: not robot.node._detection._worker._scheduler.waiting, 'it is being looked at'
    )
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
    world.until(lambda: robot.node._monitors[''].values()['received'] == 1, 'image')
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
    latched = world.subscribe(LabelInfo, 'label_info', LATEST)
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
    info = world.subscribe(VisionInfo, 'vision_info', LATEST)
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


def test_the_next_node_of_this_name_is_heard(world: World) -> None:
    """A late end of the one before would take /rosout away from it."""
    log = world.log()
    before = Robot(world, '', autostart=False)
    world.remove(before.node)
    robot = Robot(world, '', autostart=False)
    del before
    gc.collect()
    robot.node.get_logger().info('here I am')
    world.until(lambda: any(m.msg == 'here I am' for m in log))


def test_candidates_over_the_limit_are_counted(
    world: World, two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a GPU would tell of them."""
    once = Pipeline.__call__
    monkeypatch.setattr(
        Pipeline, '__call__', lambda self, *given: once(self, *given)._replace(dropped=21)
    )
    robot = Robot(world, two)
    camera = Camera(world).until_heard()
    for _ in range(2):
        assert len(robot.answer(camera, picture()).detections) == 2
    assert robot.until_counted(published=2)['candidates over the limit'] == 42


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
