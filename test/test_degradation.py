# SPDX-License-Identifier: Apache-2.0
"""The detector's policy over real DDS: the board gets hot, and what the detector does and says."""

from __future__ import annotations

from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from models import constant_detector

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from fake_gpu import FakeGpu, held_up
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray, VisionInfo
from world import LATCHED, LATEST, Camera, World, classes, picture, values

from trt_perception.health.board import Reading
from trt_perception.nodes import degradation, detector, stream
from trt_perception.nodes.board import BoardMonitor
from trt_perception.nodes.detector import DetectorNode
from trt_perception.nodes.overlay import OverlayNode
from trt_perception.runtime.machine import board_model
from trt_perception.runtime.pipeline import Pipeline

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
#: No waiting: the levels are what the margins say, and one is left with each report.
AT_ONCE = {'policy.horizon': 0.0, 'policy.hold': 0.0}


class Heat:
    """What the board's sensors say, in their place.

    Attributes:
        margin: degrees Celsius below the trip point; None: there are no sensors any more.
        hangs: the last reading stays the last one.
    """

    def __init__(self) -> None:
        self.margin: float | None = 30.0
        self.hangs = False
        self._last: Reading | None = None

    def latest(self) -> Reading | None:
        if not self.hangs:
            heat = {} if self.margin is None else {'tj': 99.0 - self.margin}
            self._last = Reading(monotonic(), temperatures=heat, trips={'tj': {'passive': 99.0}})
        return self._last


@pytest.fixture
def heat(monkeypatch: pytest.MonkeyPatch) -> Heat:
    """A board whose heat is the test's, and a detector that looks at it often."""
    heat = Heat()
    monkeypatch.setattr(BoardMonitor, 'latest', lambda self: heat.latest())
    monkeypatch.setattr(detector, 'REPORT_PERIOD', 0.05)
    monkeypatch.setattr(degradation, 'READING_HOLDS', 0.5)
    return heat


@pytest.fixture
def wanted(tmp_path: Path) -> Path:
    return constant_detector(tmp_path / 'wanted.onnx', [[0, 0, 9, 9]], [0.9], [1])


@pytest.fixture
def lighter(tmp_path: Path) -> Path:
    """Of half the size: what it finds is told by its score."""
    return constant_detector(
        tmp_path / 'lighter.onnx', [[0, 0, 4, 4]], [0.5], [1], width=32, height=32
    )


class Vehicle:
    """A detector, its cameras, and what it says."""

    def __init__(self, world: World, model: Path, priorities: dict[str, float], **given: Any):
        self.world = world
        self.health = world.subscribe(DiagnosticStatus, 'detector/health', LATCHED)
        self.diagnostics = world.subscribe(DiagnosticArray, '/diagnostics')
        self.log = world.log()
        self.answers = {
            name: world.subscribe(Detection2DArray, f'{name}/detections') for name in priorities
        }
        given = {'model': str(model), 'threads': 1, 'cameras': list(priorities), **AT_ONCE, **given}
        given |= {f'{name}.priority': priority for name, priority in priorities.items()}
        self.node = DetectorNode(
            context=world.context,
            parameter_overrides=[Parameter(name, value=value) for name, value in given.items()],
        )
        world.add(self.node)
        self.cameras = {name: Camera(world, f'{name}/image') for name in priorities}
        for name, camera in self.cameras.items():
            camera.until_heard()
            world.until(lambda: self.node.count_subscribers(f'{name}/detections'), name)  # noqa: B023
        self.number = 0

    def until(self, state: str, **told: str) -> DiagnosticStatus:
        """Wait until the last word is of this state and tells this."""

        def found() -> DiagnosticStatus | None:
            if not self.health:
                return None
            last = {'state': '', **values(self.health[-1])}
            wanted = {'state': state, **{k.replace('_', ' '): v for k, v in told.items()}}
            return self.health[-1] if wanted.items() <= last.items() else None

        return self.world.until(found, f'{state} {told}')

    def send(self, name: str) -> None:
        self.number += 1
        self.cameras[name].send(picture(self.number))

    def answer(self, name: str) -> Detection2DArray:
        """Of the next image, which is looked at."""
        already = len(self.answers[name])
        self.send(name)
        self.world.until(lambda: len(self.answers[name]) > already, name)
        return self.answers[name][-1]

    def counts(self, name: str, received: int) -> dict[str, str]:
        """What became of so many images of a camera."""

        def found() -> dict[str, str] | None:
            for message in reversed(self.diagnostics):
                for status in message.status:
                    told = values(status)
                    if status.name == f'detector: {name}' and told['received'] == str(received):
                        under_way = received - sum(
                            int(told[fate]) for fate in ('published', 'limited', 'dropped')
                        )
                        return None if under_way else told
            return None

        return self.world.until(found, f'{received} of {name}')

    def set(self, **given: Any) -> str:
        result = self.node.set_parameters_atomically(
            [Parameter(name.replace('__', '.'), value=value) for name, value in given.items()]
        )
        return str(result.reason)

    def logged(self, words: str) -> str:
        return self.world.until(
            lambda: next((line.msg for line in self.log if words in line.msg), ''), words
        )


