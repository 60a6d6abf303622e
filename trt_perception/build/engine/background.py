# SPDX-License-Identifier: Apache-2.0
"""A build on a thread of its own, for those who have other things to do: a node, a progress bar."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import monotonic

from trt_perception.build.engine.cache import EngineCache
from trt_perception.build.engine.make import Engine, Request, make_engine


@dataclass(frozen=True)
class Status:
    """How far a build is, at one moment.

    Attributes:
        phase: TensorRT's name for what it does, '' before it begins.
        share: of the whole that is done, 0..1; never goes back.
        notes: what is worth knowing so far, a line each.
    """

    phase: str = ''
    share: float = 0.0
    notes: tuple[str, ...] = ()


class BackgroundBuild:
    """Takes an engine from the cache or builds it, from the moment that it is made.

    No method but `join` waits.
    """

    def __init__(
        self,
        request: Request,
        cache: EngineCache,
        cancel: threading.Event | None = None,
        then: Callable[[Engine], None] | None = None,
    ) -> None:
        """Begin.

        Args:
            cancel: what `cancel` sets, where others set it too.
            then: loads the engine, on the same thread and as a part of the whole.
        """
        self.status = Status()  # replaced whole by the thread
        self._request = request
        self._cache = cache
        self._cancel = cancel or threading.Event()
        self._then = then
        self._outcome: Engine | BaseException | None = None
        self._started = monotonic()
        # A daemon: a process that is told twice to end does not wait for TensorRT.
        self._thread = threading.Thread(target=self._run, name='build', daemon=True)
        self._thread.start()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return monotonic() - self._started

    def cancel(self) -> None:
        """Stop at TensorRT's next step, which may take a while; nothing half-written is left."""
        self._cancel.set()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end, or for so many seconds; says whether it has ended."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def result(self) -> Engine:
        """What came of it, once it has ended.

        Raises:
            PerceptionError: it failed; `BuildCancelledError` if it was stopped.
        """
        self.join()
        assert self._outcome is not None
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome

    def _run(self) -> None:
        try:
            engine = make_engine(
                self._request,
                self._cache,
                on_note=self._on_note,
                on_progress=self._on_progress,
                cancel=self._cancel,
            )
            if self._then is not None:
                self._on_progress('loading the engine', 1.0)
                self._then(engine)
            self._outcome = engine
        except BaseException as error:  # raised where the result is asked for
            self._outcome = error

    def _on_note(self, text: str) -> None:
        self.status = replace(self.status, notes=(*self.status.notes, text))

    def _on_progress(self, phase: str, share: float) -> None:
        self.status = replace(self.status, phase=phase, share=share)
