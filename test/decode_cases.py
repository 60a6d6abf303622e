# SPDX-License-Identifier: Apache-2.0
"""The decode kernels against the host, on whatever machine runs them: a GPU, or this CPU."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from models import cells
from numpy.typing import NDArray

from trt_perception.core import Detections, Geometry, ModelSpec, Region, Selection, place
from trt_perception.core.decoders import checked, decoders
from trt_perception.core.nms import best_first
from trt_perception.runtime.cuda.decode import (
    CAPACITY,
    RESULT,
    DecodePlan,
    Output,
    read_result,
)
from trt_perception.runtime.cuda.launch import Launch
from trt_perception.runtime.select import select, usable

#: Layouts that the kernels decode.
LAYOUTS = ('yolov8', 'yolov5', 'yolox', 'yolox_raw', 'detr', 'rtdetr_ultralytics')
QUERIES = ('detr', 'rtdetr_ultralytics')

SPECIAL = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 1e30, 1e-45, -1.0, 0.0, 0.5, 1.0, 99.0])


class Machine(Protocol):
    """Where kernels run."""

    def upload(self, array: NDArray[Any]) -> int:
        """Copy an array into memory of its own, aligned to 16 bytes; its address."""

    def run(self, launches: Sequence[Launch]) -> None:
        """Run one after the other, to the end."""

    def download(self, address: int, dtype: np.dtype) -> NDArray[Any]:
        """Copy one element, as an array of shape (), from an address that `upload` gave."""


class Kernels:
    """One network's outputs decoded by the kernels, frame after frame in the same buffers."""

    def __init__(
        self, machine: Machine, spec: ModelSpec, outputs: Sequence[NDArray[Any]], multi_label: bool
    ) -> None:
        shapes = [Output(o.shape, o.dtype.name) for o in outputs]
        self.machine = machine
        self.plan = DecodePlan(spec, shapes, multi_label=multi_label)
        self.addresses = {
            name: machine.upload(np.zeros(size, np.uint8))
            for name, size in self.plan.buffers.items()
        }
        self.result = machine.upload(np.zeros((), RESULT))

    def __call__(
        self, outputs: Sequence[NDArray[Any]], geometry: Geometry, selection: Selection
    ) -> tuple[Detections, int, NDArray[np.uint64]]:
        given = [self.machine.upload(o) for o in outputs]
        self.machine.run(
            self.plan.launches(selection, geometry, self.addresses, given, self.result)
        )
        return read_result(self.machine.download(self.result, RESULT))


def on_host(
    spec: ModelSpec, outputs: Sequence[NDArray[Any]], geometry: Geometry, selection: Selection
) -> tuple[Detections, int]:
    """What the host finds among the best `CAPACITY`, and how many more there were."""
    floats = [o.astype(np.float32) for o in outputs]
    with np.errstate(all='ignore'):
        found = checked(decoders()[spec.layout].decode(floats, spec, selection), spec.layout)
        if spec.layout in QUERIES:  # filtered after the cut
            dropped = max(len(found.scores) - CAPACITY, 0)
            found = best_first(found, CAPACITY)
        else:
            found = usable(found, geometry, selection)
            dropped = max(len(found.scores) - CAPACITY, 0)
            found = best_first(found, CAPACITY)
        return select(found, spec, geometry, selection), dropped


def assert_same(layout: str, found: Detections, expected: Detections) -> None:
    """The same objects in the same order, bit by bit where no function of libm takes part."""
    assert found.class_ids.tolist() == expected.class_ids.tolist()
    assert (found.boxes.dtype, found.scores.dtype) == (np.float32, np.float32)
    assert (found.boxes.shape, found.class_ids.dtype) == (expected.boxes.shape, np.int32)
    if layout == 'yolox_raw':  # exp
        np.testing.assert_allclose(found.boxes, expected.boxes, rtol=2e-6, atol=1e-3)
    else:
        np.testing.assert_array_equal(found.boxes, expected.boxes)
    if layout == 'detr':  # tanh
        np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=1e-6)
    else:
        np.testing.assert_array_equal(found.scores, expected.scores)


