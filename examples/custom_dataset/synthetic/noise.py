# SPDX-License-Identifier: Apache-2.0
"""Patterns that repeat without a seam; (SIDE, SIDE) float32 in 0..1 unless said otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from synthetic.atlas import SIDE

Field = NDArray[np.float32]
Rng = np.random.Generator


@lru_cache(maxsize=1)
def grid() -> tuple[Field, Field]:
    """Column and row of every texel, 0..1."""
    line = (np.arange(SIDE, dtype=np.float32) + 0.5) / SIDE
    return np.broadcast_to(line, (SIDE, SIDE)), np.broadcast_to(line[:, None], (SIDE, SIDE))


def smooth(values: Field, side: int = SIDE) -> Field:
    """A small grid (h, w), blown up to (side, side) with a smooth curve that wraps around.

    The grid's sides divide ``side``.
    """
    h, w = values.shape
    fy, fx = side // h, side // w
    padded = cv2.copyMakeBorder(values, 2, 2, 2, 2, cv2.BORDER_WRAP)
    large = cv2.resize(padded, ((w + 4) * fx, (h + 4) * fy), interpolation=cv2.INTER_CUBIC)
    return large[2 * fy : 2 * fy + side, 2 * fx : 2 * fx + side]


def fractal(
    rng: Rng,
    cells: int = 4,
    octaves: int = 5,
    rough: float = 0.55,
    stretch: tuple[int, int] = (1, 1),
) -> Field:
    """Clouds: octaves of random grids, the coarsest of ``cells`` a side, finer ones weaker.

    ``cells`` and ``stretch`` are powers of two.
    """
    # What is coarse is summed on a coarse field, which is blown up once.
    low = SIDE // 4
    coarse, fine = np.zeros((low, low), np.float32), np.zeros((SIDE, SIDE), np.float32)
    for octave in range(octaves):
        w, h = (min(SIDE, cells * s << octave) for s in stretch)
        grid_ = rng.random((h, w), np.float32) * np.float32(rough**octave)
        if max(w, h) <= low // 2:
            coarse += smooth(grid_, low)
        else:
            fine += smooth(grid_)
        if max(w, h) == SIDE:
            break
    fine += smooth(coarse)
    bottom, top = np.percentile(fine[::16, ::16], (2, 98))
    fine -= bottom
    fine *= 1 / (top - bottom + 1e-6)
    return np.clip(fine, 0, 1, out=fine)


def grain(rng: Rng, size: float = 1.0) -> Field:
    """Fine noise about 0.5, about ``size`` texels wide."""
    field = rng.standard_normal((SIDE, SIDE), np.float32)
    if size > 0.5:
        field = wrapped_blur(field, size)
        field /= field.std() + 1e-6
    return np.clip(0.5 + 0.2 * field, 0, 1)


def wrapped_blur(field: Field, sigma: float) -> Field:
    """Gaussian blur that goes over the seam."""
    pad = int(4 * sigma) + 2
    wide = cv2.copyMakeBorder(field, pad, pad, pad, pad, cv2.BORDER_WRAP)
    return np.ascontiguousarray(cv2.GaussianBlur(wide, (0, 0), sigma)[pad:-pad, pad:-pad])


def cells(rng: Rng, points: NDArray[np.float32]) -> tuple[NDArray[np.int32], Field]:
    """The nearest of some points (N, 2 in 0..1) for every texel, and 0 on borders to 1 well inside.

    Returns:
        Index of the point, and the depth within its cell.
    """
    pad = 128
    side = SIDE + 2 * pad
    seeds = np.full((side, side), 255, np.uint8)
    owner = np.zeros((side, side), np.int32)
    place = (points * SIDE).astype(int) % SIDE
    for dx in (-SIDE, 0, SIDE):
        for dy in (-SIDE, 0, SIDE):
            x, y = place[:, 0] + dx + pad, place[:, 1] + dy + pad
            inside = (x >= 0) & (y >= 0) & (x < side) & (y < side)
            seeds[y[inside], x[inside]] = 0
            owner[y[inside], x[inside]] = np.flatnonzero(inside)
    _, labels = cv2.distanceTransformWithLabels(
        seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    by_label = np.zeros(labels.max() + 1, np.int32)
    spot = seeds == 0
    by_label[labels[spot]] = owner[spot]
    nearest = by_label[labels]
    edge = (nearest != np.roll(nearest, 1, 0)) | (nearest != np.roll(nearest, 1, 1))
    depth = cv2.distanceTransform((~edge).astype(np.uint8), cv2.DIST_L2, 3)
    cut = slice(pad, -pad)
    inner = depth[cut, cut]
    return nearest[cut, cut], inner / (np.percentile(inner[::8, ::8], 95) + 1e-6)


def courses(rows: int, columns: int, offset: float = 0.5) -> tuple[NDArray[np.int32], Field]:
    """Bricks or tiles: number of each, and the distance to its rim in units of its height."""
    x, y = grid()
    row = np.floor(y * rows)
    across = x * columns + offset * (row % 2)
    column = np.floor(across) % columns
    fx, fy = across - np.floor(across), y * rows - row
    aspect = rows / columns
    rim = np.minimum(np.minimum(fx, 1 - fx) * aspect, np.minimum(fy, 1 - fy))
    return (row * columns + column).astype(np.int32), rim


def herringbone(n: int) -> tuple[NDArray[np.int32], Field]:
    """Blocks of 2 to 1 in a basket weave: number of each, and the distance to its rim."""
    x, y = grid()
    u, v = x * n * 2, y * n * 2
    cx, cy = np.floor(u / 2), np.floor(v / 2)
    flat = (cx + cy) % 2 == 0
    a, b = u - 2 * cx, v - 2 * cy
    long, short = np.where(flat, a, b), np.where(flat, b, a)
    half = np.floor(short)
    rim = np.minimum(np.minimum(long, 2 - long), np.minimum(short - half, half + 1 - short))
    return ((cy * n + cx) * 2 + half).astype(np.int32), rim


def per_item(rng: Rng, index: NDArray[np.int32], low: float = 0.0, high: float = 1.0) -> Field:
    """One random value for each number."""
    return rng.uniform(low, high, int(index.max()) + 1).astype(np.float32)[index]


def mix(a: object, b: object, weight: Field) -> NDArray[np.float32]:
    """From colour or field ``a`` to ``b`` as the weight goes from 0 to 1, (SIDE, SIDE, 3)."""
    first, second = (np.asarray(v, np.float32) for v in (a, b))
    first, second = (v[..., None] if v.ndim == 2 else v for v in (first, second))
    w = weight[..., None]
    return (first * (1 - w) + second * w) * np.ones(3, np.float32)


def step(field: Field, at: float, width: float = 0.05) -> Field:
    """0 below, 1 above, with a soft flank."""
    return np.clip((field - at) / width + 0.5, 0, 1)


def tone(color: Sequence[float], *fields: NDArray[np.float32]) -> NDArray[np.float32]:
    """A colour times some brightness fields about 1."""
    brightness = np.ones((SIDE, SIDE), np.float32)
    for field in fields:
        brightness = brightness * field
    return brightness[..., None] * np.array(color, np.float32)
