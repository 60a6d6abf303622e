# SPDX-License-Identifier: Apache-2.0
"""What a decoder is, and the few steps that several of them share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trt_perception.core.detections import Candidates, Float, Int, Selection
from trt_perception.core.errors import PerceptionError
from trt_perception.core.model_spec import ModelSpec, Signature

#: Detection strides of the usual pyramids: P3-P5, P3-P6, P2-P5.
PYRAMIDS = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32))


class DecodeError(PerceptionError):
    """A decoder that gives what are no boxes, scores and classes."""


class Decoder(Protocol):
    """Reads boxes from the outputs of one family of networks.

    A package adds its own through the entry-point group ``trt_perception.decoders``; the entry
    point loads an instance (or a class without arguments) of this shape.

    Attributes:
        layout: the name that a user gives in the YAML beside a model.
    """

    layout: str

    def recognise(self, signature: Signature, width: int, height: int) -> dict[str, Any] | None:
        """Say whether the signature can be of this layout.

        Args:
            signature: what the file says; sizes known unless the file leaves them free.
            width, height: of the network's input.

        Returns:
            None if it cannot. Else `ModelSpec` fields that follow from the layout:
            ``num_classes``, and what differs from the defaults (``color``, ``scale``, ``resize``,
            ``nms`` False if no object comes twice, ``outputs`` in the order that `decode` wants,
            ...).
        """

    def decode(
        self, outputs: Sequence[NDArray[Any]], spec: ModelSpec, selection: Selection
    ) -> Candidates:
        """Boxes in network pixels; what follows (suppression, filters, source pixels) is common.

        Args:
            outputs: in the order of ``spec.outputs``; floats as float32.
            selection: its ``score_threshold`` and ``multi_label`` are the decoder's to heed, which
                `pick` does.

        Returns:
            In any order and of any number type.
        """


def anchor_count(width: int, height: int, strides: Sequence[int]) -> int:
    """Cells of a pyramid: 8400 for 640x640 and strides 8, 16, 32."""
    return sum((width // s) * (height // s) for s in strides)


def pyramid(count: int, width: int, height: int, per_cell: int = 1) -> tuple[int, ...] | None:
    """The strides whose cells number ``count``, or None."""
    for strides in PYRAMIDS:
        if per_cell * anchor_count(width, height, strides) == count:
            return strides
    return None


def corners(cxcywh: Float) -> Float:
    """(N, 4) boxes from centre and size to x1, y1, x2, y2."""
    half = cxcywh[:, 2:] * np.float32(0.5)
    center = cxcywh[:, :2]
    return np.concatenate((center - half, center + half), axis=1)


def pick(scores: Float, selection: Selection) -> tuple[NDArray[np.intp], Int]:
    """Which boxes are wanted, and of which class each.

    Args:
        scores: (N, classes), one row a box.

    Returns:
        Rows of ``scores``, a row once for each of its classes that is wanted, and these classes.
    """
    if selection.multi_label:
        rows, class_ids = np.nonzero(scores >= selection.score_threshold)
    else:
        # The maximum is cheap over all rows, the class behind it only over the few that stay.
        rows = np.flatnonzero(scores.max(axis=1) >= selection.score_threshold)
        class_ids = scores[rows].argmax(axis=1)
    return rows, class_ids.astype(np.int32)


def checked(found: Candidates, layout: str) -> Candidates:
    """What a decoder gave, as float32 and int32.

    Raises:
        DecodeError: its arrays do not belong together.
    """
    boxes, scores = (np.asarray(a, np.float32) for a in (found.boxes, found.scores))
    class_ids = np.asarray(found.class_ids).astype(np.int32, copy=False)
    count = scores.size
    if (boxes.shape, scores.shape, class_ids.shape) != ((count, 4), (count,), (count,)):
        raise DecodeError(
            f"decoder '{layout}' gave boxes {boxes.shape}, scores {scores.shape} and class_ids"
            f' {class_ids.shape}; they must be (N, 4), (N,) and (N,)'
        )
    return Candidates(boxes, scores, class_ids)


def single_output(signature: Signature) -> tuple[int, int] | None:
    """(A, B) if the only output is (1, A, B) of floats."""
    if len(signature.outputs) != 1:
        return None
    shape = signature.outputs[0].shape
    if len(shape) != 3 or shape[0] not in (1, None) or shape[1] is None or shape[2] is None:
        return None
    return shape[1], shape[2]
