# SPDX-License-Identifier: Apache-2.0
"""Greedy non-maximum suppression."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trt_perception.core.detections import Candidates, Float

_BLOCK = 256


def pairwise_iou(a: Float, b: Float) -> Float:
    """Intersection over union of each box of ``a`` with each of ``b``.

    Args:
        a: (N, 4) float32, x1, y1, x2, y2.
        b: (M, 4) float32.

    Returns:
        (N, M) float32; 0 where both boxes are empty.
    """
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    sides = np.maximum(high - low, 0)
    inside = sides[..., 0] * sides[..., 1]
    area_a = (a[:, 2] - a[:, 0]) * (a[:, 3] - a[:, 1])
    area_b = (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
    union = area_a[:, None] + area_b[None, :] - inside
    return np.divide(inside, union, out=np.zeros_like(inside), where=union > 0)


def best_first(candidates: Candidates, limit: int) -> Candidates:
    """At most ``limit`` candidates by falling score; equal scores keep their order."""
    return candidates.take(np.argsort(-candidates.scores, kind='stable')[:limit])


def suppress(candidates: Candidates, iou_threshold: float, limit: int) -> Candidates:
    """Greedy suppression by class, best score first; equal scores keep their order.

    Exact for any number of candidates in bounded memory: they are taken in blocks by falling score,
    each compared with those kept so far and then with one another, until ``limit`` are kept.

    Args:
        candidates: in any order.
        iou_threshold: a box that overlaps a better one of its class by more than this goes.
        limit: keep at most so many.

    Returns:
        The survivors by falling score.
    """
    ordered = best_first(candidates, len(candidates.scores))
    kept: list[NDArray[np.intp]] = []
    count = 0
    for start in range(0, len(ordered.scores), _BLOCK):
        block = np.arange(start, min(start + _BLOCK, len(ordered.scores)))
        for winners in kept:
            block = block[~_overlaps(ordered, winners, block, iou_threshold).any(axis=0)]
        conflicts = _overlaps(ordered, block, block, iou_threshold)
        alive = np.ones(len(block), bool)
        for i in range(len(block)):
            if alive[i]:
                alive[i + 1 :] &= ~conflicts[i, i + 1 :]
        winners = block[alive][: limit - count]
        kept.append(winners)
        count += len(winners)
        if count >= limit:
            break
    index = np.concatenate(kept) if kept else np.zeros(0, np.intp)
    return ordered.take(index)


def _overlaps(
    of: Candidates, a: NDArray[np.intp], b: NDArray[np.intp], iou_threshold: float
) -> NDArray[np.bool_]:
    same = of.class_ids[a][:, None] == of.class_ids[b][None, :]
    return same & (pairwise_iou(of.boxes[a], of.boxes[b]) > iou_threshold)
