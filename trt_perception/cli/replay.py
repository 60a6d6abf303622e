# SPDX-License-Identifier: Apache-2.0
"""``trt-perception replay``: a detector on the images of a bag."""

from __future__ import annotations

import argparse
import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trt_perception.cli.arguments import share, whole
from trt_perception.cli.baseline import Baseline
from trt_perception.cli.comparing import CHANGED, add_limits, add_matching
from trt_perception.cli.opening import add_backend
from trt_perception.cli.progress import counted, interruptible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trt_perception.build.report.comparison import ComparisonPage
    from trt_perception.cli.replaying import Task
    from trt_perception.replay.result import ReplayResult

#: Options that are parameters of the detector.
_OPTIONS = (
    'model', 'labels', 'backend', 'precision', 'threads', 'score_threshold', 'nms_threshold',
    'max_detections',
)  # fmt: skip

_DESCRIPTION = """\
Run a detector over every image of a rosbag2, as a robot would but without leaving one out, as fast
as the machine allows, and keep what it found:

  OUT/detections.mcap   Detection2DArray with the images' headers, for Foxglove and ros2 bag play
  OUT/replay.json       what ran on what, and how it went: counts, classes, times, hashes
  OUT/frames.npy        the times of each frame
  OUT/report.html       a page for people: pictures, times, detections over time

  trt-perception replay drive/ --model yolov8n.onnx -o before
  trt-perception replay drive.mcap --model yolov8n_int8.onnx --topics /front/image_raw -o after
  trt-perception replay drive/ --params detector.yaml --online -o live
  trt-perception replay drive/ --model yolov8n_int8.onnx --baseline before --max-lost 1%

The same bag, model and machine give the same detections, byte for byte. A bag that was cut off, or
has lost its metadata.yaml, is read as far as it can be; what is missing is told. docs/replay.md
tells the rest.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Tell the command line what this command takes."""
    parser = commands.add_parser(
        'replay',
        help='run a detector over the images of a bag',
        description=_DESCRIPTION,
        epilog=f'Exit code {CHANGED}: more changed since the baseline than the limits allow.',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    add('bag', type=Path, metavar='BAG', help='rosbag2: its folder, or an .mcap or .db3 file')
    add(
        '--model',
        metavar='FILE',
        help='ONNX file of the detector, or engine',
    )
    add(
        '--params',
        metavar='FILE',
        help="YAML file of a detector's parameters, as for --params-file and launch; the options"
        ' here are stronger',
    )
    add(
        '--node',
        default='detector',
        metavar='NAME',
        help='whose parameters of that file (default: detector)',
    )
    add(
        '--topics',
        nargs='+',
        default=[],
        metavar='TOPIC',
        help='whose images to take (default: all, and raw ones where a camera has both);'
        ' front=/cam0/image_raw says that they are of a camera front of the file',
    )
    add(
        '-o',
        '--output',
        type=Path,
        default=Path('replay_output'),
        metavar='OUT',
        help='folder for the results; an earlier replay there is replaced (default: replay_output)',
    )
    add(
        '--labels',
        metavar='FILE',
        help='class names: a text file with a name a line, a YAML file, or coco (default: those'
        ' that the model carries)',
    )
    add_backend(parser)
    parser.set_defaults(backend=None, precision=None)  # else they would be stronger than a file
    add(
        '--threads',
        type=whole(0, 256),
        metavar='N',
        help='CPU threads of one inference (default: one a core)',
    )
    add(
        '--score-threshold',
        type=share,
        metavar='S',
        help='lowest score that is kept (default: 0.25)',
    )
    add(
        '--nms-threshold',
        type=share,
        metavar='S',
        help='boxes of a class that overlap more are one object (default: 0.7)',
    )
    add(
        '--max-detections',
        type=whole(1, 10000),
        metavar='N',
        help='at most so many of one image, the best by score (default: 300)',
    )
    add(
        '--baseline',
        type=Path,
        metavar='PATH',
        help='an earlier replay (folder), or COCO labels, to compare with as the command compare'
        ' does; writes OUT/comparison.html and .json',
    )
    add(
        '--update-baseline',
        action='store_true',
        help='after comparing, let this replay be the baseline; limits do not fail then',
    )
    add(
        '--online',
        action='store_true',
        help='play the bag in its own time to the live node instead, with its clock as /clock, and'
        ' record how long it is from stamp to detections, what is dropped, and diagnostics',
    )
    add(
        '--rate',
        type=_rate,
        default=1.0,
        metavar='R',
        help='of --online: 0.5 plays at half the speed (default: 1)',
    )
    add('--limit', type=whole(1, 10**9), metavar='N', help='take only the first N images')
    add(
        '--json',
        default='',
        metavar='FILE',
        help='write replay.json to a file, too; - prints it instead of the table',
    )
    add_matching(parser)
    add_limits(parser)


def _rate(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0.01 <= (number := float(text)) <= 100:
            return number
    raise argparse.ArgumentTypeError(f"'{text}' is not a number from 0.01 to 100")


def run(arguments: argparse.Namespace) -> int:
    """Replay and report.

    Returns:
        The exit code: 0, or `CHANGED`.

    Raises:
        PerceptionError: a file is missing or wrong, nothing in the bag can be used, or the live
            detector has failed.
    """
    from trt_perception.cli.replaying import plan
    from trt_perception.core.files import check_writable, write_atomically
    from trt_perception.replay.result import check_replaceable

    if arguments.json not in ('', '-'):
        check_writable(Path(arguments.json))
    check_replaceable(arguments.output)
    baseline = Baseline(arguments)
    task = plan(arguments.bag, _given(arguments), arguments.topics)
    make = _online if arguments.online else _offline
    result, comparison = make(task, arguments, baseline)
    baseline.update(arguments.output)
    written = json.dumps(result.summary, indent=2) + '\n'
    if arguments.json == '-':
        print(written, end='')
    else:
        _print(arguments.output, result.summary)
        baseline.print(comparison)
    if arguments.json not in ('', '-'):
        write_atomically(Path(arguments.json), written)
    return baseline.code(comparison)


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    """The detector's parameters: the file's, and stronger those of the command."""
    from trt_perception.core import PerceptionError
    from trt_perception.core.files import user_path
    from trt_perception.ros.detector_file import read_params_file

    given: dict[str, Any] = {}
    if arguments.params:
        given = read_params_file(user_path(arguments.params), arguments.node)
    elif not arguments.model:
        raise PerceptionError('give a --model, or --params with a model in it')
    # To know what a model does, one must be able to run it.
    given.setdefault('accept_failed_gate', True)
    options = {name: getattr(arguments, name) for name in _OPTIONS}
    return given | {name: value for name, value in options.items() if value is not None}


def _offline(
    task: Task, arguments: argparse.Namespace, baseline: Baseline
) -> tuple[ReplayResult, ComparisonPage | None]:
    from trt_perception.build.report.replay import write_page
    from trt_perception.cli.replaying import replayed
    from trt_perception.replay.result import open_result

    @contextlib.contextmanager
    def progress(total: int) -> Iterator[Callable[[], None]]:
        with interruptible() as interrupt, counted(total, 'replaying', 'images') as move_on:

            def on_frame() -> None:
                move_on()
                interrupt()

            yield on_frame

    with replayed(task, arguments.output, arguments.limit, progress) as writer:
        result = open_result(writer.folder)
        write_page(result)
        comparison = baseline.compare(result)
    return result, comparison


def _online(
    task: Task, arguments: argparse.Namespace, baseline: Baseline
) -> tuple[ReplayResult, ComparisonPage | None]:
    from trt_perception.cli.live import replay_live
    from trt_perception.core import PerceptionError
    from trt_perception.replay.result import open_result

    if arguments.limit:
        raise PerceptionError('--limit is not for --online; it plays the bag to its end')
    replay_live(task, arguments.output, arguments.rate)
    result = open_result(arguments.output)
    return result, baseline.compare(result)


def _print(output: Path, summary: dict[str, Any]) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Column, Table

    from trt_perception.replay.ledger import DROPPED

    times = Table('milliseconds', box=SIMPLE)
    for heading in ('p50', 'p95', 'p99', 'max'):
        times.add_column(heading, justify='right')
    for stage, spread in summary['latency_ms'].items():
        times.add_row(stage, *(f'{ms:.2f}' for ms in spread.values()))
    cameras = Table(Column('camera', overflow='fold'), box=SIMPLE)
    for heading in ('images', 'looked at', 'detections'):
        cameras.add_column(heading, justify='right')
    cameras.add_column('most')
    for topic, camera in summary['cameras'].items():
        frames, classes = camera['frames'], camera['detections']
        most = ', '.join(f'{name} {n}' for name, n in list(classes.items())[:5])
        cameras.add_row(
            topic, str(frames['read']), str(frames['looked_at']), str(sum(classes.values())), most
        )
    told = Table(show_header=False, box=None)
    told.add_row('ran', f'{summary["backend"]}, {summary["precision"]}, on {summary["device"]}')
    told.add_row('because', summary['chosen'])
    told.add_row(
        'rate',
        f'{summary["frames_per_second"]:.1f} images a second ({summary["frames"]} in'
        f' {summary["seconds"]:.1f} s)',
    )
    for topic, camera in summary['cameras'].items():
        for kind, why in camera['rejected_because'].items():
            n = camera['frames']['rejected'][kind]
            told.add_row(
                'dropped' if kind == DROPPED else 'not usable', f'{topic}: {n}, the first: {why}'
            )
        odd = ', '.join(f'{name} {n}' for name, n in camera['stamps'].items() if n)
        if odd:
            told.add_row('stamps', f'{topic}: {odd}')
    for text in summary['damage']:
        told.add_row('damage', text)
    told.add_row('written', str(output))
    # Names are text: neither markup, nor emoji, nor numbers to be coloured.
    console = Console(markup=False, emoji=False, highlight=False)
    console.print(times, cameras, told)
