# SPDX-License-Identifier: Apache-2.0
"""Pictures into an mp4, each at its own time."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from trt_perception.core import PerceptionError
from trt_perception.core.errors import one_line

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import OutputContainer
    from av.video.stream import VideoStream

#: Encoders and their options, the best first. VP9 plays in every browser and libvpx is under a BSD
#: licence; PyAV's H.264 would come from libx264, which is GPL. FFmpeg's own MPEG-4 part 2 (LGPL) is
#: always there and plays in players, not in browsers.
ENCODERS: dict[str, dict[str, str]] = {
    'libvpx-vp9': {'deadline': 'realtime', 'cpu-used': '8', 'crf': '30', 'lag-in-frames': '0'},
    'mpeg4': {'qmin': '2', 'qmax': '5'},
}
# One that MPEG-4 part 2 can write, with 16 bits; fine enough for any camera.
_TIME_BASE = Fraction(1, 50_000)
# What the pixels are converted to; players take large pictures that do not say for BT.709.
_BT601 = 6


class VideoError(PerceptionError):
    """A video that cannot be written."""


class VideoWriter:
    """Writes one mp4 with a variable frame rate. It has its name when it is whole.

    Its size is that of the first picture; others are resized to it.
    """

    def __init__(self, path: Path) -> None:
        self.encoder = ''
        self._path = path
        self._part = path.with_name(f'.{path.name}.part')
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._start = self._last = 0

    def write(self, image: NDArray[np.uint8], time: int) -> None:
        """Append a picture.

        Args:
            image: (H, W, 3) uint8, BGR.
            time: nanoseconds, on any clock; one that does not go forward is put right behind the
                picture before.

        Raises:
            VideoError: the file cannot be written.
        """
        import av

        try:
            if self._stream is None:
                self._open(image.shape[1], image.shape[0])
                self._start, self._last = time, -1
            assert self._stream is not None
            size = (self._stream.width, self._stream.height)
            if image.shape[1::-1] != size:
                image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format='bgr24')
            frame.time_base = _TIME_BASE
            ticks = (time - self._start) * _TIME_BASE.denominator // 1_000_000_000
            frame.pts = self._last = max(ticks, self._last + 1)
            self._mux(frame)
        except av.FFmpegError as error:
            raise self._error(error) from None

    def close(self) -> None:
        """Finish the file and give it its name; without a picture there is none.

        Raises:
            VideoError: the file cannot be written.
        """
        import av

        if self._container is None:
            return
        try:
            self._mux(None)
            self._container.close()
            os.replace(self._part, self._path)
        except (av.FFmpegError, OSError) as error:
            raise self._error(error) from None
        finally:
            self._container = self._stream = None
            self._part.unlink(missing_ok=True)

    def _open(self, width: int, height: int) -> None:
        import av

        self.encoder = next(filter(_available, ENCODERS), 'mpeg4')
        # A table of contents at the front lets a browser start before it has all.
        options = {'movflags': '+faststart'}
        self._container = av.open(str(self._part), 'w', format='mp4', options=options)
        stream = cast(
            'VideoStream',
            self._container.add_stream(self.encoder, options=ENCODERS[self.encoder]),
        )
        stream.width, stream.height, stream.pix_fmt = width, height, 'yuv420p'
        stream.time_base = stream.codec_context.time_base = _TIME_BASE
        stream.codec_context.colorspace = _BT601
        # Whoever makes the pictures needs the other cores more.
        stream.codec_context.thread_count = 1
        stream.bit_rate = 0  # quality decides
        self._stream = stream

    def _mux(self, frame: VideoFrame | None) -> None:
        assert self._stream is not None and self._container is not None
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def _error(self, error: Exception) -> VideoError:
        return VideoError(f"video '{self._path}' cannot be written: {one_line(error)}")


def _available(encoder: str) -> bool:
    import av

    try:
        av.Codec(encoder, 'w')
    except av.codec.codec.UnknownCodecError:
        return False
    return True
