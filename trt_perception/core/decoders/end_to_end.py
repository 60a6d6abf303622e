# SPDX-License-Identifier: Apache-2.0
"""Networks that do their own suppression: YOLOv10, YOLO26, ``nms=True`` exports, EfficientNMS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_perception.core.decoders.base import pyramid, single_output
from trt_perception.core.detections import Candidates, Selection
from trt_perception.core.model_spec import ModelSpec, Signature

#: No exporter lets through more boxes than this by default, and few cells are no mistake for one.
_MOST_BOXES = 1000


class EndToEnd:
    """(1, N, 6): x1, y1, x2, y2 in network pixels, score, class."""

    layout = 'end_to_end'

    def recognise(self, signature: Signature, width: int, height: int) -> dict[str, Any] | None:
        shape = single_output(signature)
        if shape is None or shape[1] != 6:
            return None
        cells = pyramid(shape[0], width, height) or pyramid(shape[0], width, height, 3)
        if cells and shape[0] > _MOST_BOXES:
            return None
        # The tensor does not tell how many classes there are: 0 leaves it to the names.
        return {'num_classes': 0, 'nms': False}

    def decode(
        self, outputs: Sequence[NDArray[Any]], spec: ModelSpec, selection: Selection
    ) -> Candidates:
        rows = outputs[0][0]
        rows = rows[rows[:, 4] >= selection.score_threshold]
        return Candidates(rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int32))


class EfficientNms:
    """The four outputs of TensorRT's EfficientNMS plugin; boxes as corners in network pixels.

    Source: the plugin's README in NVIDIA/TensorRT (num_detections (1, 1), boxes (1, N, 4), scores
    (1, N), classes (1, N)).
    """

    layout = 'efficient_nms'

    def recognise(self, signature: Signature, width: int, height: int) -> dict[str, Any] | None:
        if len(signature.outputs) != 4:
            return None
        found: dict[str, str] = {}
        for output in signature.outputs:
            rank, whole = len(output.shape), output.dtype.startswith('int')
            if rank == 3 and output.shape[2] == 4 and not whole:
                role = 'boxes'
            elif rank == 2 and whole:
                role = 'count' if output.shape[1] == 1 and 'count' not in found else 'classes'
            elif rank == 2:
                role = 'scores'
            else:
                return None
            found[role] = output.name
        if len(found) != 4:
            return None
        order = tuple(found[r] for r in ('count', 'boxes', 'scores', 'classes'))
        return {'num_classes': 0, 'nms': False, 'outputs': order}

    def decode(
        self, outputs: Sequence[NDArray[Any]], spec: ModelSpec, selection: Selection
    ) -> Candidates:
        count = int(outputs[0].reshape(-1)[0])
        boxes, scores, class_ids = (o[0, :count] for o in outputs[1:])
        found = Candidates(boxes, scores, class_ids.astype(np.int32))
        return found.take(scores >= selection.score_threshold)
