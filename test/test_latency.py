# SPDX-License-Identifier: Apache-2.0
"""A detector that judges its own times, over real DDS, on clocks that stand, jump and lie."""

from __future__ import annotations

from pathlib import Path
from time import sleep

import numpy as np
import pytest
from models import constant_detector

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import ROSClock
from rclpy.logging import get_logger
from rclpy.time import Time
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from world import Camera, Robot, World, picture, values

from trt_perception.core import Frame, Stamp
from trt_perception.health.budget import Budget
from trt_perception.nodes import camera_monitor as camera_monitor_module
from trt_perception.nodes import monitor as monitor_module
from trt_perception.nodes.camera_monitor import CameraMonitor
from trt_perception.nodes.monitor import StreamMonitor
from trt_perception.ros.diagnostics import ERROR, OK, STALE, WARN, Verdict

MS = 1_000_000
SECOND = 1000 * MS
#: So long that a loaded machine does not break it, and so short that a wrong clock does.
GENEROUS = {'latency_budget_ms': 5000.0, 'budget_error_factor': 1000.0}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return constant_detector(tmp_path / 'model.onnx')


def stamped(nanoseconds: int) -> Image:
    image = picture()
    image.header.stamp = Time(nanoseconds=nanoseconds).to_msg()
    return image


def test_a_budget_that_is_broken_and_changed_while_it_runs(world: World, model: Path) -> None:
    robot = Robot(world, model, latency_budget_ms=0.01, budget_error_factor=1000.0)
    camera = Camera(world).until_heard()
    clock = world.node.get_clock()

    def shown(level: bytes, *words: str) -> DiagnosticStatus:
        """Show images until a status says so."""

        def said() -> DiagnosticStatus | None:
            robot.answer(camera, stamped(clock.now().nanoseconds))
            status = robot.status()
            told = status.level == level and all(word in status.message for word in words)
            return status if told else None

        return world.until(said, ' '.join(words))

    over = 'stamp to publish p95', 'over latency_budget_ms 0.01', 'most of it is'
    told = values(shown(DiagnosticStatus.WARN, *over))
    assert told['latency judged by'] == 'stamp to publish'
    assert int(told['late']) > 1
    assert int(told['stale']) > 1
    for stage in ('age', 'queue', 'infer', 'stamp to publish', 'publish interval'):
        figures = [float(told[f'{stage} {p} ms']) for p in ('p50', 'p95', 'p99', 'max')]
        assert figures == sorted(figures)

    # A stage of its own budget, at once.
    assert robot.set(latency_budget_ms=0.0, stage_budgets_ms=['infer=0.001', 'queue=60000']) == ''
    shown(DiagnosticStatus.WARN, 'infer p95', 'over stage_budgets_ms infer 0.001')
    assert robot.set(stage_budgets_ms=['gpu=1']).startswith("stage_budgets_ms: 'gpu=1' is not")
    assert robot.get('stage_budgets_ms') == ['infer=0.001', 'queue=60000']
    assert robot.set(stage_budgets_ms=['']) == ''
    shown(DiagnosticStatus.OK, 'images/s')


def levels(heard: list[DiagnosticArray]) -> set[bytes]:
    """Of all that was said once images had come."""
    said = [message.status[0] for message in heard]
    return {s.level for s in said if values(s).get('published', '0') != '0'}


def test_a_bag_played_twice_with_its_clock(world: World, model: Path) -> None:
    heard = world.subscribe(DiagnosticArray, '/diagnostics')
    robot = Robot(world, model, use_sim_time=True, rate_min_hz=10.0, **GENEROUS)
    ticks = world.node.create_publisher(Clock, '/clock', 10)
    camera = Camera(world).until_heard()
    world.until(ticks.get_subscription_count, 'the detector hears /clock')
    for _ in range(2):
        for k in range(40):  # 2 s
            stamp = 1000 * SECOND + k * 50 * MS
            tick = Clock()
            tick.clock = Time(nanoseconds=stamp + 4 * MS).to_msg()
            ticks.publish(tick)
            robot.answer(camera, stamped(stamp))
            sleep(0.015)
    told = values(robot.until_says(lambda s: values(s).get('received') == '80', 'all have come'))
    assert levels(heard) == {DiagnosticStatus.OK}
    assert int(told['clock jumps']) == 2  # from nowhere to the recording, and back to its beginning
    assert told['latency judged by'] == 'total (time is that of /clock)'
    assert float(told['receive interval p50 ms']) == pytest.approx(50, rel=0.01)
    assert float(told['speed of stamps']) > 0


