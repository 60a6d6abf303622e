# SPDX-License-Identifier: Apache-2.0
"""The textures that one batch of pictures shares, by name."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from synthetic import decals, noise, surfaces, textures
from synthetic.atlas import Atlas
from synthetic.mesh import Material
from synthetic.palette import Color, around, grey, hsv

Rng = np.random.Generator
_RESERVED = {'floor': textures.FLOORS, 'ground': textures.GROUNDS, 'wall': textures.WALLS}
_SHARED = {
    'wood': (surfaces.wood, 3),
    'paint': (surfaces.paint, 4),
    'cloth': (surfaces.cloth, 2),
    'concrete': (textures.concrete, 1),
    'ribbed': (textures.ribbed, 1),
    'leaves': (surfaces.leaves, 1),
}
_PRINTS = {
    'label': (decals.label, 3), 'sign': (decals.sign, 3), 'chess': (decals.chessboard, 1),
    'stripes': (decals.stripes, 1), 'vest': (decals.vest, 2),
}  # fmt: skip
#: Fiducial boards that a picture can choose from.
BOARDS = 3


class Bank:
    """An atlas, and which slots of it hold what.

    Attributes:
        atlas: the textures.
        panorama: (256, 1024, 3) float32, what is seen where nothing is near; row 0 is the zenith,
            the middle row the horizon.
        stains: (SIDE, SIDE) float32 about 1, to break the repetition of the floor.
        noise: (2, 480, 720, 3) float32, white and smooth noise of unit variance.
    """

    def __init__(self, rng: Rng, split: str) -> None:
        self.split = split
        makers = {
            name: [(kinds[split][i], True) for i in rng.permutation(len(kinds[split]))[:2]]
            for name, kinds in _RESERVED.items()
        } | {
            **{name: [(make, False)] * n for name, (make, n) in _SHARED.items()},
        }
        self.slots: dict[str, list[int]] = {}
        total = 1 + BOARDS + sum(map(len, makers.values())) + sum(n for _, n in _PRINTS.values())
        self.atlas = Atlas(total)
        free = iter(range(1, total))
        for name, entries in makers.items():
            self.slots[name] = []
            for make, tinted in entries:
                color = textures.background_color(rng, split) if tinted else (0.8, 0.8, 0.8)
                self.slots[name].append(slot := next(free))
                self.atlas.put(slot, make(rng, color))
        for name, (print_, n) in _PRINTS.items():
            self.slots[name] = [next(free) for _ in range(n)]
            for slot in self.slots[name]:
                self.atlas.put(slot, print_(rng))
        self.slots['board'] = [next(free) for _ in range(BOARDS)]
        for _ in range(BOARDS):
            self.new_board(rng)
        self.panorama = _panorama(rng)
        self.stains = 0.75 + 0.5 * noise.fractal(rng, 4, 6, 0.6)
        white = rng.standard_normal((480, 720, 3), np.float32)
        soft = cv2.GaussianBlur(white, (0, 0), 0.9)
        self.noise = np.stack((white, soft / soft.std()))

    def new_board(self, rng: Rng) -> None:
        """Print another fiducial board over the oldest one."""
        slots = self.slots['board']
        slots.append(slots.pop(0))
        self.atlas.put(slots[-1], decals.marker_board(rng))

    def of(
        self, rng: Rng, name: str, color: Color = (1, 1, 1), size: float = 1.0, gloss: float = 0.0
    ) -> Material:
        """A material with one of the textures of that name."""
        slots = self.slots[name]
        return Material(color, slots[rng.integers(len(slots))], size, gloss)


def _panorama(rng: Rng) -> NDArray[np.float32]:
    """Sky, and a skyline of hills, trees and buildings."""
    height, width = 256, 1024
    cloud = cv2.resize(noise.fractal(rng, 4, 6, 0.6), (width, height // 2))
    zenith = np.array(hsv(rng.uniform(0.53, 0.62), rng.uniform(0.1, 0.7), rng.uniform(0.5, 0.95)))
    rim = np.array(grey(rng, 0.55, 0.95))
    up = np.linspace(1, 0, height // 2)[:, None, None] ** 0.7
    sky = (zenith * up + rim * (1 - up)).astype(np.float32)
    cover = np.clip((cloud - rng.uniform(0.1, 0.9)) * 3, 0, 1)[..., None]
    sky = sky * (1 - cover) + cover * np.float32(rim * rng.uniform(0.7, 1.1)) * (
        0.8 + 0.4 * cloud[..., None]
    )
    picture = np.vstack((sky, np.tile(np.float32(rim * 0.5), (height // 2, width, 1))))
    horizon = height // 2
    for layer in range(3):
        haze = 0.6 - 0.25 * layer
        x = 0
        hilly = rng.random() < 0.5
        ridge = cv2.resize(
            rng.random((1, 24), np.float32), (width + 1, 1), interpolation=cv2.INTER_CUBIC
        )[0]
        green = hsv(rng.uniform(0.15, 0.4), rng.uniform(0.2, 0.6), rng.uniform(0.2, 0.5))
        while x < width:
            step = int(rng.integers(8, 70))
            if hilly:
                step = 2
                top = int(4 + ridge[min(x, width)] * 22 + rng.uniform(0, 2))
                tone = around(rng, green, 0.05)
            else:
                top = int(rng.uniform(2, 30) * (rng.random() < 0.8))
                tone = around(rng, (0.35, 0.33, 0.31), 0.4)
            color = np.float32(np.array(tone) * (1 - haze) + rim * haze)
            picture[horizon - top : horizon, x : x + step] = color
            if not hilly and top > 8 and step > 12:
                picture[horizon - top + 3 : horizon : 4, x + 3 : x + step - 3 : 4] *= 0.6
            x += step
    return picture.astype(np.float32)
