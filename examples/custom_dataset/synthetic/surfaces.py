# SPDX-License-Identifier: Apache-2.0
"""What things are covered with; each (SIDE, SIDE, 3) float32 in 0..1."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from synthetic import noise
from synthetic.noise import fractal, grain, mix, per_item, step, tone
from synthetic.palette import Color, around, hsv

Rng = np.random.Generator
Texture = NDArray[np.float32]


def wood(rng: Rng, color: Color) -> Texture:
    """Grain along u, with knots; pale, to be tinted."""
    rings = fractal(rng, 2, 3, 0.5, (1, 8)) * 14
    knots = fractal(rng, 4, 3)
    lines = 0.5 + 0.5 * np.sin((rings + 3 * step(knots, 0.85, 0.3)) * 2 * np.pi)
    dirt = 1 - 0.45 * step(fractal(rng, 4, 6, 0.7), rng.uniform(0.55, 0.85), 0.3)
    return tone(color, 0.75 + 0.25 * lines, 0.85 + 0.25 * fractal(rng, 4, 5, 0.8, (1, 16)), dirt)


def paint(rng: Rng, color: Color) -> Texture:
    """Paint with scratches, dirt and rust; pale, to be tinted."""
    rust = around(rng, (0.28, 0.13, 0.06), 0.3)
    worn = step(fractal(rng, 4, 7, 0.72), rng.uniform(0.7, 1.05), 0.08)
    dirt = 1 - rng.uniform(0, 0.4) * fractal(rng, 4, 6, 0.65)
    return mix(tone(color, 0.95 + 0.1 * fractal(rng, 2, 4), dirt), rust, worn * 0.85)


def cloth(rng: Rng, color: Color) -> Texture:
    """Folds and a weave."""
    return tone(color, 0.65 + 0.45 * fractal(rng, 4, 4, 0.6, (2, 1)), 0.92 + 0.16 * grain(rng, 0.8))


def leaves(rng: Rng, color: Color) -> Texture:
    """Foliage."""
    index, _ = noise.cells(rng, rng.random((1500, 2), np.float32))
    green = hsv(rng.uniform(0.2, 0.36), rng.uniform(0.4, 0.7), rng.uniform(0.35, 0.65))
    return tone(green, per_item(rng, index, 0.3, 1.5), 0.4 + 0.6 * fractal(rng, 4, 4))
