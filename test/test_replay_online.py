# SPDX-License-Identifier: Apache-2.0
"""A bag played to a live detector over real DDS: what is found is what is found offline."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('rosbags')

import rclpy
from bags import FRONT, REAR, START, STEP, gray, raw, two_cameras, write
from models import color_detector, constant_detector
from processes import TIMEOUT, parameters, start
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from world import NO_BUDGET, World

from trt_perception.cli.main import main
from trt_perception.core import Detections, Frame, FrameError, PerceptionError, Stamp
from trt_perception.nodes.detector import DetectorNode
from trt_perception.nodes.replay import ReplayNode
from trt_perception.replay.ledger import DROPPED, PATIENCE, Ledger
from trt_perception.replay.mcap import Message
from trt_perception.replay.result import BAG, ReplayResult, open_result

BASES = {'front': FRONT, 'rear': REAR.removesuffix('/compressed')}


@pytest.fixture(scope='module')
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tells how bright an image is."""
    return color_detector(tmp_path_factory.mktemp('model') / 'color.onnx')


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    """20 images of two cameras, a second."""
    return write(tmp_path / 'bag', two_cameras(count=10))


def detector(world: World, remappings: dict[str, str], **given: Any) -> DetectorNode:
    words = [word for rule in remappings.items() for word in ('-r', ':='.join(rule))]
    values = {'threads': 1, 'use_sim_time': True, **NO_BUDGET, **given}
    node = DetectorNode(
        context=world.context,
        cli_args=['--ros-args', *words],
        parameter_overrides=[Parameter(name, value=value) for name, value in values.items()],
    )
    world.add(node)
    return node


@pytest.fixture
def robot_s(world: World) -> Iterator[Any]:
    """Makes replay nodes that share nothing with the world but its domain: all goes over DDS."""
    context = Context()
    rclpy.init(context=context, domain_id=world.domain_id)
    executor = SingleThreadedExecutor(context=context)
    nodes: list[ReplayNode] = []
    over = threading.Event()

    def spin() -> None:
        while not over.is_set():
            executor.spin_once(timeout_sec=0.1)

    thread = threading.Thread(target=spin)
    thread.start()

    def make(**given: Any) -> ReplayNode:
        overrides = [Parameter(name, value=value) for name, value in given.items()]
        node = ReplayNode(context=context, parameter_overrides=overrides)
        nodes.append(node)
        executor.add_node(node)
        return node

    yield make
    over.set()
    thread.join()
    for node in nodes:
        node.destroy_node()
    executor.shutdown()
    rclpy.shutdown(context=context)


def offline(bag: Path, model: Path, out: Path, *options: str) -> ReplayResult:
    assert main(['replay', str(bag), '--model', str(model), '-o', str(out), *options]) == 0
    return open_result(out)


def same_where_both_looked(live: ReplayResult, still: ReplayResult) -> int:
    """How many frames both looked at; in these all is equal, bit for bit."""
    known = {(seen.topic, seen.stamp): seen for seen in still.frames()}
    frames = list(live.frames())
    for seen in frames:
        other = known[seen.topic, seen.stamp]
        assert (seen.time, seen.frame_id, seen.size) == (other.time, other.frame_id, other.size)
        for name in ('boxes', 'scores', 'class_ids'):
            mine, its = getattr(seen.detections, name), getattr(other.detections, name)
            assert mine.dtype == its.dtype and mine.tobytes() == its.tobytes()
    return len(frames)


