# SPDX-License-Identifier: Apache-2.0
"""A thing of several parts, some of which bear a label."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from synthetic.mesh import Mesh, rotation


class Thing(NamedTuple):
    """Parts about the origin, on the ground, with the front towards +y.

    Attributes:
        parts: meshes with their class, None for what is not labelled.
        radius: of the ground that it needs, metres.
    """

    parts: tuple[tuple[str | None, Mesh], ...]
    radius: float

    def placed(self, x: float, y: float, heading: float, height: float = 0.0) -> Thing:
        """Turned about z and moved."""
        turn = rotation('z', heading)
        return Thing(
            tuple((name, mesh.turned(turn).moved((x, y, height))) for name, mesh in self.parts),
            self.radius,
        )


def of(category: str | None, mesh: Mesh) -> Thing:
    """A thing of one part; the radius is taken from the mesh."""
    return Thing(((category, mesh),), radius(mesh))


def radius(mesh: Mesh) -> float:
    """Distance of the farthest point from the z axis."""
    return float(np.hypot(mesh.points[..., 0], mesh.points[..., 1]).max())


def on_ground(mesh: Mesh, offset: ArrayLike = (0, 0)) -> Mesh:
    """Moved so that its lowest point is at 0 and its middle over the origin."""
    points = mesh.points.reshape(-1, 3)
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    x, y = np.asarray(offset, float)
    return mesh.moved((x - middle[0], y - middle[1], -points[:, 2].min()))
