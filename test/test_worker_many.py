# SPDX-License-Identifier: Apache-2.0
"""Several cameras and several devices in one worker."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from test_worker import EVERYTHING, TIMEOUT, Heard, Stepped, frame

from trt_perception.core import Detections, Frame, FrameError, Selection
from trt_perception.runtime.engine import EngineError
from trt_perception.runtime.pipeline import Result, StageTimes
from trt_perception.runtime.replica import FAILURES, Replica
from trt_perception.runtime.worker import InferenceWorker


class LostError(EngineError):
    """As `CudaError` when the context is gone."""

    sticky = True


class Together(Stepped):
    """Looks at two frames at once; each look ends when it is told to."""

    batch = 2

    def __init__(self) -> None:
        super().__init__()
        self.looks: list[list[int]] = []

    def many(self, wishes: list[tuple[Frame, Selection]]) -> list[Result]:
        self.looks.append([f.stamp.sec for f, _ in wishes])
        return [self(*wish) for wish in wishes]

    def __call__(self, frame: Frame, selection: Selection) -> Result:
        super().__call__(frame, selection)
        return Result(Detections.empty(), StageTimes(1, 2, frame.stamp.sec))


@pytest.fixture
def worker() -> Iterator[InferenceWorker]:
    worker = InferenceWorker()
    yield worker
    worker.close()
    worker.join()
    assert wait_until(lambda: not [t for t in threading.enumerate() if t.name == 'inference'])


def listening(worker: InferenceWorker, name: str = 'front') -> tuple:
    heard = Heard()
    camera = worker.camera(name, EVERYTHING, heard)
    camera.resume()
    return camera, heard


def test_cameras_take_turns_and_each_hears_of_its_own(worker):
    pipeline = Stepped()
    worker.run_on('gpu', pipeline)
    front, of_front = listening(worker, 'front')
    rear, of_rear = listening(worker, 'rear')
    front.submit(frame(1))
    assert pipeline.begun() == 1
    front.submit(frame(2))
    rear.submit(frame(11))
    rear.submit(frame(12))
    assert of_rear.next() == 'dropped 11'
    for _ in range(3):
        pipeline.end()
    assert {pipeline.begun(), pipeline.begun()} == {2, 12}
    assert [of_front.next(), of_front.next()] == ['result 1', 'result 2']
    assert of_rear.next() == 'result 12'
    front.pause()
    front.submit(frame(3))
    rear.submit(frame(13))
    pipeline.end()
    assert (of_front.next(), of_rear.next()) == ('discarded 3', 'result 13')


def test_the_device_that_is_free_takes_the_next(worker):
    first, second = Stepped(), Stepped()
    worker.run_on('gpu', first)
    worker.run_on('dla0', second)
    front, heard = listening(worker)
    begun: dict[int, Stepped] = {}
    for number in (1, 2):
        front.submit(frame(number))
        worker_of = wait_for(first, second)
        begun[number] = worker_of
    assert set(begun.values()) == {first, second}
    # The younger one is done first: the older one comes too late, and is counted.
    begun[2].end()
    assert heard.next() == 'result 2'
    begun[1].end()
    assert heard.next() == 'dropped 1'


def wait_for(*pipelines: Stepped) -> Stepped:
    """The one that has begun with something."""
    give_up = threading.Event()
    for _ in range(int(TIMEOUT / 0.01)):
        for pipeline in pipelines:
            if not pipeline._begun.empty():
                pipeline.begun()
                return pipeline
        give_up.wait(0.01)
    raise AssertionError('nothing has begun')


def test_a_pipeline_with_lanes_is_used_by_as_many_threads(worker):
    pipeline = Stepped()
    pipeline.lanes = 2
    worker.run_on('gpu', pipeline)
    cameras = [listening(worker, name) for name in 'abc']
    for number, (camera, _) in enumerate(cameras):
        camera.submit(frame(number))
    assert {pipeline.begun(), pipeline.begun()} == {0, 1}
    for _ in range(3):
        pipeline.end()
    assert [heard.next() for _, heard in cameras] == ['result 0', 'result 1', 'result 2']


def test_a_device_that_fails_is_taken_out_and_its_frame_seen_elsewhere(worker):
    bad, good = Stepped(), Stepped()
    worker.run_on('gpu1', bad)
    front, heard = listening(worker)
    front.submit(frame(1))
    assert bad.begun() == 1
    worker.run_on('gpu', good)
    bad.end(LostError('the CUDA context is lost'))
    assert good.begun() == 1
    good.end()
    assert heard.next() == 'result 1'
    assert worker.lost == {'gpu1': 'the CUDA context is lost'}
    assert bad.closed or wait_until(lambda: bad.closed)
    front.submit(frame(2))
    assert good.begun() == 2
    good.end()
    assert heard.next() == 'result 2'
    # Another pipeline for it, and it is in use again.
    again = Stepped()
    worker.run_on('gpu1', again)
    assert worker.lost == {}


def wait_until(condition) -> bool:
    pause = threading.Event()
    for _ in range(int(TIMEOUT / 0.01)):
        if condition():
            return True
        pause.wait(0.01)
    return False


def test_the_last_device_that_fails_says_so_of_its_frame(worker):
    only = Stepped()
    worker.run_on('gpu', only)
    front, heard = listening(worker)
    front.submit(frame(1))
    only.end(LostError('lost'))
    assert heard.next() == 'error 1'
    assert worker.lost == {'gpu': 'lost'}
    front.submit(frame(2))
    assert heard.next() == 'unserved 2'


def test_what_waits_when_the_last_device_fails_is_counted_and_not_seen_later(worker):
    only = Stepped()
    worker.run_on('gpu', only)
    front, of_front = listening(worker, 'front')
    rear, of_rear = listening(worker, 'rear')
    front.submit(frame(1))
    assert only.begun() == 1
    front.submit(frame(2))
    rear.submit(frame(11))
    only.end(LostError('lost'))
    assert [of_front.next(), of_front.next()] == ['error 1', 'unserved 2']
    assert of_rear.next() == 'unserved 11'
    later = Stepped()
    worker.run_on('gpu', later)
    front.submit(frame(3))
    assert later.begun() == 3
    later.end()
    assert of_front.next() == 'result 3'


def test_a_frame_that_fails_everywhere_is_not_tried_for_ever(worker):
    devices = [Stepped(), Stepped(), Stepped()]
    for number, pipeline in enumerate(devices):
        for _ in range(2):
            pipeline.end(LostError('lost'))
        worker.run_on(f'gpu{number}', pipeline)
    front, heard = listening(worker)
    front.submit(frame(1))
    assert heard.next() == 'error 1'
    assert len(worker.lost) == 2


def test_a_frame_that_fails_by_itself_costs_no_device(worker):
    pipeline = Stepped()
    worker.run_on('gpu', pipeline)
    front, heard = listening(worker)
    front.submit(frame(1))
    pipeline.end(EngineError('refused'))
    assert heard.next() == 'error 1'
    assert worker.lost == {}


def test_one_slow_look_at_several_is_not_for_ever():
    replica = Replica(Together())
    replica.learn(1, 0.010)
    assert replica.worth_together(2) == 2
    replica.learn(2, 0.100)  # something else was in the way
    assert replica.worth_together(2) == 1
    tried = 0
    for _ in range(2000):
        frames = replica.worth_together(2)
        tried += frames == 2
        replica.learn(frames, 0.010 if frames == 1 else 0.012)
    assert tried > 500

    slow = Replica(Together())
    slow.learn(1, 0.010)
    slow.learn(2, 0.100)
    tried = 0
    for _ in range(1000):
        frames = slow.worth_together(2)
        tried += frames == 2
        slow.learn(frames, 0.010 if frames == 1 else 0.100)
    assert tried < 20


def test_frames_that_wait_are_looked_at_together_where_that_is_faster(worker):
    pipeline = Together()
    worker.run_on('gpu', pipeline)
    cameras = [listening(worker, name) for name in 'abc']
    for number, (camera, _) in enumerate(cameras):
        camera.submit(frame(number))
    pipeline.begun()  # alone: how long one takes is not known yet
    for _ in range(3):
        pipeline.end()
    for _, heard in cameras:
        assert heard.next().startswith('result')
    assert pipeline.looks == [[1, 2]]
    for number, (_, heard) in enumerate(cameras):
        assert heard.results[number].times.decode == number  # its own, not its neighbour's


def test_a_device_that_fails_with_frame_after_frame_is_left_to_the_others(worker):
    bad, good = Stepped(), Stepped()
    worker.run_on('gpu1', bad)
    front, heard = listening(worker)
    wrong = [EngineError('execute_async_v3 failed')] * (FAILURES - 1)
    for number, error in enumerate([*wrong, None, *wrong, FrameError('decode', 'no image')]):
        front.submit(frame(number))
        assert bad.begun() == number
        bad.end(error)
        assert heard.next().endswith(f' {number}')
    assert worker.lost == {}  # it worked between, and the last one was the frame's own fault
    front.submit(frame(20))
    assert bad.begun() == 20
    worker.run_on('gpu', good)
    bad.end(EngineError('execute_async_v3 failed'))
    assert heard.next() == 'error 20'
    assert worker.lost == {'gpu1': 'execute_async_v3 failed'}
    front.submit(frame(21))
    assert good.begun() == 21
    good.end()
    assert heard.next() == 'result 21'


def test_the_only_device_is_tried_again_and_again(worker):
    only = Stepped()
    worker.run_on('gpu', only)
    front, heard = listening(worker)
    for number in range(FAILURES + 2):
        front.submit(frame(number))
        only.end(EngineError('refused'))
        assert heard.next() == f'error {number}'
    assert worker.lost == {}


def test_what_hangs_is_taken_out_and_its_frame_counted(worker):
    stuck, good = Stepped(), Stepped()
    worker.run_on('gpu', stuck)
    front, heard = listening(worker)
    front.submit(frame(1))
    assert stuck.begun() == 1
    front.submit(frame(2))
    for _ in range(3):
        worker.watch(0.25, limit=1.0)
    assert worker.lost == {}
    worker.watch(0.25, limit=1.0)
    assert [heard.next(), heard.next()] == ['error 1', 'unserved 2']
    assert worker.lost == {'gpu': 'an inference has not come back for 1 s'}
    assert worker.occupied('gpu') and not worker.serves
    # The device works again before the thread comes back, which is told of no more.
    worker.run_on('gpu', good)
    for number in (3, 4):
        front.submit(frame(number))
        assert good.begun() == number
        good.end()
        assert heard.next() == f'result {number}'
    stuck.end()
    assert wait_until(lambda: stuck.closed and not worker.occupied('gpu'))
    assert heard.rest() == [] and not good.closed
    assert not worker.lost


def test_what_came_in_the_place_of_what_hangs_has_a_thread_too(worker):
    stuck, good = Stepped(), Stepped()
    worker.run_on('gpu', stuck)
    front, heard = listening(worker)
    front.submit(frame(1))
    assert stuck.begun() == 1
    worker.run_on('gpu', good)  # an engine that was built meanwhile, or a lighter model
    front.submit(frame(2))
    worker.watch(2.0, limit=1.0)
    assert heard.next() == 'error 1'
    assert good.begun() == 2
    good.end()
    assert heard.next() == 'result 2'
    assert worker.lost == {}
    stuck.end()
    assert wait_until(lambda: stuck.closed and not worker.occupied('gpu'))


def test_others_carry_on_while_one_hangs(worker):
    stuck, good = Stepped(), Stepped()
    stuck.lanes = 2
    worker.run_on('gpu1', stuck)
    front, of_front = listening(worker, 'front')
    rear, of_rear = listening(worker, 'rear')
    front.submit(frame(1))
    rear.submit(frame(11))
    assert {stuck.begun(), stuck.begun()} == {1, 11}
    worker.run_on('gpu', good)
    worker.watch(2.0, limit=1.0)
    assert (of_front.next(), of_rear.next()) == ('error 1', 'error 11')
    for camera, heard, number in ((front, of_front, 2), (rear, of_rear, 12)):
        camera.submit(frame(number))
        good.end()
        assert heard.next() == f'result {number}'
    # Only one of the two comes back before the end, which does not wait for the other.
    stuck.end()
    worker.watch(2.0, limit=1.0)
    worker.close()
    worker.join()
    assert not stuck.closed and good.closed
    stuck.end()
    assert wait_until(lambda: stuck.closed)


def test_the_end_waits_for_what_hangs_no_longer_than_is_allowed(worker):
    stuck = Stepped()
    worker.run_on('gpu', stuck)
    front, heard = listening(worker)
    front.submit(frame(1))
    assert stuck.begun() == 1
    worker.close()
    worker.join(limit=0.3)
    assert heard.next() == 'discarded 1'
    stuck.end()
    assert wait_until(lambda: stuck.closed)


def test_the_only_device_is_left_where_there_is_something_to_spare(worker):
    only = Stepped()
    worker.run_on('gpu', only, spare=True)
    front, heard = listening(worker)
    for number in range(FAILURES):
        front.submit(frame(number))
        only.end(EngineError('out of memory'))
        assert heard.next() == f'error {number}'
    assert worker.lost == {'gpu': 'out of memory'}
    front.submit(frame(FAILURES))
    assert heard.next() == f'unserved {FAILURES}'
