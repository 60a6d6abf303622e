# SPDX-License-Identifier: Apache-2.0
"""Keeps a source going: opens it, reads it, and opens it again when it breaks off."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic_ns, perf_counter
from typing import Protocol

from trt_perception.core import FrameError
from trt_perception.core.errors import one_line
from trt_perception.runtime.capture.base import Capture, CaptureError, Shot, without_passwords
from trt_perception.runtime.frame_bus import Mailbox
from trt_perception.runtime.rate_limit import RateLimit

#: Seconds until the first new attempt; each further one waits twice as long.
FIRST_PAUSE = 0.5
#: Seconds that `CaptureLoop.close` gives a source to come back from what it waits for.
GRACE = 1.0


class Listener(Protocol):
    """Hears what comes of a source, on the two threads of a `CaptureLoop`; must not wait."""

    def on_open(self, what: str) -> None:
        """It is connected; what comes, in words."""

    def on_shot(self, shot: Shot) -> None:
        """The freshest image. This one may take its time: others are dropped meanwhile."""

    def on_unusable(self, error: FrameError) -> None:
        """`on_shot` raised it, or something else that is told in it."""

    def on_passed(self, fate: str, number: int) -> None:
        """Images that nobody gets.

        Args:
            fate: ``dropped``: a newer one came first. ``skipped``: the source itself left them out,
                damaged, cut off or to catch up. ``limited``: above the rate.
        """

    def on_read(self) -> None:
        """An image was read, whatever becomes of it."""

    def on_failed(self, error: CaptureError, pause: float) -> None:
        """It cannot be opened, or broke off; seconds until the next attempt, 0 if there is none."""

    def on_end(self) -> None:
        """A recording is over; nothing follows."""


class CaptureLoop:
    """Reads a source on one thread and hands its freshest image over on another.

    Nobody waits for a slow reader: not the source, whose images would pile up, nor the next image.
    """

    def __init__(
        self,
        capture: Capture,
        listener: Listener,
        *,
        repeat: bool = False,
        rate: float = 0.0,
        longest_pause: float = 10.0,
    ) -> None:
        """Begin.

        Args:
            repeat: begin a recording again at its end.
            rate: images a second, at most; 0 is no limit.
            longest_pause: seconds between two attempts to open, once there were several.
        """
        self._capture = capture
        self._listener = listener
        self._repeat = repeat
        self._rate = rate
        self._rate_limit = RateLimit()
        self._longest_pause = longest_pause
        self._pause = FIRST_PAUSE
        self._stop = threading.Event()
        self._telling = threading.Lock()
        self._box: Mailbox[Shot] = Mailbox()
        # Never daemons, as they would be in a container, whose own threads are: the end of Python
        # under one that is within FFmpeg is a crash.
        self._reader = threading.Thread(target=self._read, name='capture', daemon=False)
        self._sender = threading.Thread(target=self._send, name='camera', daemon=False)
        self._sender.start()
        self._reader.start()

    def close(self) -> bool:
        """Stop; nothing is handed over and nobody is told anything once this returns.

        A stream that is waited for can only be left when it comes back, within its time-out: its
        thread does so by itself, and the process does not end before.

        Returns:
            Whether the source has been left.
        """
        with self._telling:
            self._stop.set()
        if self._box.close() is not None:
            self._listener.on_passed('dropped', 1)
        self._sender.join()
        self._reader.join(GRACE)
        return not self._reader.is_alive()

    def _read(self) -> None:
        while not self._stop.is_set():
            try:
                self._run()
                if self._repeat and self._capture.recorded:
                    continue
                if self._capture.recorded:
                    self._tell(self._listener.on_end)
                    return
                error = CaptureError(f"source '{self._capture.name}' has ended")
            except CaptureError as failure:
                error = failure
            except Exception as failure:  # the thread must outlive whatever a library raises
                text = f"source '{self._capture.name}': {type(failure).__name__}:"
                error = CaptureError(f'{text} {without_passwords(one_line(failure))}')
            finally:
                self._capture.close()
            self._tell(self._listener.on_failed, error, 0.0 if error.final else self._pause)
            if error.final:
                return
            self._stop.wait(self._pause)
            self._pause = min(2 * self._pause, self._longest_pause)

    def _run(self) -> None:
        """From opening to the end.

        Raises:
            CaptureError: it has come to none.
        """
        what = self._capture.open(self._stop)
        self._tell(self._listener.on_open, what)
        came = False
        while (shot := self._capture.read(self._stop)) is not None:
            self._stop.wait(max(0, shot.taken - monotonic_ns()) / 1e9)
            if self._stop.is_set():
                break
            came, self._pause = True, FIRST_PAUSE
            self._offer(shot)
        self._tell_skipped()
        if not came and not self._stop.is_set():
            raise CaptureError(
                f"source '{self._capture.name}' holds no images", self._capture.recorded
            )

    def _offer(self, shot: Shot) -> None:
        self._listener.on_read()
        self._tell_skipped()
        if not self._rate_limit.passes(perf_counter(), self._rate):
            self._listener.on_passed('limited', 1)
        elif self._box.put(shot) is not None:
            self._listener.on_passed('dropped', 1)

    def _tell_skipped(self) -> None:
        if skipped := self._capture.skipped():
            self._tell(self._listener.on_passed, 'skipped', skipped)

    def _send(self) -> None:
        while (shot := self._box.get()) is not None:
            try:
                self._listener.on_shot(shot)
            except FrameError as error:
                self._listener.on_unusable(error)
            except Exception as error:  # of the middleware: the next image may work
                text = f'{type(error).__name__}: {one_line(error)}'
                self._listener.on_unusable(FrameError('failed', text))

    def _tell(self, listen: Callable[..., None], *what: object) -> None:
        with self._telling:
            if not self._stop.is_set():
                listen(*what)
