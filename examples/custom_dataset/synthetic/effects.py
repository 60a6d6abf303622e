# SPDX-License-Identifier: Apache-2.0
"""What lens, sensor and firmware make of the light."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from synthetic.bank import Bank
from synthetic.camera import HEIGHT, WIDTH

Rng = np.random.Generator
Picture = NDArray[np.float32]


@dataclass(frozen=True)
class Sensor:
    """The faults of one camera in one place.

    Attributes:
        level: brightness that the exposure aims at, 0..1.
        balance: (3,) factors of the channels.
        blur: sigma of the defocus, pixels.
        motion: (2,) pixels that the picture moves during the exposure, and radians that it turns.
        turn: see motion.
        vignette: loss of light in the corners, 0..1.
        bloom: share of the light that spreads.
        contrast: steepness of the tone curve, 1 is none.
        shot, read: noise, as standard deviations at full and at no light.
        smooth: noise is smeared as by a noise filter.
        sharpen: strength of the sharpening.
        grey: gives no colours.
        quality: of the JPEG.
    """

    level: float
    balance: tuple[float, float, float]
    blur: float
    motion: tuple[float, float]
    turn: float
    vignette: float
    bloom: float
    contrast: float
    shot: float
    read: float
    smooth: bool
    sharpen: float
    grey: bool
    quality: int


def random_sensor(rng: Rng) -> Sensor:
    """A camera, from good to poor."""
    moving = rng.random() < 0.35
    angle, length = rng.uniform(0, np.pi), float(rng.exponential(2.0)) if moving else 0.0
    length = min(length, 7.0)
    dark = rng.random() ** 3
    return Sensor(
        level=float(rng.uniform(0.28, 0.55)),
        balance=tuple(np.exp(rng.normal(0, 0.07, 3)).tolist()),
        blur=float(rng.choice([0.0, 0.45, 0.7, 1.0, 1.3], p=[0.35, 0.25, 0.2, 0.13, 0.07])),
        motion=(float(np.cos(angle) * length), float(0.5 * np.sin(angle) * length)),
        turn=float(rng.normal(0, 0.006)) if moving else 0.0,
        vignette=float(rng.uniform(0, 0.45)),
        bloom=float(rng.choice([0, rng.uniform(0.02, 0.15)])),
        contrast=float(rng.uniform(0.85, 1.5)),
        shot=float(0.004 + 0.03 * dark),
        read=float(0.002 + 0.01 * dark),
        smooth=bool(rng.random() < 0.5),
        sharpen=float(rng.choice([0, rng.uniform(0.2, 1.0)])),
        grey=bool(rng.random() < 0.03),
        quality=int(rng.integers(86, 94)),
    )


def steady(sensor: Sensor) -> Sensor:
    """The same camera on a smooth drive: a demo is watched."""
    return replace(sensor, motion=(0.0, 0.0), turn=0.0, blur=min(sensor.blur, 0.6), grey=False)


def exposure(light: Picture, level: float) -> float:
    """The factor that brings the picture to a brightness, as automatic exposure does."""
    sample = light[::6, ::6].mean(axis=2)
    return float(level**2 / max(1e-4, 0.6 * np.median(sample) + 0.4 * sample.mean()))


def develop(light: Picture, sensor: Sensor, gain: float, bank: Bank, rng: Rng) -> NDArray[np.uint8]:
    """Linear light, finer than the picture, to the (HEIGHT, WIDTH, 3) RGB uint8 that is stored.

    The middle of the exposure is the moment that was rendered, so boxes stay where they are.
    """
    picture = cv2.resize(light, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    picture = _move(picture, sensor)
    if sensor.blur:
        picture = cv2.GaussianBlur(picture, (0, 0), sensor.blur)
    if sensor.bloom:
        small = cv2.resize(
            np.minimum(picture * gain, 4.0), (WIDTH // 8, HEIGHT // 8), interpolation=cv2.INTER_AREA
        )
        spread = cv2.resize(cv2.GaussianBlur(small, (0, 0), 4), (WIDTH, HEIGHT))
        picture += np.float32(sensor.bloom / gain) * spread
    picture *= np.array(sensor.balance, np.float32) * np.float32(gain)
    if sensor.vignette:
        picture *= _vignette(sensor.vignette)
    if sensor.grey:
        picture[:] = picture.mean(axis=2, keepdims=True)
    np.maximum(picture, 0, out=picture)
    top, left = rng.integers(0, 480 - HEIGHT), rng.integers(0, 720 - WIDTH)
    field = bank.noise[int(sensor.smooth), top : top + HEIGHT, left : left + WIDTH]
    if rng.random() < 0.5:
        field = field[:, ::-1]
    if sensor.grey:
        field = field[..., :1]
    picture += field * cv2.sqrt(
        picture * np.float32(sensor.shot**2 * 4) + np.float32(sensor.read**2)
    )
    # Highlights are rolled off; the root is the display's gamma.
    picture = cv2.sqrt(
        np.maximum(picture, 0) * (1 / (1 + np.float32(0.25) * np.maximum(picture, 0)))
    )
    if sensor.contrast != 1:
        middle = np.float32(sensor.level)
        picture = middle + (picture - middle) * np.float32(sensor.contrast)
    if sensor.sharpen:
        soft = cv2.GaussianBlur(picture, (0, 0), 1.2)
        picture += np.float32(sensor.sharpen) * (picture - soft)
    return cv2.convertScaleAbs(np.maximum(picture, 0), alpha=255.0)


def _move(picture: Picture, sensor: Sensor) -> Picture:
    """Average over the way that the picture goes during the exposure."""
    (dx, dy), turn = sensor.motion, sensor.turn
    way = max(float(np.hypot(dx, dy)), abs(turn) * WIDTH / 2)
    steps = min(8, int(np.ceil(way)))
    if steps < 2:
        return picture
    total = np.zeros_like(picture)
    for t in np.linspace(-0.5, 0.5, steps):
        matrix = cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), float(np.degrees(turn * t)), 1.0)
        matrix[:, 2] += dx * t, dy * t
        total += cv2.warpAffine(
            picture,
            matrix,
            (WIDTH, HEIGHT),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
    return total / np.float32(steps)


def _vignette(strength: float) -> Picture:
    x = (np.arange(WIDTH, dtype=np.float32) - WIDTH / 2) / (WIDTH / 2)
    y = (np.arange(HEIGHT, dtype=np.float32) - HEIGHT / 2) / (WIDTH / 2)
    radius2 = (x**2)[None] + (y**2)[:, None]
    return (1 - np.float32(strength) * radius2 / np.float32(1.4))[..., None]
