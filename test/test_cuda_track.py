# SPDX-License-Identifier: Apache-2.0
"""Lanes that take turns on one execution context."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from cuda_pipelines import ROOT, WAREHOUSE, Open

from trt_perception.core import Frame, Selection
from trt_perception.runtime.cuda import driver
from trt_perception.runtime.cuda.driver import CudaError
from trt_perception.runtime.cuda.track import Track, Turn
from trt_perception.runtime.engine import EngineError
from trt_perception.runtime.pipeline import open_pipeline

pytest_plugins = ['cuda_pipelines']


class Course:
    """What runners use, one at a time: fails the test if two do."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.busy: Runner | None = None


class Runner:
    """Its work ends when it is told to, or, with ``done`` set, at once."""

    def __init__(self, name: str, course: Course) -> None:
        self.name, self.course = name, course
        self.done = threading.Event()
        self.refuses = self.breaks = False

    def launch(self) -> None:
        if self.refuses:
            raise EngineError(f'{self.name} cannot be launched')
        assert self.course.busy is None
        self.course.busy = self
        self.course.order.append(self.name)

    def wait(self) -> None:
        assert self.done.wait(20)
        if self.course.busy is self:
            self.course.busy = None
        if self.breaks:
            raise CudaError('cuEventSynchronize', 700, 'BROKEN', 'broken')


@pytest.fixture
def runners() -> list[Runner]:
    course = Course()
    return [Runner(name, course) for name in 'abc']


def test_each_is_launched_when_the_one_before_is_through(runners: list[Runner]) -> None:
    track, course = Track(SimpleNamespace()), runners[0].course
    assert track.idle
    turns = [track.enter(runner) for runner in runners]
    assert course.order == ['a']
    assert not track.idle
    runners[0].done.set()
    track.leave(turns[0])
    assert course.order == ['a', 'b']  # before anybody asks for it
    for runner in runners:
        runner.done.set()
    track.leave(turns[2])  # who is last sees the others through
    assert course.order == ['a', 'b', 'c']
    assert turns[1].over
    track.leave(turns[1])
    assert track.idle


def test_a_turn_that_nobody_asks_for_holds_no_one_up(runners: list[Runner]) -> None:
    track = Track(SimpleNamespace())
    a, b, _ = runners
    for runner in runners:
        runner.done.set()
    track.enter(a)
    track.leave(track.enter(b))
    assert a.course.order == ['a', 'b']


def test_who_cannot_be_launched_is_told_and_no_one_else(runners: list[Runner]) -> None:
    track = Track(SimpleNamespace())
    a, b, c = runners
    for runner in runners:
        runner.done.set()
    b.refuses = True
    turns = [track.enter(runner) for runner in runners]
    track.leave(turns[0])
    track.leave(turns[2])
    with pytest.raises(EngineError, match='b cannot be launched'):
        track.leave(turns[1])
    assert a.course.order == ['a', 'c']
    with pytest.raises(EngineError, match='b cannot be launched'):
        track.enter(b)
    track.leave(track.enter(c))


def test_a_wait_that_fails_is_its_own_runners(runners: list[Runner]) -> None:
    track = Track(SimpleNamespace())
    a, b, _ = runners
    a.breaks = True
    a.done.set()
    b.done.set()
    first, second = track.enter(a), track.enter(b)
    track.leave(second)
    with pytest.raises(CudaError, match='broken'):
        track.leave(first)


def test_many_threads_never_meet(runners: list[Runner]) -> None:
    course, track = runners[0].course, Track(SimpleNamespace())
    many = [Runner(str(k), course) for k in range(6)]
    for runner in many:
        runner.done.set()
    rounds = 300

    def go(runner: Runner) -> None:
        for _ in range(rounds):
            turn: Turn = track.enter(runner)
            track.leave(turn)
            assert turn.over

    with ThreadPoolExecutor(len(many)) as pool:
        for running in [pool.submit(go, runner) for runner in many]:
            running.result(60)
    assert len(course.order) == rounds * len(many)
    assert track.idle


def test_lanes_of_one_context_give_what_the_host_gives(opened: Open) -> None:
    """Each with tensors of its own on a context that knows those of one lane only."""
    host, cuda = open_pipeline(WAREHOUSE, threads=1), opened(WAREHOUSE, 4, contexts=2)
    video = cv2.VideoCapture(str(ROOT / 'resource' / 'demo' / 'drive.mp4'))
    images = [np.ascontiguousarray(video.read()[1]) for _ in range(40)][::10]
    frames = [Frame.from_array(image) for image in images]
    expected = [host(frame, Selection()).detections for frame in frames]
    assert sum(map(len, expected)) > 5
    order = random.Random(0)
    for _ in range(4):
        tickets = [cuda.begin(frame, Selection()) for frame in frames]
        numbers = list(range(len(frames)))
        order.shuffle(numbers)
        for number in numbers:
            found = tickets[number].finish().detections
            np.testing.assert_allclose(found.boxes, expected[number].boxes, atol=0.01)
    before = driver.calls.copy()
    for frame in frames:
        cuda(frame, Selection())
    calls = driver.calls - before
    assert calls.total() == 3 * len(frames)
    assert len({id(lane.track) for lane in cuda._lanes}) == 2
