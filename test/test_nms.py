# SPDX-License-Identifier: Apache-2.0
"""Suppression against the textbook: one box at a time, compared with all that were kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trt_perception.core.detections import Candidates
from trt_perception.core.nms import best_first, pairwise_iou, suppress


def candidates(boxes, scores, class_ids=None) -> Candidates:
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    class_ids = np.zeros(len(boxes)) if class_ids is None else class_ids
    return Candidates(boxes, np.array(scores, np.float32), np.array(class_ids, np.int32))


def rows(found: Candidates) -> list[tuple]:
    return [
        (*box, score, class_id)
        for box, score, class_id in zip(
            found.boxes.tolist(), found.scores.tolist(), found.class_ids.tolist(), strict=True
        )
    ]


def plain_iou(a, b) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    inside = width * height
    return inside / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inside)


def plain_suppress(found: Candidates, iou_threshold: float, limit: int) -> list[tuple]:
    kept: list[tuple] = []
    for row in sorted(rows(found), key=lambda row: -row[4]):  # sorted keeps the order of equals
        if len(kept) < limit and not any(
            row[5] == other[5] and plain_iou(row, other) > iou_threshold for other in kept
        ):
            kept.append(row)
    return kept


# Whole coordinates: areas and unions are exact in float32 too, and many boxes coincide.
BOX = st.tuples(*[st.integers(0, 24)] * 4).map(
    lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3]))
)
SCORE = st.integers(0, 8).map(lambda i: i / 8)
SOME = st.lists(st.tuples(BOX, SCORE, st.integers(0, 3)), max_size=40)
# No quotient of small whole numbers, so that none lies on the threshold.
THRESHOLD = st.sampled_from([0.0001, 0.30001, 0.45001, 0.70003, 0.99999])


@given(SOME, THRESHOLD, st.integers(0, 50))
def test_agrees_with_the_textbook(some, iou_threshold, limit):
    found = candidates(*zip(*some, strict=True)) if some else candidates([], [])
    assert rows(suppress(found, iou_threshold, limit)) == plain_suppress(
        found, iou_threshold, limit
    )


@settings(max_examples=15)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.sampled_from([255, 256, 257, 511, 512, 513, 1100]),
    levels=st.sampled_from([1, 5, 1000]),
    classes=st.integers(1, 3),
    limit=st.sampled_from([1, 100, 255, 256, 257, 10_000]),
    threshold=THRESHOLD,
)
def test_agrees_with_the_textbook_over_several_blocks(
    seed, count, levels, classes, limit, threshold
):
    random = np.random.default_rng(seed)
    corner = random.integers(0, 200, (count, 2))
    found = candidates(
        np.hstack((corner, corner + random.integers(0, 40, (count, 2)))),
        random.integers(0, levels, count) / levels,
        random.integers(0, classes, count),
    )
    assert rows(suppress(found, threshold, limit)) == plain_suppress(found, threshold, limit)


@pytest.mark.parametrize('count', [0, 1])
def test_none_and_one(count):
    found = candidates([[1, 2, 3, 4]] * count, [0.5] * count)
    kept = suppress(found, 0.5, 300)
    assert rows(kept) == rows(found)
    assert (kept.boxes.shape, kept.boxes.dtype) == ((count, 4), np.float32)
    assert (kept.scores.dtype, kept.class_ids.dtype) == (np.float32, np.int32)


def test_of_equal_scores_the_first_wins():
    found = candidates([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 9, 10]], [0.5] * 3)
    assert suppress(found, 0.5, 10).boxes.tolist() == [[0, 0, 10, 10]]


def test_a_thousand_times_the_same_box_is_one_object():
    found = candidates([[3, 3, 8, 8]] * 1000, np.linspace(0, 1, 1000))
    assert rows(suppress(found, 0.5, 300)) == [(3, 3, 8, 8, 1, 0)]


def test_other_classes_do_not_suppress():
    found = candidates([[0, 0, 10, 10]] * 3, [0.7, 0.9, 0.8], [0, 1, 0])
    assert [row[4:] for row in rows(suppress(found, 0.5, 10))] == [
        (pytest.approx(0.9), 1),
        (pytest.approx(0.8), 0),
    ]


def test_a_suppressed_box_suppresses_nothing():
    # Each overlaps its neighbour by more than half; the first and third do not overlap so.
    found = candidates([[0, 0, 10, 10], [3, 0, 13, 10], [6, 0, 16, 10]], [0.9, 0.8, 0.7])
    assert suppress(found, 0.5, 10).boxes[:, 0].tolist() == [0, 6]


def test_an_overlap_of_just_the_threshold_stays():
    found = candidates([[0, 0, 8, 8], [0, 0, 8, 4]], [0.9, 0.8])
    assert len(suppress(found, 0.5, 10).scores) == 2
    assert len(suppress(found, 0.49, 10).scores) == 1


def test_the_limit_keeps_the_best():
    found = candidates([[20 * i, 0, 20 * i + 10, 10] for i in range(600)], np.arange(600) / 600)
    for limit in (0, 1, 256, 300, 600, 10_000):
        best = suppress(found, 0.5, limit)
        assert best.boxes.tolist() == found.boxes[::-1][:limit].tolist()


def test_best_first_keeps_the_order_of_equals():
    found = candidates(np.arange(20).reshape(5, 4), [0.5, 0.9, 0.5, 0.9, 0.1])
    assert best_first(found, 4).boxes[:, 0].tolist() == [4, 12, 0, 8]
    assert len(best_first(found, 0).scores) == 0


@given(st.lists(BOX, max_size=8), st.lists(BOX, max_size=8))
def test_pairwise_iou(a, b):
    matrix = pairwise_iou(candidates(a, [0] * len(a)).boxes, candidates(b, [0] * len(b)).boxes)
    assert matrix.shape == (len(a), len(b))
    expected = np.array([[plain_iou(x, y) for y in b] for x in a]).reshape(matrix.shape)
    np.testing.assert_allclose(matrix, expected, rtol=1e-6)


def test_boxes_without_area_overlap_nothing():
    boxes = candidates([[1, 1, 1, 1], [1, 1, 5, 1], [5, 5, 1, 1]], [0] * 3).boxes
    assert pairwise_iou(boxes, boxes).tolist() == [[0] * 3] * 3
