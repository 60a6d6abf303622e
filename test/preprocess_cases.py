# SPDX-License-Identifier: Apache-2.0
"""The preprocess kernel against the host, on whatever machine runs it: a GPU, or this CPU."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
from decode_cases import Machine
from numpy.typing import NDArray

from trt_perception.core import Frame, ModelSpec, Region, place
from trt_perception.core.frame import ENCODINGS
from trt_perception.runtime.cuda.preprocess import level_tables, preprocess_launch, rows_read
from trt_perception.runtime.host.preprocess import HostPreprocessor

ENCODING_NAMES = sorted({encoding.name for encoding in ENCODINGS.values()})
RESIZE_MODES = ('letterbox', 'letterbox_top_left', 'stretch')

#: Width and height: even, odd, tall, wide, tiny, exactly twice and four times the input, large.
SIZES = [
    (64, 48), (63, 47), (20, 200), (200, 20), (1, 1), (1, 40), (40, 1), (2, 2), (3, 3), (2, 7),
    (7, 2), (4, 3), (192, 160), (384, 320), (641, 479), (1280, 720),
]  # fmt: skip


class Levels(NamedTuple):
    """How far the levels of an input are from the host's.

    Attributes:
        farthest: of all.
        equal: the share of those that are the same.
    """

    farthest: int
    equal: float


def spec_of(width: int = 96, height: int = 80, **fields) -> ModelSpec:
    base = ModelSpec('yolov8', 'images', width, height, 'float32', ('output0',), 1)
    return dataclasses.replace(base, **fields)


def fitting(size: tuple[int, int], encoding: str) -> tuple[int, int]:
    """The next larger size that the encoding can have."""
    layout = ENCODINGS[encoding]
    width, height = size
    return (
        width + (width % 2 if layout.even_width else 0),
        height + (height % 2 if layout.half_planes else 0),
    )


def random_frame(size: tuple[int, int], encoding: str, padding: int = 0, seed: int = 0) -> Frame:
    """Random bytes, with rows of ``padding`` more bytes; the last row is not padded."""
    width, height = fitting(size, encoding)
    layout = ENCODINGS[encoding]
    row = width * layout.pixel_bytes
    rows = height * 3 // 2 if layout.half_planes else height
    total = (rows - 1) * (row + padding) + row
    data = np.random.default_rng(seed).integers(0, 256, total, dtype=np.uint8)
    return Frame.checked(data, width, height, encoding, row + padding)


def run_kernel(
    machine: Machine, spec: ModelSpec, frame: Frame, region: Region = Region(), source: int = 0
) -> NDArray:
    """What the kernel makes of a frame: (1, 3, height, width); it must write every element.

    Args:
        source: where the machine has the frame's bytes already, or 0.
    """
    geometry = place(frame.width, frame.height, spec.width, spec.height, spec.resize, region)
    result = np.dtype([('input', spec.dtype, (1, 3, spec.height, spec.width))])
    found = []
    for poison in (0x00, 0xFF):
        output = machine.upload(np.full(result.itemsize, poison, np.uint8))
        image = source or machine.upload(frame.data)
        stamps = machine.upload(np.zeros(4, np.uint64))
        launch = preprocess_launch(
            spec,
            geometry,
            frame.encoding,
            frame.step,
            source=machine.upload(np.array([image], np.uint64)),
            tables=machine.upload(level_tables(spec)),
            output=output,
            stamps=stamps,
        )
        machine.run([launch])
        found.append(machine.download(output, result)['input'].copy())
        begin, end, *others = machine.download(stamps, np.dtype([('s', np.uint64, 4)]))['s']
        assert 0 < begin <= end
        assert others == [0, 0]
    assert found[0].tobytes() == found[1].tobytes(), 'not all of the input is written'
    return found[0]


def levels_apart(
    machine: Machine, spec: ModelSpec, frame: Frame, region: Region = Region()
) -> Levels:
    """Kernel and host, compared by the levels that their values stand for."""
    host, _ = HostPreprocessor(spec)(frame, region)
    given = run_kernel(machine, spec, frame, region)
    assert given.dtype == host.dtype
    apart = np.abs(_levels(given, spec) - _levels(host, spec))
    return Levels(int(apart.max()), float((apart == 0).mean()))


def without_unread_rows(frame: Frame, spec: ModelSpec, region: Region) -> Frame:
    """The same frame, but with garbage in the rows that the kernel says it does not read."""
    geometry = place(frame.width, frame.height, spec.width, spec.height, spec.resize, region)
    read = set(rows_read(geometry, frame.encoding).tolist())
    data = frame.data.copy()
    for row in range(-(-data.size // frame.step)):
        if row not in read:
            data[row * frame.step : (row + 1) * frame.step] ^= 0xFF
    return dataclasses.replace(frame, data=data)


def _levels(values: NDArray, spec: ModelSpec) -> NDArray[np.int64]:
    """The level of each value; every one must stand in the channel's table."""
    levels = np.empty(values.shape, np.int64)
    for k, table in enumerate(level_tables(spec)):
        order = np.argsort(table)
        at = np.minimum(np.searchsorted(table[order], values[0, k]), 255)
        assert (table[order][at] == values[0, k]).all(), 'a value that no level has'
        levels[0, k] = order[at]
    return levels
