# SPDX-License-Identifier: Apache-2.0
"""Render a labelled data set of a robot's world: python generate.py OUT --train 12000.

Writes OUT/{train,calibration,test}/images/*.jpg with instances.json (COCO) beside, and
OUT/sequences/NAME/*.jpg, drives at 30 pictures a second, with theirs.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from command import imports, run, whole

with imports():
    import preview
    from synthetic import dataset


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the arguments and render; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('out', type=Path, metavar='OUT', help='folder to write')
    parser.add_argument(
        '--train', type=whole(0), default=12000, metavar='N', help='pictures to train on'
    )
    parser.add_argument(
        '--calibration', type=whole(0), default=300, metavar='N', help='... to calibrate INT8'
    )
    parser.add_argument(
        '--test', type=whole(0), default=1000, metavar='N', help='... to measure on'
    )
    parser.add_argument('--sequences', type=whole(0), default=1, metavar='N', help='drives')
    parser.add_argument(
        '--frames', type=whole(1), default=300, metavar='N', help='pictures a drive'
    )
    parser.add_argument('--seed', type=whole(0), default=0, metavar='S')
    parser.add_argument(
        '--jobs', type=whole(1), default=os.cpu_count() or 1, metavar='J', help='processes'
    )
    parser.add_argument(
        '--preview', type=Path, metavar='FILE.png', help='draw a sheet of the first pictures'
    )
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    try:
        if given.preview:
            preview.check(given.preview)  # not after an hour
        _render(given)
        if given.preview:
            preview.sheet(given.out, given.preview)
    except preview.SheetError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    return 0


def _render(given: argparse.Namespace) -> None:
    counts = (given.train, given.calibration, given.test)
    for name, count in zip(dataset.SPLITS, counts, strict=True):
        if count:
            with _Progress(name, count) as progress:
                dataset.split(given.out / name, name, count, given.seed, given.jobs, progress.add)
    for number in range(given.sequences):
        name = f'drive-{number}'
        with _Progress(name, given.frames) as progress:
            folder = given.out / 'sequences' / name
            dataset.sequence(folder, number, given.frames, given.seed, given.jobs, progress.add)


class _Progress:
    """One line that counts."""

    def __init__(self, name: str, total: int) -> None:
        self._name, self._total, self._done = name, total, 0

    def __enter__(self) -> _Progress:
        self._start = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        print(file=sys.stderr)

    def add(self, count: int) -> None:
        self._done += count
        took = time.monotonic() - self._start
        print(
            f'\r{self._name}: {self._done} of {self._total}, {took:.0f} s',
            end='',
            file=sys.stderr,
            flush=True,
        )


if __name__ == '__main__':
    run(main)
