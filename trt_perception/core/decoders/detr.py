# SPDX-License-Identifier: Apache-2.0
"""The DETR family: a set of queries, each one object or none; nothing to suppress."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_perception.core.decoders.base import corners, pick, pyramid, single_output
from trt_perception.core.detections import Candidates, Float, Selection
from trt_perception.core.model_spec import ModelSpec, Signature, TensorInfo
from trt_perception.core.nms import best_first

#: Beyond these it is a grid, of strides that are not known.
_MOST_QUERIES, _MOST_CLASSES = 1000, 2000

_IMAGENET = {'mean': (0.485, 0.456, 0.406), 'std': (0.229, 0.224, 0.225)}


class Detr:
    """Logits (1, Q, C) and boxes (1, Q, 4): centre and size in 0..1 of the input.

    The score is the logit's sigmoid, and with ``multi_label`` every query and class is a candidate,
    as in the post-processing of Deformable DETR, DINO, RT-DETR, D-FINE and DEIM.
    """

    layout = 'detr'

    def recognise(self, signature: Signature, width: int, height: int) -> dict[str, Any] | None:
        return _recognise_logits_and_boxes(signature)

    def decode(
        self, outputs: Sequence[NDArray[Any]], spec: ModelSpec, selection: Selection
    ) -> Candidates:
        scores = _sigmoid(outputs[0][0])
        keep, class_ids = pick(scores, selection)
        boxes = _in_pixels(outputs[1][0, keep], spec)
        return best_first(Candidates(boxes, scores[keep, class_ids], class_ids), len(scores))


class DetrSoftmax:
    """As `Detr`, for the first DETR: a softmax over the classes, the last meaning "no object"."""

    layout = 'detr_softmax'

    def recognise(self, signature: Signature, width: int, height: int) -> dict[str, Any] | None:
        # Picking the best queries of an encoder came with the networks that score by sigmoid.
        fields = None if 'TopK' in signature.operators else _recognise_logits_and_boxes(signature)
        return fields and {**fields, **_IMAGENET, 'num_classes': fields['num_classes'] - 1}

    def decode(
        self, outputs: Sequence[NDArray[Any]], spec: ModelSpec, selection: Selection
    ) -> Candidates:
        scores = _softmax(outputs[0][0])[:, :-1]
        keep, class_ids = pick(scores, dataclasses.replace(selection, multi_label=False))
        boxes = _in_pixels(outputs[1][0, keep], spec)
        return Candidates(boxes, scores[keep, class_ids], class_ids)


class DetrEndToEnd:
    """Labels (1, Q), boxes (1, Q, 4) as corners, scores (1, Q); takes the size to scale boxes to.

    That size is always the input's own, so that boxes come in network pixels as from every other
    network and one geometry brings them home.
    """

    layout = 'detr_end_to_end'

    def recognise(self, signature: Signature, width: int, height: int) -> dict[str, Any] | None:
        sizes = [i for i in signature.inputs if len(i.shape) == 2 and i.shape[1] == 2]
        if len(signature.outputs) != 3 or len(sizes) != 1 or sizes[0].dtype != 'int64':
            return None
        found: dict[str, TensorInfo] = {}
        for output in signature.outputs:
            rank, whole = len(output.shape), output.dtype.startswith('int')
            if rank == 3 and output.shape[2] == 4:
                found['boxes'] = output
            elif rank == 2:
                found['labels' if whole else 'scores'] = output
        if len(found) != 3:
            return None
        return {
            'num_classes': 0,
            'outputs': tuple(found[r].name for r in ('labels', 'boxes', 'scores')),
            'size_input': sizes[0].name,
            'resize': 'stretch',
            'nms': False,
        }

    def decode(
        self, outputs: Sequence[NDArray[Any]], spec: ModelSpec, selection: Selection
    ) -> Candidates:
        labels, boxes, scores = (o[0] for o in outputs)
        found = Candidates(boxes, scores, labels.astype(np.int32))
        return found.take(scores >= selection.score_threshold)


class RtDetrUltralytics:
    """RT-DETR as Ultralytics exports it: (1, Q, 4 + classes); boxes in 0..1, scores ready."""

    layout = 'rtdetr_ultralytics'

    def recognise(self, signature: Signature, width: int, height: int) -> dict[str, Any] | None:
        shape = single_output(signature)
        if shape is None or shape[0] > _MOST_QUERIES or not 5 <= shape[1] <= 4 + _MOST_CLASSES:
            return None
        # As many queries as the cells of a grid are the cells of a grid.
        if pyramid(shape[0], width, height) or pyramid(shape[0], width, height, 3):
            return None
        if pyramid(shape[1], width, height):
            return None
        return {'num_classes': shape[1] - 4, 'resize': 'stretch', 'nms': False}

    def decode(
        self, outputs: Sequence[NDArray[Any]], spec: ModelSpec, selection: Selection
    ) -> Candidates:
        rows = outputs[0][0]
        keep, class_ids = pick(rows[:, 4:], selection)
        boxes = _in_pixels(rows[keep, :4], spec)
        return best_first(Candidates(boxes, rows[keep, 4 + class_ids], class_ids), len(rows))


def _recognise_logits_and_boxes(signature: Signature) -> dict[str, Any] | None:
    if len(signature.outputs) != 2 or any(len(o.shape) != 3 for o in signature.outputs):
        return None
    boxes = [o for o in signature.outputs if o.shape[2] == 4]
    if len(boxes) == 2:  # four classes: only the name can tell
        boxes = [o for o in boxes if 'box' in o.name]
    if len(boxes) != 1:
        return None
    (logits,) = (o for o in signature.outputs if o is not boxes[0])
    if logits.shape[1] != boxes[0].shape[1] or logits.shape[2] is None:
        return None
    return {
        'num_classes': logits.shape[2],
        'outputs': (logits.name, boxes[0].name),
        'resize': 'stretch',
        'nms': False,
    }


def _in_pixels(cxcywh: Float, spec: ModelSpec) -> Float:
    return corners(cxcywh * np.array([spec.width, spec.height] * 2, np.float32))


def _sigmoid(x: Float) -> Float:
    # exp of a large positive number would overflow; tanh cannot.
    return (0.5 * (1 + np.tanh(0.5 * x))).astype(np.float32)


def _softmax(x: Float) -> Float:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return (e / e.sum(axis=1, keepdims=True)).astype(np.float32)
