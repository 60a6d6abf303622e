# SPDX-License-Identifier: Apache-2.0
"""What our lifecycle nodes have in common: how they come up, go down, and say what goes wrong."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import rclpy.lifecycle
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from trt_perception.core import PerceptionError
from trt_perception.core.errors import one_line
from trt_perception.ros import parameters
from trt_perception.ros.bond import Bond, check_installed
from trt_perception.ros.diagnostics import ERROR, OK, WARN, Verdict
from trt_perception.ros.intra_process import bus_of
from trt_perception.ros.lifecycle_parameters import AUTOSTART, BOND

_Transition = Callable[['ManagedNode', LifecycleState], TransitionCallbackReturn]


def _told(transition: _Transition) -> _Transition:
    """Say what goes wrong in a transition: rclpy takes every exception for an error, unread."""

    @functools.wraps(transition)
    def told(node: ManagedNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(node, state)
        except Exception as error:
            node.fail(f'{transition.__name__} failed: {type(error).__name__}: {one_line(error)}')
            return TransitionCallbackReturn.ERROR

    return told


class ManagedNode(rclpy.lifecycle.LifecycleNode):
    """A lifecycle node that starts up by itself unless a manager does it, and keeps its bond.

    What it does in which state is said by the five methods that a subclass has to write; each may
    raise, and is told. One that cannot be configured stays unconfigured and can be tried again,
    one in which a transition went wrong is unconfigured again.
    """

    _built = False  # rclpy destroys nodes whose constructor has failed, too

    def __init__(
        self, name: str, table: Sequence[parameters.Parameter], *, more: bool = False, **kwargs: Any
    ) -> None:
        """Declare parameters. A subclass calls `_begin` when all the rest is made.

        Args:
            table: with those of `LIFECYCLE`.
            more: as of `parameters.declare`.
            kwargs: those of ``rclpy.node.Node``.

        Raises:
            ParameterError: a parameter's first value cannot be used.
            BondError: there is to be a bond, and can be none.
        """
        super().__init__(name, **kwargs)
        parameters.declare(self, table, more=more)
        self._table: list[parameters.Parameter] = [*table]
        if self.get_parameter(BOND.name).value:
            check_installed()
        bus_of(self)  # whether it has one is decided here; what uses it is made later
        self._state = 'unconfigured'  # rclpy of Humble does not tell its own
        self._problem = ''  # why it is not configured
        self._bond: Bond | None = None
        # Real time: a paused simulation must not stop the diagnostics.
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)

    def _load(self) -> None:
        """Configure, by the parameters as they are now.

        Raises:
            PerceptionError: they cannot be used; what was made of it is left to `_unload`.
        """
        raise NotImplementedError

    def _start(self) -> None:
        """Begin with what was loaded."""
        raise NotImplementedError

    def _stop(self) -> None:
        """Do no more, until it is started again; nothing is sent once this returns."""
        raise NotImplementedError

    def _unload(self) -> None:
        """Free what there is, started or not, all of it or none."""
        raise NotImplementedError

    def _report(self) -> None:
        """Tell diagnostics how it goes; now and then, and at the end."""
        raise NotImplementedError

    @_told
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Get ready; one that cannot stays unconfigured and says why."""
        try:
            self._load()
        except PerceptionError as error:
            self._free()
            self.fail(f'not configured: {error}')
            return TransitionCallbackReturn.FAILURE
        self._problem = ''
        self._state = 'inactive'
        return TransitionCallbackReturn.SUCCESS

    @_told
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin to work."""
        self._start()
        self._break_bond()
        if self.get_parameter(BOND.name).value:
            self._bond = Bond(self)
        self._state = 'active'
        return TransitionCallbackReturn.SUCCESS

    @_told
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Work no more; nothing is published once this returns."""
        self._stop()
        if self._bond is not None:
            self._bond.break_off()
        self._state = 'inactive'
        self._report()
        return TransitionCallbackReturn.SUCCESS

    @_told
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free what configuring made."""
        self._free()
        return TransitionCallbackReturn.SUCCESS

    @_told
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free all, from any state."""
        self._free()
        self._state = 'finalized'
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free what there is; the node can be configured again."""
        self._free()
        return TransitionCallbackReturn.SUCCESS

    def fail(self, problem: str) -> None:
        """Say why the node is not configured, in the log now and on diagnostics until it is."""
        self._problem = problem
        self.get_logger().error(problem)

    def destroy_node(self) -> None:
        """Free all; the last word goes to diagnostics."""
        if self._built:
            self._free()
            self._end()
            # rclpy leaves it to the garbage collector, and with it the node below, whose late end
            # would take /rosout away from the next node of this name.
            self._state_machine.destroy_when_not_in_use()
        super().destroy_node()

    def _begin(self, report_period: float) -> None:
        """Report every so many seconds, and start up from the executor if that is wanted."""
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self.create_timer(report_period, self._report, clock=self._steady)
        if self.get_parameter(AUTOSTART.name).value:
            self._start_timer = self.create_timer(0.0, self._autostart, clock=self._steady)
        self._built = True

    def _end(self) -> None:
        """What is left to do when all has been freed."""
        self._report()

    def _standing(self) -> Verdict:
        """How it goes, as far as the life cycle tells."""
        if self._problem:
            return Verdict(ERROR, self._problem)
        return Verdict(OK if self._state in ('inactive', 'active') else WARN, self._state)

    def _on_set_parameters(self, proposed: list[Parameter[Any]]) -> SetParametersResult:
        """Refuse what a parameter does not take, which the next configuring would trip over."""
        try:
            parameters.changed(self._table, parameters.values(self, self._table), proposed)
        except PerceptionError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _autostart(self) -> None:
        self._start_timer.cancel()
        if self._state == 'unconfigured' and not self._problem:  # else somebody has tried before
            self.trigger_configure()
        if self._state == 'inactive':
            self.trigger_activate()

    def _break_bond(self) -> None:
        if self._bond is not None:
            self._bond.close()
            self._bond = None

    def _free(self) -> None:
        self._break_bond()
        self._unload()
        self._state = 'unconfigured'
