# SPDX-License-Identifier: Apache-2.0
"""Make JPEGs, and read of compressed images how large they are."""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from trt_perception.core import Frame, FrameError
from trt_perception.runtime.capture.base import Shot


def to_jpeg(frame: Frame, quality: int) -> Frame:
    """A JPEG of a bgr8 frame.

    Args:
        quality: 1 to 100.
    """
    _, data = cv2.imencode('.jpg', frame.pixels(), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return Frame.from_compressed(data.reshape(-1))


def compressed_shot(taken: int, data: NDArray[np.uint8]) -> Shot:
    """An image as its source has compressed it; one that states no size is none.

    Args:
        taken: as `Shot` has it.
    """
    try:
        width, height = compressed_size(data)
    except FrameError as error:
        return Shot(taken, 0, 0, partial(_refuse, error))
    return Shot(taken, width, height, partial(Frame.from_compressed, data))


def compressed_size(data: NDArray[np.uint8]) -> tuple[int, int]:
    """Width and height that a JPEG or PNG states.

    Raises:
        FrameError: it states none.
    """
    head = data.tobytes()
    if head[:4] == b'\x89PNG':
        return int.from_bytes(head[16:20], 'big'), int.from_bytes(head[20:24], 'big')
    at = 2
    while head[at : at + 1] == b'\xff' and at + 9 <= len(head):
        marker, length = head[at + 1], int.from_bytes(head[at + 2 : at + 4], 'big')
        # Start of frame, of whichever kind; the others in this range are tables.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(head[at + 7 : at + 9], 'big'), int.from_bytes(
                head[at + 5 : at + 7], 'big'
            )
        at += 2 + length
    raise FrameError('decode', f'JPEG of {data.size} bytes does not state its size')


def _refuse(error: FrameError) -> Frame:
    raise error
