# SPDX-License-Identifier: Apache-2.0
"""A pipeline of GStreamer, which decodes in hardware where a Jetson has the elements for it."""

from __future__ import annotations

import ctypes
import re
import threading
from contextlib import suppress
from functools import partial
from time import monotonic, monotonic_ns
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from trt_perception.core import Frame, FrameError
from trt_perception.core.errors import one_line
from trt_perception.runtime.capture.base import CaptureError, Shot, Wish, without_passwords
from trt_perception.runtime.capture.formats import FORMATS, LUMA_FROM_16
from trt_perception.runtime.capture.jpeg import compressed_shot

#: Seconds after which a wait looks whether it is still wanted.
SLICE = 0.1
#: A stamp that is older, in nanoseconds, is not of this machine's clock.
PLAUSIBLE = 60_000_000_000
#: Seconds that an image without a rate is shown, as a single picture that is played again.
STILL = 0.1
#: From full range to luma of 16 to 235 and chroma of 16 to 240.
_LUMA = np.round(16 + np.arange(256) * 219 / 255).astype(np.uint8)
_CHROMA = np.round(128 + (np.arange(256) - 128) * 224 / 255).astype(np.uint8)


class GStreamerCapture:
    """What comes to a pipeline's appsink: the one that it ends in, or one that is added.

    Before an added one the pixels go through videoconvert, which does nothing where they are in the
    wanted encoding already.
    """

    def __init__(self, wish: Wish) -> None:
        """Prepare, and see that the pipeline can be made.

        Raises:
            CaptureError: GStreamer is not installed, or does not understand the pipeline.
        """
        self._library = _library()
        self._wish = wish
        self.name = without_passwords(wish.pipeline)
        self.recorded = False
        pixels = f'video/x-raw,format={FORMATS[wish.encoding].gstreamer}'
        self._caps = 'image/jpeg' if wish.compressed else pixels
        self._pipeline: Any = None
        self._make()

    def open(self, stop: threading.Event) -> str:
        gst = self._library.gst
        self._pipeline, self._sink = self._make()
        self._bus = self._pipeline.get_bus()
        self._arrived = self._pulled = self._told = 0
        self._period = 0.0
        pad = self._sink.get_static_pad('sink')
        pad.add_probe(gst.PadProbeType.BUFFER, self._on_arrival)
        # A live source is taken as it comes; a recording is played at its own pace.
        paused = self._pipeline.set_state(gst.State.PAUSED)
        self.recorded = paused != gst.StateChangeReturn.NO_PREROLL
        self._sink.set_property('sync', self.recorded)
        self._pipeline.set_state(gst.State.PLAYING)
        self._first = self._pull(stop)
        if self._first is None:
            return ''  # the end came first, as `read` will tell
        rate = self._first.rate
        self._period = 1 / rate if rate else STILL
        told = f'{self._first.kind}, {self._first.width}x{self._first.height}'
        return f'{told}, {rate:.4g} Hz' if rate else told

    def read(self, stop: threading.Event) -> Shot | None:
        image, self._first = self._first or self._pull(stop), None
        if image is None and self.recorded:
            stop.wait(self._period)  # the last one is shown as long as the others
        return image and image.shot(self._wish.max_pixels)

    def skipped(self) -> int:
        # One of them may be waiting.
        lost = max(0, self._arrived - self._pulled - 1 - self._told)
        self._told += lost
        return lost

    def close(self) -> None:
        if self._pipeline is not None:
            self._pipeline.set_state(self._library.gst.State.NULL)
            self._pipeline = None

    def _make(self) -> tuple[Any, Any]:
        gst, text = self._library.gst, self._wish.pipeline
        if not re.search(r'\bappsink\b', text):
            text += ' ! appsink' if self._wish.compressed else ' ! videoconvert ! appsink'
        try:
            pipeline = gst.parse_launch(text)
        except self._library.error as error:
            raise self._error(f'GStreamer says: {error.message}', final=True) from None
        elements = getattr(pipeline, 'children', [])
        sinks = [e for e in elements if isinstance(e, self._library.app_sink)]
        if len(sinks) != 1:
            raise self._error(f'it needs one appsink and has {len(sinks)}', final=True)
        sink = sinks[0]
        sink.set_property('caps', gst.Caps.from_string(self._caps))
        # The latest only: neither a queue here nor a source that has to wait.
        sink.set_property('max-buffers', 1)
        sink.set_property('drop', True)
        return pipeline, sink

    def _on_arrival(self, pad: Any, info: Any) -> Any:
        self._arrived += 1
        return self._library.gst.PadProbeReturn.OK

    def _pull(self, stop: threading.Event) -> _Image | None:
        """The next image; None at the end of the pipeline's source, or where ``stop`` is set."""
        gst = self._library.gst
        give_up = monotonic() + self._wish.timeout
        while not stop.is_set():
            sample = self._sink.try_pull_sample(int(SLICE * gst.SECOND))
            if sample is not None:
                self._pulled += 1
                return self._image(sample)
            failed = self._bus.pop_filtered(gst.MessageType.ERROR)
            if failed is not None:
                raise self._failure(failed)
            if self._sink.is_eos():
                return None
            if monotonic() > give_up:
                raise self._error(f'it gave nothing for {self._wish.timeout:g} s')
        return None

    def _image(self, sample: Any) -> _Image:
        buffer = sample.get_buffer()
        form = sample.get_caps().get_structure(0)
        # A copy, so that the source has its buffer back at once: it may not have many.
        data = np.frombuffer(buffer.extract_dup(0, buffer.get_size()), np.uint8)
        _, above, below = form.get_fraction('framerate')
        return _Image(
            self._taken(sample, buffer),
            form.get_int('width')[1],
            form.get_int('height')[1],
            '' if self._wish.compressed else self._wish.encoding,
            above / below if below else 0.0,
            # As GStreamer writes it: range, matrix, transfer and primaries.
            (form.get_string('colorimetry') or '').startswith('1:'),
            data,
        )

    def _taken(self, sample: Any, buffer: Any) -> int:
        gst, now = self._library.gst, monotonic_ns()
        since = sample.get_segment().to_running_time(gst.Format.TIME, buffer.pts)
        clock = self._pipeline.get_clock()
        if since == gst.CLOCK_TIME_NONE or not isinstance(clock, gst.SystemClock):
            return now
        time = self._pipeline.get_base_time() + since
        return int(time) if 0 <= now - time < PLAUSIBLE else now

    def _failure(self, message: Any) -> CaptureError:
        error, details = message.parse_error()
        reason = f'{message.src.get_name()} says: {" ".join(error.message.split())}'
        if 'not-negotiated' in (details or ''):
            reason += f' It has to end in {self._caps}.'
        return self._error(reason)

    def _error(self, reason: str, final: bool = False) -> CaptureError:
        return CaptureError(f"pipeline '{self.name}': {without_passwords(reason)}", final)