def score(answer: Detection2DArray) -> float:
    (found,) = answer.detections
    return round(found.results[0].hypothesis.score, 1)


def test_it_degrades_by_priority_and_comes_back(
    world: World, heat: Heat, wanted: Path, lighter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    draw = stream.draw
    monkeypatch.setattr(stream, 'draw', lambda *a: (drawn.append(1), draw(*a)))
    vision = world.subscribe(VisionInfo, 'vision_info', LATCHED)
    world.subscribe(Image, 'detector/front/annotated')
    cameras = {'left': 1.0, 'front': 2.0, 'rear': 1.0}
    vehicle = Vehicle(world, wanted, cameras, **{'policy.lighter_models': [str(lighter)]})
    told = vehicle.until('nominal', overlay='drawn', lighter_model='none', margin_C='30.0')
    assert (told.level, told.name) == (OK, 'detector: policy')
    assert told.hardware_id == board_model()
    assert score(vehicle.answer('front')) == 0.9
    annotated = vehicle.node._detection.streams['front']._annotated
    world.until(annotated.get_subscription_count, 'somebody wants to see')
    vehicle.answer('front')
    world.until(lambda: drawn, 'a picture')

    heat.margin = 3.0
    told = vehicle.until('hot', left_share='0.40', front_share='1.00', rear_share='0.40')
    assert told.level == WARN and 'hot: 3.0 C below the trip point' in told.message
    assert told.message.endswith(
        'left, rear at 40%; runs lighter.onnx; nothing is drawn'
    ) and told.message in vehicle.logged('policy: hot')
    assert values(told)['overlay'] == 'paused'
    seen = len(drawn)
    for _ in range(10):
        vehicle.send('left')
        assert (score(found := vehicle.answer('front')), classes(found)) == (0.5, ['person'])
    assert len(drawn) == seen
    assert vehicle.counts('left', 10)['limited'] == '6'
    assert {score(found) for found in vehicle.answers['left']} == {0.5}
    assert 'lighter.onnx' in world.until(lambda: vision)[-1].method

    heat.margin = 1.0
    told = vehicle.until('critical', left_share='0.00', front_share='0.90', rear_share='0.00')
    assert told.level == ERROR and 'left, rear shed; front at 90%' in told.message
    for _ in range(3):
        vehicle.send('rear')
    assert vehicle.counts('rear', 3)['limited'] == '3'

    heat.margin = 20.0
    vehicle.until('nominal', overlay='drawn', lighter_model='none', rear_share='1.00')
    levels = [values(word)['state'] for word in vehicle.health]
    assert levels == ['nominal', 'hot', 'critical', 'hot', 'warm', 'nominal']
    assert 'policy: nominal' in vehicle.logged('policy: nominal')
    assert {score(vehicle.answer(name)) for name in cameras} == {0.9}
    vehicle.answer('front')
    world.until(lambda: len(drawn) > seen, 'a picture again')
    # Who comes late hears the last word.
    late = world.subscribe(DiagnosticStatus, 'detector/health', LATEST)
    assert values(world.until(lambda: late)[0])['state'] == 'nominal'
    # And it is on /diagnostics, once with each report.
    world.until(
        lambda: any(
            s.name == 'detector: policy' and values(s)['state'] == 'hot'
            for message in vehicle.diagnostics
            for s in message.status
        ),
        'on diagnostics',
    )


def test_to_and_fro_between_models_no_frame_is_lost(
    world: World, heat: Heat, wanted: Path, lighter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    freed: list[Pipeline] = []
    free = Pipeline.close
    monkeypatch.setattr(Pipeline, 'close', lambda self: (freed.append(self), free(self)))
    cameras = {'front': 2.0, 'rear': 1.0}
    vehicle = Vehicle(world, wanted, cameras, **{'policy.lighter_models': [str(lighter)]})
    vehicle.until('nominal')
    scores = []
    while scores.count(0.5) < 5 or scores.count(0.9) < 5 or len(set(scores[-2:])) == 1:
        heat.margin = 30.0 if vehicle.health and len(scores) % 2 else 3.0
        scores.append(score(vehicle.answer('front')))
    assert len(vehicle.answers['front']) == len(scores)
    assert vehicle.counts('front', len(scores))['published'] == str(len(scores))
    assert not freed
    world.remove(vehicle.node)
    assert len(freed) == len(set(map(id, freed))) == 2, 'each of both once'


def test_off_and_blind_and_what_is_refused(world: World, heat: Heat, wanted: Path) -> None:
    heat.margin = 1.0
    vehicle = Vehicle(world, wanted, {'front': 2.0, 'rear': 1.0})
    vehicle.until('critical', rear_share='0.00', lighter_model='none')
    assert 'policy.warm_margin 6, policy.hot_margin 7' in vehicle.set(policy__hot_margin=7.0)
    assert vehicle.set(policy__shed_from='never', policy__critical_load=0.2) == ''
    vehicle.until('critical', rear_share='0.10', front_share='0.30')
    # A camera that becomes more important is looked at more at once.
    assert vehicle.set(rear__priority=3.0) == ''
    vehicle.until('critical', rear_share='0.30', front_share='0.10')

    heat.hangs = True
    told = vehicle.until('critical')
    world.until(lambda: 'no temperature is known any more' in vehicle.health[-1].message, 'blind')
    heat.hangs, heat.margin = False, 20.0
    vehicle.until('nominal')
    heat.margin = None
    told = world.until(lambda: vehicle.health[-1].level == WARN and vehicle.health[-1])
    assert told.message == 'nominal, but no temperature is known any more'

    heat.margin = 1.0
    vehicle.until('critical')
    assert vehicle.set(policy__enabled=False) == ''
    told = vehicle.until('off', front_share='1.00', rear_share='1.00', overlay='drawn')
    assert (told.level, told.message) == (OK, 'off')
    assert vehicle.answer('front') and vehicle.answer('rear')
    assert vehicle.set(policy__enabled=True) == ''
    vehicle.until('critical')
    # Where nobody reads the sensors any more it does not stay as it was for ever.
    assert vehicle.set(board=False) == ''
    for transition in ('deactivate', 'cleanup', 'configure'):
        request = ChangeState.Request(transition=Transition(label=transition))
        assert world.call(ChangeState, 'detector/change_state', request).success
    vehicle.until('off', front_share='1.00', rear_share='1.00', overlay='drawn')


def test_a_lighter_model_of_other_classes_is_refused(
    world: World, heat: Heat, wanted: Path, tmp_path: Path
) -> None:
    other = constant_detector(tmp_path / 'other.onnx', classes=('person', 'car'))
    log = world.log()
    node = DetectorNode(
        context=world.context,
        parameter_overrides=[
            Parameter('model', value=str(wanted)),
            Parameter('threads', value=1),
            Parameter('policy.lighter_models', value=[str(other)]),
        ],
    )
    world.add(node)
    words = f"'{other}' has other classes (person, car) than '{wanted}' (car, person)"
    world.until(lambda: any(words in line.msg for line in log), words)
    node.set_parameters([Parameter('policy.lighter_models', value=[str(tmp_path / 'no.onnx')])])
    node.trigger_configure()
    world.until(lambda: any('policy.lighter_models: ' in m.msg and 'no.onnx' in m.msg for m in log))


def test_the_overlay_pauses_with_the_detector(world: World, heat: Heat, wanted: Path) -> None:
    overlay = OverlayNode(context=world.context)
    world.add(overlay)
    pictures = world.subscribe(Image, 'annotated')
    world.until(lambda: overlay.count_subscribers('annotated'), 'somebody looks')
    node = DetectorNode(
        context=world.context,
        parameter_overrides=[
            Parameter('model', value=str(wanted)),
            Parameter('threads', value=1),
            *(Parameter(name, value=value) for name, value in AT_ONCE.items()),
        ],
    )
    world.add(node)
    camera = Camera(world).until_heard()
    world.until(lambda: camera.publisher.get_subscription_count() == 2, 'both subscribe')
    number = iter(range(100_000))

    def sends_until(seen: Any) -> None:
        def sent() -> bool:
            camera.send(picture(next(number)))
            return bool(seen())

        world.until(sent)

    sends_until(lambda: pictures)
    heat.margin = 5.0
    world.until(lambda: overlay._paused, 'paused')
    sends_until(lambda: overlay._counts['paused'] > 2)
    heat.margin = 30.0
    world.until(lambda: not overlay._paused, 'resumed')
    seen = len(pictures)
    sends_until(lambda: len(pictures) > seen)


def test_an_engine_is_used_once_it_is_there_and_stays_open(
    world: World, heat: Heat, gpu: FakeGpu, wanted: Path, lighter: Path
) -> None:
    """Built by the real TensorRT-RTX; ONNX Runtime on the processor is no relief meanwhile."""
    pytest.importorskip('tensorrt_rtx_bindings', reason='TensorRT-RTX is not installed')
    heat.margin = 3.0
    with held_up(lighter):
        given = {'policy.lighter_models': [str(lighter)], 'fallback': True}
        vehicle = Vehicle(world, wanted, {'front': 1.0}, **given)
        vehicle.until('hot', front_share='0.60')
        world.until(lambda: gpu.opened, 'the engine of the model that was asked for')
        words = 'lighter.onnx is not used: it would run on ONNX Runtime'
        world.until(lambda: words in values(vehicle.health[-1])['lighter model'], words)
    told = vehicle.until('hot', lighter_model=str(lighter))
    assert 'runs lighter.onnx' in told.message
    while not vehicle.answers['front']:
        vehicle.send('front')
    assert score(vehicle.answers['front'][0]) == 0.5

    def becomes(margin: float, state: str, found: float) -> None:
        heat.margin = margin
        vehicle.until(state)
        already = len(vehicle.answers['front'])
        while len(vehicle.answers['front']) == already:
            vehicle.send('front')
        assert score(vehicle.answers['front'][-1]) == found

    becomes(30.0, 'nominal', 0.9)
    becomes(3.0, 'hot', 0.5)
    assert len(gpu.opened) == 2 and not gpu.closed

    # A GPU that is lost is lost to both, and both come back.
    gpu.lost.add(0)
    world.until(lambda: (vehicle.send('front'), len(gpu.closed) == 2)[1], 'both are freed')
    gpu.lost.clear()
    world.until(lambda: len(gpu.opened) >= 4, 'both are opened again')
    becomes(3.0, 'hot', 0.5)
    becomes(30.0, 'nominal', 0.9)
    vehicle.node.trigger_deactivate()
    vehicle.node.trigger_cleanup()
    world.until(lambda: sorted(gpu.closed) == sorted(gpu.opened), 'both are freed')
