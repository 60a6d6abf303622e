# SPDX-License-Identifier: Apache-2.0
"""What a replay leaves: a folder with the detections, a time for each frame, and a summary.

===================  ==================================================================
``detections.mcap``  what was found: ``Detection2DArray`` with the images' headers, at the
                     times of the images, and ``LabelInfo``; nothing of the machine or the
                     day, so that equal detections are equal bytes
``frames.npy``       a row for each of those arrays, in their order: camera, size, times
``replay.json``      what ran on what, and how it went
===================  ==================================================================
"""

from __future__ import annotations

import json
import math
import os
import shutil
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_perception.core import Detections, PerceptionError, Stamp
from trt_perception.core.cdr import detection_array_cdr, read_detection_array
from trt_perception.core.files import write_atomically
from trt_perception.replay.mcap import McapError, Message, scan
from trt_perception.replay.message_types import DETECTIONS, LABELS, message_types

#: Name and version of the format of the folder.
SCHEMA = 'trt_perception.replay/1'
BAG, FRAMES, SUMMARY = 'detections.mcap', 'frames.npy', 'replay.json'
#: What is put beside them: pages for people, and how it compares with a baseline.
PAGE, COMPARISON_PAGE, COMPARISON = 'report.html', 'comparison.html', 'comparison.json'
_FILES = {BAG, FRAMES, SUMMARY, PAGE, COMPARISON_PAGE, COMPARISON}

#: Milliseconds of a frame: ``image`` (from the message to pixels: JPEG or PNG decoded), the
#: pipeline's three stages, and ``total``, image to detections without the waiting in queues. Of a
#: live detector there is only ``total``: from the image's stamp to its detections, all included.
STAGES = ('image', 'preprocess', 'infer', 'decode', 'total')

_ROW = np.dtype(
    [('time', '<i8'), ('camera', '<u2'), ('width', '<u4'), ('height', '<u4')]
    + [(stage, '<f4') for stage in STAGES]
)
_PACK = struct.Struct(f'<qHII{len(STAGES)}f')
_HEADER = 512  # bytes before the first row


class ResultError(PerceptionError):
    """The folder of a replay that cannot be written, or read."""


@dataclass(frozen=True)
class SeenFrame:
    """One image that was looked at.

    Attributes:
        topic: of the image.
        stamp, frame_id: of its header.
        time: when it was recorded, nanoseconds since the epoch.
        detections: what was found.
        size: width and height in pixels.
        latencies_ms: of each of `STAGES`, as far as they were measured; the others are NaN.
    """

    topic: str
    stamp: Stamp
    time: int
    detections: Detections
    size: tuple[int, int]
    latencies_ms: Mapping[str, float]
    frame_id: str = ''


