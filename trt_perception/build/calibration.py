# SPDX-License-Identifier: Apache-2.0
"""The frames that a model is calibrated with, chosen from what somebody recorded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, overload

import cv2
import numpy as np
from numpy.typing import NDArray

from trt_perception.core import Frame, FrameError, PerceptionError
from trt_perception.core.files import write_atomically
from trt_perception.replay.sources import Source, SourceError, TimedFrame, open_source
from trt_perception.runtime.host.color import to_bgr

#: Of the note in a quantized model's metadata_props: what it was calibrated with, as JSON.
CALIBRATION_KEY = 'trt_perception.calibration'
#: Frames to calibrate with, unless told otherwise. Ranges hardly move beyond; time grows with it.
FRAMES = 128
#: Fewer leave it to chance whether the ranges hold for what the robot sees tomorrow.
FEW = 50
#: Pictures are compared as so many grey cells a side; those are alike none of whose cells differ by
#: more than so many of 255 levels: more than the noise of a camera, less than a person far away.
_CELLS, _LEVELS = 32, 8
#: Of the stretches that a recording is cut into, every fourth is held out: neighbours in time look
#: alike, and the gate must not be asked about what was calibrated with.
_STRETCHES, _HELD_OUT = 16, 4


class CalibrationError(PerceptionError):
    """Recorded images that nothing can be calibrated with."""


class StoredFrames(Sequence[Frame]):
    """Pictures in files, each read when it is asked for: any number takes no memory."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = tuple(files)

    def __len__(self) -> int:
        return len(self.files)

    @overload
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice) -> StoredFrames: ...
    def __getitem__(self, index: int | slice) -> Frame | StoredFrames:
        if isinstance(index, slice):
            return StoredFrames(self.files[index])
        file = self.files[index]
        try:
            return Frame.from_compressed(np.fromfile(file, np.uint8), source=str(file))
        except (FrameError, OSError) as error:
            raise CalibrationError(f"picture '{file}' changed while it was used: {error}") from None


@dataclass(frozen=True)
class Calibration:
    """Chosen frames and where they come from.

    Attributes:
        frames: to calibrate with, in the order of time.
        held_out: to measure with, from other stretches of time.
        source: what was read, and of a bag the topic if one was named.
        seen: images in it that could be read.
        alike: of those looked at, how many were left out as nearly the same as another one.
        unreadable: what was said of each image that could not be read.
        sha256: of the bytes of ``frames``, in their order.
        digests: sha256 of each of ``frames``.
        warnings: what weakens the calibration, a line each.
    """

    frames: StoredFrames
    held_out: StoredFrames
    source: str
    seen: int
    alike: int
    unreadable: tuple[str, ...]
    sha256: str
    digests: frozenset[str]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            'source': self.source,
            'seen': self.seen,
            'alike': self.alike,
            'unreadable': list(self.unreadable),
            'frames': len(self.frames),
            'held_out': len(self.held_out),
            'sha256': self.sha256,
            'warnings': list(self.warnings),
        }


def collect(
    path: Path,
    folder: Path,
    *,
    topic: str = '',
    count: int = FRAMES,
    held_out: int = 0,
    on_progress: Callable[[float], None] = lambda share: None,
) -> Calibration:
    """Choose frames that differ, spread over the whole recording.

    Args:
        path: a folder of pictures, a rosbag2 or a video, as `open_source` takes it.
        folder: where those that are no files yet are kept, losslessly; made if need be.
        topic: of a bag with several image topics.
        count: frames to calibrate with, at most.
        held_out: frames to measure with, at most; a fourth of the recording is kept for them.
        on_progress: told the share (0..1) of the work that is done.

    Raises:
        SourceError: it cannot be opened, or no image in it can be read.
        CalibrationError: too few images differ to calibrate and to measure.
        FileError: the folder cannot be written to.
    """
    unreadable: dict[str, None] = {}

    def skip(error: SourceError) -> None:
        unreadable[str(error)] = None

    try:
        source = open_source(path, topic, skip)
    except SourceError as error:
        raise SourceError('; '.join([str(error), *list(unreadable)[:1]])) from None
    scan = _Scan(4 * (count + held_out))
    for number, (_, frame) in enumerate(_readable(source, skip)):
        scan.look(number, frame, skip)
        on_progress(_share(number, source.count) / 2)
    distinct, alike = scan.distinct()
    kept, spared = _split(distinct, count, held_out)
    if not kept or (held_out and not spared):
        images = 'image' if len(distinct) == 1 else 'different images'
        raise CalibrationError(
            f"'{path}' holds {len(distinct)} {images}, too few"
            f' to calibrate{" and to measure" if held_out else ""} with; give more of them'
        )
    files: dict[int, Path] = {}
    digests: dict[int, str] = {}
    wanted = set(kept) | set(spared)
    for number, (_, frame) in enumerate(_readable(source, skip)):
        if number in wanted:
            files[number] = _stored(frame, folder / f'{number:06d}')
            digests[number] = hashlib.sha256(frame.data.tobytes()).hexdigest()
        on_progress((1 + _share(number, source.count)) / 2)
    on_progress(1.0)
    chosen = [digests[n] for n in kept]
    return Calibration(
        StoredFrames([files[n] for n in kept]),
        StoredFrames([files[n] for n in spared]),
        f'{path} {topic}'.strip(),
        scan.seen,
        alike,
        tuple(unreadable),
        hashlib.sha256(''.join(chosen).encode()).hexdigest(),
        frozenset(chosen),
        tuple(_warnings(len(kept), len(distinct), alike, tuple(unreadable))),
    )


