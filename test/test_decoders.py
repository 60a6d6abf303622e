# SPDX-License-Identifier: Apache-2.0
"""Every decoder against the same thing written slowly: one number at a time, in double precision.

The raw outputs are random, the number of classes and the shape of the input too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import LAYOUTS, cells, raw_outputs

from trt_perception.core import ModelSpec, Selection
from trt_perception.core.decoders import anchor_count, decoders, pyramid
from trt_perception.core.detections import Candidates

Row = tuple[float, float, float, float, float, int]


def spec(layout: str, classes: int, width: int = 64, height: int = 64) -> ModelSpec:
    return ModelSpec(layout, 'images', width, height, 'float32', ('output0',), classes)


def decode(
    layout: str, outputs, classes: int, width=64, height=64, threshold=0.25, multi_label=False
) -> Candidates:
    selection = Selection(threshold, multi_label=multi_label)
    return decoders()[layout].decode(outputs, spec(layout, classes, width, height), selection)


def around(cx: float, cy: float, w: float, h: float) -> tuple[float, float, float, float]:
    return cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2


def wanted(scores: list[float], multi_label: bool) -> list[tuple[float, int]]:
    """Score and class: every class of a box, or its best."""
    every = [(score, label) for label, score in enumerate(scores)]
    return every if multi_label else [max(every, key=lambda pair: pair[0])]


# The references: all rows, whatever their score.


def plain_yolov8(outputs, width, height, multi_label) -> Iterator[Row]:
    for cell in range(outputs[0].shape[2]):
        column = [float(v) for v in outputs[0][0, :, cell]]
        for score, label in wanted(column[4:], multi_label):
            yield (*around(*column[:4]), score, label)


def plain_yolov5(outputs, width, height, multi_label) -> Iterator[Row]:
    for row in outputs[0][0].tolist():
        for score, label in wanted([s * row[4] for s in row[5:]], multi_label):
            yield (*around(*row[:4]), score, label)


def plain_yolox_raw(outputs, width, height, multi_label) -> Iterator[Row]:
    for (column, line, stride), row in zip(
        cells(width, height), outputs[0][0].tolist(), strict=True
    ):
        x, y, w, h = row[:4]
        box = around(
            (x + column) * stride,
            (y + line) * stride,
            math.exp(w) * stride,
            math.exp(h) * stride,
        )
        for score, label in wanted([s * row[4] for s in row[5:]], multi_label):
            yield (*box, score, label)


def plain_end_to_end(outputs, width, height, multi_label) -> Iterator[Row]:
    for row in outputs[0][0].tolist():
        yield (*row[:5], int(row[5]))


def plain_efficient_nms(outputs, width, height, multi_label) -> Iterator[Row]:
    count, boxes, scores, labels = outputs
    for i in range(int(count[0, 0])):
        yield (*boxes[0, i].tolist(), float(scores[0, i]), int(labels[0, i]))


def in_pixels(box: list[float], width: int, height: int) -> tuple[float, float, float, float]:
    return around(box[0] * width, box[1] * height, box[2] * width, box[3] * height)


def plain_detr(outputs, width, height, multi_label) -> Iterator[Row]:
    rows = [
        (*in_pixels(box, width, height), 1 / (1 + math.exp(-logit)), label)
        for logits, box in zip(outputs[0][0].tolist(), outputs[1][0].tolist(), strict=True)
        for logit, label in wanted(logits, multi_label)
    ]
    rows.sort(key=lambda row: -row[4])
    yield from rows[: outputs[0].shape[1]]  # as many objects as there are queries


def plain_detr_softmax(outputs, width, height, multi_label) -> Iterator[Row]:
    for logits, box in zip(outputs[0][0].tolist(), outputs[1][0].tolist(), strict=True):
        total = math.fsum(math.exp(v) for v in logits)
        scores = [math.exp(v) / total for v in logits[:-1]]
        yield (*in_pixels(box, width, height), *wanted(scores, False)[0])


def plain_detr_end_to_end(outputs, width, height, multi_label) -> Iterator[Row]:
    labels, boxes, scores = (o[0].tolist() for o in outputs)
    for label, box, score in zip(labels, boxes, scores, strict=True):
        yield (*box, score, label)


def plain_rtdetr_ultralytics(outputs, width, height, multi_label) -> Iterator[Row]:
    rows = [
        (*in_pixels(row[:4], width, height), score, label)
        for row in outputs[0][0].tolist()
        for score, label in wanted(row[4:], multi_label)
    ]
    rows.sort(key=lambda row: -row[4])
    yield from rows[: outputs[0].shape[1]]


PLAIN = {
    'yolov8': plain_yolov8,
    'yolov5': plain_yolov5,
    'yolox': plain_yolov5,
    'yolox_raw': plain_yolox_raw,
    'end_to_end': plain_end_to_end,
    'efficient_nms': plain_efficient_nms,
    'detr': plain_detr,
    'detr_softmax': plain_detr_softmax,
    'detr_end_to_end': plain_detr_end_to_end,
    'rtdetr_ultralytics': plain_rtdetr_ultralytics,
}


def random_outputs(
    layout: str, random: np.random.Generator, classes: int, width: int, height: int
) -> list[np.ndarray]:
    """Outputs of the layout's shapes, in the order that its decoder takes, full of numbers."""
    count = len(cells(width, height))
    queries = int(random.integers(1, 40))

    def scores(*shape):
        # Steps of 1/64 and many zeros: equal scores, and scores on the threshold, do occur.
        return np.maximum(random.integers(-64, 65, shape), 0) / 64

    def boxes(n, scale=1.0):
        return random.uniform(-0.2, 1.2, (1, n, 4)) * scale

    if layout == 'yolov8':
        outputs = [np.concatenate((boxes(count, width), scores(1, count, classes)), 2)]
        outputs = [outputs[0].transpose(0, 2, 1)]
    elif layout in ('yolov5', 'yolox'):
        rows = count * (3 if layout == 'yolov5' else 1)
        outputs = [np.concatenate((boxes(rows, width), scores(1, rows, 1 + classes)), 2)]
    elif layout == 'yolox_raw':
        outputs = [np.concatenate((boxes(count, 4), scores(1, count, 1 + classes)), 2)]
    elif layout == 'rtdetr_ultralytics':
        outputs = [np.concatenate((boxes(queries), scores(1, queries, classes)), 2)]
    elif layout in ('detr', 'detr_softmax'):
        # On a grid, so that logits are equal or their scores clearly apart in single precision.
        shape = (1, queries, classes + (layout == 'detr_softmax'))
        logits = random.integers(-80, 60, shape) / 8
        outputs = [logits, boxes(queries)]
    else:
        labels = random.integers(0, classes, (1, queries))
        if layout == 'end_to_end':
            rows = (boxes(queries, width), scores(1, queries, 1), labels[..., None])
            outputs = [np.concatenate(rows, 2)]
        elif layout == 'detr_end_to_end':
            outputs = [labels, boxes(queries, width), scores(1, queries)]
        else:
            found = np.array([[random.integers(0, queries + 1)]])
            outputs = [found, boxes(queries, width), scores(1, queries), labels]
    return [o.astype(np.float32) if o.dtype.kind == 'f' else o for o in outputs]


