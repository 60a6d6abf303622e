# SPDX-License-Identifier: Apache-2.0
"""Small real videos for tests, whose frames can be told apart."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

#: Grey levels between two frames; more than any encoder here changes them.
STEP = 8


def level(number: int) -> int:
    """Grey of a frame, 16 to 232: the same again after 28 frames."""
    return 16 + STEP * (number % 28)


def number_of(image: np.ndarray) -> int:
    """Which frame a picture is, of the first 28."""
    return round((float(image.mean()) - 16) / STEP)


def write_video(
    path: Path,
    frames: int = 12,
    *,
    width: int = 64,
    height: int = 48,
    rate: int = 25,
    times: Sequence[float] | None = None,
    rotation: int = 0,
    bright_left: bool = False,
    faststart: bool = False,
    codec: str = 'mpeg4',
) -> Path:
    """Write grey frames, each a step brighter than the one before.

    Args:
        times: of each frame in milliseconds, instead of an even rate.
        rotation: degrees by which a viewer is told to turn the pictures, counterclockwise.
        bright_left: the left half of all frames white, the right half black.
        faststart: the table of contents at the front, so that a torn file can be opened.
        codec: ``mpeg4`` or ``libx264``.

    Returns:
        ``path``.
    """
    options = {'movflags': '+faststart'} if faststart else {}
    with av.open(str(path), 'w', options=options) as container:
        how = {'qmin': '1', 'qmax': '1'} if codec == 'mpeg4' else {'g': '10', 'bf': '0'}
        stream = container.add_stream(codec, rate=rate, options=how)
        stream.width, stream.height, stream.pix_fmt = width, height, 'yuv420p'
        if times is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        for number in range(frames):
            image = np.full((height, width, 3), level(number), np.uint8)
            if bright_left:
                image[:, : width // 2], image[:, width // 2 :] = 255, 0
            frame = av.VideoFrame.from_ndarray(image, format='bgr24')
            if times is not None:
                frame.pts, frame.time_base = round(times[number]), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def read_video(path: Path) -> list[tuple[float, np.ndarray]]:
    """Seconds and pixels, (H, W, 3) uint8 BGR, of every frame."""
    with av.open(str(path)) as container:
        return [(f.time, f.to_ndarray(format='bgr24')) for f in container.decode(video=0)]
