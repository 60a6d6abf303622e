# SPDX-License-Identifier: Apache-2.0
"""Devices, streams and video files through PyAV, which brings FFmpeg with it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from functools import partial
from time import monotonic, monotonic_ns
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trt_perception.core import Frame, FrameError
from trt_perception.core.errors import one_line
from trt_perception.core.frame import MAX_PIXELS
from trt_perception.runtime.capture.base import CaptureError, Shot, Wish, without_passwords
from trt_perception.runtime.capture.edge import LiveEdge
from trt_perception.runtime.capture.formats import FORMATS, LUMA_FROM_16
from trt_perception.runtime.capture.jpeg import compressed_shot, to_jpeg

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame

#: Nanoseconds behind its source from which a stream is passed over up to where it is now.
BEHIND = 500_000_000
#: Seconds between two looks at a device that has no image yet.
POLL = 0.003
#: FFmpeg's AVCOL_RANGE_JPEG.
_FULL = 2
#: A stamp of the device's that is older, in nanoseconds, is of another clock.
PLAUSIBLE = 10_000_000_000


class AvCapture:
    """Whatever FFmpeg opens."""

    def __init__(
        self,
        url: str,
        wish: Wish,
        *,
        name: str,
        recorded: bool = False,
        format: str | None = None,
        options: Mapping[str, str] | None = None,
        advice: Mapping[int, str] | None = None,
    ) -> None:
        """Prepare; nothing is opened yet.

        Args:
            url: as FFmpeg takes it.
            name: for people.
            recorded: a file, to be read at its own pace.
            format: FFmpeg's name of the kind of device; its images are stamped by
                CLOCK_MONOTONIC, as V4L2 does.
            options: FFmpeg's.
            advice: what to say of the errors with these numbers.

        Raises:
            CaptureError: PyAV is not installed.
        """
        self._av = require_av(f"source '{name}'")
        self.name = name
        self.recorded = recorded
        self._file = recorded
        self._url = url
        self._wish = wish
        self._device = format is not None
        self._format = format
        self._options = dict(options or {})
        self._advice = advice or {}
        self._container: InputContainer | None = None

    def open(self, stop: threading.Event) -> str:
        limit = None if self._file else self._wish.timeout
        try:
            self._container = container = self._av.open(
                self._url, format=self._format, options=self._options, timeout=limit
            )
        except (self._av.FFmpegError, OSError, ValueError) as error:
            raise self._error(error) from None
        if not container.streams.video:
            raise CaptureError(f"source '{self.name}' has no video stream", final=self._file)
        self._stream = stream = container.streams.video[0]
        codec = stream.codec_context
        # Threads by frames would keep as many images back.
        codec.thread_type = 'SLICE'
        codec.thread_count = self._wish.threads
        if codec.width * codec.height > self._wish.max_pixels:
            raise CaptureError(
                f"source '{self.name}' gives {codec.width}x{codec.height} images, more than the"
                f' {self._wish.max_pixels} pixels that are taken; raise max_image_pixels',
                final=self._file,
            )
        # Where images grow later, or say more than their stream does.
        codec.options = {**codec.options, 'max_pixels': str(self._wish.max_pixels)}
        # A video on a web server has an end; a camera behind one has none.
        self.recorded = self._file or (self._url.startswith('http') and bool(container.duration))
        self._whole = self._wish.compressed and codec.name == 'mjpeg'
        self._edge = LiveEdge()
        self._ready: deque[Shot] = deque()
        self._catching_up = self._at_end = False
        self._skipped = 0
        # As its table of contents says; one that was cut off holds fewer.
        self._to_come = stream.frames if self._file else 0
        self._started = self._due = 0
        rate = float(stream.average_rate or stream.guessed_rate or 0)
        self._period = 1 / rate if rate else 0.0
        told = f'{codec.name}, {codec.width}x{codec.height}'
        return f'{told}, {rate:.4g} Hz' if rate else told

    def read(self, stop: threading.Event) -> Shot | None:
        assert self._container is not None
        while not self._ready and not self._at_end:
            before = monotonic_ns()
            packet = self._next(stop)
            if packet is None:
                return None
            if packet.size == 0:
                self._at_end = True  # the decoder may have images left
                self._skipped += max(0, self._to_come)
            elif not self.recorded and self._passed_over(packet, monotonic_ns() - before):
                self._skipped += 1
                continue
            self._to_come -= 1
            self._ready.extend(self._shots(packet))
        if not self._ready and self.recorded:
            stop.wait(self._period)  # the last one is shown as long as the others
        return self._ready.popleft() if self._ready else None

    def skipped(self) -> int:
        number, self._skipped = self._skipped, 0
        return number

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None

    def _next(self, stop: threading.Event) -> Packet[Any] | None:
        """The next packet; an empty one at the end, None where ``stop`` is set."""
        assert self._container is not None
        give_up = monotonic() + self._wish.timeout
        while not stop.is_set():
            try:
                return next(self._container.demux(self._stream))
            except self._av.BlockingIOError:  # a device that has nothing yet
                if monotonic() > give_up:
                    raise self._gave_nothing() from None
                stop.wait(POLL)
            except (self._av.FFmpegError, OSError) as error:
                raise self._error(error) from None
        return None

    def _passed_over(self, packet: Packet[Any], waited: int) -> bool:
        time = _nanoseconds(packet.dts if packet.pts is None else packet.pts, packet)
        if time is None:
            return False
        behind = self._edge.behind(time, waited, monotonic_ns())
        if behind > BEHIND:
            self._catching_up = True
        elif self._catching_up and packet.is_keyframe:  # from here on it can be decoded again
            self._catching_up = False
        return self._catching_up

    def _shots(self, packet: Packet[Any]) -> list[Shot]:
        if self._whole:
            return [self._of_packet(packet)] if packet.size else []
        try:
            decoded = packet.decode()
        except self._av.InvalidDataError:  # a part was lost on the way; the next key frame mends it
            self._skipped += 1
            return []
        except self._av.FFmpegError as error:
            raise self._error(error) from None
        return [self._of_frame(frame) for frame in decoded if not self._damaged(frame)]

    def _damaged(self, frame: VideoFrame) -> bool:
        damaged = bool(frame.is_corrupt)
        self._skipped += damaged
        return damaged

    def _of_packet(self, packet: Packet[Any]) -> Shot:
        taken = self._taken(packet.pts, packet)
        return compressed_shot(taken, _bytes(packet), self._wish.max_pixels)

    def _of_frame(self, frame: VideoFrame) -> Shot:
        develop = partial(_develop, frame, self._wish)
        return Shot(self._taken(frame.pts, frame), frame.width, frame.height, develop)

    def _taken(self, pts: int | None, of: Packet[Any] | VideoFrame) -> int:
        time, now = _nanoseconds(pts, of), monotonic_ns()
        if self.recorded:
            # Some raw streams carry no times.
            time = now - self._started if time is None else time
            # Of one that was put together from several the times begin anew.
            if not self._started or self._started + time < self._due:
                self._started = max(now, self._due) - time
            self._due = self._started + time
            return self._due
        if self._device and time is not None and 0 <= now - time < PLAUSIBLE:
            return time
        return self._edge.came(time, now)

    def _gave_nothing(self) -> CaptureError:
        return CaptureError(f"source '{self.name}' gave nothing for {self._wish.timeout:g} s")

    def _error(self, error: Exception) -> CaptureError:
        number = getattr(error, 'errno', None)
        if isinstance(error, self._av.error.ExitError):  # what its time-out looks like
            return self._gave_nothing()
        advice = self._advice.get(number or 0)
        if isinstance(error, self._av.HTTPUnauthorizedError):
            advice = 'the camera wants a name and a password, as in rtsp://name:password@machine/'
        elif isinstance(error, self._av.HTTPNotFoundError):
            advice = 'the camera has nothing there; its manual tells the paths of its streams'
        elif isinstance(error, self._av.InvalidDataError):
            what = 'is' if self._file else 'broke off, or is'
            advice = f'{what} no video that FFmpeg can read'
        told = getattr(error, 'strerror', '') or one_line(error)
        reason = advice or without_passwords(told)
        return CaptureError(f"source '{self.name}': {reason}", self._file)


def require_av(what: str) -> Any:
    """PyAV, whose absence only those notice who need it.

    Raises:
        CaptureError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise CaptureError(f'{what} needs PyAV ({one_line(error)}); pip install av', True) from None
    return av


