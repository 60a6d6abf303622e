# SPDX-License-Identifier: Apache-2.0
"""What JPEGs and PNGs say of themselves, before anything decodes them.

JPEG: ITU-T T.81, annex B. After the start marker come segments: ``FF``, a marker, and for most a
length of two bytes that counts itself; a start of frame holds a precision, then height and width.
PNG: after a signature of eight bytes come chunks: a length, four letters, so many bytes and a
checksum. The first, IHDR, begins with width and height; the last is IEND.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trt_perception.core.errors import FrameError

#: Scans of a JPEG. A progressive one has about ten; thousands take minutes to decode.
MAX_SCANS = 100
_SCAN = 0xDA
#: Markers that stand alone: TEM and restarts.
_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})
#: Starts of frame, of whichever kind; the others in this range are tables.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def compressed_size(data: NDArray[np.uint8]) -> tuple[int, int]:
    """Width and height that a JPEG or PNG states.

    Raises:
        FrameError: it states none.
    """
    head = data.data
    if bytes(head[:4]) == b'\x89PNG':
        if len(head) < 24 or bytes(head[12:16]) != b'IHDR':
            raise FrameError('decode', f'PNG of {data.size} bytes does not state its size')
        return _number(head[16:20]), _number(head[20:24])
    at = 2
    while at + 1 < len(head) and head[at] == 0xFF:
        marker = head[at + 1]
        if marker == 0xFF:  # any number of them may fill up
            at += 1
        elif marker in _ALONE:
            at += 2
        elif marker in _FRAMES and at + 9 <= len(head):
            return _number(head[at + 7 : at + 9]), _number(head[at + 5 : at + 7])
        elif marker == _SCAN:
            break
        else:
            at += 2 + _number(head[at + 2 : at + 4])
    raise FrameError('decode', f'JPEG of {data.size} bytes does not state its size')


def check_chunks(png: NDArray[np.uint8]) -> None:
    """See that no part of a PNG claims to be longer than the file: memory is had for it at once.

    Raises:
        FrameError: one does, or the last part is missing.
    """
    head, at = png.data, 8
    while at + 12 <= len(head):
        kind, end = bytes(head[at + 4 : at + 8]), at + 12 + _number(head[at : at + 4])
        if kind == b'IEND' and end <= len(head):
            return
        at = end
    raise FrameError('truncated', f'PNG of {png.size} bytes ends before its end')


def check_scans(jpeg: bytes) -> None:
    """See that a JPEG does not go over its pixels again and again.

    Raises:
        FrameError: it has more than `MAX_SCANS`.
    """
    # In the pixels' own bytes an FF is always followed by a zero or a restart.
    if (scans := jpeg.count(bytes((0xFF, _SCAN)))) > MAX_SCANS:
        raise FrameError('too_large', f'JPEG has {scans} scans, more than {MAX_SCANS}')


def _number(big_endian: memoryview) -> int:
    return int.from_bytes(big_endian, 'big')