class ResultWriter:
    """Writes the folder of a replay, which appears under its name when it is whole.

    A context: left by an exception, or without `finish`, nothing remains.

    Attributes:
        folder: where the files are until then; more may be put there after `finish`.
    """

    def __init__(
        self,
        path: Path,
        cameras: Mapping[str, str],
        class_names: Sequence[str],
        score_threshold: float = 0.0,
    ) -> None:
        """Begin.

        Args:
            path: an earlier replay, or an empty folder, is replaced.
            cameras: the topic of the detections for each topic of images.
            class_names: of the model; a class without a name is called by its number.
            score_threshold: the lowest score that is wanted, for ``LabelInfo``.

        Raises:
            ResultError: there is something else at the path, or nothing can be written there.
        """
        check_replaceable(path)
        path = self._path = path.resolve()  # of a link, what it leads to is replaced
        self._cameras = {topic: number for number, topic in enumerate(cameras)}
        self._class_names = list(class_names)
        self._threshold = score_threshold
        self._rows = 0
        self._finished = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.folder = Path(mkdtemp(dir=path.parent, prefix=f'.{path.name}-'))
            self.folder.chmod(0o777 & ~_umask())  # of a temporary folder others may read nothing
        except OSError as error:
            raise self._failed(error) from None
        try:
            self._frames = (self.folder / FRAMES).open('w+b')
            self._frames.write(_header(0))
            self._open_bag(cameras)
        except BaseException as error:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise self._failed(error) if isinstance(error, OSError) else error from None

    def _open_bag(self, cameras: Mapping[str, str]) -> None:
        from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

        # rosbags names the file after the folder that it makes.
        unfinished = self.folder / Path(BAG).stem
        self._bag = Writer(unfinished, version=8, storage_plugin=StoragePlugin.MCAP)
        self._bag.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._bag.open()
        types = message_types()
        self._labels = self._bag.add_connection(
            '/label_info', LABELS, typestore=types, offered_qos_profiles=[_latched()]
        )
        self._connections = {
            topic: self._bag.add_connection(found, DETECTIONS, typestore=types)
            for topic, found in cameras.items()
        }

    def add(self, seen: SeenFrame) -> None:
        """Write a frame; one after the other, and from one thread.

        Raises:
            ResultError: the disk is full.
        """
        data = detection_array_cdr(seen.detections, seen.stamp, seen.frame_id, self._class_names)
        row = _PACK.pack(
            seen.time,
            self._cameras[seen.topic],
            *seen.size,
            *(seen.latencies_ms.get(stage, math.nan) for stage in STAGES),
        )
        try:
            if not self._rows:
                self._bag.write(self._labels, seen.time, self._label_info(seen.stamp))
            self._bag.write(self._connections[seen.topic], seen.time, data)
            self._frames.write(row)
        except OSError as error:
            raise self._failed(error) from None
        self._rows += 1

    def times(self) -> NDArray[Any]:
        """The rows that were written so far, read where they lie: (N,) with a field a stage.

        Raises:
            ResultError: the disk is full.
        """
        if not self._rows:
            return np.zeros(0, _ROW)
        try:
            self._frames.flush()
            return np.memmap(self._frames, _ROW, 'r', _HEADER, (self._rows,))
        except OSError as error:
            raise self._failed(error) from None

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write the end of all files.

        Args:
            summary: ``replay.json``, without what every one holds.

        Raises:
            ResultError: the disk is full.
        """
        try:
            self._bag.close()
            unfinished = self.folder / Path(BAG).stem
            (unfinished / BAG).rename(self.folder / BAG)
            shutil.rmtree(unfinished)
            self._frames.seek(0)
            self._frames.write(_header(self._rows))
            self._frames.close()
        except OSError as error:
            raise self._failed(error) from None
        whole = {'schema': SCHEMA, 'class_names': self._class_names, **summary}
        write_atomically(self.folder / SUMMARY, json.dumps(whole, indent=2) + '\n')
        self._finished = True

    def __enter__(self) -> ResultWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None and self._finished:
                self._publish()
        finally:
            if not self._finished:
                for let_go in (self._bag.abort, self._frames.close):
                    with suppress(OSError):  # they write what they still have to
                        let_go()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _publish(self) -> None:
        """Bring the folder to its name, and what was there before out of the way."""
        check_replaceable(self._path)
        try:
            if not self._path.exists():
                self.folder.rename(self._path)
                return
            before = Path(mkdtemp(dir=self._path.parent, prefix=f'.{self._path.name}-'))
            try:
                self._path.rename(before)
            except OSError:
                before.rmdir()
                raise
            try:
                self.folder.rename(self._path)
            except OSError:
                before.rename(self._path)
                raise
            shutil.rmtree(before, ignore_errors=True)
        except OSError as error:
            raise self._failed(error) from None

    def _label_info(self, stamp: Stamp) -> memoryview:
        types = message_types()
        known = types.types
        header = known['std_msgs/msg/Header'](
            stamp=known['builtin_interfaces/msg/Time'](*stamp), frame_id=''
        )
        classes = [
            known['vision_msgs/msg/VisionClass'](class_id=number, class_name=name)
            for number, name in enumerate(self._class_names)
        ]
        message = known[LABELS](header=header, class_map=classes, threshold=self._threshold)
        return types.serialize_cdr(message, LABELS)

    def _failed(self, error: OSError) -> ResultError:
        return ResultError(f"output '{self._path}' cannot be written: {error.strerror}")


class ReplayResult:
    """The folder of a replay, opened.

    Attributes:
        path: the folder.
        summary: what stands in ``replay.json``.
        class_names: of the model.
        cameras: the topics of the images.
    """

    def __init__(self, path: Path) -> None:
        """Read the summary; see `open_result`."""
        self.path = path
        try:
            summary = json.loads((path / SUMMARY).read_text(encoding='utf-8'))
        except (OSError, ValueError, RecursionError) as error:
            why = error.strerror if isinstance(error, OSError) else 'it is no JSON'
            raise ResultError(
                f"'{path}' is no replay: its {SUMMARY}: {why}; give the folder that trt-perception"
                ' replay wrote (-o)'
            ) from None
        schema = summary.get('schema') if isinstance(summary, dict) else None
        if schema != SCHEMA:
            raise ResultError(
                f"'{path}' is of format '{schema}', not '{SCHEMA}'; replay the bag anew"
            )
        self.summary: dict[str, Any] = summary
        try:
            self.class_names: tuple[str, ...] = tuple(summary['class_names'])
            self._found = {c['detections_topic']: t for t, c in summary['cameras'].items()}
        except (KeyError, TypeError, AttributeError):
            raise ResultError(f"'{path}': {SUMMARY} is not whole; replay the bag anew") from None
        self.cameras: tuple[str, ...] = tuple(self._found.values())

    def rows(self) -> NDArray[Any]:
        """A row for each frame, mapped from the file: (N,) with ``time``, ``camera`` (a number),
        ``width``, ``height`` and the milliseconds of each of `STAGES`.

        Raises:
            ResultError: the file is missing or broken.
        """  # fmt: skip
        try:
            rows = np.lib.format.open_memmap(self.path / FRAMES, mode='r')
        except (OSError, ValueError) as error:
            raise ResultError(f"'{self.path / FRAMES}' cannot be read: {error}") from None
        if rows.dtype != _ROW or rows.ndim != 1:
            raise ResultError(f"'{self.path / FRAMES}' holds something else; replay the bag anew")
        return rows

    def frames(self) -> Iterator[SeenFrame]:
        """All frames that were looked at, in the order in which they were; read as they are asked
        for.

        Raises:
            ResultError: the files are broken or do not belong together.
        """  # fmt: skip
        rows = self.rows()
        numbers = {name: k for k, name in reversed(list(enumerate(self.class_names)))}
        number = 0
        for message in self._messages():
            topic = self._found.get(message.topic)
            if topic is None or message.kind != DETECTIONS:
                continue
            if number == len(rows) or rows[number]['time'] != message.time:
                raise ResultError(f"'{self.path}': {BAG} and {FRAMES} do not belong together")
            yield self._seen(topic, message, rows[number], numbers)
            number += 1
        if number != len(rows):
            raise ResultError(f"'{self.path}': {BAG} holds {number} of {len(rows)} frames")

    def _messages(self) -> Iterator[Message]:
        def refuse(error: McapError) -> None:
            raise error

        try:
            yield from scan(self.path / BAG, refuse)
        except OSError as error:
            raise ResultError(f"'{self.path / BAG}': {error.strerror}") from None
        except McapError as error:
            raise ResultError(str(error)) from None

    def _seen(
        self, topic: str, message: Message, row: Any, numbers: Mapping[str, int]
    ) -> SeenFrame:
        try:
            found = read_detection_array(message.data)
            ids = [numbers[n] if n in numbers else int(n) for n in found.class_ids]
        except ValueError as error:
            raise ResultError(f"'{self.path / BAG}': {error}") from None
        detections = Detections(found.boxes, found.scores, np.array(ids, np.int32))
        _, _, width, height, *times = row.item()
        latencies = dict(zip(STAGES, times, strict=True))
        return SeenFrame(
            topic, found.stamp, message.time, detections, (width, height), latencies,
            found.frame_id,
        )  # fmt: skip


def stages_of(rows: NDArray[Any]) -> list[str]:
    """Those of `STAGES` that were measured; a live detector tells no others than ``total``."""
    return [stage for stage in STAGES if not np.isnan(rows[stage]).any()]


def open_result(path: Path) -> ReplayResult:
    """Open the folder of a replay.

    Raises:
        ResultError: it is none, or of another version of this package.
    """
    return ReplayResult(path)


def check_replaceable(path: Path) -> None:
    """See that nothing but an earlier replay is at a path, before the work whose result it takes.

    Raises:
        ResultError: there is, or it is a folder that cannot be put out of the way.
    """
    try:
        if not os.path.lexists(path):
            return
        there = {file.name for file in path.iterdir()} if path.is_dir() else set()
        fixed = os.path.ismount(path) or path.resolve() == Path.cwd()
    except OSError as error:
        raise ResultError(f"output '{path}' cannot be read: {error.strerror}") from None
    if not path.is_dir() or (there and SUMMARY not in there):
        why = 'exists and is no replay; give another name or remove it'
    elif others := sorted(there - _FILES):
        why = f"holds '{others[0]}', which is of no replay; give another name or move it away"
    elif fixed:
        why = 'is the current folder or mounted, and cannot be replaced; give one inside it'
    else:
        return
    raise ResultError(f"output '{path}' {why}")


def _header(rows: int) -> bytes:
    """Of a .npy file (format 1.0), of the same size for any number of rows."""
    described = repr({'descr': _ROW.descr, 'fortran_order': False, 'shape': (rows,)}).encode()
    return b'\x93NUMPY\x01\x00' + struct.pack('<H', _HEADER - 10) + described.ljust(
        _HEADER - 11
    ) + b'\n'  # fmt: skip


def _latched() -> Any:
    """A subscriber that comes late gets the last message."""
    from rosbags import interfaces as of

    forever = of.QosTime(9223372036, 854775807)  # RMW_DURATION_INFINITE
    return of.Qos(
        of.QosHistory.KEEP_LAST, 1, of.QosReliability.RELIABLE, of.QosDurability.TRANSIENT_LOCAL,
        forever, forever, of.QosLiveliness.AUTOMATIC, forever, False,
    )  # fmt: skip


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