class _Look(NamedTuple):
    number: int
    cells: NDArray[np.int16]


class _Scan:
    """Looks at frames at even distances, at least ``wanted`` of them and less than twice as many.

    How long a recording is shows only at its end: whenever there are too many, every second look
    is let go and the distance doubled.
    """

    def __init__(self, wanted: int) -> None:
        self.seen = 0
        self._most = 2 * wanted
        self._stride = 1
        self._looks: list[_Look] = []

    def look(self, number: int, frame: Frame, skip: Callable[[SourceError], None]) -> None:
        self.seen = number + 1
        if number % self._stride:
            return
        try:
            image = to_bgr(frame)
        except FrameError as error:
            self.seen -= 1
            skip(SourceError(f"picture '{frame.source}': {error}"))
            return
        small = cv2.resize(image, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA)
        cells = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY).astype(np.int16).reshape(-1)
        self._looks.append(_Look(number, cells))
        if len(self._looks) >= self._most:
            self._stride *= 2
            self._looks = [look for look in self._looks if look.number % self._stride == 0]

    def distinct(self) -> tuple[list[int], int]:
        """Numbers of the frames that differ from each one before, and how many do not."""
        kept = np.zeros((len(self._looks), _CELLS * _CELLS), np.int16)
        numbers: list[int] = []
        for number, cells in self._looks:
            apart = np.abs(kept[: len(numbers)] - cells).max(axis=1)
            if (apart > _LEVELS).all():
                kept[len(numbers)] = cells
                numbers.append(number)
        return numbers, len(self._looks) - len(numbers)


def _readable(source: Source, skip: Callable[[SourceError], None]) -> Iterator[TimedFrame]:
    """The frames, up to where the recording breaks off."""
    try:
        yield from source.frames(skip)
    except SourceError as error:
        skip(error)


def _split(distinct: list[int], count: int, held_out: int) -> tuple[list[int], list[int]]:
    """Frames to calibrate with, and others, both spread over the recording."""
    if not held_out:
        return _spread(distinct, count), []
    stretches = min(_STRETCHES, len(distinct))
    ours: list[int] = []
    theirs: list[int] = []
    for place, number in enumerate(distinct):
        stretch = place * stretches // len(distinct)
        (theirs if stretch % _HELD_OUT == _HELD_OUT // 2 else ours).append(number)
    if not theirs and len(ours) > 1:
        theirs.append(ours.pop())
    return _spread(ours, count), _spread(theirs, held_out)


def _spread(numbers: list[int], count: int) -> list[int]:
    """At most so many of them, at even distances."""
    if len(numbers) <= count:
        return numbers
    return [numbers[i] for i in ((np.arange(count) + 0.5) * len(numbers) / count).astype(int)]


def _stored(frame: Frame, stem: Path) -> Path:
    """The file of a frame: its own if it is one already."""
    own = Path(frame.source)
    if frame.compressed and own.is_file():
        return own
    stem.parent.mkdir(parents=True, exist_ok=True)
    if frame.compressed:
        file, data = stem.with_suffix(f'.{frame.encoding}'), frame.data
    else:
        options = [cv2.IMWRITE_PNG_COMPRESSION, 1]
        file, data = stem.with_suffix('.png'), cv2.imencode('.png', to_bgr(frame), options)[1]
    write_atomically(file, data.tobytes())
    return file


def _share(number: int, count: int | None) -> float:
    return min((number + 1) / count, 1.0) if count else 0.0


def _warnings(kept: int, distinct: int, alike: int, unreadable: tuple[str, ...]) -> Iterator[str]:
    if kept < FEW:
        yield (
            f'{kept} frames are few to calibrate with; {FEW} or more that show the places, the'
            ' light and the objects of every day make ranges that hold'
        )
    if alike > 9 * distinct:
        yield (
            f'{alike} of {alike + distinct} frames looked at are nearly the same as another one;'
            ' record where more happens'
        )
    if unreadable:
        more = f' and {len(unreadable) - 1} more' if len(unreadable) > 1 else ''
        yield f'left out as unreadable: {unreadable[0]}{more}'
