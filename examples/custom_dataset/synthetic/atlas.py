# SPDX-License-Identifier: Apache-2.0
"""All textures in one picture, each at every halved size, so that one look-up draws a scene."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
#: Side of a texture at its finest.
SIDE = 512
LEVELS = 8
_PAD = 4
# Column and row of each level within a slot; every level has a rim of _PAD that repeats it.
_PLACES = np.array(
    [(0, 0), (520, 0), (520, 264), (520, 400), (656, 264), (656, 304), (656, 328), (656, 344)]
) + _PAD  # fmt: skip
_SLOT = (784, 520)
_COLUMNS = 4


class Atlas:
    """A picture of ``slots`` textures; slot 0 is white."""

    def __init__(self, slots: int) -> None:
        rows = -(-slots // _COLUMNS)
        self.pixels = np.zeros((rows * _SLOT[1], _COLUMNS * _SLOT[0], 3), np.uint8)
        index = np.arange(slots)
        self.origin = np.stack((index % _COLUMNS * _SLOT[0], index // _COLUMNS * _SLOT[1]), axis=1)
        self.slots = slots
        self.put(0, np.full((SIDE, SIDE, 3), 255, np.uint8))

    def put(self, slot: int, texture: NDArray[np.float32] | Image) -> None:
        """Fill a slot; the texture is (SIDE, SIDE, 3), float in 0..1 or uint8."""
        if texture.dtype != np.uint8:
            texture = (np.clip(texture, 0, 1) * 255).astype(np.uint8)
        left, top = self.origin[slot]
        for x, y in _PLACES:
            side = texture.shape[0]
            rim = cv2.copyMakeBorder(texture, _PAD, _PAD, _PAD, _PAD, cv2.BORDER_WRAP)
            x0, y0 = left + x - _PAD, top + y - _PAD
            self.pixels[y0 : y0 + side + 2 * _PAD, x0 : x0 + side + 2 * _PAD] = rim
            texture = cv2.resize(texture, (side // 2, side // 2), interpolation=cv2.INTER_AREA)

    def table(self) -> NDArray[np.float32]:
        """(slots * LEVELS, 2) column and row of the first texel of each level of each slot."""
        places = self.origin[:, None] + _PLACES[None]
        return places.reshape(-1, 2).astype(np.float32)
