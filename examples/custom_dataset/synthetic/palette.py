# SPDX-License-Identifier: Apache-2.0
"""Colours."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np

Rng = np.random.Generator
Color = tuple[float, float, float]


def hsv(hue: float, saturation: float, value: float) -> Color:
    """Hue 0..1 from red over green and blue; the result is linear."""
    r, g, b = colorsys.hsv_to_rgb(
        hue % 1, min(1.0, max(0.0, saturation)), min(1.0, max(0.0, value))
    )
    return r**2, g**2, b**2


def around(rng: Rng, color: Sequence[float], spread: float = 0.15) -> Color:
    """A colour like this one: lighter or darker, and a little off."""
    values = np.array(color) * np.exp(rng.normal(0, spread)) * np.exp(rng.normal(0, spread / 3, 3))
    r, g, b = np.clip(values, 0.01, 0.95)
    return float(r), float(g), float(b)


def grey(rng: Rng, low: float, high: float) -> Color:
    """A grey, a little warm or cold."""
    return around(rng, (rng.uniform(low, high),) * 3, 0.06)


def any_color(rng: Rng) -> Color:
    """Anything that things are painted or dyed in, dull ones more often."""
    return hsv(rng.random(), rng.random() ** 0.7, rng.uniform(0.15, 0.95))


def pick(rng: Rng, choices: Sequence[Color], spread: float = 0.15) -> Color:
    """One of some colours, varied."""
    return around(rng, choices[rng.integers(len(choices))], spread)
