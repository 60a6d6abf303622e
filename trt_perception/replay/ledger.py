# SPDX-License-Identifier: Apache-2.0
"""Images on their way through a live detector, and what came back."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from trt_perception.core import Detections, Frame, FrameError, Stamp
from trt_perception.replay.looking import Look
from trt_perception.replay.mcap import Message

#: Nanoseconds after which nothing is expected of an image any more.
PATIENCE = 30_000_000_000
#: Nanoseconds from an image's stamp to its recording that may be true; what is longer comes of two
#: clocks, or of a camera that does not stamp.
OLDEST = 10_000_000_000

DROPPED = 'dropped'
_WHY = (
    'no detections came of it: a newer image was looked at instead, or it was lost on its way;'
    ' the counters of the detector tell'
)


@dataclass
class _Entry:
    message: Message  # without its data
    frame: Frame | None  # without its pixels
    encoding: str
    sent: int  # nanoseconds, steady
    found: Detections | FrameError | None = None
    answered: int = 0

    def look(self) -> Look:
        """What came of it."""
        topic, _, time, _ = self.message
        if not isinstance(self.found, Detections):
            found = self.found or FrameError(DROPPED, _WHY)
            return Look(topic, time, self.frame, self.encoding, found, {})
        assert self.frame is not None
        lag = time - self.frame.stamp.nanoseconds
        lag = lag if 0 <= lag < OLDEST else 0
        total = (lag + self.answered - self.sent) / 1e6
        return Look(topic, time, self.frame, self.encoding, self.found, {'total': total})


class Ledger:
    """Who is sent and who is answered, in the order in which they were sent; thread-safe.

    The time of an image is from its stamp to its detections: how old it was when it was recorded,
    which is as old as it was when it reached the robot's detector, and how long it took now. Images
    of a topic that have the same stamp cannot be told apart: they are answered in their order.

    Attributes:
        strange: answers to images that were not sent, or not waited for any more.
    """

    def __init__(self) -> None:
        self.strange = 0
        self._entries: deque[_Entry] = deque()
        self._waiting: dict[tuple[str, Stamp], deque[_Entry]] = {}
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        """Images that are not answered yet."""
        with self._lock:
            return sum(map(len, self._waiting.values()))

    def refused(self, message: Message, frame: Frame | None, error: FrameError) -> None:
        """Take down an image that could not even be sent."""
        encoding = '' if frame is None else frame.encoding
        with self._lock:
            self._entries.append(_Entry(message._replace(data=b''), frame, encoding, 0, error))

    def sent(self, message: Message, frame: Frame, encoding: str, at: int) -> None:
        """Take down an image before it is sent.

        Args:
            frame: its header and size, without its pixels.
            encoding: as it was recorded.
            at: nanoseconds, steady.
        """
        entry = _Entry(message._replace(data=b''), frame, encoding, at)
        with self._lock:
            self._entries.append(entry)
            self._waiting.setdefault((message.topic, frame.stamp), deque()).append(entry)

    def answered(self, topic: str, stamp: Stamp, found: Detections, at: int) -> None:
        """Take down what was found in an image.

        Args:
            at: nanoseconds, steady.
        """
        with self._lock:
            waiting = self._waiting.get((topic, stamp))
            if not waiting:
                self.strange += 1
                return
            entry = waiting.popleft()
            entry.found, entry.answered = found, at
            if not waiting:
                del self._waiting[topic, stamp]

    def settle(self, now: int | None = None) -> Iterator[Look]:
        """What came of the first images, up to one that may still be answered.

        Args:
            now: nanoseconds, steady; without it nothing is waited for any more.
        """
        while (entry := self._settled(now)) is not None:
            yield entry.look()

    def _settled(self, now: int | None) -> _Entry | None:
        with self._lock:
            if not self._entries:
                return None
            entry = self._entries[0]
            if entry.found is None:
                if now is not None and now - entry.sent < PATIENCE:
                    return None
                assert entry.frame is not None
                key = entry.message.topic, entry.frame.stamp
                self._waiting[key].remove(entry)
                if not self._waiting[key]:
                    del self._waiting[key]
            return self._entries.popleft()
