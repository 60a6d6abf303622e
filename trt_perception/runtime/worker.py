# SPDX-License-Identifier: Apache-2.0
"""Inference on threads of its own: the freshest frames of many cameras, on whatever is free."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from time import perf_counter, perf_counter_ns
from typing import NamedTuple, Protocol

from trt_perception.core import Frame, Selection
from trt_perception.core.errors import one_line
from trt_perception.runtime.engine import EngineError
from trt_perception.runtime.pipeline import AnyPipeline, Result
from trt_perception.runtime.replica import Replica, takes_out
from trt_perception.runtime.schedule import Scheduler

#: Seconds between two looks at what hangs, while its end is waited for.
_PAUSE = 0.2


class HungError(EngineError):
    """An inference that does not come back."""


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
    """Hears what becomes of each frame of a camera, one at a time, on a worker's thread unless said
    otherwise."""

    def on_result(self, job: Job, result: Result) -> None: ...

    def on_error(self, job: Job, error: Exception) -> None:
        """The pipeline failed, or `on_result` did."""

    def on_dropped(self, job: Job) -> None:
        """A newer frame came first. On the thread that submits, or on a worker's."""

    def on_discarded(self, job: Job) -> None:
        """The camera was paused before its result could be used. On either thread."""

    def on_unserved(self, job: Job) -> None:
        """There is no pipeline yet, or none any more. On the thread that submits, or a worker's."""


