# SPDX-License-Identifier: Apache-2.0
"""From a camera's bytes to a network's input: the launch that does it."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trt_perception.core import FrameError, Geometry, ModelSpec
from trt_perception.core.frame import ENCODINGS
from trt_perception.runtime.cuda.launch import Launch, pointer
from trt_perception.runtime.levels import level_tables as level_tables

#: As in preprocess.cu.
_COLUMNS, _LINES, _ROWS = 64, 4, 8
#: Pixels along a side, so that twice the product with a network's side is an int.
_LARGEST = 65535


class _Kind(NamedTuple):
    """An encoding's kernel, what that kernel's encodings differ in, the order of the colours."""

    kernel: str
    first: int = 0
    second: int = 0
    order: str = 'bgr'


# YUV: where the first luma and U are. Bayer: the column and the row of the first red pixel.
_KINDS = {
    'rgb8': _Kind('color3', order='rgb'),
    'bgr8': _Kind('color3'),
    'rgba8': _Kind('color4', order='rgb'),
    'bgra8': _Kind('color4'),
    'mono8': _Kind('mono8'),
    'mono16': _Kind('mono16'),
    'yuv422': _Kind('yuv422', 1, 0),
    'yuv422_yuy2': _Kind('yuv422', 0, 1),
    'nv12': _Kind('semi_planar', 0),
    'nv21': _Kind('semi_planar', 1),
    'bayer_rggb8': _Kind('bayer', 0, 0),
    'bayer_bggr8': _Kind('bayer', 1, 1),
    'bayer_gbrg8': _Kind('bayer', 0, 1),
    'bayer_grbg8': _Kind('bayer', 1, 0),
}


class _Picture(ctypes.Structure):
    _fields_ = [
        ('source', ctypes.c_void_p),
        ('step', ctypes.c_longlong),
        ('width', ctypes.c_int),
        ('height', ctypes.c_int),
        ('first', ctypes.c_int),
        ('second', ctypes.c_int),
    ]


class _Place(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_int)
        for name in (
            'x', 'y', 'region_width', 'region_height', 'left', 'top', 'width', 'height',
        )
    ]  # fmt: skip


class _Input(ctypes.Structure):
    _fields_ = [
        ('values', ctypes.c_void_p),
        ('tables', ctypes.c_void_p),
        ('width', ctypes.c_int),
        ('height', ctypes.c_int),
        ('entry_bytes', ctypes.c_int),
        ('reversed', ctypes.c_int),
        ('pad', ctypes.c_int),
    ]


def preprocess_launch(
    spec: ModelSpec,
    geometry: Geometry,
    encoding: str,
    step: int,
    *,
    source: int,
    tables: int,
    output: int,
    stamps: int,
) -> Launch:
    """What writes the whole input of a network, padding included.

    Args:
        encoding: key of `ENCODINGS`.
        step: bytes from one row of the image to the next.
        source: address of the address of the image's first byte, read when the kernel runs.
        tables: address of `level_tables`.
        output: address of the input, (3, height, width) of the spec's dtype.
        stamps: address of four uint64: its begin is written to the first, and its end to the second
            unless that is greater already, in nanoseconds.

    Raises:
        FrameError: the image is too large.
    """
    largest = max(geometry.source_width, geometry.source_height)
    if largest > _LARGEST:
        raise FrameError('resize', f'image of {largest} pixels a side; {_LARGEST} is the most')
    kind = _KINDS[ENCODINGS[encoding].name]
    x, y, width, height = geometry.region
    picture = _Picture(
        source, step, geometry.source_width, geometry.source_height, kind.first, kind.second
    )
    place = _Place(
        x, y, width, height, geometry.left, geometry.top, geometry.width, geometry.height
    )
    entry_bytes = np.dtype(spec.dtype).itemsize
    reverse = int(spec.color != kind.order)
    target = _Input(output, tables, spec.width, spec.height, entry_bytes, reverse, spec.pad_value)
    return Launch(
        f'preprocess_{kind.kernel}',
        (-(-spec.width // _COLUMNS), -(-spec.height // _ROWS), 1),
        (_COLUMNS, _LINES, 1),
        (picture, place, target, pointer(stamps)),
    )


def rows_read(geometry: Geometry, encoding: str) -> NDArray[np.intp]:
    """The rows of the image's bytes that the kernel reads; of no others need there be a copy.

    Returns:
        (N,), rising; for nv12 and nv21 with those of the chroma, which follow the image's last.
    """
    wanted, size = geometry.height, geometry.region.height
    at = np.arange(wanted, dtype=np.int64)
    # As in preprocess.cu, where it is told why.
    whole, rest = np.divmod((2 * at + 1) * size - wanted, 2 * wanted)
    at_float = whole.astype(np.float32) + rest.astype(np.float32) / np.float32(2 * wanted)
    low = np.floor(at_float)
    share = at_float - low
    near = low.astype(np.intp)
    weighs = [np.rint(part * np.float32(2048)) > 0 for part in (1 - share, share)]
    used = np.concatenate((near[weighs[0]], near[weighs[1]] + 1))
    rows = geometry.region.y + np.clip(used, 0, size - 1)
    last = geometry.source_height - 1
    kernel = _KINDS[ENCODINGS[encoding].name].kernel
    if kernel == 'bayer':
        middle = np.clip(rows, 1, max(last - 1, 1))
        rows = np.concatenate((middle - 1, middle, middle + 1))
        rows = rows[rows <= last]
    elif kernel == 'semi_planar':
        rows = np.concatenate((rows, geometry.source_height + rows // 2))
    return np.unique(rows)


def strides_read(geometry: Geometry, encoding: str) -> list[slice] | None:
    """The rows of `rows_read` as few slices, or None where they are most rows or lie unevenly.

    Cameras are often a whole multiple of the network's input: 1920x1080 for 640x640 is read at
    every third row only.
    """
    rows = rows_read(geometry, encoding)
    period, rest = divmod(geometry.region.height, geometry.height)
    if rest or _KINDS[ENCODINGS[encoding].name].kernel == 'semi_planar':
        return None
    phases = np.unique(rows % period)
    if 2 * len(phases) > period:
        return None
    slices = []
    for phase in phases:
        of_phase = rows[rows % period == phase]
        slices.append(slice(int(of_phase[0]), int(of_phase[-1]) + 1, period))
    return slices
