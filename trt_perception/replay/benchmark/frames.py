# SPDX-License-Identifier: Apache-2.0
"""A picture as a camera of any size and encoding would have sent it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from trt_perception.core import Frame, FrameError
from trt_perception.core.frame import ENCODINGS

#: A side of a camera's image, pixels.
MAX_SIDE = 16384


def random_picture(width: int = 480, height: int = 270) -> NDArray[np.uint8]:
    """A picture of blots and noise, the same at every call: (height, width, 3) uint8, BGR."""
    random = np.random.default_rng(0)
    blots = random.integers(0, 256, (9, 16, 3), np.uint8)
    blots = cv2.resize(blots, (width, height), interpolation=cv2.INTER_CUBIC)
    noise = random.integers(-12, 13, blots.shape, np.int16)
    return np.clip(blots + noise, 0, 255).astype(np.uint8)


def as_sent(picture: NDArray[np.uint8], width: int, height: int, encoding: str) -> Frame:
    """A picture, stretched, in an encoding.

    Args:
        picture: (H, W, 3) uint8, BGR.
        encoding: key of `ENCODINGS`.

    Raises:
        FrameError: the encoding is not known, or there is no image of this size in it.
    """
    layout = ENCODINGS.get(encoding)
    if layout is None:
        raise FrameError('encoding', f"encoding '{encoding}' is not one of {', '.join(ENCODINGS)}")
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise FrameError('size', f'{width}x{height} is no size of an image; 1 to {MAX_SIDE} each')
    rows = height * 3 // 2 if layout.half_planes else height
    step = width * layout.pixel_bytes
    # The door first: a size that the encoding cannot have is refused there.
    frame = Frame.checked(np.zeros(rows * step, np.uint8), width, height, encoding, step)
    scaled = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)
    frame.data[:] = _bytes(np.asarray(scaled, np.uint8), layout.name)
    return frame


def _bytes(bgr: NDArray[np.uint8], encoding: str) -> NDArray[np.uint8]:
    if encoding in _COLOURS:
        return np.asarray(cv2.cvtColor(bgr, _COLOURS[encoding]), np.uint8).reshape(-1)
    if encoding == 'bgr8':
        return bgr.reshape(-1)
    if encoding == 'mono16':
        grey = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY), '<u2')
        return (grey * np.uint16(257)).astype('<u2').view(np.uint8).reshape(-1)
    if encoding.startswith('bayer'):
        return _mosaic(bgr, encoding[6:10])
    height, width = bgr.shape[:2]
    if encoding in ('nv12', 'nv21'):
        planes = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420), np.uint8).reshape(-1)
        luma, chroma = np.split(planes, [width * height])
        first, second = chroma.reshape(2, -1)[:: 1 if encoding == 'nv12' else -1]
        return np.concatenate((luma, np.stack((first, second), axis=1).reshape(-1)))
    # yuv422: the chroma of each second pixel serves its neighbour too. OpenCV decodes the range of
    # video, as its I420 has it; each row stands twice there, so that none shares with the next.
    doubled = np.repeat(bgr, 2, axis=0)
    planes = np.asarray(cv2.cvtColor(doubled, cv2.COLOR_BGR2YUV_I420), np.uint8).reshape(-1)
    luma, u, v = np.split(planes, [2 * width * height, 2 * width * height + width // 2 * height])
    pixels = np.empty((height, width // 2, 4), np.uint8)
    light = luma.reshape(2 * height, width)[::2].reshape(height, width // 2, 2)
    at = 1 if encoding == 'yuv422' else 0  # where the luma is: uyvy, or yuyv
    pixels[..., at::2] = light
    pixels[..., 1 - at] = u.reshape(height, width // 2)
    pixels[..., 3 - at] = v.reshape(height, width // 2)
    return pixels.reshape(-1)


def _mosaic(bgr: NDArray[np.uint8], pattern: str) -> NDArray[np.uint8]:
    raw = np.empty(bgr.shape[:2], np.uint8)
    for place, colour in enumerate(pattern):
        row, column = divmod(place, 2)
        raw[row::2, column::2] = bgr[row::2, column::2, 'bgr'.index(colour)]
    return raw.reshape(-1)


_COLOURS = {
    'rgb8': cv2.COLOR_BGR2RGB,
    'rgba8': cv2.COLOR_BGR2RGBA,
    'bgra8': cv2.COLOR_BGR2BGRA,
    'mono8': cv2.COLOR_BGR2GRAY,
}
