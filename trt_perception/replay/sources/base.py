# SPDX-License-Identifier: Apache-2.0
"""What all kinds of recorded images have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from trt_perception.core import Frame, PerceptionError


class SourceError(PerceptionError):
    """Recorded images that are not there or cannot be read."""


class TimedFrame(NamedTuple):
    """A frame and when it was recorded.

    Attributes:
        offset: nanoseconds since the first one of its recording.
        frame: its stamp and frame_id are those of the recording, or empty where it has none.
    """

    offset: int
    frame: Frame


def refuse(error: SourceError) -> None:
    """What becomes of an image that is unusable, unless somebody wants to go on without it."""
    raise error from None


class Source(Protocol):
    """Recorded images.

    Attributes:
        count: how many, as the recording itself states; None where it does not.
        rate: images a second, on average; 0 where that is not known.
        compressed: the frames are JPEG or PNG.
    """

    count: int | None
    rate: float
    compressed: bool

    def frames(self, skip: Callable[[SourceError], None] = refuse) -> Iterator[TimedFrame]:
        """All frames from the first on, at every call anew, as fast as they are asked for.

        Args:
            skip: told of an image that is unusable; what it does not raise is left out.

        Raises:
            SourceError: the recording breaks off, or ``skip`` raises it.
        """


def timeline(
    source: Source,
    rate: float = 0.0,
    loop: bool = False,
    skip: Callable[[SourceError], None] = refuse,
) -> Iterator[TimedFrame]:
    """Frames with the offset at which each is due, from the start of the first one.

    Args:
        rate: frames a second instead of the recorded times; 0 keeps those.
        loop: begin again after the last frame, one frame's time later.
        skip: as of `Source.frames`.

    Raises:
        SourceError: as `Source.frames`.
    """
    lap = due = number = 0
    while True:
        for offset, frame in source.frames(skip):
            due = round(number * 1e9 / rate) if rate else lap + offset
            yield TimedFrame(due, frame)
            number += 1
        if not loop or not number:
            return
        lap = due + round(1e9 / (source.rate or 1))
