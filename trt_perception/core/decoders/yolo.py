# SPDX-License-Identifier: Apache-2.0
"""Raw heads of the YOLO family: one row or column a cell, still to be suppressed.

Formats: the exporters' own documentation (Ultralytics ``output0``, Megvii YOLOX ``demo_utils``).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_perception.core.decoders.base import corners, pyramid, single_output
from trt_perception.core.detections import Candidates, Float
from trt_perception.core.model_spec import ModelSpec, Signature


class YoloV8:
    """YOLOv8, YOLO11 and their like: (1, 4 + classes, cells); centre, size, then class scores."""

    layout = 'yolov8'

    def recognise(self, signature: Signature, width: int, height: int) -> dict[str, Any] | None:
        shape = single_output(signature)
        if shape is None or shape[0] < 5 or pyramid(shape[1], width, height) is None:
            return None
        return {'num_classes': shape[0] - 4}

    def decode(
        self, outputs: Sequence[NDArray[Any]], spec: ModelSpec, score_threshold: float
    ) -> Candidates:
        scores = outputs[0][0, 4:]
        # The maximum is cheap over all cells, the class behind it only over the few that stay.
        best = scores.max(axis=0)
        keep = np.flatnonzero(best >= score_threshold)
        boxes = corners(outputs[0][0, :4, keep])
        return Candidates(boxes, best[keep], scores[:, keep].argmax(axis=0).astype(np.int32))


class YoloV5:
    """YOLOv5, v6, v7: (1, 3 * cells, 5 + classes); centre, size, objectness, class scores."""

    layout = 'yolov5'

    def recognise(self, signature: Signature, width: int, height: int) -> dict[str, Any] | None:
        shape = single_output(signature)
        if shape is None or shape[1] < 6 or pyramid(shape[0], width, height, 3) is None:
            return None
        return {'num_classes': shape[1] - 5}

    def decode(
        self, outputs: Sequence[NDArray[Any]], spec: ModelSpec, score_threshold: float
    ) -> Candidates:
        rows, scores, class_ids = _objects(outputs[0][0], score_threshold)
        return Candidates(corners(rows[:, :4]), scores, class_ids)


class YoloX:
    """YOLOX exported with ``--decode_in_inference``: as YOLOv5, with one row a cell."""

    layout = 'yolox'

    def recognise(self, signature: Signature, width: int, height: int) -> dict[str, Any] | None:
        return None if _has_exp(signature) is False else _recognise_yolox(signature, width, height)

    def decode(
        self, outputs: Sequence[NDArray[Any]], spec: ModelSpec, score_threshold: float
    ) -> Candidates:
        rows, scores, class_ids = _objects(outputs[0][0], score_threshold)
        return Candidates(corners(rows[:, :4]), scores, class_ids)


class YoloXRaw:
    """YOLOX as exported by default: centres and sizes relative to each cell."""

    layout = 'yolox_raw'

    def recognise(self, signature: Signature, width: int, height: int) -> dict[str, Any] | None:
        return None if _has_exp(signature) else _recognise_yolox(signature, width, height)

    def decode(
        self, outputs: Sequence[NDArray[Any]], spec: ModelSpec, score_threshold: float
    ) -> Candidates:
        grid, stride = _cells(len(outputs[0][0]), spec.width, spec.height)
        keep = np.flatnonzero(outputs[0][0, :, 4] >= score_threshold)
        rows, scores, class_ids, inner = _scored(outputs[0][0, keep], score_threshold)
        cells = keep[inner]
        boxes = np.empty((len(rows), 4), np.float32)
        boxes[:, :2] = (rows[:, :2] + grid[cells]) * stride[cells]
        # A garbage exponent must not overflow into a warning on every frame.
        boxes[:, 2:] = np.exp(np.minimum(rows[:, 2:4], 20)) * stride[cells]
        return Candidates(corners(boxes), scores, class_ids)


def _has_exp(signature: Signature) -> bool | None:
    # Box sizes are exponentials: a graph without Exp leaves them to be decoded.
    return 'Exp' in signature.operators if signature.operators else None


def _recognise_yolox(signature: Signature, width: int, height: int) -> dict[str, Any] | None:
    shape = single_output(signature)
    if shape is None or shape[1] < 6 or pyramid(shape[0], width, height) is None:
        return None
    return {
        'num_classes': shape[1] - 5,
        'color': 'bgr',
        'scale': 1.0,
        'resize': 'letterbox_top_left',
    }


def _scored(
    rows: Float, score_threshold: float
) -> tuple[Float, Float, NDArray[np.int32], NDArray[np.intp]]:
    """Rows whose objectness times best class reaches the threshold, and which they were."""
    best = rows[:, 5:].max(axis=1) * rows[:, 4]
    inner = np.flatnonzero(best >= score_threshold)
    rows = rows[inner]
    return rows, best[inner], rows[:, 5:].argmax(axis=1).astype(np.int32), inner


def _objects(rows: Float, score_threshold: float) -> tuple[Float, Float, NDArray[np.int32]]:
    # Class scores are at most 1, so objectness alone bounds the product and is quick to look at.
    return _scored(rows[rows[:, 4] >= score_threshold], score_threshold)[:3]


@lru_cache(maxsize=8)
def _cells(count: int, width: int, height: int) -> tuple[Float, Float]:
    """Column and row of each cell (count, 2), and its stride (count, 1)."""
    strides = pyramid(count, width, height)
    if strides is None:
        raise ValueError(f'{count} cells fit no pyramid of a {width}x{height} input')
    grids, sizes = [], []
    for stride in strides:
        rows, columns = np.mgrid[: height // stride, : width // stride]
        grids.append(np.stack((columns, rows), axis=-1).reshape(-1, 2))
        sizes.append(np.full((rows.size, 1), stride))
    return np.concatenate(grids).astype(np.float32), np.concatenate(sizes).astype(np.float32)