def test_a_bag_played_twice_without_its_clock(world: World, model: Path) -> None:
    """Slower than it was recorded, too: that is said, and no alarm."""
    log, heard = world.log(), world.subscribe(DiagnosticArray, '/diagnostics')
    robot = Robot(world, model, rate_min_hz=14.0, **GENEROUS)
    camera = Camera(world).until_heard()
    for _ in range(2):
        for k in range(18):
            robot.answer(camera, stamped(1000 * SECOND + k * 60 * MS))
            sleep(0.09)
    said = robot.until_says(lambda s: values(s).get('received') == '36', 'all have come')
    assert levels(heard) == {DiagnosticStatus.OK}
    told = values(said)
    assert 0 < float(told['speed of stamps']) < 0.9
    assert 'of the speed of the stamps' in said.message
    assert told['latency judged by'].startswith('total (images are ')
    assert 'stamp to publish p50 ms' not in told
    assert (told['late'], told['stale']) == ('0', '0')
    assert float(told['publish interval p50 ms']) == pytest.approx(60, rel=0.01)
    once = [m.msg for m in log if 'a recording without use_sim_time' in m.msg]
    assert len(once) == 1


class Watch:
    """A monitor, the steady clock that it reads and a simulation's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **budget: float) -> None:
        self._steady = 1000.0
        monkeypatch.setattr(monitor_module, 'perf_counter', lambda: self._steady)
        monkeypatch.setattr(monitor_module, 'perf_counter_ns', lambda: int(self._steady * 1e9))
        self._clock = ROSClock()
        self._clock._set_ros_time_is_active(True)
        self.time = 5
        self.monitor = StreamMonitor(get_logger('watch'), self._clock)
        self.monitor.budget = Budget(**budget)

    def second(self, images: int = 0, *, ticks: bool = True, why: str = '') -> Verdict:
        """A second goes by, with so many images in it."""
        for _ in range(images):
            self._steady += 1 / images
            self.time += ticks * SECOND // images
            self._clock.set_ros_time_override(Time(nanoseconds=self.time))
            frame = Frame.from_array(np.zeros((8, 8, 3), np.uint8), stamp=Stamp.of(self.time))
            self.monitor.received(frame)
            self.monitor.published(frame, {'total': MS}, 0)
        if not images:
            self._steady += 1
            self.time += ticks * SECOND
            self._clock.set_ros_time_override(Time(nanoseconds=self.time))
        return self.monitor.judge(why)


def test_a_camera_that_falls_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(monkeypatch)
    assert [watch.second().level for _ in range(6)] == [OK] * 5 + [WARN]  # none ever came
    assert [watch.second(30).level for _ in range(3)] == [OK] * 3
    told = [watch.second() for _ in range(7)]
    assert [verdict.level for verdict in told] == [OK] * 5 + [STALE] * 2
    assert told[-1].message == 'no image for 7 s'
    assert watch.second(30).level == OK
    gone = [watch.second(why='nobody publishes') for _ in range(6)]
    assert [verdict.level for verdict in gone] == [WARN] * 5 + [STALE]
    assert gone[-1].message == 'nobody publishes; no image for 6 s'
    watch.monitor.begin()  # activated anew
    assert watch.second().level == OK


def test_a_slow_camera_may_be_silent_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(monkeypatch, rate_hz=0.1)
    watch.second(1)
    assert {watch.second().level for _ in range(50)} == {OK}
    assert watch.second().level == STALE


def test_while_the_clock_stands_still_nothing_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(monkeypatch)
    watch.second(30)
    told = [watch.second(ticks=False) for _ in range(60)]
    assert set(told) == {Verdict(OK, 'no image, and /clock stands still')}
    assert [watch.second().level for _ in range(6)] == [OK] * 5 + [STALE]
    watch.monitor.clock_jumped()
    assert watch.second().level == OK
    assert watch.monitor.values()['clock jumps'] == 1


def test_a_detector_that_falls_behind_by_far_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    watch = Watch(monkeypatch, latency_ms=0.1, rate_hz=0.0)
    told = [watch.second(30) for _ in range(4)]
    assert [verdict.level for verdict in told] == [OK] + [ERROR] * 3
    assert told[-1].message == 'total p95 1.0 ms is 0.9 over latency_budget_ms 0.1 for 3 s'
    assert watch.monitor.values()['late'] == 120
    assert capfd.readouterr().err.count('over latency_budget_ms') == 1  # in the log, once


def test_a_capture_that_falls_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(camera_monitor_module, 'perf_counter', lambda: now)
    monitor = CameraMonitor()
    monitor.state = 'running'
    seen = []
    for read in (0, 0, 1, 0, 0):
        now += 3
        monitor.count('read', read)
        seen.append(monitor.judge().level)
    assert seen == [OK, WARN, OK, OK, STALE]
