# SPDX-License-Identifier: Apache-2.0
"""Decoders: from a network's outputs to boxes. One file a family, one class a layout."""

from __future__ import annotations

import logging
from functools import lru_cache
from importlib.metadata import entry_points

from trt_perception.core.decoders.base import (
    DecodeError,
    Decoder,
    anchor_count,
    checked,
    corners,
    pick,
    pyramid,
    single_output,
)
from trt_perception.core.decoders.detr import Detr, DetrEndToEnd, DetrSoftmax, RtDetrUltralytics
from trt_perception.core.decoders.end_to_end import EfficientNms, EndToEnd
from trt_perception.core.decoders.yolo import YoloV5, YoloV8, YoloX, YoloXRaw

__all__ = [
    'DecodeError', 'Decoder', 'anchor_count', 'checked', 'corners', 'decoders', 'pick', 'pyramid',
    'single_output',
]  # fmt: skip

ENTRY_POINTS = 'trt_perception.decoders'

_BUILTIN: tuple[Decoder, ...] = (
    YoloV8(), YoloV5(), YoloX(), YoloXRaw(), EndToEnd(), EfficientNms(),
    Detr(), DetrSoftmax(), DetrEndToEnd(), RtDetrUltralytics(),
)  # fmt: skip


@lru_cache(maxsize=1)
def decoders() -> dict[str, Decoder]:
    """All decoders by layout: ours, then those that installed packages add.

    A package's decoder that cannot be loaded, or that takes the name of another, is logged and
    left out: it must not take the others with it.
    """
    found = {d.layout: d for d in _BUILTIN}
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            loaded = entry.load()
            decoder: Decoder = loaded() if isinstance(loaded, type) else loaded
            if decoder.layout in found:
                raise ValueError(f"there is a decoder of layout '{decoder.layout}' already")
            for part in ('recognise', 'decode'):
                getattr(decoder, part)  # what it lacks shows here and not with the first frame
        except Exception as error:
            logging.getLogger(__name__).warning(
                "decoder '%s' (%s) left out: %s: %s",
                entry.name, entry.value, type(error).__name__, error,
            )  # fmt: skip
            continue
        found[decoder.layout] = decoder
    return found
