# SPDX-License-Identifier: Apache-2.0
"""The inference thread: the latest frame only, every frame accounted for, nobody waits."""

from __future__ import annotations

import queue
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from models import constant_detector

from trt_perception.core import Detections, Frame, FrameError, Selection, Stamp
from trt_perception.runtime.engine import EngineError
from trt_perception.runtime.pipeline import AnyPipeline, Result, StageTimes, open_pipeline
from trt_perception.runtime.worker import InferenceWorker, Job

TIMEOUT = 60.0  # for what takes a moment; a loaded machine takes more of them
EVERYTHING = Selection()
BLANK = np.zeros((64, 64, 3), np.uint8)


def frame(number: int) -> Frame:
    return Frame.from_array(BLANK, stamp=Stamp(number))


class Stepped:
    """A pipeline that tells when an inference has begun and waits to be told how it ends."""

    def __init__(self) -> None:
        self.closed: list[threading.Thread] = []
        self._begun: queue.Queue[int] = queue.Queue()
        self._ends: queue.Queue[Exception | None] = queue.Queue()

    def __call__(self, frame: Frame, selection: Selection) -> Result:
        self._begun.put(frame.stamp.sec)
        error = self._ends.get(timeout=TIMEOUT)
        if error is not None:
            raise error
        return Result(Detections.empty(), StageTimes(1, 2, 3))

    def close(self) -> None:
        self.closed.append(threading.current_thread())

    def begun(self) -> int:
        """Wait for the next inference to begin; the number of its frame."""
        return self._begun.get(timeout=TIMEOUT)

    def end(self, error: Exception | None = None) -> None:
        """Let the inference under way, or the next one, end."""
        self._ends.put(error)


class Heard:
    """What a listener heard, in order: ``result 3`` for the third frame."""

    def __init__(self) -> None:
        self.words: queue.Queue[str] = queue.Queue()
        self.threads: dict[str, threading.Thread] = {}
        self.jobs: dict[int, Job] = {}
        self.results: dict[int, Result] = {}
        self.errors: dict[int, Exception] = {}

    def on_result(self, job: Job, result: Result) -> None:
        self.results[job.frame.stamp.sec] = result
        self._add('result', job)

    def on_error(self, job: Job, error: Exception) -> None:
        self.errors[job.frame.stamp.sec] = error
        self._add('error', job)

    def on_dropped(self, job: Job) -> None:
        self._add('dropped', job)

    def on_discarded(self, job: Job) -> None:
        self._add('discarded', job)

    def on_unserved(self, job: Job) -> None:
        self._add('unserved', job)

    def _add(self, word: str, job: Job) -> None:
        number = job.frame.stamp.sec
        self.jobs[number] = job
        self.threads[f'{word} {number}'] = threading.current_thread()
        self.words.put(f'{word} {number}')

    def next(self) -> str:
        """Wait for the next word."""
        return self.words.get(timeout=TIMEOUT)

    def rest(self) -> list[str]:
        """All words that nobody has waited for, once no more can come."""
        return list(self.words.queue)


class OneCamera:
    """A worker with one camera and one device."""

    def __init__(
        self, pipeline: AnyPipeline | Stepped | None, selection: Selection, listener: Heard
    ) -> None:
        self.worker = InferenceWorker()
        self.camera = self.worker.camera('', selection, listener)
        self.submit, self.pause = self.camera.submit, self.camera.pause
        self.resume, self.join = self.camera.resume, self.worker.join
        if pipeline is not None:
            self.replace(pipeline)

    @property
    def selection(self) -> Selection:
        return self.camera.selection

    @selection.setter
    def selection(self, selection: Selection) -> None:
        self.camera.selection = selection

    def replace(self, pipeline: AnyPipeline | Stepped) -> None:
        self.worker.run_on('gpu', pipeline)

    def close(self) -> None:
        self.camera.close()
        self.worker.close()


MakeWorker = Callable[..., OneCamera]


@pytest.fixture
def pipeline() -> Stepped:
    return Stepped()


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def make_worker(pipeline: Stepped) -> Iterator[MakeWorker]:
    """Start a worker, on the stepped pipeline unless another is given; it ends with the test."""
    workers: list[OneCamera] = []

    def make(
        listener: Heard,
        pipeline: AnyPipeline | Stepped | None = pipeline,
        selection: Selection = EVERYTHING,
    ) -> OneCamera:
        workers.append(OneCamera(pipeline, selection, listener))
        return workers[-1]

    yield make
    for worker in workers:
        worker.close()
        pipeline.end()
        worker.join()
    assert not [t for t in threading.enumerate() if t.name == 'inference']


