# SPDX-License-Identifier: Apache-2.0
"""The detector node and its engines over real DDS: built while it runs, by the real TensorRT-RTX.

Only the GPU that is to run them is not there: see `fake_gpu`.
"""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from models import constant_detector

pytest.importorskip('rclpy')
pytest.importorskip('tensorrt_rtx_bindings', reason='TensorRT-RTX is not installed')

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from fake_gpu import NAME, FakeGpu, held_up
from vision_msgs.msg import LabelInfo, VisionInfo
from world import LATCHED, Camera, Robot, World, picture, values

from trt_perception.build.engine.cache import EngineCache
from trt_perception.build.engine.make import make_engine
from trt_perception.build.engine.serving import Wish, request_for
from trt_perception.ros.diagnostics import Verdict

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return constant_detector(tmp_path / 'm.onnx')


def on_gpu(status: DiagnosticStatus) -> bool:
    return values(status).get('device') == NAME


def said(world: World, capfd: pytest.CaptureFixture[str], words: str) -> str:
    """Wait for a line with these words in the log; all before it is read, too."""
    heard = ''

    def found() -> str:
        nonlocal heard
        heard += capfd.readouterr().err
        return next((line for line in heard.splitlines() if words in line), '')

    return world.until(found, words)


def threads(name: str) -> int:
    return sum(t.name == name for t in threading.enumerate())


def test_it_waits_visibly(world: World, gpu: FakeGpu, model: Path) -> None:
    vision = world.subscribe(VisionInfo, 'vision_info', LATCHED)
    with held_up(model):
        robot = Robot(world, model, backend='tensorrt', fallback=False).until_active()
        camera = Camera(world).until_heard()
        status = robot.until_says(lambda s: s.level == WARN and 'another process' in s.message)
        assert status.message.startswith('building the engine: another process builds the engine')
        assert status.message.endswith(' s')
        told = values(status)
        assert told['build share'] == '0 %' and not {'backend', 'precision'} & set(told)
        assert robot.set(score_threshold=0.3) == ''
        assert 'the model has no class' in robot.set(classes=['tractor'])
        for number in range(3):
            camera.send(picture(number))
        assert robot.until_counted(received=3)['unserved'] == 3
    robot.until_says(on_gpu, 'it runs')
    assert [d.header.stamp.sec for d in (robot.answer(camera, picture(7)),)] == [7]
    status = robot.until_says(lambda s: values(s)['published'] == '1' and s.level == OK)
    told = values(status)
    assert told['backend'].startswith('TensorRT-RTX 1.') and told['precision'] == 'fp16'
    assert told['reason'].startswith('engine built in') and 'build share' not in told
    world.until(lambda: NAME in vision[-1].method)
    assert 'not yet built' in vision[0].method
    assert {v.database_version for v in vision} == {1}


