# SPDX-License-Identifier: Apache-2.0
"""A test pattern: colour bars, and a square in their opposites that moves on with every image."""

from __future__ import annotations

import threading
from functools import partial
from time import monotonic_ns

import numpy as np
from numpy.typing import NDArray

from trt_perception.core import Frame
from trt_perception.runtime.capture.base import Shot, Wish
from trt_perception.runtime.capture.picture import check, develop

WIDTH, HEIGHT, RATE = 640, 480, 30.0
#: White, yellow, cyan, green, magenta, red, blue, black, as blue, green and red.
BARS = (
    (255, 255, 255), (0, 255, 255), (255, 255, 0), (0, 255, 0),
    (255, 0, 255), (0, 0, 255), (255, 0, 0), (0, 0, 0),
)  # fmt: skip
#: Places of the square, one after the other, in a row.
PLACES = 60


class PatternCapture:
    """Made here, at a fixed rate; needs nothing and never fails."""

    name = 'pattern'
    recorded = False

    def __init__(self, wish: Wish) -> None:
        """Prepare.

        Raises:
            CaptureError: PyAV is needed for the encoding and not installed.
        """
        check(wish, self.name)
        self._wish = wish
        self._width, self._height = wish.width or WIDTH, wish.height or HEIGHT
        self._rate = wish.rate or RATE
        bars = np.arange(self._width) * len(BARS) // self._width
        self._bars = np.broadcast_to(np.array(BARS, np.uint8)[bars], (self._height, self._width, 3))

    def open(self, stop: threading.Event) -> str:
        self._started, self._number = monotonic_ns(), 0
        return f'pattern, {self._width}x{self._height}, {self._rate:.4g} Hz'

    def read(self, stop: threading.Event) -> Shot | None:
        due = self._started + round(self._number * 1e9 / self._rate)
        behind = monotonic_ns() - due
        if behind > 1e9:  # as after a suspension: a camera does not make up for it
            self._started += behind
        number, self._number = self._number, self._number + 1
        return Shot(due, self._width, self._height, partial(self._develop, number))

    def skipped(self) -> int:
        return 0

    def close(self) -> None:
        pass

    def _develop(self, number: int) -> Frame:
        return develop(self._draw(number), self._wish)

    def _draw(self, number: int) -> NDArray[np.uint8]:
        picture = self._bars.copy()
        side = max(1, self._height // 8)
        left = max(0, self._width - side) * (number % PLACES) // PLACES
        top = (self._height - side) // 2
        square = picture[top : top + side, left : left + side]
        np.subtract(255, square, out=square)
        return picture