@pytest.fixture
def worker(make_worker: MakeWorker, pipeline: Stepped, heard: Heard) -> OneCamera:
    """A worker that takes frames, on a stepped pipeline."""
    worker = make_worker(heard)
    worker.resume()
    return worker


# Frames


def test_a_frame_gives_a_result(make_worker, heard, tmp_path):
    worker = make_worker(heard, open_pipeline(constant_detector(tmp_path / 'm.onnx')))
    worker.resume()
    sent = frame(7)
    worker.submit(sent)
    assert heard.next() == 'result 7'
    assert heard.results[7].detections.boxes.tolist() == [[8, 8, 40, 24]]
    assert min(heard.results[7].times) > 0
    job = heard.jobs[7]
    assert job.frame is sent
    assert 0 < job.received <= job.started
    assert heard.threads['result 7'].name == 'inference'


def test_the_latest_frame_replaces_the_one_that_waits(worker, pipeline, heard):
    worker.submit(frame(1))
    assert pipeline.begun() == 1
    for number in (2, 3, 4):
        worker.submit(frame(number))
    assert [heard.next(), heard.next()] == ['dropped 2', 'dropped 3']
    assert heard.threads['dropped 3'] is threading.current_thread()
    assert heard.jobs[3].started == 0
    pipeline.end()
    assert heard.next() == 'result 1'
    assert pipeline.begun() == 4
    pipeline.end()
    assert heard.next() == 'result 4'
    assert heard.rest() == []


def test_a_real_network_sees_the_last_frame(make_worker, heard, tmp_path):
    model = constant_detector(tmp_path / 'm.onnx', work=20)
    worker = make_worker(heard, open_pipeline(model, threads=1))
    worker.resume()
    for number in range(40):
        worker.submit(frame(number))
    words = [heard.next() for _ in range(40)]
    assert words[-1] == 'result 39'
    for fate in ('dropped', 'result'):
        numbers = [int(w.split()[1]) for w in words if w.startswith(fate)]
        assert numbers == sorted(numbers)
    assert {w.split()[0] for w in words} <= {'dropped', 'result'}
    assert len(heard.jobs) == 40


def test_a_change_of_selection_holds_from_the_next_frame_on(make_worker, heard, tmp_path):
    boxes, scores = [[0, 0, 9, 9], [30, 30, 60, 60]], [0.9, 0.4]
    model = constant_detector(tmp_path / 'm.onnx', boxes, scores, [0, 1])
    worker = make_worker(heard, open_pipeline(model), Selection(score_threshold=0.5))
    worker.resume()
    for number, wanted in enumerate(
        [Selection(score_threshold=0.3), Selection(class_ids=frozenset({1})), Selection()]
    ):
        worker.submit(frame(number))
        assert heard.next() == f'result {number}'
        worker.selection = wanted
    worker.submit(frame(3))
    assert heard.next() == 'result 3'
    found = [heard.results[k].detections.class_ids.tolist() for k in range(4)]
    assert found == [[0], [0, 1], [1], [0, 1]]


# Errors