def test_every_layout_is_tested():
    assert set(PLAIN) == set(LAYOUTS)
    assert set(PLAIN) <= set(decoders())


@pytest.mark.parametrize('layout', PLAIN)
@given(
    seed=st.integers(0, 2**32 - 1),
    # The slow reference takes every class of every cell one at a time.
    kind=st.sampled_from([(n, False) for n in (1, 2, 3, 80, 365)] + [(1, True), (3, True)]),
    width=st.sampled_from([32, 64, 96, 128]),
    height=st.sampled_from([32, 64, 96, 160]),
    threshold=st.sampled_from([0.0, 0.001, 0.25, 0.5, 0.9, 1.0]),
)
def test_agrees_with_the_slow_reference(layout, seed, kind, width, height, threshold):
    classes, multi_label = kind
    outputs = random_outputs(layout, np.random.default_rng(seed), classes, width, height)
    before = [o.copy() for o in outputs]
    found = decode(layout, outputs, classes, width, height, threshold, multi_label)

    assert all((a == b).all() for a, b in zip(outputs, before, strict=True))
    assert (found.boxes.dtype, found.scores.dtype) == (np.float32, np.float32)
    assert found.class_ids.dtype == np.int32
    assert found.boxes.shape == (len(found.scores), 4)
    assert found.class_ids.shape == found.scores.shape

    plain = list(PLAIN[layout](outputs, width, height, multi_label))
    expected = np.array(plain, np.float64).reshape(-1, 6)
    expected = expected[expected[:, 4] >= np.float32(threshold)]
    rows = np.column_stack((found.boxes, found.scores, found.class_ids)).astype(np.float64)
    if layout == 'detr_softmax':  # inexact: what rounding puts on either side is no question
        rows, expected = (r[np.abs(r[:, 4] - threshold) > 1e-6] for r in (rows, expected))
    assert rows.shape == expected.shape
    np.testing.assert_allclose(rows[:, :4], expected[:, :4], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(rows[:, 4], expected[:, 4], atol=1e-6)
    assert (rows[:, 5] == expected[:, 5]).all()


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize(('width', 'height'), [(64, 64), (96, 32), (640, 352)])
def test_finds_what_was_put_in(layout, width, height):
    boxes = [[8, 8, 40, 24], [0, 0, width, height], [1.5, 2.25, 3.5, 30]]
    names = ['labels', 'boxes', 'scores'] if layout == 'detr_end_to_end' else None
    raw = raw_outputs(layout, boxes, [0.9, 0.8, 0.7], [2, 0, 1], 3, width, height)
    outputs = [raw[name] for name in names or raw]
    outputs = [o.astype(np.float32) if o.dtype.kind == 'f' else o for o in outputs]
    found = decode(layout, outputs, 3, width, height)
    np.testing.assert_allclose(found.boxes, boxes, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(found.scores, [0.9, 0.8, 0.7], atol=1e-6)
    assert found.class_ids.tolist() == [2, 0, 1]


@pytest.mark.parametrize('layout', PLAIN)
def test_nothing_found_keeps_shapes_and_types(layout):
    outputs = random_outputs(layout, np.random.default_rng(0), 2, 64, 64)
    found = decode(layout, outputs, 2, threshold=1.5)
    assert (found.boxes.shape, found.boxes.dtype) == ((0, 4), np.float32)
    assert (found.scores.shape, found.scores.dtype) == ((0,), np.float32)
    assert (found.class_ids.shape, found.class_ids.dtype) == ((0,), np.int32)


def test_a_detr_query_is_of_one_class_or_of_several():
    logits = np.array([[[3.0, 2.0], [-9, -9], [1.0, -9]]], np.float32)
    boxes = np.array([[[0.5, 0.5, 1, 1]] * 3], np.float32)
    for multi_label, class_ids in ((True, [0, 1, 0]), (False, [0, 0])):
        found = decode('detr', [logits, boxes], 2, threshold=0.5, multi_label=multi_label)
        assert found.class_ids.tolist() == class_ids
        assert (np.diff(found.scores) < 0).all()


@pytest.mark.parametrize('layout', ['detr', 'detr_softmax'])
def test_extreme_logits_overflow_nothing(layout):
    logits = np.array([[[1e4, -1e4, 0], [-1e4, -1e4, 1e4], [1e38, -1e38, 0]]], np.float32)
    boxes = np.full((1, 3, 4), 0.5, np.float32)
    found = decode(layout, [logits, boxes], 3)
    assert np.isfinite(found.scores).all()
    assert found.scores.max() == 1


def test_no_more_boxes_than_efficient_nms_counted():
    outputs = random_outputs('efficient_nms', np.random.default_rng(0), 2, 64, 64)
    outputs[2][:] = 1
    outputs[0] = np.array([[0]], np.int32)
    assert len(decode('efficient_nms', outputs, 2).scores) == 0
    outputs[0] = np.array([[1]], np.int32)
    assert len(decode('efficient_nms', outputs, 2).scores) == 1


# The pyramid


def test_anchor_counts_of_known_networks():
    assert anchor_count(640, 640, (8, 16, 32)) == 8400
    assert anchor_count(416, 416, (8, 16, 32)) == 3549
    assert anchor_count(1280, 1280, (8, 16, 32, 64)) == 34000
    assert anchor_count(640, 384, (8, 16, 32)) == 5040


@given(st.sampled_from([(8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32)]), st.data())
def test_pyramid_is_found_by_its_cells(strides, data):
    width, height = (64 * data.draw(st.integers(1, 20)) for _ in range(2))
    for per_cell in (1, 3):
        count = per_cell * anchor_count(width, height, strides)
        assert pyramid(count, width, height, per_cell) == strides
        other = pyramid(count + 1, width, height, per_cell)
        assert other is None or per_cell * anchor_count(width, height, other) == count + 1
