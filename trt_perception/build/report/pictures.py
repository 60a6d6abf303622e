# SPDX-License-Identifier: Apache-2.0
"""Pictures of a report, small enough to be part of its page."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from trt_perception.core import Detections, Frame, ModelSpec
from trt_perception.runtime.host.color import to_bgr
from trt_perception.runtime.host.overlay import draw

_WIDTH = 720
_LARGE = 1100  # fills a pane of a wide screen
_CELL = 128, 80  # width, height
_COLUMNS = 8
_SHEET = 64


def detected(frame: Frame, detections: Detections, spec: ModelSpec, score: float) -> bytes:
    """A frame with what was found in it from a score on, as JPEG."""
    image = to_bgr(frame)
    scale = min(1.0, _WIDTH / image.shape[1])
    image = _resized(image, scale)
    shown = detections.scores >= score
    boxes = (detections.boxes[shown] * scale).astype(np.float32)
    draw(image, Detections(boxes, detections.scores[shown], detections.class_ids[shown]), spec)
    return _jpeg(image)


def plain(frame: Frame) -> bytes:
    """A frame without anything drawn onto it, as JPEG."""
    image = to_bgr(frame)
    return _jpeg(_resized(image, min(1.0, _LARGE / image.shape[1])))


def contact_sheet(frames: Sequence[Frame]) -> tuple[int, bytes]:
    """Small pictures in rows: how many of the frames they are, evenly taken, and the JPEG."""
    number = min(len(frames), _SHEET)
    width, height = _CELL
    rows = -(-number // _COLUMNS)
    sheet = np.full((rows * height, min(number, _COLUMNS) * width, 3), 128, np.uint8)
    for place, index in enumerate(np.linspace(0, len(frames) - 1, number).astype(int).tolist()):
        image = to_bgr(frames[index])
        # Cut to the cell's shape: gaps would draw the eye.
        scale = max(width / image.shape[1], height / image.shape[0])
        image = _resized(image, scale, (width, height))
        top = (image.shape[0] - height) // 2
        left = (image.shape[1] - width) // 2
        row, column = divmod(place, _COLUMNS)
        sheet[row * height : (row + 1) * height, column * width : (column + 1) * width] = image[
            top : top + height, left : left + width
        ]
    return number, _jpeg(sheet)


def _resized(
    image: NDArray[np.uint8], scale: float, least: tuple[int, int] = (1, 1)
) -> NDArray[np.uint8]:
    width = max(round(image.shape[1] * scale), least[0])
    height = max(round(image.shape[0] * scale), least[1])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    data: bytes = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, 82])[1].tobytes()
    return data
