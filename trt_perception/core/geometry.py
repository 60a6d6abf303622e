# SPDX-License-Identifier: Apache-2.0
"""How a source image is laid into a network's input, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from trt_perception.core.detections import Float, Region
from trt_perception.core.errors import FrameError

ResizeMode = Literal['letterbox', 'letterbox_top_left', 'stretch']
RESIZE_MODES: tuple[str, ...] = get_args(ResizeMode)


@dataclass(frozen=True)
class Geometry:
    """The placement of one region of the source in the network's input.

    Attributes:
        region: the part of the source that is used, in source pixels.
        width, height: the size that the region is resized to, in network pixels.
        left, top: where it lies in the input; the rest is padding.
        source_width, source_height: of the whole source image.
    """

    region: Region
    width: int
    height: int
    left: int
    top: int
    source_width: int
    source_height: int

    def to_source(self, boxes: Float) -> Float:
        """Boxes from network to source pixels, clipped to the image.

        The scale is the one that the resize really applied on each axis (``width`` is rounded to
        whole pixels), so that there is no drift towards the right and bottom of odd sizes.

        Args:
            boxes: (N, 4) float32, x1, y1, x2, y2 in network pixels.

        Returns:
            (N, 4) float32, a new array in source pixels.
        """
        scale_x = self.region.width / self.width
        scale_y = self.region.height / self.height
        scale = np.array([scale_x, scale_y] * 2, np.float64)
        origin = np.array([self.left, self.top] * 2, np.float64)
        offset = np.array([self.region.x, self.region.y] * 2, np.float64)
        limit = np.array([self.source_width, self.source_height] * 2, np.float64)
        return np.clip((boxes - origin) * scale + offset, 0.0, limit).astype(np.float32)

    def shows(self, boxes: Float) -> NDArray[np.bool_]:
        """Which boxes have some area in the region; the padding alone shows no object.

        Args:
            boxes: (N, 4) float32, x1, y1, x2, y2 in network pixels.

        Returns:
            (N,) bool.
        """
        x1, y1, x2, y2 = self.to_source(boxes).T
        left, top, width, height = self.region
        wide = np.minimum(x2, left + width) > np.maximum(x1, left)
        high = np.minimum(y2, top + height) > np.maximum(y1, top)
        return wide & high


def place(
    source_width: int,
    source_height: int,
    network_width: int,
    network_height: int,
    resize: ResizeMode,
    region: Region = Region(),
) -> Geometry:
    """Geometry of a source image in a network's input.

    The letterbox is the one that Ultralytics trains with: scale by the tighter side, round to whole
    pixels, split the padding with the odd pixel to the right and bottom.

    Raises:
        FrameError: the region lies outside of the image.
    """
    x1, y1, x2, y2 = 0, 0, source_width, source_height
    if region.width and region.height:
        x1, y1 = max(region.x, 0), max(region.y, 0)
        x2 = min(region.x + region.width, source_width)
        y2 = min(region.y + region.height, source_height)
        if x1 >= x2 or y1 >= y2:
            raise FrameError(
                'region',
                f'region_of_interest {list(region)} lies outside of the'
                f' {source_width}x{source_height} image',
            )
    used = Region(x1, y1, x2 - x1, y2 - y1)
    if resize == 'stretch':
        return Geometry(used, network_width, network_height, 0, 0, source_width, source_height)
    ratio = min(network_width / used.width, network_height / used.height)
    width = max(1, min(network_width, round(used.width * ratio)))
    height = max(1, min(network_height, round(used.height * ratio)))
    left = top = 0
    if resize == 'letterbox':
        left = (network_width - width) // 2
        top = (network_height - height) // 2
    return Geometry(used, width, height, left, top, source_width, source_height)
