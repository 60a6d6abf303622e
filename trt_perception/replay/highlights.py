# SPDX-License-Identifier: Apache-2.0
"""Which pictures of a recording are worth a look."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Highlight(NamedTuple):
    """A picture, and how many objects it shows."""

    objects: int
    image: NDArray[np.uint8]


class Highlights:
    """The pictures with the most objects, spread over a recording whose length nobody knows.

    The recording is cut into parts of equal length, each of which keeps its best picture. When
    there are twice as many parts as wanted pictures, neighbours are joined.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._parts: list[Highlight] = []
        self._length = 1  # pictures of a part
        self._seen = 0

    def add(self, highlight: Highlight) -> None:
        if not self._number:
            return
        if self._seen % self._length:
            self._parts[-1] = _better(self._parts[-1], highlight)
        else:
            if len(self._parts) == 2 * self._number:
                self._parts = list(map(_better, self._parts[::2], self._parts[1::2]))
                self._length *= 2
            self._parts.append(highlight)
        self._seen += 1

    def chosen(self) -> list[Highlight]:
        """At most the wanted number, in their order."""
        number = min(self._number, len(self._parts))
        edges = np.linspace(0, len(self._parts), number + 1).astype(int).tolist()
        return [max(self._parts[a:b], key=lambda part: part.objects) for a, b in pairwise(edges)]


def _better(first: Highlight, second: Highlight) -> Highlight:
    return second if second.objects > first.objects else first
