# SPDX-License-Identifier: Apache-2.0
"""``trt-perception replay``: a detector on the images of a bag."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trt_perception.cli.arguments import share, whole
from trt_perception.cli.baseline import Baseline
from trt_perception.cli.comparing import CHANGED, add_limits, add_matching
from trt_perception.cli.opening import add_backend, find_engine
from trt_perception.cli.progress import counted, interruptible

if TYPE_CHECKING:
    from trt_perception.replay.bag_reader import BagReader, Contents
    from trt_perception.replay.result import ReplayResult
    from trt_perception.runtime.pipeline import AnyPipeline

#: Images that a GPU works on at a time: it is full with them.
LANES = 3
#: The page, in the folder of the results.
PAGE = 'report.html'

_DESCRIPTION = """\
Run a detector over every image of a rosbag2, as a robot would but without leaving one out, as fast
as the machine allows, and keep what it found:

  OUT/detections.mcap   Detection2DArray with the images' headers, for Foxglove and ros2 bag play
  OUT/replay.json       what ran on what, and how it went: counts, classes, times, hashes
  OUT/frames.npy        the times of each frame
  OUT/report.html       a page for people: pictures, times, detections over time

  trt-perception replay drive/ --model yolov8n.onnx -o before
  trt-perception replay drive.mcap --model yolov8n_int8.onnx --topics /front/image_raw -o after
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
        type=Path,
        required=True,
        metavar='FILE',
        help='ONNX file of the detector, or engine',
    )
    add(
        '--topics',
        nargs='+',
        default=[],
        metavar='TOPIC',
        help='whose images to take (default: all, and raw ones where a camera has both)',
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
        default='',
        metavar='FILE',
        help='class names: a text file with a name a line, a YAML file, or coco (default: those'
        ' that the model carries)',
    )
    add_backend(parser)
    add(
        '--threads',
        type=whole(0, 256),
        default=0,
        metavar='N',
        help='CPU threads of one inference (default: one a core)',
    )
    add(
        '--score-threshold',
        type=share,
        default=0.25,
        metavar='S',
        help='lowest score that is kept (default: 0.25)',
    )
    add(
        '--nms-threshold',
        type=share,
        default=0.7,
        metavar='S',
        help='boxes of a class that overlap more are one object (default: 0.7)',
    )
    add(
        '--max-detections',
        type=whole(1, 10000),
        default=300,
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
    add('--limit', type=whole(1, 10**9), metavar='N', help='take only the first N images')
    add(
        '--json',
        default='',
        metavar='FILE',
        help='write replay.json to a file, too; - prints it instead of the table',
    )
    add_matching(parser)
    add_limits(parser)


def run(arguments: argparse.Namespace) -> int:
    """Replay and report.

    Returns:
        The exit code: 0, or `CHANGED`.

    Raises:
        PerceptionError: a file is missing or wrong, or nothing in the bag can be used.
    """
    from trt_perception.core import PerceptionError, Selection
    from trt_perception.core.files import check_writable, write_atomically
    from trt_perception.replay.replay import detection_topics, replay
    from trt_perception.replay.result import (
        SUMMARY,
        ResultWriter,
        check_replaceable,
        open_result,
    )

    if arguments.json not in ('', '-'):
        check_writable(Path(arguments.json))
    check_replaceable(arguments.output)
    baseline = Baseline(arguments)
    bag, counts = _open_bag(arguments)
    pipeline, engine, reason = _open_pipeline(arguments)
    selection = Selection(
        score_threshold=arguments.score_threshold,
        iou_threshold=arguments.nms_threshold,
        max_detections=arguments.max_detections,
    )
    found = detection_topics(counts)
    spec = pipeline.spec
    names = [spec.class_name(number) for number in range(spec.num_classes)]
    total = min(sum(counts.values()), arguments.limit or sys.maxsize)
    with (
        contextlib.closing(pipeline),
        ResultWriter(arguments.output, found, names, selection.score_threshold) as writer,
    ):
        with interruptible() as interrupt, counted(total, 'replaying', 'images') as move_on:

            def on_frame() -> None:
                move_on()
                interrupt()

            account = replay(bag, counts, pipeline, selection, writer, arguments.limit, on_frame)
        if not account.looked_at:
            reasons = [why for c in account.cameras.values() for why in c.reasons.values()]
            why = next(iter([*reasons, *account.damage]), 'it holds none')
            raise PerceptionError(f"bag '{bag.path}': no image of it can be used: {why}")
        summary = {
            **_described(arguments, bag, pipeline, engine, reason),
            'selection': _told(selection),
            **account.to_dict(writer.times(), found),
        }
        summary['bag']['files'] = account.files
        writer.finish(summary)
        written = (writer.folder / SUMMARY).read_text(encoding='utf-8')
        result = open_result(writer.folder)
        _write_page(result)
        comparison = baseline.compare(result)
    baseline.update(arguments.output)
    if arguments.json == '-':
        print(written, end='')
    else:
        _print(arguments.output, json.loads(written))
        baseline.print(comparison)
    if arguments.json not in ('', '-'):
        write_atomically(Path(arguments.json), written)
    return baseline.code(comparison)


def _open_bag(arguments: argparse.Namespace) -> tuple[BagReader, dict[str, int]]:
    """The bag, and the topics that are to be taken with what each is said to have."""
    from trt_perception.replay.bag_reader import BagError, BagReader
    from trt_perception.replay.sources import SourceError
    from trt_perception.replay.sources.bag import choose_topics, image_topics

    bag = BagReader(arguments.bag)
    contents = bag.contents()
    warn(bag, contents)
    counts = image_topics(contents)
    try:
        topics = choose_topics(counts, arguments.topics)
    except SourceError as error:
        raise BagError(f"bag '{bag.path}': {error}") from None
    for name in [name for name, n in counts.items() if n and name not in topics]:
        if not arguments.topics:
            print(f'left out: {name}, whose images are there raw', file=sys.stderr)
    return bag, {name: counts[name] for name in topics}


def warn(bag: BagReader, contents: Contents) -> None:
    """Tell what is wrong with a bag, a line each."""
    for text in [*contents.notes, *contents.damage]:
        print(f"bag '{bag.path}': {text}", file=sys.stderr)


def _open_pipeline(arguments: argparse.Namespace) -> tuple[AnyPipeline, Path | None, str]:
    """What is to run, the engine if it is one, and why."""
    from trt_perception.build.engine.serving import Wish
    from trt_perception.runtime.pipeline import open_pipeline

    wish = Wish(
        arguments.model,
        labels=arguments.labels,
        backend=arguments.backend,
        precision=arguments.precision,
        fallback=False,
        accept_failed_gate=True,  # to know what it does, one must be able to run it
        threads=arguments.threads,
    )
    engine, reason = find_engine(wish)
    pipeline = open_pipeline(
        engine or wish.model,
        labels=wish.labels,
        threads=wish.threads,
        accept_failed_gate=True,
        lanes=LANES,
    )
    return pipeline, engine, reason


def _write_page(result: ReplayResult) -> None:
    from trt_perception.build.report.pictures import plain
    from trt_perception.build.report.replay import ReplayPage
    from trt_perception.core.files import write_atomically
    from trt_perception.replay.images import find_images

    page = ReplayPage(result)
    write_atomically(
        result.path / PAGE, page.to_html(*find_images(result.summary, page.wanted, plain))
    )


def _described(
    arguments: argparse.Namespace,
    bag: BagReader,
    pipeline: AnyPipeline,
    engine: Path | None,
    reason: str,
) -> dict[str, Any]:
    """What ran on what."""
    from trt_perception.core.files import sha256
    from trt_perception.runtime.machine import describe_machine, process_memory
    from trt_perception.runtime.versions import versions

    def file(path: Path | None) -> dict[str, str] | None:
        return None if path is None else {'path': str(path.absolute()), 'sha256': sha256(path)}

    now = datetime.datetime.now(datetime.timezone.utc)
    return {
        'date': now.isoformat(timespec='seconds'),
        'bag': {'path': str(bag.path.absolute())},
        'model': file(arguments.model),
        'engine': file(engine),
        **dataclasses.asdict(pipeline.info),
        'chosen': reason,
        'spec': pipeline.spec.to_dict(),
        'machine': describe_machine(),
        'versions': versions(),
        'memory_bytes': process_memory(),
    }


def _told(selection: Any) -> dict[str, Any]:
    return {
        name: getattr(selection, name)
        for name in ('score_threshold', 'iou_threshold', 'max_detections')
    }


def _print(output: Path, summary: dict[str, Any]) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Column, Table

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
            told.add_row('not usable', f'{topic}: {n}, the first: {why}')
        odd = ', '.join(f'{name} {n}' for name, n in camera['stamps'].items() if n)
        if odd:
            told.add_row('stamps', f'{topic}: {odd}')
    for text in summary['damage']:
        told.add_row('damage', text)
    told.add_row('written', str(output))
    # Names are text: neither markup, nor emoji, nor numbers to be coloured.
    console = Console(markup=False, emoji=False, highlight=False)
    console.print(times, cameras, told)