def test_two_cameras_over_dds(
    world: World, robot_s: Any, tmp_path: Path, bag: Path, model: Path
) -> None:
    clock = world.subscribe(Clock, '/clock')
    images = world.subscribe(Image, FRONT)
    detector(
        world,
        {f'{name}/image': topic for name, topic in BASES.items()},
        model=str(model),
        cameras=list(BASES),
        **{'front.score_threshold': 0.1},
    )
    node = robot_s(bag=str(bag), output=str(tmp_path / 'live'))
    world.until(lambda: node.finished, 'the replay is over')
    assert (node.problem, node.exit_code, node.sent, node.total) == ('', 0, 20, 20)
    live = open_result(tmp_path / 'live')
    params = tmp_path / 'detector.yaml'
    params.write_text(
        '/**:\n  ros__parameters:\n    cameras: [front, rear]\n    front: {score_threshold: 0.1}\n'
    )
    still = offline(bag, model, tmp_path / 'still', '--params', str(params))
    seen = same_where_both_looked(live, still)
    assert seen == live.summary['frames'] > 0
    # The camera whose threshold is lower sees the darker images, too.
    found = [still.summary['cameras'][topic]['detections'] for topic in (FRONT, REAR)]
    assert sum(found[0].values()) > sum(found[1].values()) > 0
    for topic, camera in live.summary['cameras'].items():
        frames = camera['frames']
        assert (frames['expected'], frames['read']) == (10, 10)
        assert frames['looked_at'] == 10 - frames['rejected'].get(DROPPED, 0)
        assert set(camera['latency_ms']) <= {'total'}
        name = 'front' if topic == FRONT else 'rear'
        told = live.summary['online']['statuses'][name]
        assert (told['received'], told['published']) == (10, frames['looked_at'])
    assert live.summary['model']['sha256'] == still.summary['model']['sha256']
    assert live.summary['selection'] == {**still.summary['selection'], 'score_threshold': 0.1}
    assert (tmp_path / 'live' / 'report.html').stat().st_size
    # The clock is the bag's, ticks on and never back, and no image is ahead of it.
    ticks = [c.clock.sec * 10**9 + c.clock.nanosec for c in clock]
    assert ticks == sorted(ticks) and ticks[0] < START < START + 9 * STEP < ticks[-1]
    assert images[0].header.stamp.nanosec == (START - 5) % 10**9


def test_what_is_dropped_is_counted(
    world: World, robot_s: Any, tmp_path: Path, domain_id: int
) -> None:
    """A detector that cannot keep up, and the replay as a process of its own."""
    slow = constant_detector(tmp_path / 'slow.onnx', work=10)
    messages = [(FRONT, t, raw(gray(n), t)) for n in range(20) if (t := START + n * STEP)]
    bag = write(tmp_path / 'bag', iter(messages))
    # All that the middleware would overwrite is to be counted, too.
    detector(world, {'image': FRONT}, model=str(slow), image_depth=100)
    out = tmp_path / 'live'
    given = parameters(bag=bag, output=out, rate=20.0)
    process = start('replay', domain_id, *given)
    _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, errors
    live = open_result(out)
    (camera,) = live.summary['cameras'].values()
    frames, told = camera['frames'], live.summary['online']['statuses']['inference']
    assert frames['read'] == 20 == told['received'] + told['lost']
    dropped = frames['rejected'][DROPPED]
    assert dropped == 20 - told['published'] > 0
    assert frames['looked_at'] == told['published'] > 0
    assert 'a newer image was looked at' in camera['rejected_because'][DROPPED]
    assert same_where_both_looked(live, offline(bag, slow, tmp_path / 'still')) > 0
    options = ['--common', '--max-lost', '0%', '--max-new', '0%', '--max-rescored', '0%']
    assert main(['compare', str(tmp_path / 'still'), str(out), *options]) == 0
    assert main(['compare', str(tmp_path / 'still'), str(out), '--max-lost', '0%']) == 3


