# SPDX-License-Identifier: Apache-2.0
"""The pictures in a folder, as a camera's images."""

from __future__ import annotations

import re
import threading
from functools import partial
from pathlib import Path
from time import monotonic_ns

import numpy as np
from numpy.typing import NDArray

from trt_perception.core import Frame, FrameError
from trt_perception.core.compressed import compressed_size
from trt_perception.core.errors import one_line
from trt_perception.runtime.capture.base import CaptureError, Shot, Wish
from trt_perception.runtime.capture.picture import check, develop
from trt_perception.runtime.host.color import to_bgr

SUFFIXES = ('.jpg', '.jpeg', '.png')
#: Pictures a second. Files do not say.
RATE = 10.0


class PicturesCapture:
    """Pictures in the order of their names, at a fixed rate."""

    recorded = True

    def __init__(self, folder: Path, wish: Wish) -> None:
        """Prepare.

        Raises:
            CaptureError: PyAV is needed for the encoding and not installed.
        """
        self.name = str(folder)
        self._folder = folder
        check(wish, self.name)
        self._wish = wish
        self._rate = wish.rate or RATE

    def open(self, stop: threading.Event) -> str:
        self._files = pictures_in(self._folder)
        if not self._files:
            raise CaptureError(
                f"source '{self._folder}' is a folder without jpg or png pictures", final=True
            )
        self._started, self._number = monotonic_ns(), 0
        return f'{len(self._files)} pictures, {self._rate:.4g} Hz'

    def read(self, stop: threading.Event) -> Shot | None:
        due = self._started + round(self._number * 1e9 / self._rate)
        if self._number == len(self._files):
            stop.wait((due - monotonic_ns()) / 1e9)  # the last one is shown as long as the others
            return None
        file = self._files[self._number]
        self._number += 1
        try:
            data = np.fromfile(file, np.uint8)
            width, height = compressed_size(data)
        except (OSError, FrameError) as error:
            return Shot(due, 0, 0, partial(_refuse, file, error))
        return Shot(due, width, height, partial(self._develop, data))

    def skipped(self) -> int:
        return 0

    def close(self) -> None:
        pass

    def _develop(self, data: NDArray[np.uint8]) -> Frame:
        frame = Frame.from_compressed(data, max_pixels=self._wish.max_pixels)
        return frame if self._wish.compressed else develop(to_bgr(frame), self._wish)


def pictures_in(folder: Path) -> list[Path]:
    """The jpg and png files in a folder, frame 10 after frame 9.

    Raises:
        OSError: the folder cannot be read.
    """
    return sorted((f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES), key=_natural)


def _refuse(file: Path, error: Exception) -> Frame:
    raise FrameError('picture', f"picture '{file}': {one_line(error)}")


def _natural(file: Path) -> list[str | int]:
    """Also where no zeros stand before the 9."""
    return [int(part) if part.isdecimal() else part for part in re.split(r'(\d+)', file.stem)]
