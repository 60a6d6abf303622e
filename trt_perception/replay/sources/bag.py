# SPDX-License-Identifier: Apache-2.0
"""The images of one topic of a rosbag2."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trt_perception.core import Frame, FrameError, Stamp
from trt_perception.core.errors import PerceptionError, one_line
from trt_perception.replay.sources.base import SourceError, TimedFrame, refuse

if TYPE_CHECKING:
    from rosbags.rosbag2 import Reader

RAW, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'


class BagSource:
    """``Image`` or ``CompressedImage`` messages, at the times when they were received."""

    def __init__(self, path: Path, topic: str = '') -> None:
        """Look into the bag and choose the topic.

        Args:
            path: the bag's folder, or one of its storage files.
            topic: whose images; not needed where only one topic has any.

        Raises:
            SourceError: rosbags is absent or cannot read the bag, or the topic is not clear.
        """
        self._path = path
        with self._opened() as reader:
            counts: Counter[str] = Counter()
            for connection in reader.connections:
                if connection.msgtype in (RAW, COMPRESSED):
                    counts[connection.topic] += connection.msgcount
            self._topic = self._choose(counts, topic)
            self.count: int | None = counts[self._topic]
            kinds = {c.msgtype for c in reader.connections if c.topic == self._topic}
            self.compressed = kinds == {COMPRESSED}
            seconds = reader.duration / 1e9
            self.rate = (self.count - 1) / seconds if self.count > 1 and seconds else 0.0

    def frames(self, skip: Callable[[SourceError], None] = refuse) -> Iterator[TimedFrame]:
        from rosbags.typesys import Stores, get_typestore

        # Image messages are the same in all distributions.
        types = get_typestore(Stores.ROS2_HUMBLE)
        with self._opened() as reader:
            wanted = [c for c in reader.connections if c.topic == self._topic]
            first: int | None = None
            for connection, time, raw in reader.messages(wanted):
                first = time if first is None else first
                message = types.deserialize_cdr(raw, connection.msgtype)
                try:
                    frame = self._frame(connection.msgtype, message)
                except FrameError as error:
                    after = f'{(time - first) / 1e9:.3f} s after its first image'
                    skip(self._error(f'topic {self._topic}, {after}: {error}'))
                    continue
                yield TimedFrame(time - first, frame)

    def _frame(self, kind: str, message: Any) -> Frame:
        stamp = message.header.stamp
        header: dict[str, Any] = {
            'stamp': Stamp(stamp.sec, stamp.nanosec),
            'frame_id': message.header.frame_id,
            'source': self._topic,
        }
        if kind == COMPRESSED:
            return Frame.from_compressed(message.data, **header)
        return Frame.checked(
            message.data,
            message.width,
            message.height,
            message.encoding,
            message.step,
            big_endian=bool(message.is_bigendian),
            **header,
        )

    def _choose(self, counts: Counter[str], topic: str) -> str:
        found = ', '.join(f'{name} ({n} images)' for name, n in sorted(counts.items()))
        if not counts:
            raise self._error(f'it has no topic of {RAW} or {COMPRESSED}')
        if topic:
            topic = f'/{topic.lstrip("/")}'
            if topic not in counts:
                raise self._error(f"it has no image topic '{topic}', it has {found}")
            return topic
        filled = [name for name in counts if counts[name]]
        if len(filled) > 1:
            raise self._error(f'it has several image topics, name one as the topic: {found}')
        return filled[0] if filled else min(counts)

    @contextmanager
    def _opened(self) -> Iterator[Reader]:
        try:
            from rosbags.rosbag2 import Reader
        except ImportError as error:
            raise SourceError(
                f"bag '{self._path}' needs rosbags ({error}); pip install rosbags"
            ) from None
        if self._path.is_dir() and not (self._path / 'metadata.yaml').exists():
            raise self._error(
                'it has no metadata.yaml, as happens when recording was cut off; give the .mcap or'
                f' .db3 file in it instead, or ros2 bag reindex {self._path}'
            )
        try:
            with Reader(self._path) as reader:
                yield reader
        except PerceptionError:
            raise
        except Exception as error:  # of a broken file rosbags passes on whatever its parts raise
            raise self._error(
                f'it cannot be read ({one_line(error)}); if recording was cut off, ros2 bag reindex'
                ' or mcap recover may repair it'
            ) from None

    def _error(self, reason: str) -> SourceError:
        return SourceError(f"bag '{self._path}': {reason}")
