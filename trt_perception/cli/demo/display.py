# SPDX-License-Identifier: Apache-2.0
"""What the demo shows: progress while it runs, tables at the end."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from trt_perception.health.statistics import FrameCounts
from trt_perception.replay.recording import SUMMARY

#: Seconds between two lines of progress where there is no terminal.
PERIOD = 5.0
#: Who has logged a line.
_WHO = re.compile(r'\[[A-Z]+\] \[[0-9.]+\] \[([^]]+)\]: ')
#: What a node logs that the user should see at once.
_LOUD = ('[WARN]', '[ERROR]', '[FATAL]')
#: Before the player has said anything and after the one, the detector's other is no news.
_PLAYED, _NO_CAMERA = 'images published', 'nobody publishes'


class Display:
    """A bar on a terminal, a line now and then elsewhere; a context manager."""

    def __init__(self, total: int | None) -> None:
        """Begin.

        Args:
            total: how many images there are to play, if known.
        """
        self._total = total
        self._console = Console(highlight=False, markup=False)
        self._progress = Progress(
            TextColumn('{task.description}', markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
        )
        self._task = self._progress.add_task('starting', total=total)
        self._said_at = 0.0
        self._playing = False

    def __enter__(self) -> Display:
        self._progress.start()
        if not self._console.is_terminal:
            self.say('starting recorder, detector and player')
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        """Print something for itself."""
        self._console.print(text, soft_wrap=True)

    def line(self, text: str) -> None:
        """Take a line that the nodes printed; shown if it is a warning. From any thread."""
        found = _WHO.search(text)
        node = found[1] if found else 'graph'
        if node == 'player':
            self._playing = _PLAYED not in text
        if any(level in text for level in _LOUD) and (self._playing or _NO_CAMERA not in text):
            self.say(f'{node}: {text}')

    def update(self, status: Mapping[str, Any]) -> None:
        """Show what the detector said last."""
        received = status.get('received', 0)
        if not received:
            return
        text = f'{status["published"]} detected, {status["dropped"]} dropped'
        self._progress.update(self._task, description=text, completed=received)
        if not self._console.is_terminal and monotonic() - self._said_at > PERIOD:
            self._said_at = monotonic()
            self.say(f'{received}{self._of_all()} images received, {text}')

    def report(self, output: Path) -> None:
        """Print the recorder's summary and where the files lie."""
        try:
            summary = json.loads((output / SUMMARY).read_text(encoding='utf-8'))
        except OSError:
            self.say(f'nothing was recorded in {output}')
            return
        detector = summary['detector'] or {}
        if 'backend' in detector:
            self.say(
                f'{detector["model"]} on {detector["device"]}'
                f' ({detector["backend"]}, {detector["precision"]})'
            )
        tables = self._frames(summary, detector), _stages(detector), _objects(summary)
        for table in tables:
            if table.row_count:
                self._console.print(table)
        if summary['frames']['annotated'] and not summary['classes']:
            self.say('nothing was detected')
        names = [n for n in (summary['video'], *summary['pictures'], SUMMARY) if n]
        self.say(f'{output}: {", ".join(names)}')

    def _frames(self, summary: Mapping[str, Any], detector: Mapping[str, Any]) -> Table:
        table = Table('frames')
        table.add_column('', justify='right')
        if detector:
            table.add_row('in', f'{detector["received"]}{self._of_all()}')
            table.add_row('out', str(detector['published']))
            table.add_row('dropped for a newer one', str(detector['dropped']))
            for other in ('lost', *FrameCounts.FATES[2:], FrameCounts.OVER_LIMIT):
                if detector[other]:
                    table.add_row(other, str(detector[other]))
        table.add_row('in the video', str(summary['frames']['annotated']))
        if summary['fps']:
            table.add_row('out per second', f'{summary["fps"]:.1f}')
        return table

    def _of_all(self) -> str:
        return f' of {self._total}' if self._total else ''


def _stages(detector: Mapping[str, Any]) -> Table:
    table = Table('stage')
    table.add_column('p50 ms', justify='right')
    table.add_column('p95 ms', justify='right')
    for stage, times in detector.get('stages', {}).items():
        table.add_row(stage, f'{times["p50_ms"]:.2f}', f'{times["p95_ms"]:.2f}')
    return table


def _objects(summary: Mapping[str, Any]) -> Table:
    table = Table('class')
    table.add_column('detections', justify='right')
    for name, number in summary['classes'].items():
        table.add_row(name, str(number))
    return table
