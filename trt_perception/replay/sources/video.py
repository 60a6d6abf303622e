# SPDX-License-Identifier: Apache-2.0
"""The frames of a video file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trt_perception.core import Frame
from trt_perception.core.errors import one_line
from trt_perception.replay.sources.base import SourceError, TimedFrame, refuse

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame


class VideoSource:
    """Every frame of a file's first video stream, as bgr8, the way up that a viewer shows it."""

    compressed = False

    def __init__(self, path: Path) -> None:
        """Read what the file says of itself.

        Raises:
            SourceError: PyAV is absent or finds no video in the file.
        """
        self._path = path
        with self._opened() as container:
            stream = container.streams.video[0]
            self.count: int | None = stream.frames or None
            self.rate = float(stream.average_rate or stream.guessed_rate or 0)

    def frames(self, skip: Callable[[SourceError], None] = refuse) -> Iterator[TimedFrame]:
        with self._opened() as container:
            stream = container.streams.video[0]
            first: float | None = None
            number = packets = 0
            for packet in container.demux(stream):
                packets += packet.size > 0
                for decoded in packet.decode():
                    # Some raw streams carry no times.
                    time = number / (self.rate or 25) if decoded.time is None else decoded.time
                    first = time if first is None else first
                    number += 1
                    yield TimedFrame(
                        round((time - first) * 1e9),
                        Frame.from_array(_upright(decoded), source=str(self._path)),
                    )
            if packets < stream.frames:
                raise self._error(f'it breaks off after {packets} of its {stream.frames} frames')

    @contextmanager
    def _opened(self) -> Iterator[InputContainer]:
        try:
            import av
        except ImportError as error:
            raise SourceError(f"input '{self._path}' needs av ({error}); pip install av") from None
        try:
            with av.open(str(self._path)) as container:
                if not container.streams.video:
                    raise self._error('it has no pictures')
                yield container
        except av.FFmpegError as error:
            raise self._error(error.strerror or one_line(error)) from None

    def _error(self, reason: str) -> SourceError:
        return SourceError(f"input '{self._path}' is not a whole video: {reason}")


def _upright(decoded: VideoFrame) -> NDArray[np.uint8]:
    """(H, W, 3) uint8, BGR; telephones write their pictures lying and say by how much to turn."""
    image = np.asarray(decoded.to_ndarray(format='bgr24'), np.uint8)
    return np.rot90(image, decoded.rotation // 90) if decoded.rotation else image