class InferenceWorker:
    """Runs the model on the freshest frames; owns the pipelines.

    A `Scheduler` decides which camera is next. Each device has a pipeline and as many threads as
    that has lanes; the one that is free first takes the next frame. No method waits for an
    inference, so they may be called from an executor; `join` does.

    Attributes:
        lost: devices that are taken out of use, and why, until they are given another pipeline.
    """

    def __init__(self) -> None:
        self.lost: dict[str, str] = {}  # replaced whole
        self._condition = threading.Condition()
        self._scheduler: Scheduler[_Waiting] = Scheduler()
        self._cameras: list[Camera] = []
        self._devices: dict[str, _Device] = {}
        self._threads: list[threading.Thread] = []
        self._closing = False

    def camera(
        self, name: str, selection: Selection, listener: Listener, priority: float = 1.0
    ) -> Camera:
        """A new camera, of a name of its own; none of its frames is taken before `resume`."""
        with self._condition:
            camera = Camera(self, name, selection, listener, priority)
            self._scheduler.add(name, priority)
            self._cameras.append(camera)
        return camera

    def run_on(self, device: str, pipeline: AnyPipeline, spare: bool = False) -> None:
        """Run on this pipeline from the next frame on, even one that waits already.

        The one that the device had is freed by a thread of its own, after its inferences under way
        and the frame that waits.

        Args:
            spare: there is something else to run where this fails with frame after frame, so that
                it is taken out even while it is the only one.
        """
        with self._condition:
            late = self._closing
            if not late:
                place = self._devices.setdefault(device, _Device(device))
                if place.replica is not None:
                    place.retired.append(place.replica)
                    self._scheduler.retire((device, id(place.replica)))
                place.replica = Replica(pipeline, spare)
                self.lost = {name: why for name, why in self.lost.items() if name != device}
                self._man(place, place.replica)
                self._condition.notify_all()
        if late:
            pipeline.close()

    def close(self) -> None:
        """Pause all for good; each pipeline is freed as soon as its inferences under way end."""
        with self._condition:
            self._closing = True
            self._condition.notify_all()
        for camera in self._cameras:
            camera.pause()

    def join(self, limit: float = 0.0) -> None:
        """Wait, after `close`, until the pipelines are freed, those aside that `watch` gave up."""
        while threads := [thread for thread in self._threads if thread.is_alive()]:
            threads[0].join(_PAUSE)
            self.watch(_PAUSE, limit)

    def watch(self, seconds: float, limit: float) -> None:
        """Take out what hangs; to be called again and again while there may be inferences.

        A thread cannot be ended from outside. The frames of one that hangs are told to have failed,
        another takes its place as soon as the device has another pipeline, and if it ever comes
        back it frees the pipeline that it was at.

        Args:
            seconds: to add to the age of what is under way: the pause between two calls. No clock
                is asked, so that nothing seems to hang after the process itself was stopped.
            limit: age from which on an inference hangs; 0 is no limit.
        """
        given_up: list[_Look] = []
        left: list[_Waiting] = []
        error = HungError(f'an inference has not come back for {limit:g} s')
        with self._condition:
            for device in self._devices.values() if limit else ():
                for replica in device.replicas:
                    for look in replica.looks:
                        look.age += seconds
                        if look.age < limit or look.given_up:
                            continue
                        look.given_up = True
                        given_up.append(look)
                        replica.give_up()
                        device.threads -= 1
                        self._threads.remove(look.thread)
                        if device.replica is replica:
                            self._take_out(device, replica, error)
                        elif device.replica is not None and not self._closing:
                            self._man(device, device.replica)
            if given_up and not self._has_pipeline():
                left = self._withdraw_all()
        for look in given_up:
            for waiting, job in zip(look.taken, look.jobs, strict=True):
                waiting.camera.report(waiting, job, error)
        for waiting in left:
            waiting.camera.listener.on_unserved(waiting.job)

    def occupied(self, device: str) -> bool:
        """Whether a pipeline that it ran before is not freed yet: it may be hanging."""
        with self._condition:
            return device in self._devices and bool(self._devices[device].retired)

    @property
    def waiting(self) -> int:
        """How many frames wait."""
        with self._condition:
            return self._scheduler.waiting

    @property
    def serves(self) -> bool:
        """Whether there is a pipeline, on whatever device."""
        with self._condition:
            return self._has_pipeline()

    @property
    def busy(self) -> bool:
        """Whether a thread runs."""
        return any(thread.is_alive() for thread in self._threads)

    def _man(self, device: _Device, replica: Replica) -> None:
        """Have a thread for each of its lanes."""
        while device.threads < replica.lanes:
            device.threads += 1
            # A daemon: one that hangs does not keep the process from its end.
            thread = threading.Thread(
                target=self._run, args=(device,), name='inference', daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def _run(self, device: _Device) -> None:
        closing = False
        while not closing:
            with self._condition:
                while True:
                    closing = self._closing
                    replica = device.replica
                    taken = [] if closing else self._take(replica)
                    idle = device.idle()
                    if taken or idle or closing:
                        break
                    free = replica is not None and replica.free
                    self._condition.wait(
                        self._scheduler.look_again(perf_counter()) if free else None
                    )
                if taken:
                    assert replica is not None
                    look = _Look(taken)
                    replica.looks.append(look)
            given_up = False
            if taken:
                assert replica is not None
                given_up = not self._process(device, replica, look)
                del look  # a frame lives no longer than it is looked at
            del taken
            self._free(device, idle)
            if given_up:
                return
        with self._condition:
            device.threads -= 1
            if not device.threads and device.replica is not None:
                device.retired.append(device.replica)
                device.replica = None
            idle = [] if device.threads else device.idle()
        self._free(device, idle)

    def _take(self, replica: Replica | None) -> list[_Waiting]:
        if replica is None or not replica.free:
            return []
        together = replica.worth_together(self._scheduler.waiting)
        return self._scheduler.take(perf_counter(), together)

    def _process(self, device: _Device, replica: Replica, look: _Look) -> bool:
        """Look, and tell what came of it; False if that was given up meanwhile."""
        outcomes = replica.look([(w.job.frame, w.camera.selection) for w in look.taken])
        seconds = (perf_counter_ns() - look.started) / 1e9
        with self._condition:
            beside = len(replica.looks)
            replica.looks.remove(look)
            if look.given_up:
                idle = device.idle()
            else:
                fates, left = self._judge(device, replica, look, outcomes, seconds, beside)
        if look.given_up:
            self._free(device, idle)
            return False
        for waiting, job, outcome, fate in zip(look.taken, look.jobs, outcomes, fates, strict=True):
            if fate == 'overtaken':
                waiting.camera.listener.on_dropped(job)
            elif fate == 'told':
                waiting.camera.report(waiting, job, outcome)
        for waiting in left:
            waiting.camera.listener.on_unserved(waiting.job)
        return True

    def _free(self, device: _Device, idle: Sequence[Replica]) -> None:
        for old in idle:
            old.close()
        with self._condition:
            device.retired = [old for old in device.retired if old not in idle]

    def _judge(
        self,
        device: _Device,
        replica: Replica,
        look: _Look,
        outcomes: Sequence[Result | Exception],
        seconds: float,
        beside: int,
    ) -> tuple[list[str], list[_Waiting]]:
        """Learn from a look; what becomes of its frames, and those that nothing is left for."""
        broken = replica.judge(outcomes, others=self._has_pipeline(beside_of=device))
        if broken is None:
            replica.learn(len(look.taken), seconds)
            runner = device.name, id(replica)
            self._scheduler.served(runner, seconds, len(look.taken), beside)
        elif device.replica is replica:
            self._take_out(device, replica, broken)
        fates = [self._fate(*each) for each in zip(look.taken, outcomes, strict=True)]
        # A device that comes back much later must not begin with what is old by then.
        left = [] if self._has_pipeline() else self._withdraw_all()
        if device.retired or 'again' in fates:
            self._condition.notify_all()
        return fates, left

    def _has_pipeline(self, beside_of: _Device | None = None) -> bool:
        devices = self._devices.values()
        return any(d.replica is not None and d is not beside_of for d in devices)

    def _withdraw_all(self) -> list[_Waiting]:
        slots = [self._scheduler.withdraw(camera.name) for camera in self._cameras]
        return [waiting for waiting in slots if waiting is not None]

    def _fate(self, waiting: _Waiting, outcome: Result | Exception) -> str:
        """Whether a frame is told of, or looked at again where the device is to blame."""
        elsewhere = self._has_pipeline()
        blameless = not waiting.again and waiting.epoch == waiting.camera.epoch
        if not (takes_out(outcome) and elsewhere and blameless) or self._closing:
            return 'told'
        once_more = waiting._replace(again=True)  # and no more: it may be the frame after all
        kept = self._scheduler.put_back(waiting.camera.name, once_more, waiting.job.received / 1e9)
        return 'again' if kept else 'overtaken'

    def _take_out(self, device: _Device, replica: Replica, error: Exception) -> None:
        device.replica = None
        device.retired.append(replica)
        self.lost = {**self.lost, device.name: one_line(error)}
        self._scheduler.retire((device.name, id(replica)))


class Camera:
    """A camera's place in the worker.

    Attributes:
        selection: replaced whole by others; read once a frame.
        epoch: how often it was paused: what was taken before is not reported.
    """

    def __init__(
        self,
        worker: InferenceWorker,
        name: str,
        selection: Selection,
        listener: Listener,
        priority: float,
    ) -> None:
        self.name = name
        self.selection = selection
        self.listener = listener
        self.epoch = 0
        self._worker = worker
        self._priority = priority
        self._accepting = False
        self._closed = False
        self._count = 0
        self._reporting = threading.Lock()
        self._reported = 0  # the youngest frame whose result was

    @property
    def priority(self) -> float:
        """Its share beside other cameras, see `Scheduler`."""
        return self._priority

    @priority.setter
    def priority(self, priority: float) -> None:
        with self._worker._condition:
            self._priority = priority
            self._worker._scheduler.add(self.name, priority)

    def submit(self, frame: Frame) -> None:
        """Hand over a frame; one that still waits is dropped for it."""
        worker = self._worker
        job = Job(frame, perf_counter_ns())
        overtaken = None
        with worker._condition:
            accepting = self._accepting and not worker._closing
            served = worker._has_pipeline()
            if accepting and served:
                self._count += 1
                waiting = _Waiting(self, job, self._count, self.epoch)
                overtaken = worker._scheduler.offer(self.name, waiting, job.received / 1e9)
                worker._condition.notify_all()
        if not accepting:
            self.listener.on_discarded(job)
        elif not served:
            self.listener.on_unserved(job)
        elif overtaken is not None:
            self.listener.on_dropped(overtaken.job)

    def resume(self) -> None:
        """Take frames from now on; none any more once closed."""
        with self._worker._condition:
            self._accepting = not self._closed

    def pause(self) -> None:
        """Take no more frames; once this returns, no result is reported any more."""
        with self._worker._condition:
            self._accepting = False
            waiting = self._worker._scheduler.withdraw(self.name)
        with self._reporting:
            self.epoch += 1
        if waiting is not None:
            self.listener.on_discarded(waiting.job)

    def close(self) -> None:
        """Pause for good."""
        self._closed = True
        self.pause()

    def report(self, waiting: _Waiting, job: Job, outcome: Result | Exception) -> None:
        """Tell the listener what came of a frame, unless a younger one was faster."""
        with self._reporting:
            if waiting.epoch != self.epoch:
                self.listener.on_discarded(job)
            elif waiting.number < self._reported:
                self.listener.on_dropped(job)
            else:
                self._reported = waiting.number
                try:
                    if isinstance(outcome, Exception):
                        raise outcome
                    self.listener.on_result(job, outcome)
                except Exception as error:
                    self.listener.on_error(job, error)


class _Waiting(NamedTuple):
    camera: Camera
    job: Job
    number: int  # of the camera's frames
    epoch: int
    again: bool = False  # a device has failed with it


class _Look:
    """One inference under way.

    Attributes:
        age: seconds, as the watchdog counts them.
        given_up: its frames are told of, and its thread is no longer counted.
    """

    def __init__(self, taken: Sequence[_Waiting]) -> None:
        self.taken = taken
        self.started = perf_counter_ns()
        self.jobs = [waiting.job._replace(started=self.started) for waiting in taken]
        self.thread = threading.current_thread()
        self.age = 0.0
        self.given_up = False


class _Device:
    """Where pipelines run, one after the other, and how many threads there are for it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.replica: Replica | None = None
        self.retired: list[Replica] = []
        self.threads = 0  # without those that hang

    @property
    def replicas(self) -> list[Replica]:
        """The one that runs, if there is one, and those that come to their end."""
        return [*self.retired, *([] if self.replica is None else [self.replica])]

    def idle(self) -> list[Replica]:
        """The retired ones that can be freed, once: for who frees them."""
        idle = [old for old in self.retired if not old.looks and not old.ended]
        for old in idle:
            old.ended = True
        return idle
