# SPDX-License-Identifier: Apache-2.0
"""Pixels that are here already, in the form that is wanted."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from trt_perception.core import Frame
from trt_perception.runtime.capture.av import frame_of, require_av
from trt_perception.runtime.capture.base import Wish
from trt_perception.runtime.capture.jpeg import to_jpeg

_OPENCV = {
    'rgb8': cv2.COLOR_BGR2RGB,
    'bgra8': cv2.COLOR_BGR2BGRA,
    'rgba8': cv2.COLOR_BGR2RGBA,
    'mono8': cv2.COLOR_BGR2GRAY,
}


def check(wish: Wish, name: str) -> None:
    """See that `develop` can do what is wanted.

    Raises:
        CaptureError: PyAV is needed for the encoding and not installed.
    """
    if not wish.compressed and wish.encoding != 'bgr8' and wish.encoding not in _OPENCV:
        require_av(f"source '{name}' in {wish.encoding}")


def develop(picture: NDArray[np.uint8], wish: Wish) -> Frame:
    """A frame of (H, W, 3) uint8 BGR.

    Raises:
        FrameError: the encoding cannot hold an image of this size.
    """
    if wish.compressed:
        return to_jpeg(Frame.from_array(picture), wish.jpeg_quality)
    if wish.encoding == 'bgr8':
        return Frame.from_array(picture)
    if wish.encoding in _OPENCV:
        return Frame.from_array(cv2.cvtColor(picture, _OPENCV[wish.encoding]), wish.encoding)
    from av.video.frame import VideoFrame

    return frame_of(VideoFrame.from_ndarray(picture, format='bgr24'), wish.encoding)
