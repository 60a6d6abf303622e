# SPDX-License-Identifier: Apache-2.0
"""``trt-perception bag``: what is in a rosbag2, and one made from a video or pictures."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import itertools
import json
import re
import sqlite3
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trt_perception.cli.arguments import whole
from trt_perception.cli.progress import counted, interruptible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trt_perception.replay.bag_reader import BagReader
    from trt_perception.replay.sources import Source, SourceError, TimedFrame

#: When what has no time of its own was recorded: the same for the same video, and not 1970.
START = 1_700_000_000 * 1_000_000_000

#: Reasons why something is lost that are told.
_SHOWN = 5

_DESCRIPTION = """\
See what is in a rosbag2 and whether its images can be used, or make one.

  trt-perception bag info drive/
  trt-perception bag make drive.mp4 -o drive
  trt-perception bag make pictures/ -o drive --jpeg --fps 15 --topic /front/image_raw/compressed
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Tell the command line what this command takes."""
    parser = commands.add_parser(
        'bag',
        help='see what is in a bag, or make one from a video',
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title='actions', metavar='ACTION', required=True)

    info = actions.add_parser(
        'info',
        help='what is inside, and whether it can be used',
        description='Tell what a bag holds and try the first image of each topic. Exits with 1 if'
        ' something of it is lost or no image can be used, with 2 if there is no bag.',
    )
    info.add_argument('bag', type=Path, metavar='BAG', help='its folder, or an .mcap or .db3 file')
    info.add_argument('--json', action='store_true', help='as JSON')
    info.set_defaults(run=_info)

    make = actions.add_parser(
        'make',
        help='from a video, a folder of pictures, or another bag',
        description='Write the frames of a video, the pictures of a folder or the images of a bag'
        ' as one topic of a new bag. Exits with 1 if some of them could not be read.',
    )
    add = make.add_argument
    add('input', type=Path, metavar='INPUT', help='a video, a folder of jpg and png, or a bag')
    add('-o', '--output', type=Path, required=True, metavar='BAG', help='folder to make')
    add(
        '--topic',
        type=_topic,
        metavar='NAME',
        help='of the images (default: /camera/image_raw, with /compressed for JPEG)',
    )
    add('--jpeg', action='store_true', help='CompressedImage; pictures as they are, frames as JPEG')
    add('--storage', default='mcap', choices=('mcap', 'sqlite3'), help='(default: mcap)')
    add('--fps', type=_rate, metavar='HZ', help='(default: as recorded; 10 for pictures)')
    add(
        '--frames',
        type=whole(1, 10**9),
        metavar='N',
        help='so many, from the beginning again after the last (default: each once)',
    )
    make.set_defaults(run=_make)


def _topic(text: str) -> str:
    if not re.fullmatch(r'/?[A-Za-z_]\w*(/[A-Za-z_]\w*)*', text, re.ASCII):
        raise argparse.ArgumentTypeError(f"'{text}' is no name of a topic, as /front/image_raw is")
    return f'/{text.lstrip("/")}'


def _rate(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < (number := float(text)) <= 10000:
            return number
    raise argparse.ArgumentTypeError(f"'{text}' is not a number of frames a second")


def _make(arguments: argparse.Namespace) -> int:
    from trt_perception.replay.bag_reader import BagError
    from trt_perception.replay.bag_writer import write_bag
    from trt_perception.replay.sources import SourceError, open_source

    lost: list[SourceError] = []
    try:
        source = open_source(arguments.input, skip=lost.append)
    except SourceError as error:
        raise (lost or [error])[0] from None
    lost.clear()  # they come again
    topic = arguments.topic or '/camera/image_raw' + '/compressed' * arguments.jpeg
    total = arguments.frames or source.count or 0
    with interruptible() as interrupt, counted(total, 'writing', 'images') as move_on:

        def on_frame() -> None:
            move_on()
            interrupt()

        frames = _frames(source, arguments.fps or 0.0, arguments.frames, on_frame, lost)
        try:
            number = write_bag(arguments.output, frames, arguments.storage, topic, arguments.jpeg)
        except (OSError, sqlite3.Error) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise BagError(f"bag '{arguments.output}' cannot be written: {why}") from None
    for loss in lost[:_SHOWN]:
        print(f'lost: {loss}', file=sys.stderr)
    more = f'; {len(lost) - _SHOWN} more are lost' if len(lost) > _SHOWN else ''
    print(f"{number} images of topic {topic} in '{arguments.output}'{more}")
    return 1 if lost else 0


def _frames(
    source: Source,
    rate: float,
    number: int | None,
    on_frame: Callable[[], None],
    lost: list[SourceError],
) -> Iterator[TimedFrame]:
    """With stamps; those of a bag are its own, unless it is played again and again.

    Args:
        lost: takes what cannot be read.

    Raises:
        SourceError: that is all of it.
    """
    from trt_perception.core import Stamp
    from trt_perception.replay.sources import SourceError, TimedFrame, timeline

    start = 0
    frames = timeline(source, rate, number is not None, lost.append)
    try:
        for offset, frame in itertools.islice(frames, number):
            start = start or frame.stamp.nanoseconds or START
            if number is not None or rate or not frame.stamp.nanoseconds:
                frame = dataclasses.replace(frame, stamp=Stamp.of(start + offset))
            yield TimedFrame(offset, frame)
            on_frame()
    except SourceError as error:  # it breaks off
        lost.append(error)
    if not start and lost:
        raise lost[0]


def _info(arguments: argparse.Namespace) -> int:
    from trt_perception.replay.bag_reader import BagReader
    from trt_perception.replay.message_types import COMPRESSED, RAW

    bag = BagReader(arguments.bag)
    contents = bag.contents()
    damage = list(contents.damage)
    topics: dict[str, dict[str, Any]] = {}
    for name, topic in sorted(contents.topics.items()):
        topics[name] = {'types': sorted(topic.kinds), 'messages': topic.count}
        if topic.kinds & {RAW, COMPRESSED}:
            topics[name] |= _first_image(bag, name, damage)
    usable = any(topic.get('usable') for topic in topics.values())
    report = {
        'path': str(bag.path),
        'files': [{'name': f.name, 'bytes': f.stat().st_size} for f in bag.files],
        'start_ns': contents.start,
        'seconds': round((contents.end - contents.start) / 1e9, 3),
        'topics': topics,
        'notes': contents.notes,
        'damage': list(dict.fromkeys(damage)),
        'usable': usable,
    }
    if arguments.json:
        print(json.dumps(report, indent=2))
    else:
        _print(report)
    return 0 if usable and not damage else 1


def _first_image(bag: BagReader, topic: str, damage: list[str]) -> dict[str, Any]:
    """What the first image of a topic is, or why it cannot be used; what comes to light goes to
    ``damage``.
    """
    from trt_perception.core import FrameError
    from trt_perception.replay.sources.bag import image_of
    from trt_perception.runtime.host.color import to_pixels

    messages = bag.messages([topic], lambda error: damage.append(str(error)))
    with contextlib.closing(messages):
        message = next(messages, None)
        if message is None:
            return {'usable': False, 'because': 'it has no images'}
        try:
            frame = image_of(message)
            height, width = to_pixels(frame).image.shape[:2]
        except FrameError as error:
            return {'usable': False, 'because': str(error)}
    return {
        'usable': True,
        'encoding': frame.encoding,
        'size': [width, height],
        'frame_id': frame.frame_id,
    }


def _print(report: dict[str, Any]) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Column, Table

    table = Table(Column('topic', overflow='fold'), box=SIMPLE)
    table.add_column('messages', justify='right')
    table.add_column('what')
    for name, topic in report['topics'].items():
        what = ', '.join(topic['types'])
        if topic.get('usable'):
            width, height = topic['size']
            what = f'images, {width}x{height}, {topic["encoding"]}'
        elif 'usable' in topic:
            what = f'images that cannot be used: {topic["because"]}'
        table.add_row(name, str(topic['messages']), what)
    size = sum(file['bytes'] for file in report['files'])
    told = Table(show_header=False, box=None)
    start = datetime.datetime.fromtimestamp(report['start_ns'] / 1e9, datetime.timezone.utc)
    told.add_row('recorded', f'{start:%Y-%m-%d %H:%M:%S} UTC, {report["seconds"]:.1f} s')
    told.add_row('files', f'{len(report["files"])}, {size / 1e6:.1f} MB')
    for kind in ('notes', 'damage'):
        for text in report[kind]:
            told.add_row(kind.rstrip('s'), text)
    told.add_row('usable', _verdict(report))
    console = Console(markup=False, emoji=False, highlight=False)
    console.print(table, told)
    sys.stdout.flush()


def _verdict(report: dict[str, Any]) -> str:
    if not report['usable']:
        return 'no'
    return 'as far as it goes' if report['damage'] else 'yes'
