# SPDX-License-Identifier: Apache-2.0
"""Pictures as cameras send them, and what the host's preprocessing makes of them.

They are encoded here, from the formats' definitions, with nothing of the package or OpenCV.
"""

from __future__ import annotations

import dataclasses
import struct
import zlib

import cv2
import numpy as np

from trt_perception.core import Frame, ModelSpec, Region
from trt_perception.runtime.host.preprocess import HostPreprocessor

PATCH = 16
WIDTH, HEIGHT = 64, 48
CORNERS = {
    (0, 0): (200, 30, 40),
    (0, 1): (20, 180, 60),
    (1, 0): (30, 50, 210),
    (1, 1): (220, 200, 30),
}


def picture() -> np.ndarray:
    """(48, 64, 3) red, green, blue: a flat patch in each corner, a gradient elsewhere."""
    x, y = np.meshgrid(np.linspace(0, 1, WIDTH), np.linspace(0, 1, HEIGHT))
    rgb = np.stack((60 + 120 * x, 80 + 100 * y, 180 - 100 * x), axis=-1)
    for (bottom, right), color in CORNERS.items():
        rows = slice(HEIGHT - PATCH, None) if bottom else slice(PATCH)
        columns = slice(WIDTH - PATCH, None) if right else slice(PATCH)
        rgb[rows, columns] = color
    return np.round(rgb).astype(np.uint8)


# Well inside the patches and the gradient: chroma and Bayer colours are shared over edges.
INSIDE = np.zeros((HEIGHT, WIDTH), bool)
INSIDE[3:-3, PATCH + 3 : WIDTH - PATCH - 3] = True
for _rows in (slice(PATCH - 3), slice(HEIGHT - PATCH + 3, None)):
    for _columns in (slice(PATCH - 3), slice(WIDTH - PATCH + 3, None)):
        INSIDE[_rows, _columns] = True


def grey(rgb: np.ndarray) -> np.ndarray:
    return rgb.astype(np.float64) @ (0.299, 0.587, 0.114)


def yuv(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ITU-R BT.601, luma 16..235 and chroma 16..240, as cameras give it."""
    r, g, b = np.moveaxis(rgb.astype(np.float64) / 255, -1, 0)
    luma = 16 + 65.481 * r + 128.553 * g + 24.966 * b
    blue = 128 - 37.797 * r - 74.203 * g + 112 * b
    red = 128 + 112 * r - 93.786 * g - 18.214 * b
    return luma, blue, red


def shared(chroma: np.ndarray, lines: int) -> np.ndarray:
    """The mean of two neighbours, or of two by two."""
    height, width = chroma.shape
    return chroma.reshape(height // lines, lines, width // 2, 2).mean(axis=(1, 3))


def encode(rgb: np.ndarray, encoding: str) -> np.ndarray:
    """(rows, bytes) uint8 in one of the encodings of sensor_msgs."""
    height, width = rgb.shape[:2]
    alpha = np.random.default_rng(0).integers(0, 256, (height, width, 1), dtype=np.uint8)
    if encoding == 'mono16':
        return np.round(grey(rgb) * 257).astype('<u2').view(np.uint8)
    if encoding.startswith('bayer'):
        mosaic = np.zeros((height, width), np.uint8)
        for i, color in enumerate(encoding[6:10]):
            row, column = divmod(i, 2)
            mosaic[row::2, column::2] = rgb[row::2, column::2, 'rgb'.index(color)]
        return mosaic
    if encoding in ('yuv422', 'yuv422_yuy2', 'nv12', 'nv21'):
        lines = 2 if encoding.startswith('nv') else 1  # that share their chroma
        luma, blue, red = yuv(rgb)
        luma, blue, red = (
            np.round(plane).astype(np.uint8)
            for plane in (luma, shared(blue, lines), shared(red, lines))
        )
        if lines == 2:
            pair = (blue, red) if encoding == 'nv12' else (red, blue)
            return np.vstack((luma, np.stack(pair, axis=-1).reshape(height // 2, width)))
        even, odd = luma[:, ::2], luma[:, 1::2]
        order = (blue, even, red, odd) if encoding == 'yuv422' else (even, blue, odd, red)
        return np.stack(order, axis=-1).reshape(height, 2 * width)
    bgr = rgb[..., ::-1]
    channels = {
        'rgb8': [rgb],
        'bgr8': [bgr],
        'rgba8': [rgb, alpha],
        'bgra8': [bgr, alpha],
        'mono8': [np.round(grey(rgb)).astype(np.uint8)[..., None]],
    }[encoding]
    return np.concatenate(channels, axis=-1).reshape(height, -1)


def frame_of(rgb: np.ndarray, encoding: str = 'rgb8', padding: int = 0) -> Frame:
    """A frame whose rows are padded with what must not be seen."""
    rows = encode(rgb, encoding)
    junk = np.random.default_rng(1).integers(0, 256, (len(rows), padding), dtype=np.uint8)
    data = np.hstack((rows, junk)).reshape(-1)[: rows.size + (len(rows) - 1) * padding]
    data.flags.writeable = False  # as the bytes of a message may be
    return Frame.checked(data, rgb.shape[1], rgb.shape[0], encoding, rows.shape[1] + padding)


def spec(width: int = WIDTH, height: int = HEIGHT, **fields) -> ModelSpec:
    base = ModelSpec('yolov8', 'images', width, height, 'float32', ('output0',), 1)
    return dataclasses.replace(base, **fields)


RAW = {'scale': 1.0, 'resize': 'stretch'}


def run(frame: Frame, region: Region = Region(), **fields) -> np.ndarray:
    """What the network is given, as (height, width, 3)."""
    tensor, _ = HostPreprocessor(spec(**fields))(frame, region)
    assert tensor.flags.c_contiguous
    return tensor[0].transpose(1, 2, 0).copy()


def refused_by_opencv(*sizes: tuple[int, int]) -> bool:
    """OpenCV 4.5.4, of Ubuntu 22.04, takes and gives no colour image of one pixel."""
    return cv2.__version__ == '4.5.4' and (1, 1) in sizes


def stated_jpeg(width: int, height: int, scans: int = 1) -> np.ndarray:
    """A JPEG that states a size and holds no pixels: 1-D uint8."""
    frame = struct.pack('>BBHBHHB', 0xFF, 0xC0, 11, 8, height, width, 1) + b'\x01\x11\x00'
    scan = b'\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00'
    return np.frombuffer(b'\xff\xd8' + frame + scan * scans + b'\xff\xd9', np.uint8)


def stated_png(width: int, height: int) -> np.ndarray:
    """A PNG that states a size and holds no pixels: 1-D uint8."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
        )

    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    chunks = (b'IHDR', header), (b'IDAT', zlib.compress(b'0')), (b'IEND', b'')
    return np.frombuffer(b'\x89PNG\r\n\x1a\n' + b''.join(chunk(*c) for c in chunks), np.uint8)
