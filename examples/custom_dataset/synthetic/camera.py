# SPDX-License-Identifier: Apache-2.0
"""A camera over flat ground: a pinhole, and a lens that bends what it lets in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Image = TypeVar('Image', NDArray[np.float32], NDArray[np.uint16])
WIDTH, HEIGHT = 640, 400


@dataclass(frozen=True)
class Camera:
    """Where it is and how it looks.

    Attributes:
        position: x, y, z in metres.
        yaw: radians, clockwise from the y axis as seen from above.
        pitch: radians, positive looks down.
        roll: radians, positive turns the picture counter-clockwise.
        focal: pixels of a picture that is `WIDTH` wide.
        bend: barrel distortion of the lens; 0 is none, 0.3 is strong.
        finer: rendered pixels for one pixel of the picture, along each side.
    """

    position: tuple[float, float, float]
    yaw: float
    pitch: float
    roll: float
    focal: float
    bend: float = 0.0
    finer: float = 1.25

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of what is rendered."""
        return round(WIDTH * self.finer), round(HEIGHT * self.finer)

    @property
    def center(self) -> tuple[float, float]:
        """Where the optical axis meets the rendered picture; pixel centres have whole numbers."""
        width, height = self.size
        return (width - 1) / 2, (height - 1) / 2

    @property
    def scale(self) -> float:
        """Focal length in rendered pixels."""
        return self.focal * self.finer

    def axes(self) -> Array:
        """(3, 3): right, down and ahead of the camera, as rows, in the world."""
        sy, cy, sp, cp = np.sin(self.yaw), np.cos(self.yaw), np.sin(self.pitch), np.cos(self.pitch)
        ahead = np.array([sy * cp, cy * cp, -sp])
        right = np.array([cy, -sy, 0.0])
        down = np.cross(ahead, right)
        s, c = np.sin(self.roll), np.cos(self.roll)
        return np.stack((c * right + s * down, c * down - s * right, ahead))

    def see(self, points: ArrayLike) -> Array:
        """World (..., 3) to camera coordinates: right, down, ahead."""
        return (np.asarray(points, float) - self.position) @ self.axes().T

    def through_lens(self, image: Image) -> Image:
        """A rendered picture as the lens bends it; integers are moved whole."""
        if not self.bend:
            return image
        width, height = self.size
        (cx, cy), corner = self.center, np.hypot(*self.center)
        x = ((np.arange(width) - cx) / corner).astype(np.float32)[None]
        y = ((np.arange(height) - cy) / corner).astype(np.float32)[:, None]
        # The corners stay where they are.
        pull = (1 + np.float32(self.bend) * (x**2 + y**2)) * np.float32(corner / (1 + self.bend))
        way = cv2.INTER_LINEAR if image.dtype == np.float32 else cv2.INTER_NEAREST
        map_x, map_y = x * pull + np.float32(cx), y * pull + np.float32(cy)
        return cv2.remap(image, map_x, map_y, way, borderMode=cv2.BORDER_REPLICATE)

    def project(self, seen: Array) -> Array:
        """Camera coordinates (..., 3) to rendered pixels (..., 2)."""
        return seen[..., :2] / seen[..., 2:] * self.scale + self.center
