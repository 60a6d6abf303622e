# SPDX-License-Identifier: Apache-2.0
"""From a camera's encoding to pixels that OpenCV can resize."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from trt_perception.core import Frame, FrameError


class Pixels(NamedTuple):
    """Interleaved 8-bit pixels.

    Attributes:
        image: (H, W) or (H, W, C) uint8; a view of the frame wherever its encoding allows.
        red, green, blue: the channel that each is in; all 0 for a grey image.
    """

    image: NDArray[np.uint8]
    red: int
    green: int
    blue: int


_DIRECT = {
    'rgb8': (0, 1, 2),
    'bgr8': (2, 1, 0),
    'rgba8': (0, 1, 2),
    'bgra8': (2, 1, 0),
    'mono8': (0, 0, 0),
}
# OpenCV names a Bayer pattern by its second row's second and third pixel, ROS by its first two.
_CONVERTED = {
    'yuv422': cv2.COLOR_YUV2BGR_UYVY,
    'yuv422_yuy2': cv2.COLOR_YUV2BGR_YUY2,
    'nv12': cv2.COLOR_YUV2BGR_NV12,
    'nv21': cv2.COLOR_YUV2BGR_NV21,
    'bayer_rggb8': cv2.COLOR_BayerBG2BGR,
    'bayer_bggr8': cv2.COLOR_BayerRG2BGR,
    'bayer_gbrg8': cv2.COLOR_BayerGR2BGR,
    'bayer_grbg8': cv2.COLOR_BayerGB2BGR,
}


def to_pixels(frame: Frame) -> Pixels:
    """The frame's pixels without a copy, or converted once where the encoding needs it.

    16-bit grey is scaled by 1/257, as cv_bridge does.

    Raises:
        FrameError: a compressed image that cannot be decoded.
    """
    if frame.compressed:
        return Pixels(_decode(frame), 2, 1, 0)
    pixels = frame.pixels()
    if frame.encoding in _DIRECT:
        return Pixels(pixels, *_DIRECT[frame.encoding])
    if frame.encoding == 'mono16':
        if frame.step % 2:  # OpenCV misreads, or refuses, rows that begin within a pixel
            pixels = pixels.copy()
        return Pixels(cv2.convertScaleAbs(pixels, alpha=1 / 257), 0, 0, 0)
    return Pixels(cv2.cvtColor(pixels, _CONVERTED[frame.encoding]), 2, 1, 0)


def to_bgr(frame: Frame) -> NDArray[np.uint8]:
    """A new (H, W, 3) uint8 image, to draw on or to save.

    Raises:
        FrameError: as `to_pixels`.
    """
    pixels = to_pixels(frame)
    if pixels.image.ndim == 2:
        return cv2.cvtColor(pixels.image, cv2.COLOR_GRAY2BGR)
    order = [pixels.blue, pixels.green, pixels.red]
    if order == [0, 1, 2] and pixels.image.shape[2] == 3:
        return pixels.image.copy()
    return np.ascontiguousarray(pixels.image[:, :, order])


def _decode(frame: Frame) -> NDArray[np.uint8]:
    # Boxes are in the pixels as published: an orientation noted in EXIF must not turn them.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(frame.data, flags)
    except cv2.error as error:
        raise FrameError('decode', f'{frame.encoding} image: {error.err}') from None
    if image is None:
        raise FrameError(
            'decode', f'{frame.encoding} image of {frame.data.size} bytes cannot be decoded'
        )
    return image