def test_a_bad_frame_is_followed_by_a_good_one(make_worker, heard, tmp_path):
    worker = make_worker(heard, open_pipeline(constant_detector(tmp_path / 'm.onnx')))
    worker.resume()
    png = cv2.imencode('.png', BLANK)[1].reshape(-1)
    png[len(png) // 2] ^= 0xFF
    worker.submit(Frame.from_compressed(png, stamp=Stamp(1)))
    assert heard.next() == 'error 1'
    assert isinstance(heard.errors[1], FrameError)
    assert heard.errors[1].kind == 'decode'
    assert heard.jobs[1].started > 0
    worker.submit(frame(2))
    assert heard.next() == 'result 2'


@pytest.mark.parametrize('error', [EngineError('refused'), RuntimeError(), MemoryError()])
def test_any_error_is_reported_and_survived(worker, pipeline, heard, error):
    worker.submit(frame(1))
    pipeline.end(error)
    assert heard.next() == 'error 1'
    assert heard.errors[1] is error
    worker.submit(frame(2))
    pipeline.end()
    assert heard.next() == 'result 2'


def test_an_error_of_who_listens_is_one_of_the_frame(make_worker, pipeline):
    class Clumsy(Heard):
        def on_result(self, job: Job, result: Result) -> None:
            if job.frame.stamp.sec == 1:
                raise ValueError('cannot publish')
            super().on_result(job, result)

    heard = Clumsy()
    worker = make_worker(heard)
    worker.resume()
    for number, word in ((1, 'error 1'), (2, 'result 2')):
        worker.submit(frame(number))
        pipeline.end()
        assert heard.next() == word
    assert str(heard.errors[1]) == 'cannot publish'


# Pause and resume


def test_it_takes_no_frames_before_it_is_told_to(make_worker, pipeline, heard):
    worker = make_worker(heard)
    worker.submit(frame(1))
    assert heard.next() == 'discarded 1'
    assert heard.threads['discarded 1'] is threading.current_thread()
    worker.resume()
    worker.submit(frame(2))
    assert pipeline.begun() == 2


def test_a_pause_discards_what_waits_and_what_is_under_way(worker, pipeline, heard):
    worker.submit(frame(1))
    assert pipeline.begun() == 1
    worker.submit(frame(2))
    worker.pause()
    assert heard.next() == 'discarded 2'
    worker.submit(frame(3))
    assert heard.next() == 'discarded 3'
    pipeline.end()
    assert heard.next() == 'discarded 1'
    assert heard.threads['discarded 1'].name == 'inference'
    assert heard.results == heard.errors == {}


def test_a_failure_after_a_pause_is_discarded_too(worker, pipeline, heard):
    worker.submit(frame(1))
    assert pipeline.begun() == 1
    worker.pause()
    pipeline.end(RuntimeError('too late'))
    assert heard.next() == 'discarded 1'
    assert heard.errors == {}


def test_a_result_of_before_a_pause_is_not_used_after_it(worker, pipeline, heard):
    worker.submit(frame(1))
    assert pipeline.begun() == 1
    worker.pause()
    worker.resume()
    worker.submit(frame(2))
    pipeline.end()
    assert heard.next() == 'discarded 1'
    assert pipeline.begun() == 2
    pipeline.end()
    assert heard.next() == 'result 2'


def test_pausing_and_resuming_twice_is_like_once(worker, pipeline, heard):
    worker.pause()
    worker.pause()
    worker.resume()
    worker.resume()
    worker.submit(frame(1))
    pipeline.end()
    assert heard.next() == 'result 1'


def test_no_result_comes_once_a_pause_has_returned(make_worker, pipeline):
    """A publisher may be destroyed then: a report under way is waited for."""
    inside, leave = threading.Event(), threading.Event()
    order: list[str] = []

    class Busy(Heard):
        def on_result(self, job: Job, result: Result) -> None:
            inside.set()
            leave.wait(TIMEOUT)
            order.append('reported')
            super().on_result(job, result)

    def pause() -> None:
        worker.pause()
        order.append('paused')

    heard = Busy()
    worker = make_worker(heard)
    worker.resume()
    worker.submit(frame(1))
    pipeline.end()
    assert inside.wait(TIMEOUT)
    pausing = threading.Thread(target=pause)
    pausing.start()
    pausing.join(0.2)  # what would return too early does so now
    leave.set()
    pausing.join(TIMEOUT)
    assert order == ['reported', 'paused']
    assert heard.rest() == ['result 1']


def test_nothing_waits_for_an_inference(worker, pipeline, heard):
    worker.submit(frame(1))
    assert pipeline.begun() == 1

    def use_all() -> None:
        worker.submit(frame(2))
        worker.pause()
        worker.resume()
        worker.submit(frame(3))
        worker.submit(frame(4))
        worker.selection = Selection()
        worker.close()
        worker.submit(frame(5))

    user = threading.Thread(target=use_all)
    user.start()
    user.join(TIMEOUT)
    assert not user.is_alive()
    assert heard.rest() == ['discarded 2', 'dropped 3', 'discarded 4', 'discarded 5']
    assert not pipeline.closed


# Another pipeline


def test_the_next_frame_runs_on_another_pipeline(worker, pipeline, heard):
    """Also one that waits already, and it does not wait until the old one is freed."""
    other = Stepped()
    worker.submit(frame(1))
    assert pipeline.begun() == 1
    worker.submit(frame(2))
    worker.replace(other)
    assert not pipeline.closed
    pipeline.end()
    assert heard.next() == 'result 1'
    assert other.begun() == 2
    assert not pipeline.closed
    other.end()
    assert heard.next() == 'result 2'
    worker.submit(frame(3))
    assert other.begun() == 3
    (thread,) = pipeline.closed
    assert thread.name == 'inference'
    other.end()
    assert heard.next() == 'result 3'
    assert heard.rest() == [] and not other.closed
    worker.close()
    worker.join()
    assert len(pipeline.closed) == len(other.closed) == 1


def test_an_idle_worker_frees_the_old_pipeline(worker, pipeline, heard):
    others = Stepped(), Stepped()
    for other in others:
        worker.replace(other)
    worker.submit(frame(1))
    others[1].end()
    assert heard.next() == 'result 1'
    worker.close()
    worker.join()
    assert [len(p.closed) for p in (pipeline, *others)] == [1, 1, 1]
    assert {t.name for p in (pipeline, *others) for t in p.closed} == {'inference'}


def test_without_a_pipeline_no_frame_waits(make_worker, pipeline, heard):
    worker = make_worker(heard, None)
    worker.submit(frame(1))
    worker.resume()
    worker.submit(frame(2))
    worker.submit(frame(3))
    assert heard.rest() == ['discarded 1', 'unserved 2', 'unserved 3']
    assert heard.threads['unserved 3'] is threading.current_thread()
    worker.replace(pipeline)
    worker.submit(frame(4))
    assert pipeline.begun() == 4


def test_a_pipeline_that_comes_after_the_end_is_freed(worker, pipeline):
    worker.close()
    other = Stepped()
    worker.replace(other)
    assert other.closed == [threading.current_thread()]
    worker.join()
    assert len(pipeline.closed) == 1


# The end


def test_closing_frees_the_pipeline_after_the_inference_under_way(worker, pipeline, heard):
    worker.submit(frame(1))
    assert pipeline.begun() == 1
    worker.submit(frame(2))
    worker.close()
    assert heard.next() == 'discarded 2'
    assert not pipeline.closed
    pipeline.end()
    worker.join()
    assert heard.rest() == ['discarded 1']
    (thread,) = pipeline.closed
    assert thread.name == 'inference'
    assert not thread.is_alive()


def test_an_idle_worker_ends_at_once(worker, pipeline):
    worker.close()
    worker.join()
    assert len(pipeline.closed) == 1


def test_closing_is_for_good(worker, pipeline, heard):
    worker.close()
    worker.close()
    worker.join()
    worker.join()
    worker.resume()
    worker.submit(frame(1))
    assert heard.rest() == ['discarded 1']
    assert heard.threads['discarded 1'] is threading.current_thread()
    assert len(pipeline.closed) == 1


def test_a_real_engine_is_closed(make_worker, heard, tmp_path):
    pipeline = open_pipeline(constant_detector(tmp_path / 'm.onnx'))
    worker = make_worker(heard, pipeline)
    worker.resume()
    worker.submit(frame(1))
    assert heard.next() == 'result 1'
    worker.close()
    worker.join()
    with pytest.raises(EngineError, match='closed'):
        pipeline(frame(2), Selection())


# All at once


@pytest.mark.parametrize('seed', range(3))
def test_every_frame_has_one_fate(make_worker, heard, tmp_path: Path, seed: int):
    """Frames from several threads, while others pause and resume, until one closes."""
    model = constant_detector(tmp_path / 'm.onnx', work=1)
    worker = make_worker(heard, open_pipeline(model, threads=1))
    worker.resume()

    pace = threading.Event()  # never set

    def submit(camera: int) -> None:
        for k in range(200):
            worker.submit(frame(1000 * camera + k))
            pace.wait(0.001)

    def interrupt(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(60):
            chance.choice((worker.pause, worker.resume, worker.resume))()
            pace.wait(0.005 * chance.random())

    threads = [threading.Thread(target=submit, args=(camera,)) for camera in range(3)]
    threads += [threading.Thread(target=interrupt, args=(10 * seed + k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
        assert not thread.is_alive()
    worker.close()
    worker.join()
    fates = Counter(int(word.split()[1]) for word in heard.rest())
    assert fates == Counter({1000 * camera + k: 1 for camera in range(3) for k in range(200)})
    assert heard.errors == {}
