# SPDX-License-Identifier: Apache-2.0
"""Which face is seen in which pixel: a z-buffer over convex polygons.

Every quantity that is linear over a flat face, divided by the distance ahead, is linear over the
picture; so is the inverse distance itself. A face is therefore drawn as a polygon and one plane
``a x + b y + c``, and the greater value is the nearer one. The shadow map uses the same with
parallel rays.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from synthetic.camera import Camera
from synthetic.mesh import Mesh, face_normals

Array = NDArray[np.float64]
NEAR = 0.06
_SHIFT = 4  # bits of a pixel's fraction that OpenCV is given


class Polygons(NamedTuple):
    """N convex polygons in the picture.

    Attributes:
        face: (N,) index into the mesh.
        corners: (N, M, 2), pixels; where there are fewer, the last is repeated.
        bounds: (N, 4) int, x0, y0, x1, y1 within the picture, the last ones excluded.
        planes: (N, 3) float32 of the nearness.
    """

    face: NDArray[np.int64]
    corners: Array
    bounds: NDArray[np.int64]
    planes: NDArray[np.float32]


class Buffer:
    """Nearness and face of every pixel; face -1 where there is none."""

    def __init__(self, width: int, height: int) -> None:
        self.near = np.zeros((height, width), np.float32)
        self.face = np.full((height, width), -1, np.int32)
        self._x = np.arange(width, dtype=np.float32)
        self._y = np.arange(height, dtype=np.float32)

    def draw(self, polygons: Polygons, only: tuple[int, int, int, int] | None = None) -> None:
        """Draw polygons, in ``only`` (x0, y0, x1, y1) if given."""
        bounds = polygons.bounds
        if only is not None:
            bounds = np.hstack(
                (np.maximum(bounds[:, :2], only[:2]), np.minimum(bounds[:, 2:], only[2:]))
            )
        inside = (bounds[:, 0] < bounds[:, 2]) & (bounds[:, 1] < bounds[:, 3])
        bounds, planes = bounds[inside], polygons.planes[inside]
        outlines = (polygons.corners[inside] - bounds[:, None, :2]) * (1 << _SHIFT)
        fixed = np.rint(outlines).astype(np.int32)
        for k, (face, (x0, y0, x1, y1)) in enumerate(
            zip(polygons.face[inside].tolist(), bounds.tolist(), strict=True)
        ):
            a, b, c = planes[k]
            mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
            cv2.fillConvexPoly(mask, fixed[k], 1, cv2.LINE_8, _SHIFT)
            near = (a * self._x[x0:x1])[None, :] + (b * self._y[y0:y1] + c)[:, None]
            before = self.near[y0:y1, x0:x1]
            wins = mask.view(np.bool_)
            wins &= near > before
            np.copyto(before, near, where=wins)
            np.copyto(self.face[y0:y1, x0:x1], face, where=wins)


def planes_of(points: Array, values: Array) -> Array:
    """Linear forms over space that take given values at three corners of each face.

    Args:
        points: (N, 3, 3) corners.
        values: (N, 3, K) what each form takes there.

    Returns:
        (N, 3, K); a point p has the values ``p @ form``.
    """
    return np.linalg.solve(points, values)


def in_camera(mesh: Mesh, camera: Camera) -> tuple[Polygons, Array]:
    """What of a mesh can be in the picture.

    Returns:
        The polygons, and (F, 3, 3) for the faces of the mesh: forms over the picture's
        (x, y, 1) of 1 / distance, u / distance and v / distance; zero for those not seen.
    """
    seen = camera.see(mesh.points)
    normal = face_normals(seen)
    z = seen[..., 2]
    toward = np.einsum('nk,nk->n', normal, seen[:, 0])
    size = np.abs(normal).max(axis=1) * np.abs(seen[:, 0]).max(axis=1)
    wanted = np.flatnonzero((toward < -1e-6 * size) & (z.max(axis=1) > NEAR))
    forms = np.zeros((len(seen), 3, 3))
    values = np.concatenate((np.ones((len(wanted), 3, 1)), mesh.uv[wanted, :3]), axis=2)
    rays = planes_of(seen[wanted, :3], values)
    (cx, cy), scale = camera.center, camera.scale
    rays[:, :2] /= scale
    rays[:, 2] -= rays[:, 0] * cx + rays[:, 1] * cy
    forms[wanted] = rays
    guard = 4 * max(camera.size) / scale
    tame = (z[wanted].min(axis=1) > NEAR) & (
        np.abs(seen[wanted, :, :2]).max(axis=(1, 2)) < guard * z[wanted].min(axis=1)
    )
    corners = camera.project(seen[wanted[tame]])
    clipped = {k: cut for k in wanted[~tame].tolist() if len(cut := _clip(seen[k], guard)) >= 3}
    if clipped:
        most = max(map(len, clipped.values()))
        rest = np.stack([np.pad(c, ((0, most - len(c)), (0, 0)), 'edge') for c in clipped.values()])
        tail = np.repeat(corners[:, 3:], max(0, most - 4), axis=1)
        if most < 4:
            rest = np.pad(rest, ((0, 0), (0, 1), (0, 0)), 'edge')
        corners = np.concatenate((np.concatenate((corners, tail), axis=1), camera.project(rest)))
    index = np.concatenate((wanted[tame], np.array(list(clipped), np.int64)))
    return _polygons(index, corners, forms[index, :, 0], camera.size), forms


def in_light(mesh: Mesh, toward: Array, view: Array, size: int) -> Polygons:
    """What of a mesh casts shadows.

    Args:
        toward: (3,) direction to the light.
        view: (3, 4) from world (x, y, z, 1) to column, row and nearness of the shadow map.
        size: of its sides.
    """
    normal = face_normals(mesh.points)
    facing = normal @ toward
    wanted = facing > 1e-3 * np.abs(normal).max(axis=1) + 1e-12
    placed = mesh.points[wanted] @ view[:, :3].T + view[:, 3]
    flat = placed[:, :3].copy()
    flat[..., 2] = 1
    planes = planes_of(flat, placed[:, :3, 2:])[..., 0]
    return _polygons(np.flatnonzero(wanted), placed[..., :2], planes, (size, size))


def _polygons(
    face: NDArray[np.int64], corners: Array, planes: Array, size: tuple[int, int]
) -> Polygons:
    low, high = corners.min(axis=1), corners.max(axis=1)
    limit = np.array(size)
    start = np.clip(np.floor(low), 0, limit).astype(np.int64)
    stop = np.clip(np.ceil(high) + 1, 0, limit).astype(np.int64)
    return Polygons(face, corners, np.hstack((start, stop)), planes.astype(np.float32))


def _clip(polygon: Array, guard: float) -> Array:
    """The part in front of the camera and not too far to the sides (Sutherland and Hodgman)."""
    for normal, offset in (
        ((0, 0, 1), NEAR),
        ((1, 0, guard), 0),
        ((-1, 0, guard), 0),
        ((0, 1, guard), 0),
        ((0, -1, guard), 0),
    ):
        side = polygon @ np.array(normal, float) - offset
        kept = []
        for i in range(len(polygon)):
            j = (i + 1) % len(polygon)
            if side[i] >= 0:
                kept.append(polygon[i])
            if (side[i] >= 0) != (side[j] >= 0):
                kept.append(polygon[i] + (polygon[j] - polygon[i]) * side[i] / (side[i] - side[j]))
        if len(kept) < 3:
            return np.zeros((0, 3))
        polygon = np.array(kept)
    return polygon
