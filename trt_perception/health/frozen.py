# SPDX-License-Identifier: Apache-2.0
"""Whether a camera sends the same image again and again."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

#: Places of an image that are looked at, and bytes at each. A prime, so that they are not all in
#: one column: a row is rarely a multiple of it.
PLACES, BYTES = 61, 64
#: Images that must be the same, at least: a slow camera of a still scene is not frozen.
FEWEST = 10


def fingerprint(data: NDArray[np.uint8]) -> int:
    """A number that two images share if they are the same, and hardly ever otherwise.

    Reads the same few bytes of an image of any size. The noise of a sensor, which is in every
    pixel, tells two images of one scene apart.

    Args:
        data: (N,) uint8, pixels or a compressed image.
    """
    every = data.size // PLACES
    if every <= BYTES:
        return zlib.crc32(data.tobytes(), data.size)
    places = data[: every * PLACES].reshape(PLACES, every)[:, :BYTES]
    return zlib.crc32(places.tobytes(), data.size)


class Frozen:
    """Counts images that are the same as the one before.

    Attributes:
        after: seconds of the same image that are worth a word; 0 is never.
    """

    def __init__(self, after: float = 0.0) -> None:
        self.after = after
        self._print = -1
        self._since = 0
        self._last = 0
        self._count = 0

    def clear(self) -> None:
        """What follows has nothing to do with what was before."""
        self._print, self._count = -1, 0

    def look(self, data: NDArray[np.uint8], at: int) -> None:
        """An image came.

        Args:
            data: (N,) uint8, its bytes.
            at: nanoseconds, steady.
        """
        if not self.after:
            return self.clear()
        number = fingerprint(data)
        if number != self._print:
            self._print, self._since, self._count = number, at, 0
        self._last = at
        self._count += 1

    @property
    def problem(self) -> str:
        """What is wrong; '' if nothing is known to be."""
        seconds = (self._last - self._since) / 1e9
        if not self.after or seconds < self.after or self._count < FEWEST:
            return ''
        return (
            f'the same image for {seconds:.0f} s, {self._count} times: the camera is frozen or'
            ' covered, or this is a simulation (frozen_after 0 says nothing of it)'
        )
