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

from trt_perception.core.decoders.base import corners, pick, pyramid, single_output
from trt_perception.core.detections import Candidates, Float, Int, Selection
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
        self, outputs: Sequence[NDArray[Any]], spec: ModelSpec, selection: Selection
    ) -> Candidates:
        cells = outputs[0][0].T
        keep, class_ids = pick(cells[:, 4:], selection)
        return Candidates(corners(cells[keep, :4]), cells[keep, 4 + class_ids], class_ids)


class YoloV5:
    """YOLOv5, v6, v7: (1, 3 * cells, 5 + classes); centre, size, objectness, class scores."""

    layout = 'yolov5'

    def recognise(self, signature: Signature, width: int, height: int) -> dict[str, Any] | None:
        shape = single_output(signature)
        if shape is None or shape[1] < 6 or pyramid(shape[0], width, height, 3) is None:
            return None
        return {'num_classes': shape[1] - 5}

    def decode(
        self, outputs: Sequence[NDArray[Any]], spec: ModelSpec, selection: Selection
    ) -> Candidates:
        keep, scores, class_ids = _objects(outputs[0][0], selection)
        return Candidates(corners(outputs[0][0, keep, :4]), scores, class_ids)


class YoloX:
    """YOLOX exported with ``--decode_in_inference``: as YOLOv5, with one row a cell."""

    layout = 'yolox'

    def recognise(self, signature: Signature, width: int, height: int) -> dict[str, Any] | None:
        return None if _has_exp(signature) is False else _recognise_yolox(signature, width, height)

    def decode(
        self, outputs: Sequence[NDArray[Any]], spec: ModelSpec, selection: Selection
    ) -> Candidates:
        keep, scores, class_ids = _objects(outputs[0][0], selection)
        return Candidates(corners(outputs[0][0, keep, :4]), scores, class_ids)


class YoloXRaw:
    """YOLOX as exported by default: centres and sizes relative to each cell."""

    layout = 'yolox_raw'

    def recognise(self, signature: Signature, width: int, height: int) -> dict[str, Any] | None:
        return None if _has_exp(signature) else _recognise_yolox(signature, width, height)

    def decode(
        self, outputs: Sequence[NDArray[Any]], spec: ModelSpec, selection: Selection
    ) -> Candidates:
        grid, stride = _cells(len(outputs[0][0]), spec.width, spec.height)
        keep, scores, class_ids = _objects(outputs[0][0], selection)
        boxes = outputs[0][0, keep, :4]
        boxes[:, :2] = (boxes[:, :2] + grid[keep]) * stride[keep]
        # A garbage exponent must not overflow into a warning on every frame.
        boxes[:, 2:] = np.exp(np.minimum(boxes[:, 2:], 20)) * stride[keep]
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


def _objects(rows: Float, selection: Selection) -> tuple[NDArray[np.intp], Float, Int]:
    """Rows whose objectness times class score is wanted, with that score and its class."""
    # Class scores are at most 1, so objectness alone bounds the product and is quick to look at.
    near = np.flatnonzero(rows[:, 4] >= selection.score_threshold)
    scores = rows[near, 5:] * rows[near, 4:5]
    keep, class_ids = pick(scores, selection)
    return near[keep], scores[keep, class_ids], class_ids


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