def test_the_command(
    tmp_path: Path, bag: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At the desk, both nodes in one process."""
    common = ['replay', str(bag), '--model', str(model), '--topics', REAR, '--threads', '1']
    assert main([*common, '-o', str(tmp_path / 'still')]) == 0
    options = ['--online', '--rate', '2', '-o', str(tmp_path / 'live'), '--common']
    baseline = ['--baseline', str(tmp_path / 'still'), '--max-lost', '0%', '--max-new', '0%']
    assert main([*common, *options, *baseline]) == 0
    shown = capsys.readouterr()
    assert 'replay_output' not in shown.out and 'passed' in shown.out
    live, still = (open_result(tmp_path / name) for name in ('live', 'still'))
    if same_where_both_looked(live, still) == 10:
        # Equal to the last byte of the bag.
        assert (live.path / BAG).read_bytes() == (still.path / BAG).read_bytes()
    assert live.summary['online']['rate'] == 2
    (tmp_path / 'bad.onnx').write_text('no model')
    wrong = ['replay', str(bag), '--model', str(tmp_path / 'bad.onnx'), '--topics', REAR]
    assert main([*wrong, '--online', '-o', str(tmp_path / 'none')]) == 2
    assert 'bad.onnx' in capsys.readouterr().err
    assert not (tmp_path / 'none').exists()


def test_ends_before_the_end(
    world: World,
    robot_s: Any,
    tmp_path: Path,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stopped, or without a detector any more, it keeps what was seen until then, and says so."""
    monkeypatch.setattr('trt_perception.nodes.replay.SILENT', 2.0)
    messages = [(FRONT, t, raw(gray(n), t)) for n in range(1000) if (t := START + n * STEP)]
    bag = write(tmp_path / 'bag', iter(messages))
    subject = detector(world, {'image': FRONT}, model=str(model))
    node = robot_s(bag=str(bag), output=str(tmp_path / 'live'), rate=2.0)
    world.until(lambda: node.sent > 3, 'images are played')
    node.stop()
    world.until(lambda: node.finished, 'it stops')
    live = open_result(tmp_path / 'live')
    assert (node.exit_code, live.summary['complete'], live.summary['damage']) == (1, False, [])
    (camera,) = live.summary['cameras'].values()
    assert 3 < camera['frames']['read'] == node.sent < 1000
    node = robot_s(bag=str(bag), output=str(tmp_path / 'part'), rate=2.0)
    world.until(lambda: node.sent > 3, 'images are played')
    world.remove(subject)
    world.until(lambda: node.finished, 'it gives up')
    assert 'has said nothing on /diagnostics for 2 s' in node.problem
    assert node.problem.endswith('part holds what it saw before')
    part = open_result(tmp_path / 'part')
    (camera,) = part.summary['cameras'].values()
    assert (node.exit_code, part.summary['complete']) == (1, False)
    assert 0 < camera['frames']['looked_at'] < node.sent


def test_it_says_what_it_waits_for(robot_s: Any, world: World, bag: Path, tmp_path: Path) -> None:
    node = robot_s(bag=str(bag), output=str(tmp_path / 'live'), start_timeout=1.0)
    world.until(lambda: node.finished, 'it gives up')
    assert node.exit_code == 1 and 'no diagnostics of a detector /detector' in node.problem
    assert sorted(p.name for p in tmp_path.iterdir()) == ['bag']
    for given, words in (
        ({}, 'bag: is empty'),
        ({'bag': 'nowhere'}, 'does not exist'),
        ({'bag': str(bag), 'output': str(bag)}, 'is no replay'),
        ({'bag': str(bag), 'topics': ['/top']}, "no image topic '/top'"),
    ):
        with pytest.raises(PerceptionError, match=words):
            robot_s(**given)


# The ledger


def message(number: int, topic: str = FRONT) -> Message:
    return Message(topic, 'sensor_msgs/msg/Image', 10**9 * number, b'...')


def frame(number: int) -> Frame:
    return Frame(np.zeros(0, np.uint8), 4, 3, 'bgr8', 12, Stamp(number - 1, 999_000_000))


def test_a_ledger_keeps_the_order() -> None:
    ledger = Ledger()
    for number in range(1, 5):
        ledger.sent(message(number), frame(number), 'bgr8', at=number * 1000)
    ledger.refused(message(5), None, FrameError('message', 'no image'))
    nothing = Detections.empty()
    ledger.answered(FRONT, frame(2).stamp, nothing, at=4_002_000)
    ledger.answered(FRONT, frame(1).stamp, nothing, at=3_001_000)
    ledger.answered(FRONT, frame(4).stamp, nothing, at=9_000)
    ledger.answered(REAR, frame(3).stamp, nothing, at=9_000)
    assert (ledger.waiting, ledger.strange) == (1, 1)
    first = list(ledger.settle(now=10_000))
    assert [look.time // 10**9 for look in first] == [1, 2]
    # A millisecond from its stamp to its recording, and then on its way.
    assert [look.latencies_ms['total'] for look in first] == [4.0, 5.0]
    assert [look.time // 10**9 for look in ledger.settle(now=3000 + PATIENCE)] == [3, 4, 5]
    assert ledger.waiting == 0
    ledger.answered(FRONT, frame(3).stamp, nothing, at=9_000)
    assert ledger.strange == 2


def test_a_ledger_of_equal_stamps() -> None:
    """They are answered in their order, and what is left at the end is dropped."""
    ledger = Ledger()
    for number in (1, 2, 3):
        ledger.sent(message(number), frame(1), 'bgr8', at=0)
    for at in (10, 20):
        ledger.answered(FRONT, frame(1).stamp, Detections.empty(), at=at)
    one, two, three = ledger.settle()
    assert isinstance(one.detections, Detections) and isinstance(two.detections, Detections)
    assert isinstance(three.detections, FrameError) and three.detections.kind == DROPPED
    assert two.latencies_ms['total'] == pytest.approx(1001.0, abs=0.1)