class _Image(NamedTuple):
    """An image of a pipeline's, out of its hands.

    Attributes:
        encoding: '' for a JPEG.
        rate: as the pipeline states it; 0 where it does not.
        full: black is 0, in luma too.
    """

    taken: int
    width: int
    height: int
    encoding: str
    rate: float
    full: bool
    data: Any

    @property
    def kind(self) -> str:
        return self.encoding or 'jpeg'

    def shot(self, max_pixels: int) -> Shot:
        if not self.encoding:
            return compressed_shot(self.taken, self.data, max_pixels)
        return Shot(self.taken, self.width, self.height, partial(_frame, self, max_pixels))


def _frame(image: _Image, max_pixels: int) -> Frame:
    rows = image.height * 3 // 2 if image.encoding in ('nv12', 'nv21') else image.height
    # Rows are padded as GStreamer does where nothing else is agreed on.
    step, rest = divmod(image.data.size, rows)
    if rest:
        raise FrameError('step', f'{image.data.size} bytes are no {rows} rows of equal length')
    data = image.data
    if image.full and image.encoding in LUMA_FROM_16:
        data = _from_16(data, image.encoding, step * image.height)
    return Frame.checked(
        data, image.width, image.height, image.encoding, step, max_pixels=max_pixels
    )


def _from_16(data: NDArray[np.uint8], encoding: str, luma: int) -> NDArray[np.uint8]:
    """The same picture with black at 16.

    Args:
        luma: bytes of the luma plane, where there is one.
    """
    result = np.empty_like(data)
    first, second = (_LUMA, _CHROMA) if encoding != 'yuv422' else (_CHROMA, _LUMA)
    parts = slice(luma), slice(luma, None)
    if encoding.startswith('yuv'):
        parts = slice(0, None, 2), slice(1, None, 2)
    for part, table in zip(parts, (first, second), strict=True):
        result[part] = cv2.LUT(data[part], table).reshape(-1)
    return result


class _Library(NamedTuple):
    """What is used of GStreamer's Python bindings."""

    gst: Any
    app_sink: Any
    error: Any


def _library() -> _Library:
    # GStreamer's libunwind, loaded for all, would take the place of the C++ runtime's own unwinder
    # in what is loaded later, and an exception there end the process. The first one wins.
    with suppress(OSError):
        ctypes.CDLL('libgcc_s.so.1', ctypes.RTLD_GLOBAL)
    try:
        import gi

        gi.require_version('Gst', '1.0')
        gi.require_version('GstApp', '1.0')
        from gi.repository import GLib, Gst, GstApp
    except (ImportError, ValueError) as error:
        raise CaptureError(
            f'a pipeline needs GStreamer ({one_line(error)}); sudo apt install python3-gi'
            ' gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good',
            final=True,
        ) from None
    Gst.init(None)
    return _Library(Gst, GstApp.AppSink, GLib.Error)
