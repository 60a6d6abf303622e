# SPDX-License-Identifier: Apache-2.0
"""The images in a rosbag2."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from trt_perception.core import Frame, FrameError, Stamp
from trt_perception.core.errors import one_line
from trt_perception.replay.bag_reader import BagError, BagReader, Contents
from trt_perception.replay.mcap import Message
from trt_perception.replay.message_types import COMPRESSED, RAW, message_types
from trt_perception.replay.sources.base import SourceError, TimedFrame, refuse


def image_topics(contents: Contents) -> dict[str, int]:
    """Topics of images, and how many each has."""
    return {
        name: topic.count
        for name, topic in sorted(contents.topics.items())
        if topic.kinds & {RAW, COMPRESSED}
    }


def choose_topics(counts: dict[str, int], wanted: Collection[str] = ()) -> list[str]:
    """Whose images to take.

    Args:
        counts: of `image_topics`.
        wanted: names; none takes all that have images, and of those that are there raw and
            compressed the raw ones, as the detector does.

    Raises:
        SourceError: a topic is not there, or there is no image at all.
    """
    found = ', '.join(f'{name} ({n} images)' for name, n in counts.items())
    if not counts:
        raise SourceError(f'it has no topic of {RAW} or {COMPRESSED}')
    names = [f'/{name.lstrip("/")}' for name in dict.fromkeys(wanted)]
    for name in names:
        if name not in counts:
            raise SourceError(f"it has no image topic '{name}', it has {found}")
    filled = [name for name, n in counts.items() if n]
    if not names:
        raw = {f'{name}/compressed' for name in filled}
        names = [name for name in filled if name not in raw]
    if not any(name in filled for name in names):
        raise SourceError(f'it holds no images: {found}')
    return names


def image_of(message: Message) -> Frame:
    """The image of a message, a view of its bytes.

    Raises:
        FrameError: it is none, or cannot be used.
    """
    try:
        content: Any = message_types().deserialize_cdr(message.data, message.kind)
    except Exception as error:  # of broken bytes rosbags passes on whatever its parts raise
        raise FrameError(
            'message', f'{len(message.data)} bytes that are no {message.kind}: {one_line(error)}'
        ) from None
    stamp = content.header.stamp
    header: dict[str, Any] = {
        'stamp': Stamp(stamp.sec, stamp.nanosec),
        'frame_id': content.header.frame_id,
        'source': message.topic,
    }
    if message.kind == COMPRESSED:
        return Frame.from_compressed(content.data, **header)
    return Frame.checked(
        content.data,
        content.width,
        content.height,
        content.encoding,
        content.step,
        big_endian=bool(content.is_bigendian),
        **header,
    )


class BagSource:
    """``Image`` or ``CompressedImage`` messages of a topic, at the times of their receipt."""

    def __init__(self, path: Path, topic: str = '') -> None:
        """Look into the bag and choose the topic.

        Args:
            path: the bag's folder, or one of its storage files.
            topic: whose images; not needed where only one topic has any.

        Raises:
            SourceError: rosbags is absent or there is no bag, or the topic is not clear.
        """
        self._path = path
        try:
            self._bag = BagReader(path)
            contents = self._bag.contents()
        except BagError as error:
            raise SourceError(str(error)) from None
        except ImportError as error:
            raise SourceError(
                f"bag '{self._path}' needs rosbags ({error}); pip install rosbags"
            ) from None
        counts = image_topics(contents)
        if not counts and contents.damage:
            raise SourceError(f"bag '{path}': {contents.damage[0]}")
        self._topic = self._choose(counts, topic)
        self.count: int | None = counts[self._topic]
        self.compressed = contents.topics[self._topic].kinds == {COMPRESSED}
        seconds = (contents.end - contents.start) / 1e9
        self.rate = (self.count - 1) / seconds if self.count > 1 and seconds else 0.0

    def frames(self, skip: Callable[[SourceError], None] = refuse) -> Iterator[TimedFrame]:
        damage: list[BagError] = []
        first: int | None = None
        for message in self._bag.messages([self._topic], damage.append):
            first = message.time if first is None else first
            try:
                frame = image_of(message)
            except FrameError as error:
                after = f'{(message.time - first) / 1e9:.3f} s after its first image'
                skip(self._error(f'topic {self._topic}, {after}: {error}'))
                continue
            yield TimedFrame(message.time - first, frame)
        if damage:
            raise self._error(f'it is not whole: {damage[0]}')

    def _choose(self, counts: dict[str, int], topic: str) -> str:
        try:
            names = choose_topics(counts, [topic] if topic else [])
        except SourceError as error:
            raise self._error(str(error)) from None
        if len(names) > 1:
            found = ', '.join(f'{name} ({n} images)' for name, n in counts.items())
            raise self._error(f'it has several image topics, name one as the topic: {found}')
        return names[0]

    def _error(self, reason: str) -> SourceError:
        return SourceError(f"bag '{self._path}': {reason}")