def compare(
    machine: Machine,
    spec: ModelSpec,
    frames: Sequence[Sequence[NDArray[Any]]],
    geometry: Geometry,
    selection: Selection,
) -> list[Detections]:
    """Decode frame after frame and compare each with the host; what was found."""
    kernels = Kernels(machine, spec, frames[0], selection.multi_label)
    all_found = []
    for outputs in frames:
        found, dropped, stamps = kernels(outputs, geometry, selection)
        expected, expected_dropped = on_host(spec, outputs, geometry, selection)
        assert_same(spec.layout, found, expected)
        assert dropped == expected_dropped
        assert stamps[:2].tolist() == [0, 0]  # no preprocessing took part
        assert 0 < stamps[2] <= stamps[3]
        all_found.append(found)
    return all_found


def spec_of(
    layout: str, classes: int, width: int = 64, height: int = 64, **fields: Any
) -> ModelSpec:
    queries = layout in QUERIES
    defaults: dict[str, Any] = {
        'nms': not queries,
        'resize': 'stretch' if queries else 'letterbox',
        'outputs': ('logits', 'boxes') if layout == 'detr' else ('output0',),
    }
    return ModelSpec(
        layout, 'images', width, height, 'float32', num_classes=classes, **{**defaults, **fields}
    )


def random_outputs(
    spec: ModelSpec, random: np.random.Generator, dtype: str, queries: int = 60, busy: float = 0.3
) -> list[NDArray[Any]]:
    """Outputs with boxes that crowd around a few places and scores that are often equal.

    Args:
        busy: share of the rows that see something.
    """
    rows, raw = _row_count(spec, queries), spec.layout == 'yolox_raw'
    size = np.array([spec.width, spec.height])
    places = random.uniform(-0.1, 1.1, (6, 2))
    center = places[random.integers(0, 6, rows)] + random.normal(0, 0.03, (rows, 2))
    sides = random.uniform(0.02, 0.5, (rows, 2)) * random.choice([0.3, 1, 1, 1], (rows, 1))
    if spec.layout not in QUERIES:
        center, sides = center * size, sides * size
    if raw:
        grid = np.array(cells(spec.width, spec.height), float)
        center, sides = center / grid[:, 2:] - grid[:, :2], np.log(sides / grid[:, 2:])
    boxes = np.concatenate((center, sides), 1)
    sees = random.random((rows, 1)) < busy
    if spec.layout == 'detr':
        # On a grid, so that logits are equal or their scores clearly apart in single precision.
        logits = random.integers(-80, 60, (rows, spec.num_classes)) / 8
        return [np.where(sees, logits, -9)[None].astype(dtype), boxes[None].astype(dtype)]
    scores = np.maximum(random.integers(-64, 65, (rows, spec.num_classes)), 0) / 64
    if spec.layout in ('yolov5', 'yolox', 'yolox_raw'):
        objects = np.where(sees, random.integers(0, 65, (rows, 1)) / 64, 0)
        scores = np.concatenate((objects, scores), 1)
    else:
        scores = np.where(sees, scores, 0)
    table = np.concatenate((boxes, scores), 1)
    return [np.ascontiguousarray(table.T if spec.layout == 'yolov8' else table)[None].astype(dtype)]


def garbage(outputs: Sequence[NDArray[Any]], random: np.random.Generator, share: float) -> None:
    """Put NaN, infinity and the like into a share of all elements."""
    for output in outputs:
        with np.errstate(over='ignore'):
            special = SPECIAL.astype(output.dtype)
        where = random.random(output.shape) < share
        output[where] = random.choice(special, int(where.sum()))


def with_scores(outputs: Sequence[NDArray[Any]], layout: str, value: float) -> None:
    """Give every class of every row one score (detr: one logit)."""
    if layout == 'detr':
        outputs[0][:] = value
    elif layout == 'yolov8':
        outputs[0][:, 4:] = value
    elif layout == 'rtdetr_ultralytics':
        outputs[0][..., 4:] = value
    else:
        outputs[0][..., 4] = 1
        outputs[0][..., 5:] = value


def placements(spec: ModelSpec) -> list[Geometry]:
    """Odd sizes, larger and smaller than the network's input, whole and in part."""
    kinds = ((spec.width, spec.height, Region()), (333, 97, Region()), (31, 50, Region()),
             (640, 481, Region(101, 53, 127, 333)), (64, 64, Region(60, -5, 90, 30)))  # fmt: skip
    return [place(w, h, spec.width, spec.height, spec.resize, region) for w, h, region in kinds]


def without_suppression(spec: ModelSpec) -> ModelSpec:
    return dataclasses.replace(spec, nms=False)


def _row_count(spec: ModelSpec, queries: int) -> int:
    if spec.layout in QUERIES:
        return queries
    return len(cells(spec.width, spec.height)) * (3 if spec.layout == 'yolov5' else 1)
