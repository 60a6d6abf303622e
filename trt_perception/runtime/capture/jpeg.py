# SPDX-License-Identifier: Apache-2.0
"""Make JPEGs."""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from trt_perception.core import Frame, FrameError
from trt_perception.core.compressed import compressed_size
from trt_perception.runtime.capture.base import Shot


def to_jpeg(frame: Frame, quality: int) -> Frame:
    """A JPEG of a bgr8 frame.

    Args:
        quality: 1 to 100.
    """
    _, data = cv2.imencode('.jpg', frame.pixels(), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return Frame.from_compressed(data.reshape(-1), max_pixels=frame.data.size)


def compressed_shot(taken: int, data: NDArray[np.uint8], max_pixels: int) -> Shot:
    """An image as its source has compressed it; one that states no size is none.

    Args:
        taken: as `Shot` has it.
        max_pixels: of the largest image that is taken.
    """
    try:
        width, height = compressed_size(data)
    except FrameError as error:
        return Shot(taken, 0, 0, partial(_refuse, error))
    develop = partial(Frame.from_compressed, data, max_pixels=max_pixels)
    return Shot(taken, width, height, develop)


def _refuse(error: FrameError) -> Frame:
    raise error
