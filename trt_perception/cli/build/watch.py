# SPDX-License-Identifier: Apache-2.0
"""Build while somebody watches, and may have enough of it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from trt_perception.build.engine.background import BackgroundBuild, Status
from trt_perception.build.engine.builder import BuildCancelledError
from trt_perception.build.engine.cache import EngineCache
from trt_perception.build.engine.make import Engine, Request


def build_watched(request: Request, cache: EngineCache, notes: list[str]) -> Engine:
    """Build on another thread and show how far it is.

    Args:
        notes: gets what is worth knowing, a line each.

    Raises:
        PerceptionError: it failed.
        KeyboardInterrupt: it was stopped.
    """
    cancel = threading.Event()
    with _interruptible(cancel), _progress(request.source.path.name) as show:
        build = BackgroundBuild(request, cache, cancel)
        told = 0
        while not build.join(0.1):
            told = show(build.status, told)
        show(build.status, told)
    notes.extend(build.status.notes)
    try:
        return build.result()
    except BuildCancelledError:
        raise KeyboardInterrupt from None


@contextlib.contextmanager
def _interruptible(cancel: threading.Event) -> Iterator[None]:
    """Let Ctrl-C set an event, whatever is being done; a second one ends the process at once.

    An exception in this thread would end Python under the other one's feet, in TensorRT.
    """

    def press(number: int, frame: FrameType | None) -> None:
        if cancel.is_set():
            os._exit(130)
        cancel.set()
        os.write(2, b'stopping\n')  # not print, which may be in the middle of another

    before = signal.signal(signal.SIGINT, press)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _progress(model: str) -> Iterator[Callable[[Status, int], int]]:
    """A bar with phase and time left where somebody watches, and the notes as they come.

    Gives what shows a status, whose first notes have been told; says how many have been by then.
    """
    console = Console(stderr=True, markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        print(f'building {model}', file=sys.stderr, flush=True)
    phase = TextColumn('{task.description}', markup=False)
    columns = (BarColumn(), TimeElapsedColumn(), TimeRemainingColumn(), phase)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task('', total=1.0)

        def show(status: Status, told: int) -> int:
            progress.update(task, completed=status.share, description=status.phase)
            for note in status.notes[told:]:
                console.print(note, soft_wrap=True)
            return len(status.notes)

        yield show
