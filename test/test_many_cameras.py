# SPDX-License-Identifier: Apache-2.0
"""One detector for several cameras, over real DDS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from models import constant_detector

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray, LabelInfo
from world import LATCHED, NO_BUDGET, Camera, World, classes, picture, values

from trt_perception.nodes.detector import DetectorNode
from trt_perception.ros.detector_parameters import cameras_of, devices_of
from trt_perception.ros.parameters import ParameterError
from trt_perception.runtime.machine import board_model

NAMES = ['front', 'left', 'rear']


class Surround:
    """A detector of three cameras, the cameras, and what is said of each."""

    def __init__(self, world: World, model: Path, **parameters: Any) -> None:
        self.world = world
        self.detections = {
            name: world.subscribe(Detection2DArray, f'{name}/detections') for name in NAMES
        }
        self.diagnostics = world.subscribe(DiagnosticArray, '/diagnostics')
        given = {'model': str(model), 'threads': 1, 'cameras': NAMES, **NO_BUDGET, **parameters}
        overrides = [Parameter(name, value=value) for name, value in given.items()]
        self.node = DetectorNode(context=world.context, parameter_overrides=overrides)
        world.add(self.node)
        self.cameras = {name: Camera(world, f'{name}/image') for name in NAMES}
        for name, camera in self.cameras.items():
            camera.until_heard()
            world.until(lambda: self.node.count_subscribers(f'{name}/detections'), name)  # noqa: B023
        # It hears before it is active, and until then takes no other transition.
        machine = self.node._state_machine
        world.until(lambda: machine.current_state[1] == 'active', 'active')

    def answer(self, name: str, image: Image) -> Detection2DArray:
        already = len(self.detections[name])
        self.cameras[name].send(image)
        self.world.until(lambda: len(self.detections[name]) > already, name)
        return self.detections[name][already]

    def status(self, task: str, published: int) -> DiagnosticStatus:
        """The first status of a task that tells of so many frames."""

        def found() -> DiagnosticStatus | None:
            for message in self.diagnostics:
                for status in message.status:
                    if status.name == f'detector: {task}' and (
                        values(status).get('published', str(published)) == str(published)
                    ):
                        return status
            return None

        return self.world.until(found, task)

    def set(self, **wanted: Any) -> str:
        result = self.node.set_parameters_atomically(
            [Parameter(name.replace('__', '.'), value=value) for name, value in wanted.items()]
        )
        return result.reason


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return constant_detector(
        tmp_path / 'two.onnx', [[0, 0, 9, 9], [30, 30, 60, 60]], [0.9, 0.4], [0, 1]
    )


def test_each_camera_has_its_own_answers_and_thresholds(world: World, model: Path) -> None:
    labels = world.subscribe(LabelInfo, 'label_info', LATCHED)
    given = {'front.score_threshold': 0.5, 'rear.classes': ['person'], 'score_threshold': 0.3}
    surround = Surround(world, model, **given)
    expected = {'front': ['car'], 'left': ['car', 'person'], 'rear': ['person']}
    for number, name in enumerate(NAMES):
        image = picture(number)
        answer = surround.answer(name, image)
        assert answer.header == image.header
        assert classes(answer) == expected[name]
    assert world.until(lambda: labels)[-1].threshold == pytest.approx(0.3)

    # Live, one camera at a time, or not at all.
    assert surround.set(left__score_threshold=0.6, front__score_threshold=0.1) == ''
    assert classes(surround.answer('left', picture(5))) == ['car']
    assert classes(surround.answer('front', picture(5))) == ['car', 'person']
    assert classes(surround.answer('rear', picture(5))) == ['person']
    refused = surround.set(rear__score_threshold=0.95, left__classes=['lorry'])
    assert refused.startswith("left.classes: the model has no class 'lorry'")
    assert classes(surround.answer('rear', picture(6))) == ['person']
    assert 'set front.score_threshold' in surround.set(score_threshold=0.2)
    assert surround.set(rear__region_of_interest=[0, 0, 20, 0]).startswith(
        'rear.region_of_interest'
    )
    world.until(lambda: labels[-1].threshold == pytest.approx(0.1), 'the lowest is told')


def test_diagnostics_of_each_and_of_what_they_share(world: World, model: Path) -> None:
    surround = Surround(world, model)
    for number in range(3):
        surround.answer('front', picture(number))
    surround.answer('left', picture(0))
    told = {name: values(surround.status(name, n)) for name, n in (('front', 3), ('left', 1))}
    assert [told[name]['received'] for name in told] == ['3', '1']
    assert told['front']['images'] == '/front/image (Image, reliable)'
    assert 'infer p50 ms' in told['left']
    engine = surround.status('inference', 0)
    assert 'received' not in values(engine)
    assert values(engine)['backend'].startswith('ONNX Runtime')
    quiet = surround.status('rear', 0)
    assert quiet.hardware_id == '/rear/image'
    assert engine.hardware_id == board_model()
    device = surround.status('device gpu', 0)
    assert (device.hardware_id, device.level) == ('gpu', DiagnosticStatus.OK)
    assert device.message.startswith('runs on ONNX Runtime')


def test_a_camera_that_is_not_there_is_its_own_matter(world: World, model: Path) -> None:
    surround = Surround(world, model)
    surround.cameras.pop('rear').close()

    def missed() -> bool:
        return any(
            status.name == 'detector: rear' and 'nobody publishes /rear/image' in status.message
            for message in surround.diagnostics
            for status in message.status
        )

    world.until(missed, 'rear is missed')
    assert classes(surround.answer('front', picture(1))) == ['car', 'person']


@pytest.mark.parametrize(
    ('given', 'words'),
    [
        (['front', 'front'], "cameras: 'front' is there twice"),
        (['front left'], "cameras: 'front left' cannot be the name"),
        (['2nd'], 'cannot be the name'),
        (['model'], 'and no name of a parameter'),
        (['inference'], 'cannot be the name'),
        (['a__b'], 'single underscores'),
    ],
)
def test_names_that_are_refused(given: list[str], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        cameras_of({'cameras': given})


def test_names_of_devices() -> None:
    def read(*devices: str) -> list[str]:
        return devices_of({'devices': list(devices), 'device': 'dla1'})

    assert read('') == ['dla1']
    assert read('0', '1', 'dla0') == ['gpu', 'gpu1', 'dla0']
    assert read('gpu', 'gpu12') == ['gpu', 'gpu12']
    with pytest.raises(ParameterError, match="devices: '0' is there twice"):
        read('gpu', '0')
    with pytest.raises(ParameterError, match="devices: 'tpu' is not one of"):
        read('tpu')


def test_the_cameras_change_when_the_detector_is_configured(world: World, model: Path) -> None:
    surround = Surround(world, model, **{'left.score_threshold': 0.5})
    node = surround.node
    assert surround.set(cameras=['left', 'mast']) == ''
    assert not node.has_parameter('mast.priority')
    for change in ('deactivate', 'cleanup', 'configure', 'activate'):
        world.until(getattr(node, f'trigger_{change}'), change)
    assert not node.has_parameter('front.priority')
    assert node.get_parameter('mast.priority').value == 1.0
    assert node.get_parameter('left.score_threshold').value == 0.5
    assert classes(surround.answer('left', picture(1))) == ['car']
