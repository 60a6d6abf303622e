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

import preview
from synthetic import dataset


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('out', type=Path, metavar='OUT', help='folder to write')
    parser.add_argument(
        '--train', type=_count, default=12000, metavar='N', help='pictures to train on'
    )
    parser.add_argument(
        '--calibration', type=_count, default=300, metavar='N', help='... to calibrate INT8'
    )
    parser.add_argument('--test', type=_count, default=1000, metavar='N', help='... to measure on')
    parser.add_argument('--sequences', type=_count, default=1, metavar='N', help='drives')
    parser.add_argument('--frames', type=_count, default=300, metavar='N', help='pictures a drive')
    parser.add_argument('--seed', type=_count, default=0, metavar='S')
    parser.add_argument(
        '--jobs', type=_count, default=os.cpu_count() or 1, metavar='J', help='processes'
    )
    parser.add_argument(
        '--preview', type=Path, metavar='FILE.png', help='draw a sheet of the first pictures'
    )
    given = parser.parse_args(arguments)
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
    if given.preview:
        preview.sheet(given.out, given.preview)


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f'{text} is negative')
    return value


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
    main()
