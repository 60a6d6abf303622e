# SPDX-License-Identifier: Apache-2.0
"""Draw detections onto a picture."""

from __future__ import annotations

import colorsys
import zlib

import cv2
import numpy as np
from numpy.typing import NDArray

from trt_perception.core import Detections, ModelSpec

#: One of the starts that put the classes of the shipped model, and those of a road, far apart.
_HUES = 5996


def draw(image: NDArray[np.uint8], detections: Detections, spec: ModelSpec) -> None:
    """Draw boxes, names and scores in place.

    Args:
        image: (H, W, 3) uint8, BGR, of the size that the boxes are in.
    """
    names = [spec.class_name(c) for c in detections.class_ids.tolist()]
    draw_boxes(image, detections.boxes, detections.scores, names)


def draw_boxes(
    image: NDArray[np.uint8],
    boxes: NDArray[np.floating],
    scores: NDArray[np.floating],
    names: list[str],
) -> None:
    """As `draw`, with the names given: what a subscriber of ``Detection2DArray`` has.

    Args:
        boxes: (N, 4) x1, y1, x2, y2, pixels.
        scores: (N,) in 0..1.
    """
    # One size of pen for a thumbnail and for 4K would be unreadable on one of them.
    scale = max(image.shape[:2]) / 1280
    pen = max(1, round(2 * scale))
    font, size = cv2.FONT_HERSHEY_SIMPLEX, max(0.4, 0.55 * scale)
    # The best are drawn last, on top.
    for i in range(len(names) - 1, -1, -1):
        x1, y1, x2, y2 = (round(float(v)) for v in boxes[i])
        color = _color(names[i])
        cv2.rectangle(image, (x1, y1), (x2, y2), color, pen, cv2.LINE_AA)
        text = f'{names[i]} {scores[i]:.2f}'
        (width, height), below = cv2.getTextSize(text, font, size, max(1, pen // 2))
        # Above the box, or inside where there is no room above it; whole at the right edge too.
        top = y1 - height - below - pen
        top = top if top >= 0 else y1
        left = max(0, min(x1, image.shape[1] - width))
        cv2.rectangle(image, (left, top), (left + width, top + height + below), color, cv2.FILLED)
        ink = (
            (0, 0, 0)
            if 0.114 * color[0] + 0.587 * color[1] + 0.299 * color[2] > 140
            else (255,) * 3
        )
        at = (left, top + height)
        cv2.putText(image, text, at, font, size, ink, max(1, pen // 2), cv2.LINE_AA)


def _color(name: str) -> tuple[int, int, int]:
    """A colour of its own for each name, the same in every run."""
    hue = zlib.crc32(name.encode(errors='replace'), _HUES) % 360 / 360
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.75, 0.95)
    return round(255 * blue), round(255 * green), round(255 * red)
