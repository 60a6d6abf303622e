# SPDX-License-Identifier: Apache-2.0
"""All figures of the GPU path in one run on one machine, with two pipelines in PyTorch beside it.

Each part runs in a process of its own, so that none finds the GPU as another has left it:

  engine      the engine alone: replays of its CUDA graph, one after another and many at once
  pipeline    image to detections, from pinned and from pageable memory
  cameras     1 to 8 cameras that each wait for their last frame, and 1 to 16 that send as much as
              is taken
  gpus        one and two GPUs, in one process and in a process each, where there are two
  preprocess  the preprocessing kernel at 1080p and 4K beside what copying its bytes takes
  cycles      opening and closing again and again: what memory grows by
  peers       what else one would use (benchmarks/peers.py)

  python3 benchmarks/gpu.py --engine yolov8n.engine --model yolov8n.onnx --json gpu.json
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import itertools
import json
import math
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]

PARTS = ('engine', 'pipeline', 'cameras', 'gpus', 'preprocess', 'cycles', 'peers')
CAMERAS = (1, 2, 4, 8, 16)
LANES = (1, 4, 6, 8)
#: Frames in flight, about where a large GPU is saturated.
IN_FLIGHT = 6
_WARM_UP = 200


def timed(step: Callable[[int], Any], frames: int) -> dict[str, float]:
    """Milliseconds of a step that waits for its end, over so many."""
    from trt_perception.replay.benchmark.result import spread

    for number in range(min(_WARM_UP, frames)):
        step(number)
    times = []
    cpu, begun = time.process_time(), time.perf_counter()
    for number in range(frames):
        start = perf_counter_ns()
        step(number)
        times.append(perf_counter_ns() - start)
    passed = time.perf_counter() - begun
    return {
        **spread(times)._asdict(),
        'frames': frames,
        'cpu_share': round((time.process_time() - cpu) / passed, 3),
    }


def picture(given: argparse.Namespace, width: int = 1920, height: int = 1080) -> Any:
    """The frame that all of them see."""
    import cv2

    from trt_perception.replay.benchmark.frames import as_sent, random_picture

    image = cv2.imread(str(given.picture)) if given.picture else random_picture()
    if image is None:
        sys.exit(f"error: picture '{given.picture}' cannot be read")
    return as_sent(np.asarray(image, np.uint8), width, height, 'bgr8')


# The engine alone


class Replays:
    """A network captured without anything around it, once for each lane."""

    def __init__(self, engine: Path, lanes: int) -> None:
        from trt_perception.runtime.cuda import driver
        from trt_perception.runtime.cuda.device import CudaDevice
        from trt_perception.runtime.cuda.driver import call
        from trt_perception.runtime.cuda.memory import DeviceArena
        from trt_perception.runtime.model_file import engine_spec
        from trt_perception.runtime.tensorrt.plan import load_plan

        plan = load_plan(engine)
        self.device = CudaDevice()
        from trt_perception.runtime.tensorrt.engine import TensorRtEngine

        scope = self.device.scope()
        self.loaded = TensorRtEngine(plan, engine)
        scope.own(self.loaded)
        self.spec = engine_spec(engine, self.loaded.signature, plan.manifest.spec, '')
        self.lanes = []
        random = np.random.default_rng(0)
        for _ in range(lanes):
            context = self.loaded.context(1, self.spec)
            tensors = {t.name: t for t in (*context.inputs, *context.outputs)}
            sizes = {
                name: math.prod(n or 0 for n in t.shape) * np.dtype(t.dtype).itemsize
                for name, t in tensors.items()
            }
            arena = DeviceArena(scope, sizes)
            for tensor in context.inputs:  # never zeros: they run faster than pictures do
                arena.fill(tensor.name, random.random(tensor.shape).astype(tensor.dtype))
            for name in tensors:
                context.bind(name, arena.addresses[name])
            stream, done = scope.stream(), scope.event()
            context.enqueue(stream)
            call('cuStreamSynchronize', stream)
            call('cuStreamBeginCapture', stream, driver.bindings().CUstreamCaptureMode(1))
            context.enqueue(stream)
            graph = scope.graph(call('cuStreamEndCapture', stream))
            self.lanes.append((graph, stream, done, context, arena))

    def replay(self, number: int) -> None:
        """One run, waited for."""
        from trt_perception.runtime.cuda.driver import call

        graph, stream, done = self.lanes[number % len(self.lanes)][:3]
        call('cuGraphLaunch', graph, stream)
        call('cuEventRecord', done, stream)
        call('cuEventSynchronize', done)

    def saturated(self, frames: int) -> float:
        """Runs a second with one in flight on every lane and the next already queued."""
        from trt_perception.runtime.cuda.driver import call

        def send(count: int) -> float:
            begun = time.perf_counter()
            for number in range(count):
                graph, stream, done = self.lanes[number % len(self.lanes)][:3]
                if number >= 2 * len(self.lanes):
                    call('cuEventSynchronize', done)
                call('cuEventRecord', done, stream)  # the end of the run before
                call('cuGraphLaunch', graph, stream)
            for _, stream, *_ in self.lanes:
                call('cuStreamSynchronize', stream)
            return count / (time.perf_counter() - begun)

        send(_WARM_UP)
        return send(frames)


def engine_part(given: argparse.Namespace) -> dict[str, Any]:
    """The engine's own times, and its highest rate with so many runs at once."""
    alone = Replays(given.engine, 1)
    found: dict[str, Any] = {
        'device': alone.device.name,
        'graph': timed(alone.replay, given.frames),
    }
    alone.device.close()
    rates = {}
    for lanes in LANES:
        many = Replays(given.engine, lanes)
        rates[str(lanes)] = round(many.saturated(given.frames // 2), 1)
        many.device.close()
    return {**found, 'rates': rates, 'saturated': max(rates.values())}


# All of it


def pipeline_part(given: argparse.Namespace) -> dict[str, Any]:
    """One camera, each frame waited for."""
    from trt_perception.core import Selection
    from trt_perception.replay.benchmark.measure import Camera, driver_calls
    from trt_perception.replay.benchmark.result import merged
    from trt_perception.runtime.cuda.pipeline import open_engine

    found: dict[str, Any] = {}
    for memory in ('pinned', 'pageable'):
        pipeline = open_engine(given.engine, accept_failed_gate=True)
        camera = Camera(pipeline, picture(given), memory, 'camera')
        for number in range(_WARM_UP):
            camera.detect(number, Selection())
        camera.forget()
        before = driver_calls()
        cpu, begun = time.process_time(), time.perf_counter()
        for number in range(given.frames):
            camera.detect(number, Selection())
        share = (time.process_time() - cpu) / (time.perf_counter() - begun)
        calls = driver_calls() - before
        found[memory] = {
            'frames': given.frames,
            'ms': {name: times._asdict() for name, times in merged([camera.times]).items()},
            'detections_per_frame': camera.detections / given.frames,
            'driver_calls_per_frame': {name: n / given.frames for name, n in calls.items()},
            'cpu_share': round(share, 3),
        }
        pipeline.close()
    return found


def cameras_part(given: argparse.Namespace) -> dict[str, Any]:
    """Frames a second of many cameras, from pinned memory."""
    from trt_perception.replay.benchmark.measure import Camera, measure
    from trt_perception.runtime.cuda.pipeline import open_engine

    frame = picture(given)
    found: dict[str, Any] = {'each waits': {}, 'as much as is taken': {'lanes': IN_FLIGHT}}
    for cameras in CAMERAS[:-1]:
        pipeline = open_engine(given.engine, accept_failed_gate=True, lanes=cameras)
        waiting = [Camera(pipeline, frame, 'pinned', f'camera {k}') for k in range(cameras)]
        result = measure(waiting, pipeline.info, {}, given.seconds)
        found['each waits'][str(cameras)] = {
            'frames_per_second': round(result.frames_per_second, 1),
            'total_ms': result.host_ms['total']._asdict(),
            'cpu_share': round(result.cpu_share, 3),
        }
        pipeline.close()
    pipeline = open_engine(given.engine, accept_failed_gate=True, lanes=IN_FLIGHT)
    for cameras in CAMERAS:
        found['as much as is taken'][str(cameras)] = kept_busy(
            pipeline, frame, cameras, given.seconds
        )
    pipeline.close()
    return found


def kept_busy(pipeline: Any, frame: Any, cameras: int, seconds: float) -> dict[str, float]:
    """One thread that keeps a frame in flight on every lane, of each camera in turn."""
    from trt_perception.core import Selection
    from trt_perception.replay.benchmark.measure import PLACES

    # An image's place is not written to while the GPU reads it, so as many as there are lanes.
    frames = []
    for _ in range(max(cameras * PLACES, pipeline.lanes)):
        data = pipeline.frame_buffer(frame.data.nbytes)
        np.copyto(data, frame.data)
        frames.append(dataclasses.replace(frame, data=data))
    flying: deque[Any] = deque()
    selection = Selection()
    images = itertools.cycle(frames)
    for chosen in itertools.islice(images, 50 * pipeline.lanes):
        if len(flying) == pipeline.lanes:
            flying.popleft().finish()
        flying.append(pipeline.begin(chosen, selection))
    number = 0
    cpu, begun = time.process_time(), time.perf_counter()
    for chosen in images:
        flying.popleft().finish()
        number += 1
        if time.perf_counter() - begun > seconds:
            break
        flying.append(pipeline.begin(chosen, selection))
    passed = time.perf_counter() - begun
    cpu = time.process_time() - cpu
    while flying:
        flying.popleft().finish()
    return {
        'frames_per_second': round(number / passed, 1),
        'cpu_share': round(cpu / passed, 3),
    }


def gpus_part(given: argparse.Namespace) -> dict[str, Any]:
    """Frames a second of one GPU and of two."""
    from trt_perception.runtime.cuda.driver import call

    call('cuInit', 0)
    count = int(call('cuDeviceGetCount'))
    found: dict[str, Any] = {'gpus': count}
    for gpus in range(1, min(count, 2) + 1):
        found[str(gpus)] = {
            'one process': round(_together(_threads, given, gpus), 1),
            'a process each': round(_together(_processes, given, gpus), 1),
        }
    return found


def _together(run: Callable[..., list[float]], given: argparse.Namespace, gpus: int) -> float:
    return sum(run(given, gpus))


def _threads(given: argparse.Namespace, gpus: int) -> list[float]:
    barrier = threading.Barrier(gpus)
    with ThreadPoolExecutor(gpus) as pool:
        return list(pool.map(lambda k: _one_gpu(given, k, barrier), range(gpus)))


def _processes(given: argparse.Namespace, gpus: int) -> list[float]:
    spawn = multiprocessing.get_context('spawn')
    with spawn.Manager() as manager:
        barrier = manager.Barrier(gpus)
        with ProcessPoolExecutor(gpus, spawn) as pool:
            running = [pool.submit(_one_gpu, given, k, barrier) for k in range(gpus)]
            return [each.result() for each in running]


def _one_gpu(given: argparse.Namespace, device: int, barrier: Any) -> float:
    from trt_perception.runtime.cuda.pipeline import open_engine

    pipeline = open_engine(given.engine, accept_failed_gate=True, device=device, lanes=IN_FLIGHT)
    try:
        barrier.wait()
        return kept_busy(pipeline, picture(given), 1, given.seconds)['frames_per_second']
    finally:
        pipeline.close()


# The preprocessing kernel


def preprocess_part(given: argparse.Namespace) -> dict[str, Any]:
    """Microseconds of the kernel, and of a copy of as many bytes as it must move."""
    from trt_perception.core import place
    from trt_perception.runtime.cuda.device import CudaDevice
    from trt_perception.runtime.cuda.kernels import Kernels
    from trt_perception.runtime.cuda.memory import DeviceArena
    from trt_perception.runtime.cuda.preprocess import (
        level_tables,
        preprocess_launch,
        rows_read,
    )
    from trt_perception.runtime.model_file import load_spec

    device = CudaDevice()
    scope = device.scope()
    stream = scope.stream()
    spec = load_spec(given.model)
    if given.half_input:
        spec = dataclasses.replace(spec, dtype='float16')
    kernels = Kernels(scope)
    bandwidth = _copy_bandwidth(scope, stream)
    found: dict[str, Any] = {'copy_bandwidth_gb_s': round(bandwidth / 1e9, 1), 'sizes': {}}
    for width, height in ((1920, 1080), (3840, 2160)):
        frame = picture(given, width, height)
        copies = 2 + (256 << 20) // frame.data.nbytes  # more than any cache holds
        tables = level_tables(spec)
        tensor = 3 * spec.width * spec.height * np.dtype(spec.dtype).itemsize
        sizes = {f'image {k}': frame.data.nbytes for k in range(copies)}
        arena = DeviceArena(
            scope, sizes | {'tables': tables.nbytes, 'tensor': tensor, 'stamps': 32}
        )
        arena.fill('tables', tables)
        arena.fill('stamps', np.zeros(4, np.uint64))
        slots = DeviceArena(scope, {f'slot {k}': 8 for k in range(copies)})
        geometry = place(width, height, spec.width, spec.height, spec.resize)
        launches = []
        for k in range(copies):
            arena.fill(f'image {k}', frame.data)
            slots.fill(f'slot {k}', np.array([arena.addresses[f'image {k}']], np.uint64))
            launches.append(
                preprocess_launch(
                    spec, geometry, frame.encoding, frame.step,
                    source=slots.addresses[f'slot {k}'],
                    tables=arena.addresses['tables'],
                    output=arena.addresses['tensor'],
                    stamps=arena.addresses['stamps'],
                )
            )  # fmt: skip
        each = _gpu_seconds(
            scope, stream, lambda n, given=launches: kernels.launch(given[n % len(given)], stream)
        )
        least = len(rows_read(geometry, frame.encoding)) * frame.step + tensor
        found['sizes'][f'{width}x{height}'] = {
            'us': round(1e6 * each, 2),
            'bytes_of_image': frame.data.nbytes,
            'bytes_needed': least,
            'floor_us': round(1e6 * least / bandwidth, 2),
            'floor_whole_image_us': round(1e6 * (frame.data.nbytes + tensor) / bandwidth, 2),
            'share_of_floor': round(least / bandwidth / each, 3),
        }
    device.close()
    return found


def _gpu_seconds(scope: Any, stream: Any, launch: Callable[[int], Any], count: int = 300) -> float:
    """Of one launch among many back to back, by the GPU's events; median of 7 rounds.

    All are captured into one graph: launched one by one, short ones would wait for the host.
    """
    from trt_perception.runtime.cuda import driver
    from trt_perception.runtime.cuda.driver import call

    launch(0)
    call('cuStreamSynchronize', stream)
    call('cuStreamBeginCapture', stream, driver.bindings().CUstreamCaptureMode(1))
    for number in range(count):
        launch(number)
    graph = scope.graph(call('cuStreamEndCapture', stream))
    start, end = call('cuEventCreate', 0), call('cuEventCreate', 0)
    times = []
    for _ in range(8):
        call('cuEventRecord', start, stream)
        call('cuGraphLaunch', graph, stream)
        call('cuEventRecord', end, stream)
        call('cuEventSynchronize', end)
        times.append(float(call('cuEventElapsedTime', start, end)) / 1e3 / count)
    return statistics.median(times[1:])


def _copy_bandwidth(scope: Any, stream: Any, size: int = 1 << 30) -> float:
    """Bytes a second of a large copy within the GPU, read and written counted."""
    from trt_perception.runtime.cuda.driver import call

    source, target = scope.allocate(size), scope.allocate(size)
    call('cuMemsetD8', source, 0x5A, size)
    seconds = _gpu_seconds(
        scope, stream, lambda n: call('cuMemcpyDtoDAsync', target, source, size, stream), 10
    )
    return 2 * size / seconds


# Again and again


def cycles_part(given: argparse.Namespace) -> dict[str, Any]:
    """What the process and the GPU hold more after many cycles than after the first tenth."""
    from trt_perception.core import Selection
    from trt_perception.runtime.cuda.device import CudaDevice
    from trt_perception.runtime.cuda.memory import DeviceArena, PinnedArena
    from trt_perception.runtime.cuda.pipeline import open_engine
    from trt_perception.runtime.machine import process_memory

    holder = CudaDevice()  # keeps the context, so that it is not made anew ten thousand times
    frame = picture(given, 640, 480)

    def arenas() -> None:
        device = CudaDevice()
        scope = device.scope()
        scope.stream()
        scope.event()
        DeviceArena(scope, {'a': 1 << 20})
        PinnedArena(scope, {'a': 1 << 20})
        device.close()

    def engine() -> None:
        pipeline = open_engine(given.engine, accept_failed_gate=True)
        pipeline(frame, Selection())
        pipeline.close()

    found = {}
    for name, cycle in (('device and arenas', arenas), ('engine and one frame', engine)):
        begun = time.perf_counter()
        seen: list[tuple[int, int]] = []
        done = 0
        while done < given.cycles and time.perf_counter() - begun < given.cycle_seconds:
            cycle()
            done += 1
            use = holder.memory_use()
            seen.append((process_memory()['resident'], use.total - use.free))
        first = seen[len(seen) // 10]
        found[name] = {
            'cycles': done,
            'seconds': round(time.perf_counter() - begun, 1),
            'host_growth_bytes': seen[-1][0] - first[0],
            'device_growth_bytes': seen[-1][1] - first[1],
            'counted_from_cycle': len(seen) // 10,
        }
    holder.close()
    return found


# The others


def peers_part(given: argparse.Namespace) -> dict[str, Any]:
    """The pipelines of benchmarks/peers.py on the same picture, and the careful one's model."""
    import torch
    import torchvision
    from peers import CarefulPeer, UsualPeer

    from trt_perception.runtime.model_file import load_spec

    torch.backends.cudnn.benchmark = True
    spec = load_spec(given.model)
    image = picture(given).pixels()
    images = [image.copy() for _ in range(4)]
    frames = max(given.frames // 4, 1)
    found: dict[str, Any] = {
        'torch': torch.__version__,
        'torchvision': torchvision.__version__,
        'device': torch.cuda.get_device_name(),
    }
    careful = CarefulPeer(given.model, spec.width, spec.height)
    found['careful'] = {'what': careful.name, **timed(lambda n: careful(images[n % 4]), frames)}
    found['careful']['detections'] = len(careful(image)[1])

    def model_alone(number: int) -> None:
        careful.graph.replay()
        torch.cuda.current_stream().synchronize()

    found['careful model alone'] = timed(model_alone, frames)
    usual = UsualPeer(given.model, spec.width, spec.height)
    found['usual'] = {'what': usual.name, **timed(lambda n: usual(images[n % 4]), frames)}
    found['usual']['detections'] = len(usual(image)[1])
    found['not run'] = 'Ultralytics predict: not installed here'
    return found


# Together


def table(report: dict[str, Any]) -> str:
    """What was measured, as Markdown."""
    lines = ['| what | p50 ms | p99 ms | frames | |', '|---|---|---|---|---|']

    def row(what: str, times: dict[str, Any] | None, note: str = '') -> None:
        if times:
            frames = times.get('frames', '')
            lines.append(
                f'| {what} | {times["p50"]:.3f} | {times["p99"]:.3f} | {frames} | {note} |'
            )

    engine = report.get('engine', {})
    row('engine alone, CUDA graph', engine.get('graph'))
    base = engine.get('graph', {}).get('p50')
    ours: dict[str, float] = {}
    for memory, found in report.get('pipeline', {}).items():
        if not isinstance(found, dict):
            continue
        times = found['ms']['total']
        ours[memory] = times['p50']
        calls = sum(found['driver_calls_per_frame'].values())
        above = f'engine + {times["p50"] - base:.3f} ms; ' if base else ''
        note = f'{above}p99 / p50 {times["p99"] / times["p50"]:.2f}; {calls:.2f} driver calls'
        row(f'ours, {memory} memory', {**times, 'frames': found['frames']}, note)
    for name in ('careful', 'careful model alone', 'usual'):
        times = report.get('peers', {}).get(name)
        if times:
            ratio = times['p50'] / ours['pinned'] if 'pinned' in ours and 'alone' not in name else 0
            row(f'{name}: {times["what"]}' if 'what' in times else name, times,
                f'{ratio:.1f} times ours from pinned memory' if ratio else '')  # fmt: skip
    if cameras := report.get('cameras'):
        most, taken = engine.get('saturated'), cameras['as much as is taken']
        lines += [
            '',
            '| cameras | each waits for its last, frames/s | p50 ms | p99 ms'
            f' | as much as is taken ({taken["lanes"]} in flight), frames/s | of the engine |',
            '|---|---|---|---|---|---|',
        ]
        for count in map(str, CAMERAS):
            waits = cameras['each waits'].get(count)
            cells = ('', '', '')
            if waits:
                total = waits['total_ms']
                cells = (waits['frames_per_second'], *(f'{total[p]:.2f}' for p in ('p50', 'p99')))
            rate = taken[count]['frames_per_second']
            share = f'{100 * rate / most:.0f} %' if most else ''
            lines.append(f'| {count} | {" | ".join(map(str, cells))} | {rate} | {share} |')
        if most:
            lines.append(f'\nThe engine alone, saturated: {most} a second ({engine["rates"]}).')
    if gpus := report.get('gpus'):
        lines += [
            '',
            '| GPUs | one process, frames/s | a process each, frames/s |',
            '|---|---|---|',
        ]
        lines += [
            f'| {n} | {gpus[n]["one process"]} | {gpus[n]["a process each"]} |'
            for n in ('1', '2')
            if n in gpus
        ]
    if kernel := report.get('preprocess', {}).get('sizes'):
        lines += ['', '| preprocess kernel | us | floor us | share of floor |', '|---|---|---|---|']
        for size, found in kernel.items():
            lines.append(
                f'| {size} | {found["us"]} | {found["floor_us"]}'
                f' | {100 * found["share_of_floor"]:.0f} % |'
            )
        bandwidth = report['preprocess']['copy_bandwidth_gb_s']
        lines.append(f'\nCopy bandwidth {bandwidth} GB/s, bytes read and written counted.')
    for name, found in report.get('cycles', {}).items():
        if isinstance(found, dict):
            lines.append(
                f'\n{found["cycles"]} cycles of {name}: host {found["host_growth_bytes"]:+d},'
                f' device {found["device_growth_bytes"]:+d} bytes.'
            )
    lines += [f'\n{part}: {why}' for part, why in report.get('failed', {}).items()]
    return '\n'.join(lines)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--model', type=Path, required=True, help='ONNX file, of YOLOv8 for the peers')
    add('--engine', type=Path, required=True, help='TensorRT engine of it')
    add('--picture', type=Path, help='what the cameras see (default: noise)')
    add('--half-input', action='store_true', help='the engine takes FP16 images')
    add('--frames', type=int, default=20000, help='of each measurement (default: 20000)')
    add('--seconds', type=float, default=5.0, help='for each number of cameras (default: 5)')
    add('--cycles', type=int, default=10000, help='of opening and closing (default: 10000)')
    add('--cycle-seconds', type=float, default=100.0, help='for them at most (default: 100)')
    add('--parts', default=','.join(PARTS), help='which to run (default: all)')
    add('--limit', type=float, default=300.0, help='seconds that a part may take (default: 300)')
    add('--json', type=Path, help='file for all of it')
    add('--part', choices=PARTS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        found = globals()[f'{given.part}_part'](given)
        given.json.write_text(json.dumps(found))
        return 0
    from trt_perception.runtime.machine import describe_machine
    from trt_perception.runtime.sensors import Sensors

    report: dict[str, Any] = {
        'date': datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
        'machine': describe_machine() | {'driver': Sensors().driver},
        'failed': {},
    }
    for part in given.parts.split(','):
        print(f'{part} ...', file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            answer = Path(folder, 'answer.json')
            # The last option of a name wins.
            command = [sys.executable, __file__, *sys.argv[1:], '--part', part, '--json', answer]
            why = ''
            try:
                done = subprocess.run(
                    command, stderr=subprocess.PIPE, text=True, timeout=given.limit, env=os.environ
                )
                why = (done.stderr.strip().splitlines() or ['no word'])[-1]
            except subprocess.TimeoutExpired:
                why = f'not done in {given.limit:g} s'
            if answer.exists():
                report[part] = json.loads(answer.read_text())
            else:
                report['failed'][part] = why
                print(f'{part}: {why}', file=sys.stderr, flush=True)
        if given.json:
            given.json.write_text(json.dumps(report, indent=2) + '\n')
    device = report.get('engine', {}).get('device') or report.get('peers', {}).get('device', '')
    print(f'{device}, {report["machine"]["cpu"]}, {report["date"]}\n\n{table(report)}')
    return 1 if report['failed'] else 0


if __name__ == '__main__':
    sys.exit(main())