def frame_of(image: VideoFrame, encoding: str, max_pixels: int = MAX_PIXELS) -> Frame:
    """A decoded image in an encoding; a view of it where it is in that encoding already.

    Raises:
        FrameError: the encoding cannot hold an image of this size, or nothing is to.
    """
    wanted = FORMATS[encoding].ffmpeg
    if encoding in LUMA_FROM_16 and image.color_range == _FULL:
        image = image.reformat(format=wanted, dst_color_range='MPEG')
    elif image.format.name != wanted:
        image = image.reformat(format=wanted)
    rows = [_bytes(plane) for plane in image.planes]
    step = image.planes[0].line_size
    data = rows[0]
    if len(rows) > 1:
        data = np.concatenate([rows[0][: step * image.height], *rows[1:]])
    return Frame.checked(data, image.width, image.height, encoding, step, max_pixels=max_pixels)


def _develop(image: VideoFrame, wish: Wish) -> Frame:
    try:
        if not wish.compressed:
            return frame_of(image, wish.encoding, wish.max_pixels)
        return to_jpeg(frame_of(image, 'bgr8', wish.max_pixels), wish.jpeg_quality)
    except ValueError as error:
        raise FrameError('encoding', one_line(error)) from None


def _bytes(of: Any) -> NDArray[np.uint8]:
    """A view; it keeps alive what it is of."""
    return np.frombuffer(of, np.uint8)


def _nanoseconds(pts: int | None, of: Any) -> int | None:
    base = of.time_base
    if pts is None or base is None:
        return None
    return int(pts * 1_000_000_000 * base.numerator // base.denominator)
