# SPDX-License-Identifier: Apache-2.0
"""An execution context that several lanes run on, one after another."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from trt_perception.core import PerceptionError
from trt_perception.core.errors import one_line
from trt_perception.runtime.engine import EngineError

if TYPE_CHECKING:
    from trt_perception.runtime.tensorrt.engine import ExecutionContext


class Runner(Protocol):
    """What takes its turn: a lane."""

    def launch(self) -> None:
        """Give the GPU the work of one turn."""

    def wait(self) -> None:
        """Until the GPU is through with it. From any thread, by several at a time."""


class Turn:
    """One run of a runner, from its begin to the end of its work on the GPU."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.over = False
        self.failure: Exception | None = None


class Track:
    """Lets one runner at a time use a context, in the order in which they come.

    A runner that must wait has its image brought to the GPU meanwhile, and is launched by whoever
    first notices that the one before it is through: the GPU does not wait for a thread that reads
    results. CUDA itself orders nothing here, so that a frame costs no calls of the driver for it.
    """

    def __init__(self, context: ExecutionContext) -> None:
        self.context = context
        self._bound: Mapping[str, int] | None = None
        self._lock = threading.Lock()
        self._running: Turn | None = None
        self._waiting: deque[Turn] = deque()

    @property
    def idle(self) -> bool:
        """Whether a runner would be launched at once."""
        return self._running is None

    def enqueue(self, tensors: Mapping[str, int], stream: Any) -> None:
        """Launch the network on a runner's own tensors, in its turn.

        Args:
            tensors: device address of each; the same mapping is known again.

        Raises:
            EngineError: TensorRT refuses.
        """
        if tensors is not self._bound:
            self._bound = None
            for name, address in tensors.items():
                self.context.bind(name, address)
            self._bound = tensors
        self.context.enqueue(stream)

    def enter(self, runner: Runner) -> Turn:
        """Launch, or wait for the turn.

        Raises:
            PerceptionError: it was its turn at once, and the launch failed.
        """
        turn = Turn(runner)
        with self._lock:
            if self._running is None:
                runner.launch()
                self._running = turn
            else:
                self._waiting.append(turn)
        return turn

    def leave(self, turn: Turn) -> None:
        """Wait until a turn is over.

        Raises:
            PerceptionError: its launch failed, or the GPU did.
        """
        while True:
            with self._lock:
                running = None if turn.over else self._running
            if running is None:
                break
            try:
                running.runner.wait()
            except PerceptionError as error:
                running.failure = error
            with self._lock:
                if not running.over:
                    running.over = True
                    self._next()
        if turn.failure is not None:
            raise turn.failure

    def _next(self) -> None:
        self._running = None
        while self._waiting:
            turn = self._waiting.popleft()
            try:
                turn.runner.launch()
            except Exception as error:  # it is not this thread's frame
                turn.failure = error if isinstance(error, PerceptionError) else _told(error)
                turn.over = True
            else:
                self._running = turn
                return


def _told(error: Exception) -> EngineError:
    return EngineError(f'the launch failed: {type(error).__name__}: {one_line(error)}')
