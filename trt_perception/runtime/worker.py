# SPDX-License-Identifier: Apache-2.0
"""Inference on a thread of its own, fed by a mailbox that holds the latest frame only."""

from __future__ import annotations

import threading
from time import perf_counter_ns
from typing import NamedTuple, Protocol

from trt_perception.core import Frame, Selection
from trt_perception.runtime.pipeline import AnyPipeline, Result


class Job(NamedTuple):
    """A frame that waits for its turn.

    Attributes:
        received: when it came, ``perf_counter_ns``.
        started: when its inference began; 0 while it waits.
    """

    frame: Frame
    received: int
    started: int = 0


class Listener(Protocol):
    """Hears what becomes of each frame, on the worker's thread unless said otherwise."""

    def on_result(self, job: Job, result: Result) -> None: ...

    def on_error(self, job: Job, error: Exception) -> None:
        """The pipeline failed, or `on_result` did."""

    def on_dropped(self, job: Job) -> None:
        """A newer frame came first. On the thread that submits."""

    def on_discarded(self, job: Job) -> None:
        """The worker was paused before its result could be used. On either thread."""

    def on_unserved(self, job: Job) -> None:
        """There is no pipeline yet. On the thread that submits."""


class InferenceWorker:
    """Runs a pipeline on the freshest frame there is; owns the pipeline.

    No method waits for an inference, so they may be called from an executor; `join` does.
    """

    def __init__(
        self, pipeline: AnyPipeline | None, selection: Selection, listener: Listener
    ) -> None:
        """Start the thread; no frame is taken before `resume`.

        Args:
            pipeline: None if `replace` is to bring the first one.
        """
        self.selection = selection  # replaced whole by others; read once a frame
        self._pipeline = pipeline
        self._retired: list[AnyPipeline] = []
        self._listener = listener
        self._condition = threading.Condition()
        self._reporting = threading.Lock()
        self._waiting: Job | None = None
        self._epoch = 0
        self._accepting = False
        self._closing = False
        self._thread = threading.Thread(target=self._run, name='inference')
        self._thread.start()

    def submit(self, frame: Frame) -> None:
        """Hand over a frame; one that still waits is dropped for it."""
        job = Job(frame, perf_counter_ns())
        with self._condition:
            accepting, served = self._accepting, self._pipeline is not None
            if accepting and served:
                overtaken, self._waiting = self._waiting, job
                self._condition.notify()
        if not accepting:
            self._listener.on_discarded(job)
        elif not served:
            self._listener.on_unserved(job)
        elif overtaken is not None:
            self._listener.on_dropped(overtaken)

    def replace(self, pipeline: AnyPipeline) -> None:
        """Run the next frame on another pipeline, even one that waits already.

        The old one is freed by the thread, after its inference under way and the frame that waits.
        """
        with self._condition:
            if not self._closing:
                if self._pipeline is not None:
                    self._retired.append(self._pipeline)
                self._pipeline = pipeline
                self._condition.notify()
                return
        pipeline.close()  # it comes too late

    def resume(self) -> None:
        """Take frames from now on; none any more once closed."""
        with self._condition:
            self._accepting = not self._closing

    def pause(self) -> None:
        """Take no more frames; once this returns, no result is reported any more."""
        with self._condition:
            self._accepting = False
            job, self._waiting = self._waiting, None
        with self._reporting:
            self._epoch += 1
        if job is not None:
            self._listener.on_discarded(job)

    def close(self) -> None:
        """Pause for good; the pipeline is freed as soon as its inference under way ends."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        self.pause()

    def join(self) -> None:
        """Wait, after `close`, until the pipeline is freed."""
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._condition:
                while self._waiting is None and not self._retired and not self._closing:
                    self._condition.wait()
                if self._closing:
                    break
                job, self._waiting = self._waiting, None
                pipeline, epoch = self._pipeline, self._epoch
                retired, self._retired = self._retired, []
            if job is not None and pipeline is not None:
                self._process(job._replace(started=perf_counter_ns()), pipeline, epoch)
            job = None  # else its frame would be kept until the next one comes
            for old in retired:
                old.close()
        for last in (*self._retired, self._pipeline):
            if last is not None:
                last.close()

    def _process(self, job: Job, pipeline: AnyPipeline, epoch: int) -> None:
        outcome: Result | Exception
        try:
            outcome = pipeline(job.frame, self.selection)
        except Exception as error:  # the thread must outlive whatever one frame does to it
            outcome = error
        with self._reporting:
            if epoch != self._epoch:
                self._listener.on_discarded(job)
                return
            try:
                if isinstance(outcome, Exception):
                    raise outcome
                self._listener.on_result(job, outcome)
            except Exception as error:
                self._listener.on_error(job, error)
