# SPDX-License-Identifier: Apache-2.0
"""``trt-perception doctor``: what is wrong with this machine, and the command that mends it."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, get_args

from trt_perception.cli.doctor.finding import Level

if TYPE_CHECKING:
    from trt_perception.cli.doctor.checks import Told

_DESCRIPTION = """\
Look at this machine and say what stands in the way of the detector: JetPack, power mode and clocks,
GPU, CUDA and TensorRT and whether they fit each other, Python and its libraries, ROS 2 and whether
large images come through, permissions, disk, cameras. Nothing is changed; what is wrong is told
with the command that mends it.

  trt-perception doctor
  trt-perception doctor --json > machine.json      to keep, or to send along with a question

Run it in the shell that the nodes are started from. It needs neither ROS nor a GPU.

Exit code 0: nothing is wrong. 1: there is a warning or a problem.
"""
SCHEMA = 'trt_perception.doctor/1'
_STYLES = {'ok': 'green', 'note': 'cyan', 'warning': 'yellow', 'problem': 'bold red'}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Tell the command line what this command takes."""
    parser = commands.add_parser(
        'doctor',
        help='say what is wrong with this machine, and what mends it',
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--json', action='store_true', help='as JSON')
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Make all checks."""
    from trt_perception.cli.doctor.checks import PROBES, examine
    from trt_perception.cli.doctor.machine import Machine
    from trt_perception.cli.doctor.probing import probe

    with _watched() as on_begin:
        machine = Machine(probed=probe(PROBES, on_begin))
        on_begin('files')
        told = list(examine(machine))
    if arguments.json:
        print(json.dumps(report(told), indent=2))
    else:
        show(told)
    return int(any(t.finding.level in ('warning', 'problem') for t in told))


def report(told: Sequence[Told]) -> dict[str, Any]:
    """What ``--json`` prints."""
    import datetime

    from trt_perception import __version__

    now = datetime.datetime.now(datetime.timezone.utc)
    return {
        'schema': SCHEMA,
        'date': now.isoformat(timespec='seconds'),
        'trt_perception': __version__,
        'counts': _count(told),
        'findings': [
            {'section': section, 'check': check, **finding._asdict()}
            for section, check, finding in told
        ],
    }


def show(told: Sequence[Told]) -> None:
    """Print it, in colours where that can be."""
    line = _printer()
    section = ''
    for t in told:
        if t.section != section:
            line('' if not section else '\n', t.section, 'bold')
            section = t.section
        line(f'  {t.finding.level:<8} ', t.finding.text, '', _STYLES[t.finding.level])
        if t.finding.cure:
            line('           -> ', t.finding.cure, 'bold')
    counts = _count(told)
    wrong = [_several(counts[level], level) for level in ('problem', 'warning') if counts[level]]
    line('\n', ', '.join(wrong) or 'nothing is wrong', 'bold')


def _printer() -> Callable[..., None]:
    """Print a head and a text; rich may be what is missing."""
    try:
        from rich.console import Console
        from rich.text import Text
    except Exception:
        return lambda head, text, *styles: print(f'{head}{text}')
    console = Console(highlight=False)

    def line(head: str, text: str, style: str = '', head_style: str = '') -> None:
        # A line is never broken up: commands are to be copied.
        console.print(Text.assemble((head, head_style), (text, style)), soft_wrap=True)

    return line


def _count(told: Sequence[Told]) -> dict[str, int]:
    counts: Counter[str] = Counter(t.finding.level for t in told)
    return {level: counts[level] for level in get_args(Level)}


def _several(number: int, name: str) -> str:
    return f'{number} {name}{"s" if number > 1 else ""}'


@contextlib.contextmanager
def _watched() -> Iterator[Callable[[str], None]]:
    """Say what is looked at, where somebody watches."""
    if sys.stderr.isatty():
        with contextlib.suppress(ImportError):
            from rich.console import Console

            with Console(stderr=True).status('looking') as status:
                yield lambda name: status.update(f'looking at {name}')
            return
    yield lambda name: None
