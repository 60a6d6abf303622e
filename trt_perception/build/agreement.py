# SPDX-License-Identifier: Apache-2.0
"""How far two lists of detections of one frame agree, as one smooth figure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trt_perception.core import Detections
from trt_perception.core.nms import pairwise_iou

#: Boxes that overlap less are not of the same object.
_IOU = 0.5


def agreement(reference: Sequence[Detections], other: Sequence[Detections]) -> float:
    """A weighted Jaccard index: what both saw, by score and overlap, of what either saw.

    Each detection of the reference is paired, best score first, with the free one of its class
    that overlaps most. A pair counts with the lower of its scores times its overlap; the whole is
    the higher of its scores, and the score of all that found no partner. It moves with every score
    and every box, where a mean average precision stands still until two change places.

    Args:
        reference, other: of the same frames.

    Returns:
        0 (nothing in common) to 1 (the same); 1 where neither saw anything.
    """
    both = either = 0.0
    for a, b in zip(reference, other, strict=True):
        overlap = pairwise_iou(a.boxes, b.boxes)
        overlap = np.where(a.class_ids[:, None] == b.class_ids[None, :], overlap, 0)
        free = np.ones(len(b), bool)
        for i, score in enumerate(a.scores):
            ious = np.where(free, overlap[i], 0)
            best = int(ious.argmax()) if len(b) else -1
            if best < 0 or ious[best] < _IOU:
                either += float(score)
                continue
            free[best] = False
            both += float(min(score, b.scores[best]) * ious[best])
            either += float(max(score, b.scores[best]))
        either += float(b.scores[free].sum())
    return both / either if either else 1.0
