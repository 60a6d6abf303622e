# SPDX-License-Identifier: Apache-2.0
"""Surfaces: quadrilaterals with normals, texture coordinates and a material, and solids of them.

Metres; x right, y ahead, z up. Corners go round counter-clockwise as seen from outside. A triangle
is a quadrilateral whose last two corners are the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


class Material(NamedTuple):
    """What a surface is of.

    Attributes:
        color: red, green, blue, linear, 0..1; multiplied with the texture.
        texture: slot of the atlas; 0 is plain white.
        size: metres that one texture tile covers; 0 stretches the texture over the face once.
        gloss: strength of the highlight, 0..1.
        glow: light that the surface gives by itself, in multiples of its colour.
    """

    color: tuple[float, float, float] = (0.8, 0.8, 0.8)
    texture: int = 0
    size: float = 1.0
    gloss: float = 0.0
    glow: float = 0.0

    def tinted(self, factor: float) -> Material:
        """Darker or lighter by a factor."""
        r, g, b = self.color
        return self._replace(color=(r * factor, g * factor, b * factor))


class Mesh(NamedTuple):
    """N quadrilaterals.

    Attributes:
        points, normals: (N, 4, 3).
        uv: (N, 4, 2), in texture tiles.
        color: (N, 3).
        surface: (N, 3) texture slot, gloss, glow.
    """

    points: Array
    normals: Array
    uv: Array
    color: Array
    surface: Array

    def scaled(self, factors: ArrayLike) -> Mesh:
        """Stretched along the axes; texture coordinates stay with the corners."""
        factors = np.asarray(factors, float)
        normals = self.normals / factors
        normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-9)
        return self._replace(points=self.points * factors, normals=normals)

    def turned(self, rotation: Array) -> Mesh:
        """By a (3, 3) rotation matrix."""
        return self._replace(points=self.points @ rotation.T, normals=self.normals @ rotation.T)

    def moved(self, offset: ArrayLike) -> Mesh:
        """By x, y, z."""
        return self._replace(points=self.points + np.asarray(offset, float))

    def shifted_texture(self, offset: ArrayLike) -> Mesh:
        """With another part of the texture on it."""
        return self._replace(uv=self.uv + np.asarray(offset, float))

    def faded(self, factors: Array) -> Mesh:
        """With colours multiplied, by face (N,) or by face and channel (N, 3)."""
        factors = np.asarray(factors, float)
        return self._replace(
            color=self.color * (factors[:, None] if factors.ndim == 1 else factors)
        )


def join(meshes: Iterable[Mesh]) -> Mesh:
    """All of them as one; at least one."""
    return Mesh(*(np.concatenate(parts) for parts in zip(*meshes, strict=True)))


def rotation(axis: str, angle: float) -> Array:
    """Matrix of a turn about x, y or z, radians."""
    c, s = np.cos(angle), np.sin(angle)
    i, j = {'x': (1, 2), 'y': (2, 0), 'z': (0, 1)}[axis]
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = c
    matrix[i, j], matrix[j, i] = -s, s
    return matrix


def upright_to(direction: ArrayLike) -> Array:
    """Matrix that turns the z axis into a direction."""
    z = np.asarray(direction, float)
    z = z / max(float(np.linalg.norm(z)), 1e-9)
    x = np.cross((0.0, 1.0, 0.0) if abs(z[1]) < 0.9 else (1.0, 0.0, 0.0), z)
    x /= np.linalg.norm(x)
    return np.stack((x, np.cross(z, x), z), axis=1)


def face_normals(corners: Array) -> Array:
    """(N, 3) of quadrilaterals (N, 4, 3), outward, twice their area long."""
    a, b = (corners[:, 2] - corners[:, 0]).T, (corners[:, 3] - corners[:, 1]).T
    return np.stack(
        (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]), axis=1
    )


def faces(points: ArrayLike, material: Material, uv: ArrayLike | None = None) -> Mesh:
    """Flat faces (N, 4, 3); texture coordinates run along the first and the last edge."""
    corners = np.asarray(points, float).reshape(-1, 4, 3)
    normal = face_normals(corners)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    if uv is not None:
        placed = np.asarray(uv, float).reshape(-1, 4, 2)
    elif material.size == 0:
        placed = np.broadcast_to(
            ((0.0, 1.0), (1.0, 1.0), (1.0, 0.0), (0.0, 0.0)), (*corners.shape[:2], 2)
        )
    else:
        along = np.linalg.norm(corners[:, 1] - corners[:, 0], axis=1) / material.size
        across = np.linalg.norm(corners[:, 3] - corners[:, 0], axis=1) / material.size
        zero = np.zeros_like(along)
        placed = np.stack(
            [
                np.stack(pair, 1)
                for pair in ((zero, across), (along, across), (along, zero), (zero, zero))
            ],
            1,
        )
    return _mesh(corners, np.repeat(normal[:, None], 4, axis=1), placed, material)


def _mesh(points: Array, normals: Array, uv: Array, material: Material) -> Mesh:
    n = points.shape[0]
    color = np.tile(np.array(material.color, float), (n, 1))
    surface = np.tile(np.array((material.texture, material.gloss, material.glow), float), (n, 1))
    return Mesh(points, normals, np.array(uv, float), color, surface)


_CUBE = np.array([
    [[-1, -1, -1], [1, -1, -1], [1, -1, 1], [-1, -1, 1]],
    [[1, 1, -1], [-1, 1, -1], [-1, 1, 1], [1, 1, 1]],
    [[-1, 1, -1], [-1, -1, -1], [-1, -1, 1], [-1, 1, 1]],
    [[1, -1, -1], [1, 1, -1], [1, 1, 1], [1, -1, 1]],
    [[-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]],
    [[-1, 1, -1], [1, 1, -1], [1, -1, -1], [-1, -1, -1]],
], float) / 2  # fmt: skip


def boxes(centers: ArrayLike, sizes: ArrayLike, material: Material) -> Mesh:
    """Cuboids along the axes: (N, 3) centres and (N, 3) sizes."""
    middle = np.asarray(centers, float).reshape(-1, 1, 1, 3)
    size = np.asarray(sizes, float).reshape(-1, 1, 1, 3)
    return faces(middle + _CUBE * size, material)


def box(size: Sequence[float], material: Material, base: Sequence[float] = (0, 0, 0)) -> Mesh:
    """A cuboid that stands on ``base``, the middle of its lower face."""
    return boxes((base[0], base[1], base[2] + size[2] / 2), size, material)


def beam(start: ArrayLike, end: ArrayLike, width: float, depth: float, material: Material) -> Mesh:
    """A straight bar of rectangular section between two points."""
    a, b = np.asarray(start, float), np.asarray(end, float)
    bar = box((width, depth, float(np.linalg.norm(b - a))), material)
    return bar.turned(upright_to(b - a)).moved(a)


def revolve(
    profile: Sequence[tuple[float, float]],
    material: Material | Sequence[Material],
    segments: int = 12,
    smooth_along: bool = False,
) -> Mesh:
    """The surface that a profile sweeps about the z axis.

    Args:
        profile: (radius, z) from bottom to top; radius 0 closes an end.
        material: one, or one for each piece of the profile.
        segments: around.
        smooth_along: shade over the kinks of the profile too (spheres, limbs).
    """
    line = np.asarray(profile, float)
    pieces = len(line) - 1
    each = [material] * pieces if isinstance(material, Material) else list(material)
    angle = np.linspace(0, 2 * np.pi, segments + 1)
    ring = np.stack((np.cos(angle), np.sin(angle)), axis=1)
    step = np.diff(line, axis=0)
    length = np.sqrt((step**2).sum(axis=1))
    slope = np.stack((step[:, 1], -step[:, 0]), axis=1) / np.maximum(length, 1e-9)[:, None]
    ends = np.stack((slope, slope), axis=1)
    if smooth_along:
        ends[:-1, 1] = ends[1:, 0] = slope[:-1] + slope[1:]
        ends /= np.maximum(np.sqrt((ends**2).sum(axis=-1, keepdims=True)), 1e-9)
    climbed = np.concatenate(([0.0], np.cumsum(length)))
    size = np.array([m.size for m in each])
    times = np.where(size > 0, np.ceil(2 * np.pi * line[:, 0].max() / np.maximum(size, 1e-9)), 1.0)
    # Corners go up around the piece: low, low, high, high.
    points, normals = np.empty((2, pieces, segments, 4, 3))
    uv = np.empty((pieces, segments, 4, 2))
    for corner, (high, turned) in enumerate(((0, 0), (0, 1), (1, 1), (1, 0))):
        turn = ring[turned : turned + segments]
        radius, z = line[high : high + pieces, 0], line[high : high + pieces, 1]
        points[:, :, corner, :2] = radius[:, None, None] * turn
        points[:, :, corner, 2] = z[:, None]
        normals[:, :, corner, :2] = ends[:, high, 0][:, None, None] * turn
        normals[:, :, corner, 2] = ends[:, high, 1][:, None]
        uv[:, :, corner, 0] = times[:, None] * (angle[turned : turned + segments] / (2 * np.pi))
        up = climbed[high : high + pieces]
        uv[:, :, corner, 1] = np.where(
            size > 0, -up / np.maximum(size, 1e-9), 1 - up / max(climbed[-1], 1e-9)
        )[:, None]
    pointed = line[:-1, 0] == 0
    for values in (points, normals, uv):  # an edge without length comes last
        values[pointed] = values[pointed][:, :, (2, 3, 0, 1)]
    color = np.repeat([m.color for m in each], segments, axis=0)
    surface = np.repeat([(m.texture, m.gloss, m.glow) for m in each], segments, axis=0)
    return Mesh(
        points.reshape(-1, 4, 3),
        normals.reshape(-1, 4, 3),
        uv.reshape(-1, 4, 2),
        color,
        surface.astype(float),
    )


def cylinder(
    radius: float,
    height: float,
    material: Material,
    segments: int = 12,
    top: Material | None = None,
) -> Mesh:
    """Standing on the origin, closed."""
    return revolve(
        [(0, 0), (radius, 0), (radius, height), (0, height)],
        [material, material, top or material],
        segments,
    )


def ball(radius: float, material: Material, segments: int = 10) -> Mesh:
    """A sphere about the origin."""
    rings = np.linspace(-np.pi / 2, np.pi / 2, max(4, segments // 2) + 1)
    profile = [(radius * max(0.0, float(np.cos(a))), radius * float(np.sin(a))) for a in rings]
    profile[0], profile[-1] = (0.0, -radius), (0.0, radius)
    return revolve(profile, material, segments, smooth_along=True)


def limb(
    start: ArrayLike, end: ArrayLike, r0: float, r1: float, material: Material, segments: int = 8
) -> Mesh:
    """A round, tapering bar between two points, with rounded ends."""
    a, b = np.asarray(start, float), np.asarray(end, float)
    length = float(np.linalg.norm(b - a))
    profile = [
        (0.0, -0.5 * r0), (0.8 * r0, -0.25 * r0), (r0, 0.05 * length), (r1, 0.95 * length),
        (0.8 * r1, length + 0.25 * r1), (0.0, length + 0.5 * r1),
    ]  # fmt: skip
    solid = revolve(profile, material, segments, smooth_along=True)
    return solid.turned(upright_to(b - a)).moved(a)


def extrude(outline: ArrayLike, width: float, material: Material) -> Mesh:
    """A convex outline in y and z (M, 2), counter-clockwise seen from +x, ``width`` wide in x."""
    shape = np.asarray(outline, float)
    m = len(shape)
    right = np.hstack((np.full((m, 1), width / 2), shape))
    left = right * (-1, 1, 1)
    following = np.roll(np.arange(m), -1)
    sides = np.stack((right, left, left[following], right[following]), axis=1)
    fan = [(0, i, i + 1, min(i + 2, m - 1)) for i in range(1, m - 1, 2)]
    caps = [right[list(f)] for f in fan] + [left[list(f)[::-1]] for f in fan]
    return faces(np.concatenate((sides, np.array(caps))), material)
