# SPDX-License-Identifier: Apache-2.0
"""Printed: fiducial markers, and what could be taken for them; each (SIDE, SIDE, 3) uint8."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from synthetic import noise
from synthetic.atlas import SIDE
from synthetic.palette import any_color, around, hsv

Rng = np.random.Generator
Print = NDArray[np.uint8]


def marker(rng: Rng, side: int) -> NDArray[np.uint8]:
    """One square marker: random bits in a black border, (side, side)."""
    n = int(rng.integers(4, 7))
    bits = np.zeros((n + 2, n + 2), np.uint8)
    bits[1:-1, 1:-1] = rng.integers(0, 2, (n, n))
    if rng.random() < 0.25:  # a border inside out, as some families have
        bits = 1 - bits
    return cv2.resize(bits * 255, (side, side), interpolation=cv2.INTER_NEAREST)


def marker_board(rng: Rng) -> Print:
    """A white sheet with one marker or a grid of them."""
    white, black = rng.integers(215, 256), rng.integers(5, 50)
    sheet = np.full((SIDE, SIDE), 255, np.uint8)
    n = int(rng.choice([1, 1, 1, 2, 2, 3, 4, 5]))
    margin = int(SIDE * rng.uniform(0.04, 0.12))
    pitch = (SIDE - 2 * margin) / n
    gap = pitch * (rng.uniform(0.1, 0.3) if n > 1 else 0.0)
    for i in range(n):
        for j in range(n):
            x, y = (int(margin + k * pitch + gap / 2) for k in (i, j))
            side = int(pitch - gap)
            sheet[y : y + side, x : x + side] = marker(rng, side)
    tone = cv2.convertScaleAbs(sheet, alpha=(white - black) / 255, beta=float(black))
    return np.repeat(tone[..., None], 3, axis=2)


def chessboard(rng: Rng) -> Print:
    """A chequered sheet without bits."""
    n = int(rng.integers(3, 10))
    fields = np.indices((n, n)).sum(axis=0) % 2 * 255
    sheet = cv2.resize(fields.astype(np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
    picture = np.repeat(sheet[..., None], 3, axis=2).astype(np.float32)
    if rng.random() < 0.4:
        picture = picture / 255 * (np.array(any_color(rng)) * 200) + 40
    return np.clip(picture, 10, 240).astype(np.uint8)


def sign(rng: Rng) -> Print:
    """A sign, a notice or a poster: a frame, a symbol, lines of writing."""
    paper = np.array(any_color(rng) if rng.random() < 0.5 else (0.85, 0.85, 0.82)) * 255
    ink = tuple(
        float(v) * 255 for v in (any_color(rng) if rng.random() < 0.5 else (0.03, 0.03, 0.04))
    )
    sheet = np.full((SIDE, SIDE, 3), paper, np.float32)
    if rng.random() < 0.5:
        cv2.rectangle(sheet, (12, 12), (SIDE - 13, SIDE - 13), ink, int(rng.integers(4, 30)))
    top = 60
    if rng.random() < 0.7:
        center, radius = (int(rng.uniform(150, 360)), 170), int(rng.uniform(60, 130))
        corners = int(rng.choice([3, 4, 6, 8, 40]))
        angle = np.arange(corners) / corners * 2 * np.pi + rng.uniform(0, np.pi)
        shape = np.stack((np.cos(angle), np.sin(angle)), 1) * radius + center
        cv2.fillPoly(sheet, [np.int32(shape)], tuple(v * 255 for v in any_color(rng)))
        cv2.polylines(sheet, [np.int32(shape)], True, ink, int(rng.integers(3, 20)))
        top = 330
    height = int(rng.integers(14, 50))
    for y in range(top, SIDE - 60, height * 2):
        x = 60
        while x < SIDE - 80:
            word = int(rng.integers(20, 110))
            cv2.rectangle(sheet, (x, y), (min(x + word, SIDE - 50), y + height), ink, -1)
            x += word + 16
    return np.clip(sheet, 0, 255).astype(np.uint8)


def label(rng: Rng) -> Print:
    """A shipping label with a bar code or a square code on brown board."""
    sheet = np.full(
        (SIDE, SIDE, 3), np.array(around(rng, (0.42, 0.30, 0.19), 0.2)) * 255, np.float32
    )
    sheet *= (0.85 + 0.25 * noise.fractal(rng, 4, 5))[..., None]
    tape = int(rng.uniform(150, 350))
    sheet[tape : tape + int(rng.integers(20, 70))] *= around(rng, (1.2, 1.15, 1.0), 0.1)
    x, y = rng.integers(40, 230, 2)
    w, h = rng.integers(110, 230, 2)
    sheet[y : y + h, x : x + w] = rng.uniform(190, 235)
    if rng.random() < 0.5:
        bars = np.repeat(rng.integers(0, 2, 40), 8)[: w - 20]
        sheet[y + h // 3 : y + h - 15, x + 10 : x + 10 + len(bars)][:, bars == 0] = 30
    else:
        side = min(w, h) - 30
        code = rng.integers(0, 2, (21, 21)).astype(np.uint8)
        for a, b in ((0, 0), (0, 14), (14, 0)):
            code[a : a + 7, b : b + 7] = 0
            code[a + 1 : a + 6, b + 1 : b + 6] = 1
            code[a + 2 : a + 5, b + 2 : b + 5] = 0
        square = cv2.resize(code * 200 + 25, (side, side), interpolation=cv2.INTER_NEAREST)
        sheet[y + 15 : y + 15 + side, x + 15 : x + 15 + side] = square[..., None]
    return np.clip(sheet, 0, 255).astype(np.uint8)


def stripes(rng: Rng) -> Print:
    """Slanted warning stripes."""
    x, y = noise.grid()
    pairs = ((hsv(0.13, 0.9, 0.95), (0.03, 0.03, 0.03)), (hsv(0.0, 0.9, 0.8), (0.85, 0.85, 0.85)))
    a, b = pairs[rng.integers(2)]
    wave = (x + y * rng.choice([-1, 1])) * int(rng.integers(2, 5)) % 1
    dirt = 1 - 0.4 * noise.fractal(rng, 4, 6)
    picture = noise.mix(around(rng, a), b, (wave > 0.5).astype(np.float32)) * dirt[..., None]
    return (np.clip(picture, 0, 1) * 255).astype(np.uint8)


def vest(rng: Rng) -> Print:
    """A safety vest: two bands of silver around it."""
    bright = hsv(rng.choice([0.05, 0.2]), 0.95, 1.0)
    sheet = np.full((SIDE, SIDE, 3), np.array(bright) * 255, np.float32)
    sheet *= (0.7 + 0.35 * noise.fractal(rng, 4, 4, 0.6, (2, 1)))[..., None]
    for y in (int(SIDE * rng.uniform(0.4, 0.5)), int(SIDE * rng.uniform(0.62, 0.72))):
        sheet[y : y + 36] = (150, 155, 160)
    for x in range(SIDE // 8, SIDE, SIDE // 4):
        sheet[: SIDE // 2, x - 14 : x + 14] = (150, 155, 160)
    return np.clip(sheet, 0, 255).astype(np.uint8)
