# SPDX-License-Identifier: Apache-2.0
"""From a frame to a network's input, with OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from trt_perception.core import Frame, FrameError, Geometry, ModelSpec, Region, place
from trt_perception.runtime.host.color import to_pixels
from trt_perception.runtime.levels import level_tables


class HostPreprocessor:
    """Resize, pad, order and scale, into one buffer that is used again for every frame."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._tensor = np.zeros((1, 3, spec.height, spec.width), spec.dtype)
        # OpenCV has no tables of half floats, but it looks up any 16 or 32 bits.
        bits = np.int16 if spec.dtype == 'float16' else np.int32
        self._tensor_bits = self._tensor.view(bits)
        self._tables = level_tables(spec).view(bits)
        self._plane = np.zeros((spec.height, spec.width), np.uint8)
        self._canvas = np.zeros((0, 0), np.uint8)
        self._geometry: Geometry | None = None

    def __call__(
        self, frame: Frame, region: Region = Region()
    ) -> tuple[NDArray[np.floating], Geometry]:
        """Prepare one frame.

        Returns:
            (1, 3, height, width) in the spec's dtype, valid until the next call, and how the
            frame lies in it.

        Raises:
            FrameError: the image cannot be decoded or resized, or the region lies outside of it.
        """
        spec = self._spec
        image, red, green, blue = to_pixels(frame)
        geometry = place(
            image.shape[1], image.shape[0], spec.width, spec.height, spec.resize, region
        )
        canvas = self._laid_out(image, geometry)
        order = (red, green, blue) if spec.color == 'rgb' else (blue, green, red)
        for k, channel in enumerate(order):
            plane = canvas
            if canvas.ndim == 3:
                plane = cv2.extractChannel(canvas, channel, self._plane)
            cv2.LUT(plane, self._tables[k], self._tensor_bits[0, k])
        return self._tensor, geometry

    def _laid_out(self, image: NDArray[np.uint8], geometry: Geometry) -> NDArray[np.uint8]:
        """The region of the image, resized, where it belongs in the input."""
        shape = (self._spec.height, self._spec.width, *image.shape[2:])
        if geometry != self._geometry or self._canvas.shape != shape:
            self._canvas = np.full(shape, self._spec.pad_value, np.uint8)
            self._geometry = geometry
        x, y, width, height = geometry.region
        rows = slice(geometry.top, geometry.top + geometry.height)
        columns = slice(geometry.left, geometry.left + geometry.width)
        try:
            cv2.resize(
                image[y : y + height, x : x + width],
                (geometry.width, geometry.height),
                dst=self._canvas[rows, columns],
                interpolation=cv2.INTER_LINEAR,
            )
        except cv2.error as error:  # OpenCV 4.5.4 does not take a colour image of one pixel
            raise FrameError(
                'resize', f'{width}x{height} pixels cannot be resized: {error.err}'
            ) from None
        return self._canvas
