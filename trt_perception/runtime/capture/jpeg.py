# SPDX-License-Identifier: Apache-2.0
"""Make JPEGs."""

from __future__ import annotations

import cv2

from trt_perception.core import Frame


def to_jpeg(frame: Frame, quality: int) -> Frame:
    """A JPEG of a bgr8 frame.

    Args:
        quality: 1 to 100.
    """
    _, data = cv2.imencode('.jpg', frame.pixels(), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return Frame.from_compressed(data.reshape(-1), max_pixels=frame.data.size)
