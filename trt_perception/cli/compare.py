# SPDX-License-Identifier: Apache-2.0
"""``trt-perception compare``: what changed between two replays, or is wrong by labels."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from trt_perception.cli.comparing import CHANGED, add_limits, add_matching

_DESCRIPTION = """\
Tell what changed between two replays of a bag: another model, engine, precision, machine or
version. Which detections are matched, lost, new, moved or of another score, by class and size, and
in which frames.

  trt-perception compare before/ after/ --html changes.html
  trt-perception compare before/ after/ --max-lost 1% --max-new 2% --max-slower 10%
  trt-perception compare labels.json after/ --max-lost 20%

Labels are COCO's JSON; each image has its "stamp" (nanoseconds, of the header), or a file name that
ends in it or in the number of the frame (docs/replay.md).
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Tell the command line what this command takes."""
    parser = commands.add_parser(
        'compare',
        help='tell what changed between two replays',
        description=_DESCRIPTION,
        epilog=f'Exit code {CHANGED}: more changed than the limits allow.',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    add('first', type=Path, metavar='A', help='folder of the replay before, or COCO labels')
    add('second', type=Path, metavar='B', help='folder of the replay that is compared with it')
    add('--html', type=Path, metavar='FILE', help='write the page there, with pictures')
    add(
        '--json',
        default='',
        metavar='FILE',
        help='write all that was found to a file; - prints it instead of the table',
    )
    add_matching(parser)
    add_limits(parser)


def run(arguments: argparse.Namespace) -> int:
    """Compare and report.

    Returns:
        The exit code: 0, or `CHANGED`.

    Raises:
        PerceptionError: a file is missing or wrong, or the two have nothing in common.
    """
    from trt_perception.cli.comparing import compared, passed, print_comparison, to_dict
    from trt_perception.core import PerceptionError
    from trt_perception.core.files import check_writable, write_atomically
    from trt_perception.replay.result import open_result

    for path in (arguments.html, arguments.json not in ('', '-') and Path(arguments.json)):
        if path:
            check_writable(path)
    if arguments.second.is_file() and not arguments.first.is_file():
        raise PerceptionError(f"'{arguments.second}' is no folder of a replay; labels come first")
    result = open_result(arguments.second)
    name = arguments.second.resolve().name
    page = compared(arguments.first, result, name, arguments, bool(arguments.html))
    if arguments.html:
        write_atomically(arguments.html, page.to_html())
    text = json.dumps(to_dict(page), indent=2) + '\n'
    if arguments.json == '-':
        print(text, end='')
    else:
        print_comparison(page)
        if arguments.html:
            print(f'written: {arguments.html}')
        if arguments.json:
            write_atomically(Path(arguments.json), text)
    return 0 if passed(page) else CHANGED
