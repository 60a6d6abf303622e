# SPDX-License-Identifier: Apache-2.0
"""Bring each frame together with what was found in it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trt_perception.core import Frame, Stamp


class Found(NamedTuple):
    """Detections as a subscriber gets them.

    Attributes:
        boxes: (N, 4) x1, y1, x2, y2, source pixels.
        scores: (N,) in 0..1.
        names: N names of classes.
    """

    boxes: NDArray[np.floating]
    scores: NDArray[np.floating]
    names: list[str]


class Pair(NamedTuple):
    """A frame and what was found in it."""

    frame: Frame
    found: Found


class Pairing:
    """Pairs by stamp, whichever of the two comes first, in bounded memory.

    A detector answers in the order of the frames. So with the answer to a frame it is certain that
    those before it get none: they are counted and let go.
    """

    def __init__(self, capacity: int = 512 << 20, answers: int = 1000) -> None:
        """Begin with nothing.

        Args:
            capacity: bytes of frames that may wait; the oldest goes when there are more.
            answers: how many may wait for their frame, which comes another way and may be late.
        """
        #: Frames that got no answer, and answers whose frame never came.
        self.unpaired = self.orphans = 0
        self._capacity = capacity
        self._answers = answers
        self._waiting: dict[Stamp, Frame] = {}
        self._bytes = 0
        self._found: dict[Stamp, Found] = {}

    def frame(self, frame: Frame) -> Pair | None:
        """Take a frame; a pair if its answer is there already."""
        found = self._found.pop(frame.stamp, None)
        if found is not None:
            self._let_go(len(self._waiting))
            return Pair(frame, found)
        if frame.stamp in self._waiting:
            self._remove(frame.stamp)
            self.unpaired += 1
        self._waiting[frame.stamp] = frame
        self._bytes += frame.data.nbytes
        while self._bytes > self._capacity:
            self._let_go(1)
        return None

    def answer(self, stamp: Stamp, found: Found) -> Pair | None:
        """Take what was found in the frame of this stamp; a pair if that is there already."""
        if stamp in self._waiting:
            self._let_go(list(self._waiting).index(stamp))
            return Pair(self._remove(stamp), found)
        self._found[stamp] = found
        if len(self._found) > self._answers:
            del self._found[next(iter(self._found))]
            self.orphans += 1
        return None

    def close(self) -> None:
        """Count whatever still waits."""
        self._let_go(len(self._waiting))
        self.orphans += len(self._found)
        self._found.clear()

    def _let_go(self, number: int) -> None:
        for stamp in list(self._waiting)[:number]:
            self._remove(stamp)
            self.unpaired += 1

    def _remove(self, stamp: Stamp) -> Frame:
        frame = self._waiting.pop(stamp)
        self._bytes -= frame.data.nbytes
        return frame
