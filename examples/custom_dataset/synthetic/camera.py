# SPDX-License-Identifier: Apache-2.0
"""A pinhole camera over flat ground."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
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
        finer: rendered pixels for one pixel of the picture, along each side.
    """

    position: tuple[float, float, float]
    yaw: float
    pitch: float
    roll: float
    focal: float
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

    def project(self, seen: Array) -> Array:
        """Camera coordinates (..., 3) to rendered pixels (..., 2)."""
        return seen[..., :2] / seen[..., 2:] * self.scale + self.center
