# SPDX-License-Identifier: Apache-2.0
"""A component at work: a node on a thread of its own."""

from __future__ import annotations

import gc
import threading
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn

from trt_perception.core import PerceptionError
from trt_perception.core.errors import one_line
from trt_perception.ros.components import ComponentError, Maker, Wanted
from trt_perception.ros.executor import GuardedExecutor
from trt_perception.ros.intra_process import bus_of, intra_process

if TYPE_CHECKING:
    from rclpy.context import Context
    from rclpy.impl.rcutils_logger import RcutilsLogger
    from rclpy.node import Node

STARTING, RUNNING, FINISHED, FAILED = 'starting', 'running', 'finished', 'failed'
#: False of a lifecycle node that is left to a lifecycle manager.
AUTOSTART = 'autostart'


class Component:
    """Made, spun and destroyed on one thread, so that nothing that it does holds up another.

    Attributes:
        state: ``starting``, ``running``, ``finished`` (asked to, or by itself) or ``failed``.
        problem: why it failed, in one line.
        name: of the node, with its namespace; '' before there is one.
        exit_code: the node's own, once it has finished by itself.
    """

    def __init__(
        self,
        wanted: Wanted,
        context: Context,
        logger: RcutilsLogger,
        *,
        threads: int = 1,
        bring_up: bool = False,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """Look for the class, and begin.

        Args:
            threads: for its callbacks.
            bring_up: whether to configure and activate a lifecycle node, and to take it down.
            on_change: called on the component's thread when its state has changed.

        Raises:
            ComponentError: there is no such component, or an argument cannot be honoured.
        """
        self.state = STARTING
        self.problem = ''
        self.name = ''
        self.exit_code = 0
        self.wanted = wanted
        self._maker = Maker(wanted)
        self._context = context
        self._logger = logger
        self._bring_up = bring_up
        self._on_change = on_change
        self._started = threading.Event()
        self._executor = GuardedExecutor(context, threads)
        # Not waited for by Python: a callback that never returns must not keep the process.
        self._thread = threading.Thread(target=self._live, name=wanted.plugin, daemon=True)
        self._thread.start()

    def __str__(self) -> str:
        return self.name or str(self.wanted)

    @property
    def ended(self) -> bool:
        """Whether it runs no more."""
        return self.state in (FINISHED, FAILED)

    @property
    def well(self) -> bool:
        """Whether nothing is wrong with it, nor was when it ended."""
        return self.state != FAILED and not self.exit_code

    @property
    def told(self) -> str:
        """How it is, for diagnostics."""
        if self.state == FAILED:
            return self.problem
        return f'ended with exit code {self.exit_code}' if self.exit_code else self.state

    def wait_until_up(self) -> None:
        """Wait until it runs.

        Raises:
            ComponentError: it has failed.
        """
        self._started.wait()
        if self.state == FAILED:
            raise ComponentError(self.problem)

    def stop(self) -> None:
        """Ask it to end; does not wait."""
        self._executor.stop()

    def join(self, seconds: float | None = None) -> bool:
        """Wait for its end; whether it has ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _live(self) -> None:
        try:
            node = self._make()
            if node is not None:
                try:
                    self._run(node)
                except BaseException as error:
                    self._fail('its thread', error)
                self._end(node)
        finally:
            self._started.set()

    def _make(self) -> Node | None:
        try:
            with intra_process(self._maker.use_intra_process):
                node = self._maker(self._context)
                bus_of(node)  # decides for what it opens later, on whichever thread
        except BaseException as error:
            self._fail('constructor', error)
        else:
            self.name = node.get_fully_qualified_name()
            self._executor.add_node(node)
            return node
        # What was made of the node hangs on to itself, and would stay in the graph.
        gc.collect()
        return None

    def _run(self, node: Node) -> None:
        self._bring_up = self._bring_up and _is_managed_here(node) and not self._executor.over
        if self._bring_up and not (self._go(node, 'configure') and self._go(node, 'activate')):
            return
        self._become(RUNNING)
        self._started.set()
        while not self._executor.over and getattr(node, 'finished', False) is not True:
            self._executor.spin_once()
        if self._executor.failure is not None:
            self._fail('a callback', self._executor.failure)

    def _go(self, node: Any, transition: str) -> bool:
        """Whether a lifecycle node makes a transition."""
        try:
            result = getattr(node, f'trigger_{transition}')()
        except BaseException as error:
            self._fail(transition, error)
            return False
        if result != TransitionCallbackReturn.SUCCESS:
            done = {'configure': 'configured', 'activate': 'activated'}[transition]
            self._fail(transition, ComponentError(f'not {done}; the log of {self.name} says why'))
            return False
        return True

    def _end(self, node: Any) -> None:
        """Destroy the node, whatever it thinks of that."""
        try:
            self._executor.finish()
        except BaseException as error:
            self._fail('a callback', error)
        steps = [node.destroy_node]
        if self._bring_up and self.state == RUNNING:
            steps = [node.trigger_deactivate, node.trigger_cleanup, node.destroy_node]
        for step in steps:
            try:
                step()
            except BaseException as error:
                # A lifecycle node may have been taken to another state by somebody else.
                if step == node.destroy_node:
                    self._fail('its end', error)
        if self.state != FAILED:
            code = getattr(node, 'exit_code', 0)
            self.exit_code = code if isinstance(code, int) else 0
            self._become(FINISHED)

    def _fail(self, where: str, error: BaseException) -> None:
        if isinstance(error, PerceptionError):
            problem = str(error)
        elif isinstance(error, SystemExit):
            problem = f'{where} called sys.exit({"" if error.code is None else error.code})'
        else:
            problem = f'{where} raised {type(error).__name__}: {one_line(error)}'
        self._logger.error(f'{self}: {problem}')
        if not isinstance(error, (PerceptionError, SystemExit)):
            self._logger.error(''.join(traceback.format_exception(error)).rstrip())
        if self.state != FAILED:  # what came first is the cause
            self.problem = problem
            self._become(FAILED)

    def _become(self, state: str) -> None:
        self.state = state
        self._on_change()


def _is_managed_here(node: Any) -> bool:
    """Whether a node has a life cycle, and leaves it to whoever started it."""
    if not isinstance(node, LifecycleNode):
        return False
    return not node.has_parameter(AUTOSTART) or node.get_parameter(AUTOSTART).value is not False
