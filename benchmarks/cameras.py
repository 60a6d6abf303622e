# SPDX-License-Identifier: Apache-2.0
"""Many cameras through the detector's worker, on one device or several: what each camera gets.

First each camera sends its next frame when the last is done: the capacity. Then each camera sends
at its own steady rate, together so many times the capacity (--load): the share that each keeps, and
how old its frames are when they are done, in looks (what one frame takes). With --lose the first
device fails half-way through another run at capacity, as one that has lost its CUDA context.

  python3 benchmarks/cameras.py --model yolov8n.onnx --cameras 6
  python3 benchmarks/cameras.py --model yolov8n.engine --devices 0 1 --lose --json cameras.json
"""

from __future__ import annotations

import argparse
import functools
import heapq
import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, perf_counter_ns
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

_WARM_UP = 0.5  # seconds


class Heard:
    """What became of one camera's frames."""

    def __init__(self) -> None:
        self.then: Callable[[], None] | None = None
        self.forget()

    def forget(self) -> None:
        self.ages: list[float] = []  # seconds
        self.took: list[float] = []
        self.counts = dict.fromkeys(('dropped', 'discarded', 'unserved', 'failed'), 0)

    def on_result(self, job: Any, result: Any) -> None:
        now = perf_counter_ns()
        self.ages.append((now - job.received) / 1e9)
        self.took.append((now - job.started) / 1e9)
        if self.then is not None:
            self.then()

    def on_error(self, job: Any, error: Exception) -> None:
        self.counts['failed'] += 1

    def on_dropped(self, job: Any) -> None:
        self.counts['dropped'] += 1

    def on_discarded(self, job: Any) -> None:
        self.counts['discarded'] += 1

    def on_unserved(self, job: Any) -> None:
        self.counts['unserved'] += 1


class Breakable:
    """A pipeline that fails for good when it is told to."""

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline
        self.lanes = getattr(pipeline, 'lanes', 1)
        self.batch = getattr(pipeline, 'batch', 1)
        self.broken = False
        self.together: list[int] = []  # frames of each look at several
        self.close = pipeline.close

    def __call__(self, frame: Any, selection: Any) -> Any:
        self._check()
        return self._pipeline(frame, selection)

    def many(self, wishes: Any) -> Any:
        self._check()
        self.together.append(len(wishes))
        return self._pipeline.many(wishes)

    def _check(self) -> None:
        from trt_perception.runtime.cuda.driver import CudaError

        if self.broken:
            raise CudaError('cuGraphLaunch', 700, 'CUDA_ERROR_ILLEGAL_ADDRESS', 'as asked')


