# SPDX-License-Identifier: Apache-2.0
"""Light of all hours: lamps and windows indoors, sun, clouds and leaves outdoors."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from synthetic import noise
from synthetic.palette import around, grey, pick
from synthetic.shade import MAP, Light

Rng = np.random.Generator


def indoors(rng: Rng) -> Light:
    """Lamps, at times the sun through windows or between beams."""
    warm = around(
        rng,
        pick(rng, ((1.0, 0.93, 0.8), (1.0, 1.0, 1.0), (0.88, 0.95, 1.0), (1.0, 0.8, 0.55))),
        0.1,
    )
    strength = rng.uniform(0.1, 0.9)
    ambient = np.array(warm) * rng.uniform(0.45, 0.8)
    windows = rng.random() < 0.35
    low, high = (0.35, 0.8) if windows else (0.9, 1.45)
    height, around_ = rng.uniform(low, high), rng.uniform(0, 2 * np.pi)
    toward = np.array(
        (np.cos(around_) * np.cos(height), np.sin(around_) * np.cos(height), np.sin(height))
    )
    cookie = None
    if windows or rng.random() < 0.25:
        cookie = _panes(rng)
        strength = rng.uniform(0.6, 2.2)
    return Light(
        toward=toward,
        sun=np.array(around(rng, (0.9, 0.86, 0.75), 0.1)) * strength,
        sky=ambient,
        bounce=ambient * rng.uniform(0.3, 0.7),
        cookie=cookie,
        haze=ambient * 0.6,
        sight=float(rng.choice([300.0, rng.uniform(50, 150)])),
    )


def outdoors(rng: Rng) -> Light:
    """Clear or overcast, at times under trees or in haze."""
    height, around_ = rng.uniform(0.25, 1.4), rng.uniform(0, 2 * np.pi)
    toward = np.array(
        (np.cos(around_) * np.cos(height), np.sin(around_) * np.cos(height), np.sin(height))
    )
    overcast = rng.random() < 0.35
    low = np.clip((0.6 - height) / 0.5, 0, 1)
    sun = np.array((1.0, 0.95 - 0.25 * low, 0.88 - 0.5 * low)) * (
        rng.uniform(0.0, 0.3) if overcast else rng.uniform(0.8, 1.8)
    )
    sky = np.array(around(rng, (0.5, 0.56, 0.65) if not overcast else (0.6, 0.6, 0.62), 0.15))
    dapple = None
    if rng.random() < 0.2 and not overcast:
        leaf = noise.fractal(rng, 8, 4, 0.6)
        dapple = np.tile(noise.step(leaf, rng.uniform(0.35, 0.6), 0.1), (2, 2))[:MAP, :MAP].astype(
            np.float32
        )
    return Light(
        toward=toward,
        sun=sun,
        sky=sky,
        bounce=sky * rng.uniform(0.3, 0.6),
        cookie=dapple,
        haze=np.array(grey(rng, 0.5, 0.8)) * 0.9,
        sight=float(rng.choice([rng.uniform(150, 500), rng.uniform(45, 100)], p=[0.8, 0.2])),
    )


def _panes(rng: Rng) -> NDArray[np.float32]:
    """Light that falls through windows or between beams."""
    line = np.arange(MAP)
    px, py = rng.integers(40, 160, 2)
    wx, wy = px * rng.uniform(0.3, 0.9), py * rng.uniform(0.3, 0.95)
    lit = ((line % px) < wx)[None] & ((line % py) < wy)[:, None]
    soft = cv2.GaussianBlur(lit.astype(np.float32), (0, 0), float(rng.uniform(0.7, 4)))
    return soft * rng.uniform(0.6, 1.0) + np.float32(rng.uniform(0, 0.2))
