# SPDX-License-Identifier: Apache-2.0
"""Render a drive as a video: python film.py drive.mp4. That of the demo is number 87.

Needs PyAV beside what generate.py needs.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from command import imports, run, whole

with imports():
    import av
    import cv2
    from synthetic import dataset
    from synthetic.camera import HEIGHT, WIDTH
    from synthetic.drive import RATE

#: VP9 plays everywhere and libvpx is under a BSD licence.
_CODEC, _OPTIONS = 'libvpx-vp9', {'deadline': 'good', 'cpu-used': '1', 'crf': '37'}


def film(file: Path, number: int, frames: int, seed: int, jobs: int) -> None:
    """Render the drive of that number and encode it, 640x400 at 30 pictures a second."""
    with tempfile.TemporaryDirectory() as folder, av.open(str(file), 'w') as video:
        items = dataset.sequence(Path(folder), number, frames, seed, jobs, lambda _: None)
        stream = video.add_stream(_CODEC, rate=round(RATE), options=_OPTIONS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, 'yuv420p'
        stream.bit_rate = 0  # quality decides
        for moment, (name, _) in enumerate(items):
            picture = cv2.imread(str(Path(folder, name)))
            frame = av.VideoFrame.from_ndarray(picture, format='bgr24')
            frame.pts, frame.time_base = moment, Fraction(1, round(RATE))
            video.mux(stream.encode(frame))
        video.mux(stream.encode(None))


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the arguments, render and encode; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    add = parser.add_argument
    add('file', type=_video, metavar='FILE.mp4', help='video to write')
    add('--drive', type=whole(0), default=87, metavar='N', help='number of the drive (default: 87)')
    add('--frames', type=whole(1), default=240, metavar='N', help='pictures (default: 240)')
    add('--seed', type=whole(0), default=0, metavar='S', help='as of generate.py (default: 0)')
    given = parser.parse_args(arguments)
    film(given.file, given.drive, given.frames, given.seed, os.cpu_count() or 1)
    return 0


def _video(text: str) -> Path:
    file = Path(text)
    if file.suffix != '.mp4' or not file.parent.is_dir():
        raise argparse.ArgumentTypeError(f"'{text}' is not an .mp4 in a folder that exists")
    return file


if __name__ == '__main__':
    run(main)
