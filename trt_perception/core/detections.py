# SPDX-License-Identifier: Apache-2.0
"""What was seen, as a structure of arrays, and what of it is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trt_perception.core.frame import Stamp

Float = NDArray[np.float32]
Int = NDArray[np.int32]
Index = NDArray[np.intp] | NDArray[np.bool_]


class Candidates(NamedTuple):
    """What a decoder reads from a network's outputs, before suppression.

    Attributes:
        boxes: (N, 4) float32, x1, y1, x2, y2 in *network* pixels.
        scores: (N,) float32 in 0..1.
        class_ids: (N,) int32, index into the class names.
    """

    boxes: Float
    scores: Float
    class_ids: Int

    def take(self, index: Index) -> Candidates:
        return Candidates(self.boxes[index], self.scores[index], self.class_ids[index])


@dataclass(frozen=True)
class Detections:
    """Objects found in one frame, best score first.

    Attributes:
        boxes: (N, 4) float32, x1, y1, x2, y2 in *source* pixels; (0, 0) is the image's corner.
        scores: (N,) float32 in 0..1.
        class_ids: (N,) int32, index into the class names.
    """

    boxes: Float
    scores: Float
    class_ids: Int

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def empty(cls) -> Detections:
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))


class Sighting(NamedTuple):
    """What was found in the frame of this header, as nodes tell each other.

    Attributes:
        class_names: what each class id is called; a class without a name is called by its number.
    """

    stamp: Stamp
    frame_id: str
    detections: Detections
    class_names: Sequence[str] = ()

    @property
    def names(self) -> list[str]:
        """What each detection is called."""
        known, ids = self.class_names, self.detections.class_ids.tolist()
        return [known[k] if 0 <= k < len(known) else str(k) for k in ids]


class Region(NamedTuple):
    """Part of an image, in source pixels. The default, of no size, stands for the whole image."""

    x: int = 0
    y: int = 0
    width: int = 0
    height: int = 0


@dataclass(frozen=True)
class Selection:
    """Which detections are wanted. Replaced whole, so that a frame never sees half a change.

    Attributes:
        score_threshold: lowest score kept, 0..1.
        iou_threshold: boxes of one class that overlap more than this are one object, 0..1.
        max_detections: at most so many, the best by score.
        multi_label: a box may be of several classes, as published accuracy figures count it; else
            it is of its best class alone.
        class_ids: classes kept; None keeps all.
        region: part of the image to look at.
    """

    score_threshold: float = 0.25
    iou_threshold: float = 0.7
    max_detections: int = 300
    multi_label: bool = False
    class_ids: frozenset[int] | None = None
    region: Region = Region()
