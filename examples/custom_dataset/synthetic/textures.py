# SPDX-License-Identifier: Apache-2.0
"""Surfaces of floors, walls and things, drawn from noise; each (SIDE, SIDE, 3) float32 in 0..1.

Some floors and walls are reserved: what the test pictures stand on is in no training picture.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from synthetic import noise
from synthetic.atlas import SIDE
from synthetic.noise import fractal, grain, mix, per_item, step, tone
from synthetic.palette import Color, around, hsv

Rng = np.random.Generator
Texture = NDArray[np.float32]
Maker = Callable[[Rng, Color], Texture]


def _cracks(rng: Rng, count: int, width: int = 1) -> NDArray[np.float32]:
    """1, and lower on a few crooked lines."""
    field = np.ones((SIDE, SIDE), np.float32)
    for _ in range(count):
        turns = np.cumsum(rng.normal(0, 0.25, 60)) + rng.uniform(0, 2 * np.pi)
        path = np.cumsum(np.stack((np.cos(turns), np.sin(turns)), 1) * 6, axis=0) + rng.uniform(
            0, SIDE, 2
        )
        for dx in (-SIDE, 0, SIDE):
            for dy in (-SIDE, 0, SIDE):
                cv2.polylines(
                    field, [np.int32(path + np.array((dx, dy)))], False, 0.45, width, cv2.LINE_AA
                )
    return field


def concrete(rng: Rng, color: Color) -> Texture:
    """Cast concrete: clouds, stains, pores, now and then a crack."""
    cloud = 0.75 + 0.4 * fractal(rng, 4, 6, 0.6)
    pores = 1 - 0.5 * step(grain(rng, 1.2), 0.93)
    stains = 1 - rng.uniform(0.1, 0.45) * step(fractal(rng, 4, 5), rng.uniform(0.6, 0.8), 0.2)
    return tone(
        color, cloud, pores, stains, 0.9 + 0.2 * grain(rng), _cracks(rng, rng.integers(0, 4))
    )


def asphalt(rng: Rng, color: Color) -> Texture:
    """Dark, with pale chips."""
    chips = per_item(rng, noise.cells(rng, rng.random((12000, 2), np.float32))[0], 0.55, 1.45)
    patch = 0.8 + 0.4 * step(fractal(rng, 2, 5), 0.5, 0.4)
    return tone(
        around(rng, tuple(0.5 * c for c in color)),
        chips,
        patch,
        _cracks(rng, rng.integers(0, 5), 2),
    )


def _laid(
    rng: Rng, color: Color, index: NDArray[np.int32], rim: NDArray[np.float32], joint: float
) -> Texture:
    body = 0.85 + 0.3 * fractal(rng, 8, 5)
    stones = tone(
        color, per_item(rng, index, 1 - (spread := rng.uniform(0.05, 0.35)), 1 + spread), body
    )
    filling = around(rng, (0.3, 0.29, 0.27) if rng.random() < 0.6 else (0.65, 0.64, 0.62), 0.3)
    return mix(filling, stones, step(rim, joint, joint))


def tiles(rng: Rng, color: Color) -> Texture:
    """Square tiles, of one colour or chequered."""
    n = int(rng.integers(2, 7)) * 2
    index, rim = noise.courses(n, n, 0)
    picture = _laid(rng, color, index, rim, 0.03)
    if rng.random() < 0.4:
        odd = ((index // n + index % n) % 2).astype(np.float32)
        picture *= mix((1, 1, 1), around(rng, (0.35, 0.35, 0.35), 0.5), odd)
    return picture


def slabs(rng: Rng, color: Color) -> Texture:
    """Large concrete slabs."""
    index, rim = noise.courses(2, 2, float(rng.choice([0, 0.5])))
    return _laid(rng, color, index, rim, 0.012) * (0.7 + 0.3 * concrete(rng, (1, 1, 1)))


def gravel(rng: Rng, color: Color) -> Texture:
    """Stones of one size."""
    index, depth = noise.cells(rng, rng.random((rng.integers(500, 2500), 2), np.float32))
    return tone(color, per_item(rng, index, 0.5, 1.4), 0.3 + 0.7 * np.clip(depth, 0, 1))


def grass(rng: Rng, color: Color) -> Texture:
    """Blades and tufts, thin in places."""
    blades = fractal(rng, 32, 4, 0.8, (4, 1)) * 0.7 + 0.6 * fractal(rng, 8, 5)
    green = hsv(rng.uniform(0.18, 0.32), rng.uniform(0.4, 0.7), rng.uniform(0.45, 0.7))
    return (
        mix(color, green, step(fractal(rng, 4, 6, 0.7), rng.uniform(0.1, 0.4), 0.3))
        * (0.3 + blades)[..., None]
    )


def epoxy(rng: Rng, color: Color) -> Texture:
    """A painted floor with tyre marks and scratches."""
    picture = tone(color, 0.92 + 0.12 * fractal(rng, 2, 4), 0.97 + 0.06 * grain(rng))
    marks = np.ones((SIDE, SIDE), np.float32)
    for _ in range(rng.integers(2, 9)):
        center, radius = rng.uniform(-SIDE, 2 * SIDE, 2), rng.uniform(100, 700)
        cv2.circle(
            marks,
            tuple(np.int32(center)),
            int(radius),
            float(rng.uniform(0.6, 0.9)),
            int(rng.integers(1, 12)),
        )
    return picture * (1 - (1 - marks) * fractal(rng, 8, 4))[..., None]


def soil(rng: Rng, color: Color) -> Texture:
    """Bare earth with pebbles."""
    earth = around(rng, (0.30, 0.21, 0.13), 0.3)
    pebbles = step(grain(rng, 3.0), rng.uniform(0.8, 0.95), 0.08)
    return mix(tone(earth, 0.6 + 0.7 * fractal(rng, 4, 7, 0.7)), color, pebbles)


def sand(rng: Rng, color: Color) -> Texture:
    """Fine sand with ripples and tracks."""
    pale = around(rng, hsv(rng.uniform(0.09, 0.13), rng.uniform(0.2, 0.45), 0.8), 0.15)
    ripples = 0.85 + 0.3 * fractal(rng, 4, 4, 0.7, (1, 4))
    return tone(pale, ripples, 0.85 + 0.3 * grain(rng), 0.8 + 0.3 * fractal(rng, 4, 5))


def brick(rng: Rng, color: Color) -> Texture:
    """A brick bond."""
    index, rim = noise.courses(int(rng.integers(6, 13)) * 2, int(rng.integers(3, 6)))
    return _laid(rng, color, index, rim, 0.1)


def weave(rng: Rng, color: Color) -> Texture:
    """Paving blocks in a basket weave."""
    index, rim = noise.herringbone(int(rng.integers(2, 5)) * 2)
    return _laid(rng, color, index, rim, 0.05)


def crazy(rng: Rng, color: Color) -> Texture:
    """Flagstones of any shape."""
    index, depth = noise.cells(rng, rng.random((rng.integers(25, 70), 2), np.float32))
    return _laid(rng, color, index, depth, 0.12)


def terrazzo(rng: Rng, color: Color) -> Texture:
    """Chips of several stones in a pale ground."""
    index, depth = noise.cells(rng, rng.random((900, 2), np.float32))
    chips = np.stack([per_item(rng, index, 0.3, 1.1) for _ in range(3)], -1) * np.array(
        color, np.float32
    )
    return mix(around(rng, color, 0.1), chips, step(depth, rng.uniform(0.5, 0.9), 0.1))


def boards(rng: Rng, color: Color) -> Texture:
    """A floor or wall of wooden boards."""
    index, rim = noise.courses(int(rng.integers(4, 9)), 1)
    lines = fractal(rng, 2, 5, 0.7, (1, 32))
    wood = around(
        rng, hsv(rng.uniform(0.06, 0.11), rng.uniform(0.3, 0.7), rng.uniform(0.4, 0.8)), 0.2
    )
    return tone(
        wood, per_item(rng, index, 0.7, 1.2), 0.7 + 0.5 * lines, 0.3 + 0.7 * step(rim, 0.03, 0.03)
    )


def plaster(rng: Rng, color: Color) -> Texture:
    """A painted wall, dirty below or in another colour up to a line."""
    _, y = noise.grid()
    dirt = 1 - rng.uniform(0, 0.5) * np.clip(y * 2 - 1.2, 0, 1) * fractal(rng, 8, 5)
    return tone(color, 0.9 + 0.15 * fractal(rng, 4, 6), 0.97 + 0.06 * grain(rng), dirt)


def ribbed(rng: Rng, color: Color) -> Texture:
    """Trapezoidal sheet metal, upright ribs."""
    x, _ = noise.grid()
    n = int(rng.integers(6, 24))
    wave = np.abs((x * n) % 1 - 0.5) * 2
    ribs = 0.7 + 0.4 * step(wave, 0.5, 0.4) - 0.25 * step(np.abs(wave - 0.5), 0.2, 0.1) * 0.5
    runs = 1 - rng.uniform(0, 0.4) * fractal(rng, 8, 4, 0.6, (8, 1))
    return tone(color, ribs, runs, 0.95 + 0.1 * fractal(rng, 4, 4))


def panels(rng: Rng, color: Color) -> Texture:
    """Flat wall panels with dark seams and screws."""
    index, rim = noise.courses(int(rng.integers(1, 4)), int(rng.integers(2, 6)), 0)
    picture = tone(color, per_item(rng, index, 0.88, 1.08), 0.93 + 0.1 * fractal(rng, 4, 4))
    return picture * (0.4 + 0.6 * step(rim, 0.01, 0.01))[..., None]


def facade(rng: Rng, color: Color) -> Texture:
    """A wall with rows of windows."""
    picture = np.ascontiguousarray(tone(color, 0.85 + 0.25 * fractal(rng, 4, 5)))
    columns, rows = rng.integers(2, 6, 2)
    w, h = SIDE / columns, SIDE / rows
    inset, glass = rng.uniform(0.12, 0.3, 2), around(rng, (0.12, 0.16, 0.2), 0.4)
    for i in range(columns):
        for j in range(rows):
            a = (int((i + inset[0]) * w), int((j + inset[1]) * h))
            b = (int((i + 1 - inset[0]) * w), int((j + 1 - inset[1]) * h))
            cv2.rectangle(picture, a, b, around(rng, glass, 0.4), -1)
            cv2.rectangle(picture, a, b, around(rng, (0.6, 0.6, 0.6), 0.5), 3)
            cv2.line(
                picture, ((a[0] + b[0]) // 2, a[1]), ((a[0] + b[0]) // 2, b[1]), (0.5, 0.5, 0.5), 2
            )
    return picture


def blocks(rng: Rng, color: Color) -> Texture:
    """Grey building blocks."""
    index, rim = noise.courses(int(rng.integers(3, 6)) * 2, int(rng.integers(2, 5)))
    return _laid(rng, color, index, rim, 0.04) * (0.85 + 0.3 * grain(rng, 1.0))[..., None]


def studs(rng: Rng, color: Color) -> Texture:
    """Rubber with round studs."""
    x, y = noise.grid()
    n = int(rng.choice([16, 24, 32]))
    fx, fy = (x * n) % 1 - 0.5, (y * n) % 1 - 0.5
    away = np.sqrt(fx**2 + fy**2)
    relief = 1 - 0.4 * (np.abs(away - 0.3) < 0.06) + 0.15 * (away < 0.25)
    return tone(around(rng, color, 0.3), relief.astype(np.float32), 0.7 + 0.4 * fractal(rng, 4, 5))


def mosaic(rng: Rng, color: Color) -> Texture:
    """Small sets of natural stone, nearly in rows."""
    n = int(rng.choice([12, 16, 20]))
    lattice = np.stack(np.meshgrid(np.arange(n), np.arange(n)), -1).reshape(-1, 2)
    points = ((lattice + 0.5 + rng.uniform(-0.2, 0.2, lattice.shape)) / n).astype(np.float32)
    index, depth = noise.cells(rng, points)
    return _laid(rng, color, index, depth, 0.2)


def plywood(rng: Rng, color: Color) -> Texture:
    """Large sheets of wood with screws along their seams."""
    index, rim = noise.courses(1, 2, 0)
    lines = fractal(rng, 2, 5, 0.7, (1, 16))
    warm = around(
        rng, hsv(rng.uniform(0.07, 0.12), rng.uniform(0.2, 0.5), rng.uniform(0.6, 0.9)), 0.1
    )
    return tone(
        warm, per_item(rng, index, 0.85, 1.1), 0.8 + 0.3 * lines, 0.4 + 0.6 * step(rim, 0.01, 0.01)
    )


#: Floors, grounds outdoors and walls by split: no two splits share one.
FLOORS: dict[str, tuple[Maker, ...]] = {
    'train': (concrete, tiles, slabs, epoxy, asphalt),
    'calibration': (studs, mosaic),
    'test': (weave, terrazzo, boards),
}
GROUNDS: dict[str, tuple[Maker, ...]] = {
    'train': (concrete, asphalt, slabs, gravel, grass),
    'calibration': (soil, mosaic),
    'test': (weave, crazy, sand),
}
WALLS: dict[str, tuple[Maker, ...]] = {
    'train': (plaster, brick, ribbed),
    'calibration': (blocks, plywood),
    'test': (panels, boards, facade),
}
#: Hues that floors, grounds and walls are drawn in by split: arcs of the circle that do not meet.
HUES: dict[str, tuple[tuple[float, float], ...]] = {
    'train': ((0.02, 0.14), (0.30, 0.42), (0.55, 0.64), (0.80, 0.90)),
    'calibration': ((0.45, 0.51),),
    'test': ((0.18, 0.26), (0.68, 0.76), (0.93, 0.99)),
}


def background_color(rng: Rng, split: str) -> Color:
    """A colour of a floor or a wall, from the split's own hues, mostly dull."""
    low, high = HUES[split][rng.integers(len(HUES[split]))]
    return hsv(rng.uniform(low, high), 0.45 * rng.random() ** 2.5, rng.uniform(0.4, 0.9))
