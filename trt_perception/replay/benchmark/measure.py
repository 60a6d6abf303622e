# SPDX-License-Identifier: Apache-2.0
"""Cameras that send as fast as the detector takes, and what that takes."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter, perf_counter_ns
from typing import Any

import numpy as np

from trt_perception.core import Frame, Selection
from trt_perception.replay.benchmark.result import BenchmarkResult, CameraResult, merged, spread
from trt_perception.runtime.engine import EngineError, EngineInfo
from trt_perception.runtime.machine import process_memory
from trt_perception.runtime.sensors import Sensors
from trt_perception.runtime.sensors.sensors import figures

#: What a node publishes unless told otherwise.
EVERYTHING = Selection()
#: A camera's images take turns in so many places: a real one's do not lie in a warm cache either.
PLACES = 4
_WARM_UP_FRAMES = 10
_WARM_UP_SECONDS = 0.5
_TICK = 0.25  # seconds between two looks at the sensors
_BLINK = 0.02  # seconds between two looks at cameras that warm up

_ALLOCATING = ('cuMemAlloc', 'cuMemHostAlloc', 'cuMemHostRegister', 'cuMemCreate')


class Camera:
    """One camera: its images, a pipeline of its own or a lane of a common one, and its times."""

    def __init__(self, pipeline: Any, frame: Frame, memory: str, name: str) -> None:
        """Lay out the images.

        Args:
            pipeline: a `Pipeline` or a `CudaPipeline`; the latter with a lane for each camera.
            memory: ``pinned`` for memory of the pipeline's own (only a `CudaPipeline` has it).

        Raises:
            EngineError: the pipeline has no such memory.
        """
        if memory == 'pinned' and not hasattr(pipeline, 'frame_buffer'):
            raise EngineError(
                'memory pinned is for a GPU, and this runs on the CPU; leave it out, or give'
                ' --backend tensorrt'
            )
        self.name = name
        self.times: dict[str, list[int]] = defaultdict(list)
        self.detections = 0
        self._pipeline = pipeline
        self._frames = []
        for _ in range(PLACES):
            data = (
                pipeline.frame_buffer(frame.data.nbytes)
                if memory == 'pinned'
                else np.empty_like(frame.data)
            )
            np.copyto(data, frame.data)
            self._frames.append(dataclasses.replace(frame, data=data, source=name))

    def detect(self, number: int, selection: Selection) -> None:
        """Send one image and keep its times."""
        frame = self._frames[number % PLACES]
        times = self.times
        begun = perf_counter_ns()
        if hasattr(self._pipeline, 'begin'):
            ticket = self._pipeline.begin(frame, selection)
            submitted = perf_counter_ns()
            result = ticket.finish()
            ended = perf_counter_ns()
            times['submit'].append(submitted - begun)
            times['wait'].append(ended - submitted)
        else:
            result = self._pipeline(frame, selection)
            ended = perf_counter_ns()
        times['total'].append(ended - begun)
        for stage, nanoseconds in result.times._asdict().items():
            times[stage].append(nanoseconds)
        self.detections += len(result.detections)

    def forget(self) -> None:
        """Begin anew."""
        self.times = defaultdict(list)
        self.detections = 0


class _Run:
    """The threads of all cameras, warmed up, started together and stopped together."""

    def __init__(self, cameras: Sequence[Camera], selection: Selection) -> None:
        self._selection = selection
        self._ready = threading.Barrier(len(cameras) + 1)
        self._go = threading.Event()
        self._stop = threading.Event()
        self.errors: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._serve, args=(camera,), name=camera.name)
            for camera in cameras
        ]
        for thread in self._threads:
            thread.start()

    def wait_until_warm(self, on_wait: Callable[[], None]) -> None:
        """Until every camera stands still before its first frame that counts, or one has failed.

        Args:
            on_wait: called again and again meanwhile; what it raises ends the wait.
        """
        while self._ready.n_waiting < len(self._threads) and not self._ready.broken:
            on_wait()
            time.sleep(_BLINK)
        with contextlib.suppress(threading.BrokenBarrierError):
            self._ready.wait()

    def start(self) -> None:
        """All together."""
        self._go.set()

    def end(self) -> None:
        """After the frames under way.

        Raises:
            PerceptionError: what the first camera that failed has raised.
        """
        self._stop.set()
        self._ready.abort()
        self._go.set()
        for thread in self._threads:
            thread.join()
        if self.errors:
            raise self.errors[0]

    def _serve(self, camera: Camera) -> None:
        try:
            number = 0
            warm = perf_counter() + _WARM_UP_SECONDS
            while number < _WARM_UP_FRAMES or perf_counter() < warm:
                camera.detect(number, self._selection)
                number += 1
                if self._stop.is_set():
                    return
            camera.forget()
            self._ready.wait()
            self._go.wait()
            while True:  # one frame at the least
                camera.detect(number, self._selection)
                number += 1
                if self._stop.is_set():
                    return
        except threading.BrokenBarrierError:
            return  # another one has failed
        except BaseException as error:
            self.errors.append(error)
            self._ready.abort()


def driver_calls() -> Counter[str]:
    """CUDA driver calls of this process so far, by name; none where it uses no CUDA."""
    driver = sys.modules.get('trt_perception.runtime.cuda.driver')
    return Counter() if driver is None else Counter(driver.calls)


def measure(
    cameras: Sequence[Camera],
    info: EngineInfo,
    image: Mapping[str, Any],
    seconds: float,
    selection: Selection = EVERYTHING,
    on_step: Callable[[str, float], None] = lambda phase, share: None,
    sensors: Sensors | None = None,
) -> BenchmarkResult:
    """Let all cameras send as fast as they are served.

    Args:
        info: `EngineInfo` of what runs.
        image: told in the result as it is.
        on_step: told the phase and the share of it (0..1) that is done; what it raises ends it.
        sensors: to be read meanwhile.

    Raises:
        PerceptionError: a frame cannot be used, or the network could not be run.
    """
    sensors = sensors or Sensors()
    samples: dict[str, list[float]] = defaultdict(list)
    run = _Run(cameras, selection)
    try:
        run.wait_until_warm(lambda: on_step('warming up', 0.0))
        before, cpu, begun = driver_calls(), time.process_time(), perf_counter()
        run.start()
        while (passed := perf_counter() - begun) < seconds and not run.errors:
            on_step('measuring', passed / seconds)
            for name, value in figures(sensors.read()).items():
                samples[name].append(value)
            time.sleep(min(_TICK, max(seconds - passed, 0.0)))
    finally:
        run.end()
    passed, cpu = perf_counter() - begun, time.process_time() - cpu
    calls = driver_calls() - before
    on_step('measuring', 1.0)
    return _result(cameras, info, image, passed, cpu, calls, samples)


def _result(
    cameras: Sequence[Camera],
    info: EngineInfo,
    image: Mapping[str, Any],
    seconds: float,
    cpu: float,
    calls: Counter[str],
    samples: Mapping[str, Sequence[float]],
) -> BenchmarkResult:
    host = ('total', 'submit', 'wait')
    ours = [{k: v for k, v in c.times.items() if k in host} for c in cameras]
    stages = [{k: v for k, v in c.times.items() if k not in host} for c in cameras]
    memory = process_memory()
    if used := samples.get('gpu_memory_used_bytes'):
        memory['gpu_used'] = int(max(used))
    return BenchmarkResult(
        info.backend,
        info.device,
        info.precision,
        image,
        seconds,
        sum(camera.detections for camera in cameras),
        [
            CameraResult(
                len(camera.times['total']),
                {name: spread(times) for name, times in outside.items()},
                {name: spread(times) for name, times in inside.items()},
            )
            for camera, outside, inside in zip(cameras, ours, stages, strict=True)
        ],
        merged(ours),
        merged(stages),
        dict(calls) if calls else None,
        {name: n for name, n in calls.items() if name.startswith(_ALLOCATING)} if calls else None,
        cpu / seconds,
        memory,
        {
            name: {'median': round(float(np.median(values)), 3), 'max': round(max(values), 3)}
            for name, values in samples.items()
            if not name.endswith('_bytes')
        },
    )
