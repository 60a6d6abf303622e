# SPDX-License-Identifier: Apache-2.0
"""What all sources of live images have in common."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from trt_perception.core import Frame, PerceptionError
from trt_perception.core.frame import MAX_PIXELS


class CaptureError(PerceptionError):
    """A source that cannot be opened, or that broke off.

    Attributes:
        final: trying again cannot help: what was asked for has to change.
    """

    def __init__(self, message: str, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


@dataclass(frozen=True)
class Wish:
    """What is wanted of a source.

    Attributes:
        source: a device, an address, a file, a folder or ``pattern``; see `capture_of`.
        pipeline: of GStreamer, instead of a source.
        compressed: JPEG (or PNG, where the source has it) instead of pixels.
        encoding: of the pixels, key of `formats.FORMATS`.
        jpeg_quality: 1 to 100, where a JPEG has to be made.
        width, height: pixels, of what can be asked for a size; 0 leaves it to the source.
        max_pixels: of the largest image that is taken.
        rate: images a second, of what can be asked for one; 0 leaves it to the source.
        device_format: what a V4L2 device is to send; '' leaves it to the device.
        rtsp_transport: ``tcp`` or ``udp``.
        timeout: seconds without an image after which a live source is given up.
        threads: of the decoder.
    """

    source: str = ''
    pipeline: str = ''
    compressed: bool = False
    encoding: str = 'bgr8'
    jpeg_quality: int = 90
    width: int = 0
    height: int = 0
    max_pixels: int = MAX_PIXELS
    rate: float = 0.0
    device_format: str = ''
    rtsp_transport: str = 'tcp'
    timeout: float = 5.0
    threads: int = 1


class Shot(NamedTuple):
    """One image, not yet in its final form: one that nobody will get costs no conversion.

    Attributes:
        taken: when it was taken, or came where nobody knows better, as `time.monotonic_ns`; of a
            recording when it is due, which may be later than now.
        width, height: pixels.
        develop: makes the frame, with neither stamp nor frame_id; raises FrameError.
    """

    taken: int
    width: int
    height: int
    develop: Callable[[], Frame]


class Capture(Protocol):
    """A source of images. All calls come from one thread.

    Attributes:
        name: for people: without passwords.
        recorded: it has an end, and can begin again.
    """

    name: str
    recorded: bool

    def open(self, stop: threading.Event) -> str:
        """Connect.

        Args:
            stop: may be set at any time; the call then returns or raises soon.

        Returns:
            What comes, in words: ``h264, 1280x720, 25 Hz``.

        Raises:
            CaptureError: it cannot be had.
        """

    def read(self, stop: threading.Event) -> Shot | None:
        """The next image; waits for it, but not longer than the time-out.

        Returns:
            None at the end of a recording, and where ``stop`` is set.

        Raises:
            CaptureError: the source has broken off; it may be opened again after `close`.
        """

    def skipped(self) -> int:
        """Images since the last call that were passed over within, to catch up with the source."""

    def close(self) -> None:
        """Disconnect; open or not."""


#: The name and password of an address. What stands behind a colon and is no port is a password,
#: even if it should have been written otherwise.
_USER = re.compile(r'(?<=://)(?:[^/\s"]*|[^/:@\s"]*:(?!\d*/)[^\s"]*)@')
_SECRET = re.compile(r'(?i)\b([\w-]*(?:pass|pwd|-pw|secret|token)[\w-]*=)[^&\s"]+')


def without_passwords(text: str) -> str:
    """An address or a pipeline as it may be shown."""
    return _SECRET.sub(r'\1***', _USER.sub('***@', text))
