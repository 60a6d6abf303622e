# SPDX-License-Identifier: Apache-2.0
"""An executor that outlives what its callbacks do."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import TYPE_CHECKING, Any

from rclpy.executors import (
    ConditionReachedException,
    Executor,
    ExternalShutdownException,
    ShutdownException,
    TimeoutException,
)
from rclpy.impl.implementation_singleton import rclpy_implementation

if TYPE_CHECKING:
    from rclpy.context import Context
    from rclpy.task import Task

#: Seconds between two looks at what nobody wakes it up for.
PERIOD = 0.25
#: Callbacks that are still run after `GuardedExecutor.stop`, at most, and seconds in which they
#: have to begin: a timer whose callback takes longer than its period is always ready.
_LAST, _LAST_SECONDS = 100, 2.0


class GuardedExecutor(Executor):
    """Runs callbacks until one fails, and keeps what it failed with, ``sys.exit`` included.

    rclpy's own raise it out of ``spin_once``, the one with several threads not before the next
    callback, and ``sys.exit`` on one of those threads is lost.

    Attributes:
        failure: of the first callback that failed.
    """

    def __init__(self, context: Context, threads: int = 1) -> None:
        """Prepare.

        Args:
            threads: 1 runs callbacks on the thread that spins; more, on as many others, as far as
                callback groups allow.
        """
        super().__init__(context=context)
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        self._stopping = threading.Event()
        self._lock = threading.Lock()  # rclpy's shutdown takes away what its wake triggers
        self._finished = False
        self._give_up: float | None = None
        self.failure: BaseException | None = None

    @property
    def over(self) -> bool:
        """Whether there is no use in spinning on."""
        return self.failure is not None or self._stopping.is_set() or not self.context.ok()

    def stop(self) -> None:
        """Make `over` true, from any thread."""
        self._give_up = self._give_up or monotonic() + _LAST_SECONDS
        self._stopping.set()
        with self._lock:
            if not self._finished:
                self.wake()

    def spin_once(self, timeout_sec: float | None = PERIOD) -> None:
        """Run a callback, or begin to; returns sooner once it is `over`."""
        self._once(timeout_sec)

    def finish(self) -> None:
        """Run what is ready still, wait for what runs, and let go of the nodes."""
        give_up = self._give_up or monotonic() + _LAST_SECONDS
        for _ in range(_LAST):
            if self.failure is not None or not self.context.ok() or monotonic() > give_up:
                break
            if not self._once(0.0, last=True):
                break
        if self._pool is not None:
            self._pool.shutdown()
        for node in self.get_nodes():
            self.remove_node(node)
        with self._lock:
            self._finished = True
        self.shutdown()

    def _once(self, timeout_sec: float | None, last: bool = False) -> bool:
        try:
            task, _, _ = self.wait_for_ready_callbacks(
                timeout_sec, None, _never if last else self._is_over
            )
        except (
            ConditionReachedException,
            ExternalShutdownException,
            # Another thread has destroyed what was about to be waited for.
            rclpy_implementation.InvalidHandle,
            ShutdownException,
            TimeoutException,
        ):
            return False
        if self._pool is None:
            self._run(task)
        else:
            self._pool.submit(self._run, task)
        return True

    def _run(self, task: Task[Any]) -> None:
        failure: BaseException | None
        try:
            task()
            failure = task.exception() if task.done() else None
        except BaseException as error:
            task.set_exception(RuntimeError('ended'))  # else it would be looked at for ever
            task.exception()  # and told once more at the end
            failure = error
        if failure is not None and self.failure is None:
            self.failure = failure
            self.wake()

    def _is_over(self) -> bool:
        return self.over


def _never() -> bool:
    return False
