# SPDX-License-Identifier: Apache-2.0
"""A bag through a pipeline, and the account of it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_perception.core import FrameError, Selection, Stamp
from trt_perception.core.files import is_file, sha256
from trt_perception.replay.bag_reader import METADATA, BagError, BagReader
from trt_perception.replay.looking import Look, look_at
from trt_perception.replay.mcap import Message
from trt_perception.replay.result import ResultWriter, SeenFrame, stages_of
from trt_perception.runtime.machine import describe_machine, process_memory
from trt_perception.runtime.pipeline import AnyPipeline
from trt_perception.runtime.versions import versions


@dataclass
class Camera:
    """What became of the images of one topic.

    Attributes:
        expected: images that the bag says it has.
        read: messages that could be read.
        rejected: those of them that could not be used, by the kind of `FrameError`.
        reasons: what the first of each kind said.
        encodings, sizes: of the images.
        stamps: ``repeated``, those that were there already just before, ``backwards``, those older
            than the one before, and ``unset``.
        classes: how often each was found.
    """

    expected: int
    read: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, str] = field(default_factory=dict)
    encodings: Counter[str] = field(default_factory=Counter)
    sizes: Counter[str] = field(default_factory=Counter)
    stamps: Counter[str] = field(default_factory=Counter)
    classes: Counter[str] = field(default_factory=Counter)
    _last: Stamp | None = None

    @property
    def looked_at(self) -> int:
        """Images that have detections, be it none."""
        return self.read - sum(self.rejected.values())

    def count(self, look: Look, class_names: Callable[[int], str]) -> None:
        """Take in what came of an image."""
        self.read += 1
        if look.encoding:
            self.encodings[look.encoding] += 1
        if look.frame is not None:
            self._count_stamp(look.frame.stamp)
        if isinstance(look.detections, FrameError):
            kind = look.detections.kind
            self.rejected[kind] += 1
            self.reasons.setdefault(kind, str(look.detections))
            return
        assert look.frame is not None
        self.sizes[f'{look.frame.width}x{look.frame.height}'] += 1
        self.classes.update(map(class_names, look.detections.class_ids.tolist()))

    def _count_stamp(self, stamp: Stamp) -> None:
        if stamp == Stamp():
            self.stamps['unset'] += 1
        elif self._last is not None:
            self.stamps['repeated'] += stamp == self._last
            self.stamps['backwards'] += stamp < self._last
        self._last = stamp

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            'frames': {
                'expected': self.expected,
                'read': self.read,
                'looked_at': self.looked_at,
                'rejected': dict(self.rejected),
            },
            'rejected_because': self.reasons,
            'encodings': dict(self.encodings.most_common()),
            'sizes': dict(self.sizes.most_common()),
            'stamps': {name: self.stamps[name] for name in ('repeated', 'backwards', 'unset')},
            'detections': dict(self.classes.most_common()),
        }


@dataclass
class Account:
    """How a replay went.

    Attributes:
        cameras: by the topic of their images.
        damage: what of the bag could not be read.
        complete: it went to the end of the bag, without a limit.
        seconds: that it took, without loading the model.
        files: name, size and SHA-256 of each file of the bag.
    """

    cameras: dict[str, Camera]
    damage: list[str] = field(default_factory=list)
    complete: bool = True
    seconds: float = 0.0
    files: list[dict[str, Any]] = field(default_factory=list)

    @property
    def looked_at(self) -> int:
        """Images of all cameras that have detections."""
        return sum(camera.looked_at for camera in self.cameras.values())

    def to_dict(self, rows: NDArray[Any], found: Mapping[str, str]) -> dict[str, Any]:
        """For JSON.

        Args:
            rows: of `ResultWriter.times`.
            found: the topic of the detections for each camera.
        """
        cameras = {}
        for number, (topic, camera) in enumerate(self.cameras.items()):
            cameras[topic] = {
                'detections_topic': found[topic],
                **camera.to_dict(),
                'latency_ms': spreads(rows[rows['camera'] == number]),
            }
        frames = self.looked_at
        return {
            'complete': self.complete,
            'damage': self.damage,
            'seconds': round(self.seconds, 3),
            'frames': frames,
            'frames_per_second': round(frames / self.seconds, 2) if self.seconds else 0.0,
            'latency_ms': spreads(rows),
            'cameras': cameras,
        }


def replay(
    bag: BagReader,
    counts: Mapping[str, int],
    pipeline: AnyPipeline,
    selections: Mapping[str, Selection],
    writer: ResultWriter,
    limit: int | None = None,
    on_frame: Callable[[], None] = lambda: None,
) -> Account:
    """Look at the images of a bag and write down what is found.

    Args:
        counts: the topics to take, and how many images the bag says each has.
        selections: what is wanted of the images of each topic.
        limit: take only so many images, the first.
        on_frame: called after each; what it raises ends the replay.

    Raises:
        BagError: a file of the bag cannot be read any more.
        EngineError, DecodeError: the network could not be run, or its decoder is wrong.
        ResultError: nothing can be written.
    """
    account = Account({topic: Camera(count) for topic, count in counts.items()})

    def note(error: BagError) -> None:
        account.damage.append(str(error))

    begun = perf_counter()
    looks = look_at(_first(bag.messages(counts, note), limit), pipeline, selections)
    with ThreadPoolExecutor(1, 'hash') as pool, closing(looks):
        hashing = Hashing(bag)
        files = pool.submit(hashing.run)
        try:
            for look in looks:
                account.cameras[look.topic].count(look, pipeline.spec.class_name)
                if not isinstance(look.detections, FrameError):
                    writer.add(seen_frame(look))
                on_frame()
            account.seconds = perf_counter() - begun
            account.files = files.result()
        finally:
            hashing.stop()
    read = sum(camera.read for camera in account.cameras.values())
    account.complete = limit is None or read < limit
    if account.complete:
        for topic, camera in account.cameras.items():
            if camera.read < camera.expected:
                lost = f'{camera.expected - camera.read} of {camera.expected} images are lost'
                account.damage.append(f'topic {topic}: {lost}')
    return account


def _first(
    messages: Generator[Message, None, None], limit: int | None
) -> Generator[Message, None, None]:
    with closing(messages):
        yield from islice(messages, limit)


def describe(bag: BagReader, account: Account, model: Path, engine: Path | None) -> dict[str, Any]:
    """What ran on what, for JSON."""

    def file(path: Path | None) -> dict[str, str] | None:
        if path is None:
            return None
        # That of a live detector may be on another machine.
        return {'path': str(path.absolute()), 'sha256': sha256(path) if is_file(path) else ''}

    return {
        'date': datetime.now(timezone.utc).isoformat(timespec='seconds'),
        'bag': {'path': str(bag.path.absolute()), 'files': account.files},
        'model': file(model),
        'engine': file(engine),
        'machine': describe_machine(),
        'versions': versions(),
        'memory_bytes': process_memory(),
    }


def describe_selection(values: Mapping[str, Any], threshold: float) -> dict[str, Any]:
    """What was asked for, for JSON.

    Args:
        values: of the detector's parameters.
        threshold: the lowest score of any camera.
    """
    return {
        'score_threshold': threshold,
        'iou_threshold': values['nms_threshold'],
        **{name: values[name] for name in ('max_detections', 'classes', 'region_of_interest')},
    }


def seen_frame(look: Look) -> SeenFrame:
    """An image that has detections, for the folder of a replay."""
    frame, found = look.frame, look.detections
    assert frame is not None and not isinstance(found, FrameError)
    return SeenFrame(
        look.topic, frame.stamp, look.time, found, (frame.width, frame.height), look.latencies_ms,
        frame.frame_id,
    )  # fmt: skip


class Hashing:
    """SHA-256 of each file of a bag, beside the work on it: bags are large."""

    def __init__(self, bag: BagReader) -> None:
        metadata = bag.path / METADATA
        self._files = [*bag.files, *([metadata] if metadata.is_file() else [])]
        self._stopped = False

    def stop(self) -> None:
        """Leave it where it is."""
        self._stopped = True

    def run(self) -> list[dict[str, Any]]:
        """Name, size and digest of each.

        Raises:
            BagError: a file cannot be read any more.
        """
        return [self._of(file) for file in self._files]

    def _of(self, file: Path) -> dict[str, Any]:
        digest, size = hashlib.sha256(), 0
        try:
            with file.open('rb') as stream:
                while not self._stopped and (block := stream.read(1 << 20)):
                    digest.update(block)
                    size += len(block)
        except OSError as error:
            raise BagError(f"bag '{file}': it cannot be read: {error.strerror}") from None
        return {'name': file.name, 'bytes': size, 'sha256': digest.hexdigest()}


def spreads(rows: NDArray[Any]) -> dict[str, dict[str, float]]:
    """Median, what 95 and 99 of 100 frames stay below, and the longest, of each stage."""
    if not len(rows):
        return {}
    return {
        stage: dict(
            zip(
                ('p50', 'p95', 'p99', 'max'),
                (round(float(v), 4) for v in np.percentile(rows[stage], (50, 95, 99, 100))),
                strict=True,
            )
        )
        for stage in stages_of(rows)
    }


def detection_topics(topics: Iterable[str]) -> dict[str, str]:
    """Where the detections of each topic of images go, as a detector beside that camera has them.

    ``/front/image_raw`` and ``/front/image_raw/compressed`` become ``/front/detections``; where
    that would be the same for two of them, and where the name does not end in an image's,
    ``/detections`` is added to it as it is.
    """
    usual = {topic: _beside(topic) for topic in topics}
    often = Counter(usual.values())
    return {
        topic: found if often[found] == 1 else f'{topic}/detections'
        for topic, found in usual.items()
    }


def _beside(topic: str) -> str:
    base = topic.removesuffix('/compressed')
    camera, _, name = base.rpartition('/')
    return f'{camera}/detections' if name.startswith('image') else f'{base}/detections'