def test_it_serves_meanwhile_and_loses_no_frame(
    world: World, gpu: FakeGpu, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    labels = world.subscribe(LabelInfo, 'label_info', LATCHED)
    with held_up(model):
        robot = Robot(world, model).until_active()
        camera = Camera(world).until_heard()
        robot.answer(camera, picture(0))
        status = robot.until_says(lambda s: 'build share' in values(s))
        assert values(status)['backend'].startswith('ONNX Runtime')
        assert values(status)['reason'] == 'until there is an engine'
        assert status.level != ERROR
    sent = 1
    while robot.node._detection.replicas.info.device != NAME or sent < 20:
        robot.answer(camera, picture(sent))
        sent += 1
    robot.answer(camera, picture(sent))
    assert [d.header.stamp.sec for d in robot.detections] == list(range(sent + 1))
    counts = robot.until_counted(received=sent + 1)
    assert counts['published'] == sent + 1
    robot.until_says(on_gpu)
    world.until(lambda: labels)
    assert '[INFO]' in said(world, capfd, 'now runs on TensorRT-RTX')
    assert len(gpu.opened) == 1 and not gpu.closed


@pytest.mark.parametrize('fallback', [True, False])
def test_a_build_that_fails(
    world: World, gpu: FakeGpu, model: Path, fallback: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    robot = Robot(world, model, device='dla0', fallback=fallback, autostart=False)
    assert robot.change('configure') and robot.change('activate')
    words = 'there is no engine: TensorRT-RTX'
    status = robot.until_says(lambda s: words in values(s).get('problem', ''))
    assert 'has no DLA' in values(status)['problem']
    assert '[ERROR]' in said(world, capfd, words)
    camera = Camera(world).until_heard()
    if fallback:
        assert len(robot.answer(camera, picture()).detections) == 1
        status = robot.until_says(
            lambda s: s.level == WARN and '; runs on ONNX Runtime' in s.message
        )
        assert words in status.message
    else:
        assert status.level == ERROR
        camera.send(picture())
        assert robot.until_counted(received=1)['unserved'] == 1
    assert not list(EngineCache().entries())


def test_a_build_is_stopped_by_cleaning_up(world: World, gpu: FakeGpu, model: Path) -> None:
    with held_up(model):
        robot = Robot(world, model, fallback=False).until_active()
        assert threads('build') == 1
        assert robot.change('deactivate') and robot.change('cleanup')
        world.until(lambda: threads('build') == 0, 'it has stopped')
        assert robot.state() == 'unconfigured'
        assert robot.change('configure')
        assert threads('build') == 1
        assert robot.change('shutdown')
        world.until(lambda: threads('build') == 0, 'it has stopped')
    assert not gpu.opened and not list(EngineCache().entries())


def test_an_engine_that_comes_too_late_is_freed(world: World, gpu: FakeGpu, model: Path) -> None:
    gpu.loads.clear()
    robot = Robot(world, model).until_active()
    world.until(lambda: gpu.opened, 'it is being loaded')
    assert robot.until_says(lambda s: values(s).get('build phase') == 'loading the engine')
    assert robot.change('deactivate') and robot.change('cleanup')
    gpu.loads.set()
    world.until(lambda: threads('build') == 0)
    assert gpu.closed == gpu.opened


def test_no_gpu(world: World, gpu: FakeGpu, model: Path) -> None:
    """Auto says why, TensorRT asked for is missed, and without fallback it is refused."""
    gpu.absent = 'the GPU is on holiday'
    robot = Robot(world, model)
    camera = Camera(world).until_heard()
    robot.answer(camera, picture())
    status = robot.until_says(lambda s: values(s).get('published') == '1' and s.level == OK)
    assert values(status)['backend'].startswith('ONNX Runtime')
    assert values(status)['reason'] == 'TensorRT cannot run here: the GPU is on holiday'
    assert robot.set(backend='tensorrt') == ''
    assert all(robot.change(c) for c in ('deactivate', 'cleanup', 'configure', 'activate'))
    robot.answer(camera.until_heard(), picture())
    words = 'TensorRT cannot run here: the GPU is on holiday; runs on ONNX Runtime'
    assert robot.until_says(lambda s: s.message.startswith(words)).level == WARN
    assert robot.set(fallback=False) == ''
    assert all(robot.change(c) for c in ('deactivate', 'cleanup'))
    assert not robot.change('configure')
    words = f"not configured: backend 'tensorrt' cannot run '{model}' here: the GPU is on holiday"
    assert robot.until_says(lambda s: s.message == words).level == ERROR
    assert robot.state() == 'unconfigured'


def test_an_engine_from_the_cache_runs_at_once(world: World, gpu: FakeGpu, model: Path) -> None:
    made = make_engine(request_for(Wish(model)), EngineCache())
    robot = Robot(world, model, fallback=False, autostart=False)
    assert robot.change('configure')
    assert robot.node._detection.replicas.info.device == NAME
    assert robot.change('activate')
    robot.answer(Camera(world).until_heard(), picture())
    assert values(robot.until_says(on_gpu))['reason'] == 'engine from the cache'
    assert robot.change('deactivate') and robot.change('cleanup')
    world.until(lambda: gpu.closed == [made.path] == gpu.opened)


def test_a_broken_engine_is_built_anew(
    world: World, gpu: FakeGpu, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made = make_engine(request_for(Wish(model)), EngineCache())
    made.path.write_bytes(made.path.read_bytes()[:-9])
    robot = Robot(world, model, autostart=False)
    assert robot.change('configure') and robot.change('activate')
    assert values(robot.until_says(on_gpu))['reason'].startswith('engine built in')
    assert '[WARN]' in said(world, capfd, 'is not what its manifest tells of; building it anew')
    assert EngineCache().look_up(made.manifest.key).fault == ''


def test_devices_share_the_work_and_one_that_fails_is_taken_out(
    world: World, gpu: FakeGpu, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    gpu.count = 2
    heard = world.subscribe(DiagnosticArray, '/diagnostics')
    robot = Robot(world, model, devices=['0', '1', '2'], fallback=False).until_active()

    def devices() -> dict[str, tuple[bytes, str]]:
        """What was told last of each."""
        return {
            s.hardware_id: (s.level, s.message)
            for message in heard
            for s in message.status
            if s.name.startswith('detector: device ')
        }

    robot.until_says(
        lambda s: (
            {'gpu device', 'gpu1 device', 'gpu2 problem'} <= values(s).keys()
            and 'device gpu2: there is no engine: there is no GPU 2 here' in s.message
        )
    )
    assert '[ERROR]' in said(world, capfd, 'there is no GPU 2 here')
    camera = Camera(world).until_heard()
    for number in range(3):
        robot.answer(camera, picture(number))
    gpu.lost = gpu.gone = {0}
    for number in range(3, 9):
        robot.answer(camera, picture(number))
    assert gpu.looks[1] > 0
    status = robot.until_says(lambda s: 'device gpu is out of use' in s.message)
    assert status.level == WARN
    assert values(status)['gpu out of use'] == 'the CUDA context is lost'
    world.until(lambda: devices()['gpu'][0] == ERROR, 'the device itself')
    assert 'is out of use: the CUDA context is lost' in devices()['gpu'][1]
    assert devices()['gpu1'][0] == OK and 'runs on' in devices()['gpu1'][1]
    assert devices()['gpu2'][0] == ERROR and 'there is no GPU 2 here' in devices()['gpu2'][1]
    counts = robot.until_counted(received=9)
    assert (counts['published'], counts['failed']) == (9, 0)
    gpu.lost = gpu.gone = {0, 1}
    camera.send(picture(9))
    assert robot.until_counted(received=10)['failed'] == 1
    status = robot.until_says(lambda s: s.level == ERROR)
    assert 'out of use' in status.message
    # gpu2 is not out of use, but runs nothing either.
    assert robot.node._detection.judge(Verdict(OK, 'active')).level == ERROR
