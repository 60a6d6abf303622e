# SPDX-License-Identifier: Apache-2.0
"""From what a user writes to the source that is meant."""

from __future__ import annotations

import errno
import re
import stat
from pathlib import Path
from urllib.parse import urlsplit

from trt_perception.core.files import user_path
from trt_perception.runtime.capture.av import AvCapture
from trt_perception.runtime.capture.base import Capture, CaptureError, Wish, without_passwords
from trt_perception.runtime.capture.formats import FORMATS
from trt_perception.runtime.capture.gstreamer import GStreamerCapture
from trt_perception.runtime.capture.pattern import PatternCapture
from trt_perception.runtime.capture.pictures import PicturesCapture
from trt_perception.runtime.capture.v4l2 import v4l2_advice, v4l2_options

SOURCES = (
    '/dev/video0, an rtsp:// or http:// address, a video file, a folder of jpg and png pictures,'
    ' or pattern'
)
_SCHEMES = ('rtsp', 'rtsps', 'http', 'https')


def capture_of(wish: Wish) -> Capture:
    """The source that is meant, not yet opened.

    A device and an address need not be there yet; a file and a folder must be.

    Raises:
        CaptureError: none is meant, or more than one, or what it needs is not installed.
    """
    if wish.encoding not in FORMATS:
        raise CaptureError(f"encoding '{wish.encoding}' is not one of {', '.join(FORMATS)}", True)
    if bool(wish.width) != bool(wish.height):
        raise CaptureError(
            f'width {wish.width} and height {wish.height}: give both or none', final=True
        )
    if wish.pipeline:
        if wish.source:
            raise CaptureError(
                f"source '{wish.source}' and a pipeline are given; leave one of them empty", True
            )
        return GStreamerCapture(wish)
    source = wish.source
    if not source:
        raise CaptureError(f'source: is empty; give {SOURCES}', final=True)
    if source == 'pattern':
        return PatternCapture(wish)
    if re.match(r'\w[\w+.-]*://', source):
        return _address(source, wish)
    path = user_path(source)
    if source.startswith('/dev/') or _is_device(path):
        return AvCapture(
            source,
            wish,
            name=source,
            format='v4l2',
            options=v4l2_options(wish),
            advice=v4l2_advice(source),
        )
    if not path.exists():
        raise CaptureError(f"source '{source}' does not exist; give {SOURCES}", final=True)
    if path.is_dir():
        return PicturesCapture(path, wish)
    return AvCapture(str(path), wish, name=str(path), recorded=True)


def _address(address: str, wish: Wish) -> Capture:
    name = without_passwords(address)
    try:
        parts = urlsplit(address)
        scheme, host, _ = parts.scheme, parts.hostname, parts.port
    except ValueError:  # its text may quote a part of a password
        raise CaptureError(
            f"source '{name}' is not an address; write it as rtsp://name:password@machine:554/path"
            ' with %40, %2F, %3F or %23 for @, /, ? or # in a password',
            final=True,
        ) from None
    if scheme not in _SCHEMES:
        raise CaptureError(
            f"source '{name}': '{scheme}' is not one of {', '.join(_SCHEMES)}; give {SOURCES}", True
        )
    if not host:
        raise CaptureError(f"source '{name}' names no machine, as in {scheme}://machine/", True)
    # A second of images would be kept back to find a rate that nobody asks for.
    options = {'fpsprobesize': '0'}
    if scheme.startswith('rtsp'):
        options['rtsp_transport'] = wish.rtsp_transport
    advice = {
        errno.ECONNREFUSED: f'nobody answers at {host}; start the camera or mend the address',
        errno.EHOSTUNREACH: f'{host} is not reached; look at its power, its cable and the address',
        errno.ENETUNREACH: f'{host} is not reached; this machine has no way to its network',
        errno.EIO: f'no connection to {host}; look at its name and at the network',
    }
    return AvCapture(address, wish, name=name, options=options, advice=advice)


def _is_device(path: Path) -> bool:
    try:
        return stat.S_ISCHR(path.stat().st_mode)
    except OSError:
        return False