class Bench:
    """The worker, its devices and its cameras."""

    def __init__(self, given: argparse.Namespace) -> None:
        from trt_perception.core import Frame, Selection
        from trt_perception.replay.benchmark.frames import as_sent, random_picture
        from trt_perception.runtime.pipeline import open_pipeline
        from trt_perception.runtime.worker import InferenceWorker

        self.worker = InferenceWorker()
        self.pipelines = []
        for device in given.devices:
            pipeline = open_pipeline(
                given.model, labels=given.labels, accept_failed_gate=True, device=device,
                lanes=given.lanes, batch=given.batch,
            )  # fmt: skip
            self.pipelines.append(Breakable(pipeline))
            self.worker.run_on(f'gpu{device}', self.pipelines[-1])
        self.runs_on = str(pipeline.info)
        width, height = given.size
        frame = as_sent(random_picture(), width, height, 'bgr8')
        self.frames: list[Frame] = [frame for _ in range(given.cameras)]
        self.heard = [Heard() for _ in range(given.cameras)]
        self.cameras = [
            self.worker.camera(f'camera {k}', Selection(), heard)
            for k, heard in enumerate(self.heard)
        ]
        for camera in self.cameras:
            camera.resume()

    def forget(self) -> None:
        for heard in self.heard:
            heard.forget()
        for pipeline in self.pipelines:
            pipeline.together.clear()

    def done(self) -> int:
        return sum(len(heard.ages) for heard in self.heard)

    def flood(self, seconds: float) -> float:
        """Frames a second where each camera sends its next one as soon as the last is done."""
        for heard, camera, frame in zip(self.heard, self.cameras, self.frames, strict=True):
            heard.then = functools.partial(camera.submit, frame)
            heard.then()
        time.sleep(_WARM_UP)
        before, begun = self.done(), perf_counter()
        time.sleep(seconds)
        rate = (self.done() - before) / (perf_counter() - begun)
        for heard in self.heard:
            heard.then = None
        return rate

    def paced(self, rate: float, seconds: float, even: bool) -> dict[str, Any]:
        """Each camera steadily, and all of them together at so many frames a second."""
        order = random.Random(0)
        count = len(self.cameras)
        interval = count / rate
        self.forget()
        begun = perf_counter() + 0.01
        due = [
            (begun + (k / count if even else order.random()) * interval, k) for k in range(count)
        ]
        heapq.heapify(due)
        sent = 0
        while (now := perf_counter()) < begun + seconds:
            when, number = due[0]
            if when > now:
                time.sleep(min(when - now, 0.01))
                continue
            heapq.heapreplace(due, (when + interval, number))
            self.cameras[number].submit(self.frames[number])
            sent += 1
        time.sleep(0.2)
        each = [len(heard.ages) for heard in self.heard]
        ages = sorted(age for heard in self.heard for age in heard.ages)
        took = sorted(t for heard in self.heard for t in heard.took)
        look = took[len(took) // 2]
        mean = sum(each) / count
        return {
            'sent': sent,
            'looked_at': sum(each),
            'dropped': sum(heard.counts['dropped'] for heard in self.heard),
            'accounted_for': sum(each) + sum(sum(h.counts.values()) for h in self.heard),
            'shares_of_the_mean': [round(min(each) / mean, 3), round(max(each) / mean, 3)],
            'looked_at_together': sum(sum(pipeline.together) for pipeline in self.pipelines),
            'look_ms': round(1e3 * look, 3),
            'age_in_looks': {
                name: round(ages[int(part * (len(ages) - 1))] / look, 2)
                for name, part in (('p50', 0.5), ('p95', 0.95), ('p99', 0.99), ('max', 1.0))
            },
        }

    def lose(self, seconds: float) -> dict[str, Any]:
        """The first device fails while all of them work."""
        self.forget()
        before = self.flood(seconds)
        self.pipelines[0].broken = True
        after = self.flood(seconds)
        counts = {
            name: sum(heard.counts[name] for heard in self.heard) for name in self.heard[0].counts
        }
        return {
            'before': round(before, 1),
            'after': round(after, 1),
            'lost': self.worker.lost,
            'failed': counts['failed'],
        }

    def close(self) -> None:
        self.worker.close()
        self.worker.join()


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """All runs, one after the other."""
    bench = Bench(given)
    try:
        capacity = bench.flood(given.seconds)
        found: dict[str, Any] = {
            'runs_on': bench.runs_on,
            'devices': given.devices,
            'lanes': given.lanes,
            'batch': given.batch,
            'cameras': given.cameras,
            'capacity': round(capacity, 1),
            'load': given.load,
        }
        for name, even in (('even phases', True), ('random phases', False)):
            found[name] = bench.paced(given.load * capacity, given.seconds, even)
        if given.lose:
            found['a device fails'] = bench.lose(given.seconds)
    finally:
        bench.close()
    return found


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--model', type=Path, required=True, help='ONNX file or engine')
    add('--labels', default='', help='class names, where the model has none')
    add('--devices', type=int, nargs='+', default=[0], help='GPUs (default: 0)')
    add('--lanes', type=int, default=1, help='frames in flight on each (default: 1)')
    add('--batch', type=int, default=1, help='frames looked at together, if the engine can')
    add('--cameras', type=int, default=6, help='how many (default: 6)')
    add('--load', type=float, default=3.0, help='times the capacity (default: 3)')
    add('--seconds', type=float, default=5.0, help='of each run (default: 5)')
    add('--size', type=int, nargs=2, default=(640, 480), help='of the images (default: 640 480)')
    add('--lose', action='store_true', help='let the first device fail')
    add('--json', type=Path, help='file for all of it')
    given = parser.parse_args()
    found = measure(given)
    print(json.dumps(found, indent=2))
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
