# SPDX-License-Identifier: Apache-2.0
"""From a decoder's candidates to detections, the part that all layouts share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_perception.core import Candidates, Detections, Geometry, ModelSpec, Selection
from trt_perception.core.decoders import Decoder, checked
from trt_perception.core.nms import best_first, suppress


def detections_of(
    decoder: Decoder,
    outputs: Sequence[NDArray[Any]],
    spec: ModelSpec,
    geometry: Geometry,
    selection: Selection,
) -> Detections:
    """What a network's outputs, in the order of ``spec.outputs``, show.

    Raises:
        DecodeError: the decoder, one from outside, is wrong.
    """
    floats = [o.astype(np.float32) if o.dtype == np.float16 else o for o in outputs]
    # A network's garbage (inf, NaN) is dropped, not warned about on every frame.
    with np.errstate(all='ignore'):
        found = checked(decoder.decode(floats, spec, selection), spec.layout)
        return select(found, spec, geometry, selection)


def select(
    found: Candidates, spec: ModelSpec, geometry: Geometry, selection: Selection
) -> Detections:
    """Filter, suppress, and bring home to source pixels.

    Args:
        found: float32 boxes and scores, int32 classes; garbage (inf, NaN) is dropped.
    """
    found = usable(found, geometry, selection)
    limit = selection.max_detections
    if spec.nms:
        found = suppress(found, selection.iou_threshold, limit)
    else:
        found = best_first(found, limit)
    return Detections(
        geometry.to_source(found.boxes),
        np.clip(found.scores, 0, 1).astype(np.float32),
        found.class_ids,
    )


def usable(found: Candidates, geometry: Geometry, selection: Selection) -> Candidates:
    """The candidates that are finite, of a class that is wanted, and seen in the region."""
    # Rows that a network leaves unused carry a class of -1, or one made of NaN.
    sound = np.isfinite(found.boxes).all(axis=1) & np.isfinite(found.scores)
    sound &= found.class_ids >= 0
    if selection.class_ids is not None:
        sound &= np.isin(found.class_ids, list(selection.class_ids))
    found = found.take(sound)
    return found.take(geometry.shows(found.boxes))
