# SPDX-License-Identifier: Apache-2.0
"""Annotated frames into a video and a few pictures, on a thread of its own."""

from __future__ import annotations

import os
import queue
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import cv2

from trt_perception.core import FrameError, PerceptionError
from trt_perception.core.errors import one_line
from trt_perception.core.files import write_atomically
from trt_perception.replay.highlights import Highlight, Highlights
from trt_perception.replay.pairing import Pair
from trt_perception.replay.video_writer import VideoWriter
from trt_perception.runtime.host.color import to_bgr
from trt_perception.runtime.host.overlay import draw_boxes

SUMMARY = 'summary.json'
VIDEO = 'annotated.mp4'
PICTURE = 'annotated_{}.png'


class RecordingError(PerceptionError):
    """A recording that cannot be written."""


class Recording:
    """Draws and encodes in the background; `add` never waits for it.

    Attributes:
        annotated: frames drawn and written.
        dropped: frames that came while too many waited, or could not be written.
        unusable: compressed frames that could not be decoded.
        objects: how many were drawn, by the name of their class.
        failure: why nothing more can be written; '' while all is well.
    """

    def __init__(self, folder: Path, pictures: int = 5, capacity: int = 256 << 20) -> None:
        """Make the folder and begin.

        Args:
            pictures: how many to keep beside the video.
            capacity: bytes of frames that may wait to be drawn.

        Raises:
            RecordingError: the folder cannot be made or written to.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RecordingError(f"output '{folder}' cannot be made: {error.strerror}") from None
        if not os.access(folder, os.W_OK):
            raise RecordingError(f"output '{folder}' cannot be written to; give another folder")
        self.annotated = self.dropped = self.unusable = 0
        self.objects: Counter[str] = Counter()
        self.failure = ''
        self._folder = folder
        self._capacity = capacity
        self._video = VideoWriter(folder / VIDEO)
        self._highlights = Highlights(pictures)
        self._pictures: list[str] = []
        self._first = self._last = 0  # nanoseconds
        self._queue: queue.SimpleQueue[Pair | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting = 0  # bytes
        self._thread = threading.Thread(target=self._run, name='recording', daemon=True)
        self._thread.start()

    def add(self, pair: Pair) -> bool:
        """Hand over a frame to be drawn; False if too many wait already and it is dropped."""
        size = pair.frame.data.nbytes
        with self._lock:
            # One may always wait, however large it is.
            if self._waiting and self._waiting + size > self._capacity:
                self.dropped += 1
                return False
            self._waiting += size
        self._queue.put(pair)
        return True

    def close(self) -> None:
        """Draw what still waits and finish the files; see `failure`."""
        self._queue.put(None)
        self._thread.join()
        try:
            self._finish()
        except PerceptionError as error:
            self.failure = self.failure or str(error)

    def summary(self) -> dict[str, Any]:
        """What was written, once it is closed."""
        seconds = (self._last - self._first) / 1e9
        return {
            'video': VIDEO if self.annotated else None,
            'encoder': self._video.encoder or None,
            'pictures': self._pictures,
            'duration_s': round(seconds, 3),
            'fps': round((self.annotated - 1) / seconds, 2) if seconds > 0 else None,
            'classes': dict(self.objects.most_common()),
        }

    def _run(self) -> None:
        while (pair := self._queue.get()) is not None:
            try:
                self._draw(pair)
            except FrameError:
                self.unusable += 1
            except Exception as error:  # the thread must outlive it: someone waits for its end
                self.failure = self.failure or one_line(error)
                with self._lock:
                    self.dropped += 1
            with self._lock:
                self._waiting -= pair.frame.data.nbytes

    def _draw(self, pair: Pair) -> None:
        if self.failure:
            raise RecordingError(self.failure)
        boxes, scores, names = pair.found
        image = to_bgr(pair.frame)
        draw_boxes(image, boxes, scores, names)
        self._last = pair.frame.stamp.nanoseconds
        self._first = self._first if self.annotated else self._last
        self._video.write(image, self._last)
        self._highlights.add(Highlight(len(names), image))
        self.annotated += 1
        self.objects.update(names)

    def _finish(self) -> None:
        self._video.close()
        for number, highlight in enumerate(self._highlights.chosen(), 1):
            name = PICTURE.format(number)
            write_atomically(
                self._folder / name, cv2.imencode('.png', highlight.image)[1].tobytes()
            )
            self._pictures.append(name)
        # What an earlier recording left here would be taken for this one's.
        for file in self._folder.glob(PICTURE.format('[0-9]*')):
            if file.name not in self._pictures:
                file.unlink()
        if not self.annotated:
            (self._folder / VIDEO).unlink(missing_ok=True)
