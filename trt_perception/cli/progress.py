# SPDX-License-Identifier: Apache-2.0
"""What a command that takes its time shows meanwhile, and how it is stopped."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """Put Ctrl-C off to between two steps, where the function that is given raises it.

    Libraries in C++ that it comes down in make something else of it. A second one is not put off.
    """
    pressed = False

    def press(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        signal.signal(number, before)

    def interrupt() -> None:
        if pressed:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, press)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def counted(
    total: int, doing: str = 'evaluating', what: str = 'pictures'
) -> Iterator[Callable[[], None]]:
    """A bar with the time left, or one line where nobody watches; gives what moves it on."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        print(f'{doing} {total} {what}', file=sys.stderr, flush=True)
        yield lambda: None
        return
    count = TextColumn('{task.completed:.0f} of {task.total:.0f} ' + what)
    with Progress(BarColumn(), count, TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task('', total=total)
        yield lambda: progress.advance(task)


@contextlib.contextmanager
def phases() -> Iterator[Callable[[str, float], None]]:
    """A bar for each phase of a long work, with the time left, or a line where nobody watches.

    Gives what is told of each step: the phase's name and the share of it (0..1) that is done.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskID,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        said = set()

        def say(phase: str, share: float) -> None:
            if phase not in said:
                said.add(phase)
                print(phase, file=sys.stderr, flush=True)

        yield say
        return
    columns = (
        TextColumn('{task.description:<24}', markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn('left'),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bars: dict[str, TaskID] = {}

        def move(phase: str, share: float) -> None:
            if phase not in bars:
                for task in bars.values():
                    progress.update(task, completed=1.0)
                bars[phase] = progress.add_task(phase, total=1.0)
            progress.update(bars[phase], completed=share)

        yield move
