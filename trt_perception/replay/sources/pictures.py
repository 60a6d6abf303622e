# SPDX-License-Identifier: Apache-2.0
"""The pictures in a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from trt_perception.core import Frame, FrameError
from trt_perception.replay.sources.base import SourceError, TimedFrame, refuse
from trt_perception.runtime.capture.pictures import pictures_in

#: Pictures a second. Files do not say.
RATE = 10.0


class PictureSource:
    """Pictures as compressed frames, in the order of their names, at a fixed rate."""

    compressed = True
    rate = RATE

    def __init__(self, folder: Path) -> None:
        """List the folder.

        Raises:
            SourceError: no picture in it.
        """
        self._files = pictures_in(folder)
        if not self._files:
            raise SourceError(f"input '{folder}' is a folder without jpg or png pictures")
        self.count: int | None = len(self._files)

    def frames(self, skip: Callable[[SourceError], None] = refuse) -> Iterator[TimedFrame]:
        for number, file in enumerate(self._files):
            try:
                frame = Frame.from_compressed(np.fromfile(file, np.uint8), source=str(file))
            except (FrameError, OSError) as error:
                skip(SourceError(f"picture '{file}': {error}"))
                continue
            yield TimedFrame(round(number * 1e9 / RATE), frame)
