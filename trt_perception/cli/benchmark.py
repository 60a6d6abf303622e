# SPDX-License-Identifier: Apache-2.0
"""``trt-perception benchmark``: how fast a detector is on this machine."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trt_perception.cli.arguments import whole
from trt_perception.cli.opening import add_backend, find_engine
from trt_perception.cli.progress import interruptible, phases

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from trt_perception.replay.benchmark.result import BenchmarkResult, Spread

_DESCRIPTION = """\
Measure how fast a detector is on this machine, from an image in memory to its detections: the time
of each stage, frames a second, memory, the GPU's clock, temperature and power where they can be
read. Cameras send as fast as they are served. The command is the same on a desk and on a robot.

  trt-perception benchmark --model yolov8n.onnx
  trt-perception benchmark --engine yolov8n.engine --cameras 4 --json orin.json

The model runs as the detector would run it: on a GPU with TensorRT, whose engine is taken from the
cache or built first, else with ONNX Runtime; the reason is told.

docs/profiling.md tells how to read the figures, and what stands in the JSON file.
"""


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r'([1-9]\d{0,4})x([1-9]\d{0,4})', text)
    if not found:
        raise argparse.ArgumentTypeError(f"'{text}' is no size; write it as 1920x1080")
    return int(found[1]), int(found[2])


def _plot(text: str) -> Path:
    if not text.endswith('.svg'):
        raise argparse.ArgumentTypeError(f"'{text}' does not end in .svg, which is what it will be")
    return Path(text)


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Tell the command line what this command takes."""
    parser = commands.add_parser(
        'benchmark',
        help='measure how fast a detector is on this machine',
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    add('--model', type=Path, metavar='FILE', help='ONNX file of the detector, or engine')
    add('--engine', type=Path, metavar='FILE', help='engine to run in the place of the model')
    add('--labels', default='', metavar='FILE', help='class names, where the model has none')
    add_backend(parser)
    add(
        '--image-size',
        type=_size,
        default=(1920, 1080),
        metavar='WxH',
        help="of the camera's images (default: 1920x1080)",
    )
    add('--encoding', default='bgr8', metavar='NAME', help='of the images (default: bgr8)')
    add(
        '--input',
        type=Path,
        metavar='PATH',
        help='a video, a rosbag2 or a folder of pictures whose first image is shown, stretched'
        ' (default: an image of noise, the same every time)',
    )
    add(
        '--memory',
        default='pageable',
        choices=('pageable', 'pinned'),
        help='where the images lie: pageable, as those of ROS messages do, or pinned, which a GPU'
        ' reads without a copy by the CPU (default: pageable)',
    )
    add('--cameras', type=whole(1, 64), default=1, metavar='N', help='at once (default: 1)')
    add(
        '--seconds',
        type=whole(1, 86400),
        default=10,
        metavar='S',
        help='to measure, after a warm-up (default: 10)',
    )
    add(
        '--threads',
        type=whole(0, 256),
        default=0,
        metavar='N',
        help='CPU threads of one inference (default: one a core)',
    )
    add(
        '--json',
        default='',
        metavar='FILE',
        help='write all that was measured to a file; - prints it instead of the table',
    )
    add('--plot', type=_plot, metavar='FILE.svg', help='draw the times')


def run(arguments: argparse.Namespace) -> int:
    """Measure and report.

    Raises:
        PerceptionError: a file is missing or wrong, or what was asked for cannot run here.
    """
    from trt_perception.core.files import check_writable, sha256, write_atomically
    from trt_perception.replay.benchmark.frames import as_sent
    from trt_perception.replay.benchmark.measure import Camera, measure
    from trt_perception.runtime.machine import describe_machine
    from trt_perception.runtime.sensors import Sensors
    from trt_perception.runtime.versions import versions

    if arguments.json not in ('', '-'):
        check_writable(Path(arguments.json))
    if arguments.plot:
        check_writable(arguments.plot)
    picture, name = _picture(arguments.input)
    width, height = arguments.image_size
    frame = as_sent(picture, width, height, arguments.encoding)
    sensors = Sensors()
    with contextlib.ExitStack() as opened:
        pipelines, engine, reason = _open(arguments, opened)
        info = pipelines[0].info
        # Before the time is spent: what was given beside an engine may not be there.
        files = {
            kind: path and {'path': str(path), 'sha256': sha256(path)}
            for kind, path in (('model', arguments.model), ('engine', engine))
        }
        cameras = [
            Camera(pipeline, frame, arguments.memory, f'camera {number}')
            for number, pipeline in enumerate(pipelines)
        ]
        image = {
            'width': frame.width, 'height': frame.height, 'encoding': frame.encoding,
            'bytes': frame.data.nbytes, 'memory': arguments.memory, 'picture': name,
        }  # fmt: skip
        with interruptible() as interrupt, phases() as move:

            def on_step(phase: str, share: float) -> None:
                move(phase, share)
                interrupt()

            result = measure(
                cameras, info, image, arguments.seconds, on_step=on_step, sensors=sensors
            )
    now = datetime.datetime.now(datetime.timezone.utc)
    machine = describe_machine() | ({'driver': sensors.driver} if sensors.driver else {})
    report = {
        **result.to_dict(),
        'chosen': reason,
        'date': now.isoformat(timespec='seconds'),
        'machine': machine,
        **files,
        'versions': versions(),
    }
    text = json.dumps(report, indent=2) + '\n'
    if arguments.plot:
        from trt_perception.build.report.benchmark import picture as drawn

        write_atomically(arguments.plot, drawn(result))
    if arguments.json == '-':
        print(text, end='')
        return 0
    _print(result, machine, reason)
    if arguments.json:
        write_atomically(Path(arguments.json), text)
    return 0


def _picture(path: Path | None) -> tuple[NDArray[np.uint8], str]:
    """What the cameras see, (H, W, 3) BGR, and its name."""
    from trt_perception.replay.benchmark.frames import random_picture

    if path is None:
        return random_picture(), 'noise'
    from trt_perception.replay.sources import open_source
    from trt_perception.runtime.host.color import to_bgr

    return to_bgr(next(iter(open_source(path).frames())).frame), path.name


def _open(
    arguments: argparse.Namespace, opened: contextlib.ExitStack
) -> tuple[list[Any], Path | None, str]:
    """A pipeline for each camera, closed with the stack; the engine that runs, if any; and why.

    One pipeline with a lane for each camera stands for all of them.
    """
    from trt_perception.build.engine.serving import Wish
    from trt_perception.runtime.engine import EngineError
    from trt_perception.runtime.pipeline import open_pipeline
    from trt_perception.runtime.tensorrt.plan import is_engine

    if arguments.engine and not is_engine(arguments.engine):
        raise EngineError(
            f"engine '{arguments.engine}' does not end in .engine; give an ONNX file as --model"
        )
    given = arguments.engine or arguments.model
    if given is None:
        raise EngineError('there is nothing to run: give --model, or --engine on a GPU')
    cameras, labels = arguments.cameras, arguments.labels
    wish = Wish(
        given,
        labels=labels,
        backend=arguments.backend,
        precision=arguments.precision,
        fallback=False,
        accept_failed_gate=True,  # to know how fast it would be
        threads=arguments.threads,
    )
    engine, reason = find_engine(wish)
    if engine:
        from trt_perception.runtime.cuda.pipeline import open_engine

        pipeline = open_engine(engine, labels=labels, accept_failed_gate=True, lanes=cameras)
        opened.callback(pipeline.close)
        return [pipeline] * cameras, engine, reason
    pipelines = []
    for _ in range(cameras):
        pipelines.append(
            open_pipeline(given, labels=labels, threads=wish.threads, accept_failed_gate=True)
        )
        opened.callback(pipelines[-1].close)
    return pipelines, None, reason


def _print(result: BenchmarkResult, machine: dict[str, Any], reason: str) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    times = Table('milliseconds', box=SIMPLE)
    for heading in ('p50', 'p95', 'p99', 'max'):
        times.add_column(heading, justify='right')

    def add(name: str, spread: Spread) -> None:
        times.add_row(name, *(f'{ms:.3f}' for ms in spread))

    for name, spread in result.host_ms.items():
        add(name, spread)
    for name, spread in result.stage_ms.items():
        add(f'  {name}', spread)
    if len(result.cameras) > 1:
        for number, camera in enumerate(result.cameras):
            rate = camera.frames / result.seconds
            add(f'camera {number}, {rate:.1f} a second', camera.host_ms['total'])
    image = result.image
    told = Table(show_header=False, box=None)
    told.add_row('machine', ', '.join(str(machine[k]) for k in ('model', 'cpu') if k in machine))
    told.add_row('ran', f'{result.backend}, {result.precision}, on {result.device} ({reason})')
    told.add_row(
        'images',
        f'{image["width"]}x{image["height"]} {image["encoding"]} of {image["picture"]},'
        f' {image["bytes"] / 1e6:.2f} MB in {image["memory"]} memory',
    )
    told.add_row(
        'rate',
        f'{result.frames_per_second:.1f} frames a second ({result.frames} in'
        f' {result.seconds:.1f} s, cameras: {len(result.cameras)})',
    )
    told.add_row('processor', f'{result.cpu_share:.2f} cores of {machine["cores"]} busy')
    memory = ', '.join(f'{name} {n / 1e6:.0f} MB' for name, n in result.memory.items())
    told.add_row('memory', memory)
    if result.driver_calls is not None:
        calls = result.calls_per_frame()
        each = ', '.join(f'{name} {n:.2f}' for name, n in sorted(calls.items()))
        told.add_row('driver calls', f'{sum(calls.values()):.2f} a frame: {each}')
        told.add_row('allocations', f'{sum((result.allocations or {}).values())} after the warm-up')
    for name, values in result.sensors.items():
        told.add_row(name, f'{values["median"]:.6g} (at most {values["max"]:.6g})')
    console = Console(markup=False, emoji=False, highlight=False)
    console.print(times, told)
