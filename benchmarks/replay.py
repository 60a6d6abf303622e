# SPDX-License-Identifier: Apache-2.0
"""A long bag through trt-perception replay: how much memory it takes, and how much time it loses.

The bag is made of a video, enlarged to 1920x1080 with a camera's noise, as JPEG, over and over to
the wanted length; it stays in --folder and is used again.

  memory      the peak of a process that replays the bag, at several lengths: it must not grow. With
              a network that costs next to nothing, so that reading and writing are what is measured
  throughput  images a second of a replay (reading, hashing, decoding, detecting, writing) beside
              those of the same pipeline, saturated: the same threads on the same cores decode and
              detect images that lie in memory, and nothing is read or written. They take turns; the
              ratio is the median over the pairs. Where other work shares the machine, the ratio of
              the processor's time a frame tells more: with all cores busy the rates follow it

  nice python3 benchmarks/replay.py --model yolov8n.onnx --frames 2000 18000 --json replay.json
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'test')]

PARTS = ('memory', 'throughput')
SIZE = (1920, 1080)
RATE = 30
TOPIC = '/camera/image_raw/compressed'
START = 1_700_000_000 * 1_000_000_000


def jpegs(video: Path, quality: int, most: int) -> list[np.ndarray[Any, Any]]:
    """The first frames of a video as a camera of 1080p would have sent them."""
    from trt_perception.replay.sources import open_source

    random = np.random.default_rng(0)
    noise = random.normal(0, 4, (SIZE[1] + 64, SIZE[0] + 64, 3)).astype(np.int16)
    made = []
    for _, frame in itertools.islice(open_source(video).frames(), most):
        large = cv2.resize(frame.pixels(), SIZE, interpolation=cv2.INTER_CUBIC).astype(np.int16)
        x, y = random.integers(0, 64, 2)
        large += noise[y : y + SIZE[1], x : x + SIZE[0]]
        image = np.clip(large, 0, 255).astype(np.uint8)
        made.append(cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].reshape(-1))
    return made


def make_bag(path: Path, pictures: list[np.ndarray[Any, Any]], frames: int) -> Path:
    """So many frames, as JPEG, at 30 a second."""
    from trt_perception.core import Frame, Stamp
    from trt_perception.replay.bag_writer import write_bag
    from trt_perception.replay.sources import TimedFrame

    def timed() -> Iterator[Any]:
        for number, data in enumerate(itertools.islice(itertools.cycle(pictures), frames)):
            offset = round(number * 1e9 / RATE)
            frame = Frame.from_compressed(data, stamp=Stamp.of(START + offset), frame_id='camera')
            yield TimedFrame(offset, frame)

    if not path.exists():
        write_bag(path, timed(), 'mcap', TOPIC, compressed=True)
    return path


def memory(bag: Path, model: Path, folder: Path) -> dict[str, Any]:
    """Replay in a process of its own."""
    out = folder / 'replay'
    command = [
        sys.executable, '-m', 'trt_perception.cli.main', 'replay', str(bag), '--model', str(model),
        '--backend', 'onnxruntime', '-o', str(out), '--json', '-',
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    report = json.loads(done.stdout)
    return {
        'model': model.name,
        'bag_bytes': sum(file['bytes'] for file in report['bag']['files']),
        'frames': report['frames'],
        'seconds': report['seconds'],
        'frames_per_second': report['frames_per_second'],
        'peak_mb': round(report['memory_bytes']['peak'] / 1e6, 1),
        'results_bytes': sum(file.stat().st_size for file in out.iterdir()),
    }


def throughput(bag: Path, model: Path, frames: int, rounds: int, backend: str) -> dict[str, Any]:
    """Replays and the saturated pipeline, one after the other, in this process."""
    from trt_perception.build.engine.serving import Wish
    from trt_perception.cli.opening import open_watched
    from trt_perception.cli.replaying import LANES
    from trt_perception.core import Selection
    from trt_perception.replay.bag_reader import BagReader
    from trt_perception.replay.looking import look_at
    from trt_perception.replay.replay import replay
    from trt_perception.replay.result import ResultWriter

    wish = Wish(model, backend=backend, fallback=False, accept_failed_gate=True, lanes=LANES)
    pipeline, reason = open_watched(wish)
    rates: dict[str, list[float]] = {'replay': [], 'saturated': []}
    cpu: dict[str, list[float]] = {'replay': [], 'saturated': []}
    with contextlib.closing(pipeline), tempfile.TemporaryDirectory(dir=bag.parent) as folder:
        reader = BagReader(bag)
        kept = list(itertools.islice(reader.messages([TOPIC], print), min(frames, 240)))

        def saturated(count: int) -> float:
            begun = time.perf_counter()
            messages = itertools.islice(itertools.cycle(kept), count)
            number = sum(1 for _ in look_at(messages, pipeline, {TOPIC: Selection()}))
            return number / (time.perf_counter() - begun)

        def replayed(count: int) -> float:
            names = list(pipeline.spec.class_names)
            with ResultWriter(Path(folder, 'out'), {TOPIC: '/detections'}, names) as writer:
                done = replay(reader, {TOPIC: count}, pipeline, {TOPIC: Selection()}, writer)
                assert done.looked_at == count
                return count / done.seconds

        saturated(min(frames, 50))  # warm
        for _ in range(rounds):
            for name, way in (('saturated', saturated), ('replay', replayed)):
                spent = time.process_time()
                rates[name].append(round(way(frames), 2))
                cpu[name].append(round((time.process_time() - spent) * 1e3 / frames, 3))
        ran = str(pipeline.info)
    pairs = zip(rates['replay'], rates['saturated'], strict=True)
    return {
        'model': model.name,
        'ran': ran,
        'because': reason,
        'frames': frames,
        'frames_per_second': rates,
        'cpu_ms_a_frame': cpu,
        'cpu_ratio': round(
            statistics.median(cpu['saturated']) / statistics.median(cpu['replay']), 3
        ),
        'ratio': round(statistics.median(one / other for one, other in pairs), 3),
    }


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--model', type=Path, default=ROOT / 'resource/models/warehouse.onnx', metavar='FILE')
    add('--backend', default='auto', metavar='NAME')
    add('--video', type=Path, default=ROOT / 'resource/demo/drive.mp4', metavar='FILE')
    add('--quality', type=int, default=85, help='of the JPEGs (default: 85)')
    add('--frames', type=int, nargs='+', default=[500, 2000], help='lengths of the bag')
    add('--parts', nargs='+', choices=PARTS, default=PARTS)
    add('--rounds', type=int, default=9, help='of the throughput (default: 9)')
    add('--round', type=int, default=200, help='images of a round (default: 200)')
    add('--folder', type=Path, default=Path(tempfile.gettempdir(), 'trt_perception_replay'))
    add('--json', type=Path, metavar='FILE')
    arguments = parser.parse_args()

    from models import constant_detector

    from trt_perception.runtime.machine import describe_machine
    from trt_perception.runtime.versions import versions

    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    pictures: list[np.ndarray[Any, Any]] = []

    def bag(frames: int) -> Path:
        path = folder / f'{arguments.video.stem}_{arguments.quality}_{frames}'
        if not path.exists():
            most = min(240, max(*arguments.frames, arguments.round))
            pictures[:] = pictures or jpegs(arguments.video, arguments.quality, most)
        return make_bag(path, pictures, frames)

    cheap = constant_detector(folder / 'nothing.onnx')
    report: dict[str, Any] = {
        'date': datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
        'machine': describe_machine(),
    }
    if 'memory' in arguments.parts:
        lengths = sorted(arguments.frames)
        report['memory'] = [memory(bag(length), cheap, folder) for length in lengths]
        report['memory'].append(memory(bag(lengths[0]), arguments.model, folder))
    if 'throughput' in arguments.parts:
        report['throughput'] = [
            throughput(bag(arguments.round), model, arguments.round, arguments.rounds, backend)
            for model, backend in ((arguments.model, arguments.backend), (cheap, 'onnxruntime'))
        ]
    report['versions'] = versions()
    text = json.dumps(report, indent=1) + '\n'
    print(text, end='')
    if arguments.json:
        arguments.json.write_text(text)


if __name__ == '__main__':
    main()
