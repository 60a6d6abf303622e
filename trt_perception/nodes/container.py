# SPDX-License-Identifier: Apache-2.0
"""The container: components of any package in one process, each on a thread of its own."""

from __future__ import annotations

import threading
from itertools import count
from typing import Any

from composition_interfaces.srv import ListNodes, LoadNode, UnloadNode
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from trt_perception.ros.component import FAILED, RUNNING, Component
from trt_perception.ros.components import ComponentError, Wanted, wanted_from
from trt_perception.ros.diagnostics import ERROR, OK, Diagnostics, Verdict

REPORT_PERIOD = 1.0
#: Seconds that a component gets to end before its unloading is said to have failed.
PATIENCE = 30.0
#: Seconds after which it is said which component is waited for at the end.
SLOW = 5.0
#: Loads that failed and are told on diagnostics, at most.
_FAILURES = 20


class ContainerNode(Node):
    """Loads, lists and unloads components, and says how they are.

    Its own callbacks may run at the same time and wait: `GuardedExecutor` with many threads.

    Attributes:
        closing: whether all is being ended.
    """

    def __init__(self, threads: int = 1, **kwargs: Any) -> None:
        """Offer the services.

        Args:
            threads: for the callbacks of each component.
            kwargs: those of ``rclpy.node.Node``.
        """
        super().__init__('perception_container', **kwargs)
        self._threads = threads
        self._lock = threading.RLock()
        self._ids = count(1)
        self._components: dict[int, Component] = {}
        self._not_loaded: dict[str, str] = {}
        self.closing = False
        self._diagnostics = Diagnostics(self)
        group = ReentrantCallbackGroup()
        for kind, name, answer in (
            (LoadNode, 'load_node', self._on_load),
            (UnloadNode, 'unload_node', self._on_unload),
            (ListNodes, 'list_nodes', self._on_list),
        ):
            self.create_service(kind, f'~/_container/{name}', answer, callback_group=group)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(REPORT_PERIOD, self._report, callback_group=group, clock=steady)

    def load(self, wanted: Wanted, bring_up: bool = False) -> tuple[int, Component]:
        """Make a component and wait until it runs.

        Args:
            bring_up: whether to configure and activate it, if it is a lifecycle node.

        Returns:
            Its unique id, and it.

        Raises:
            ComponentError: there is none such, or it has failed.
        """
        number = 0
        try:
            number, component = self._begin(wanted, bring_up)
            component.wait_until_up()
        except ComponentError as error:
            if not number:  # a component that had a thread has said so itself
                self.get_logger().error(str(error))
            with self._lock:
                self._components.pop(number, None)
                self._not_loaded[str(wanted)] = str(error)
                while len(self._not_loaded) > _FAILURES:
                    del self._not_loaded[next(iter(self._not_loaded))]
            self._report()
            raise
        with self._lock:
            self._not_loaded.pop(str(wanted), None)
            names = [c.name for c in self._components.values() if not c.ended]
        if names.count(component.name) > 1:
            self.get_logger().warning(
                f'there are {names.count(component.name)} components {component.name}, whose'
                ' parameters and services answer for each other; give each a name of its own'
            )
        self.get_logger().info(f'{number}: {component.name} ({wanted.plugin})')
        return number, component

    def components(self) -> list[Component]:
        """All that were loaded and not unloaded, in their order."""
        with self._lock:
            return [component for _, component in sorted(self._components.items())]

    def close(self) -> None:
        """Take no more, and end all in reverse order, one after the other."""
        with self._lock:
            self.closing = True
        for component in reversed(self.components()):
            component.stop()
            if not component.join(SLOW):
                self.get_logger().warning(
                    f'waiting for {component} to end; SIGQUIT (Ctrl+\\) ends the process without it'
                )
                component.join()

    def _begin(self, wanted: Wanted, bring_up: bool) -> tuple[int, Component]:
        with self._lock:
            if self.closing:
                raise ComponentError(f'{wanted}: the container is ending')
            number = next(self._ids)
            component = self._components[number] = Component(
                wanted,
                self.context,
                self.get_logger(),
                threads=self._threads,
                bring_up=bring_up,
                on_change=self._report,
            )
            return number, component

    def _on_load(self, request: LoadNode.Request, response: LoadNode.Response) -> Any:
        try:
            number, component = self.load(wanted_from(request))
        except ComponentError as error:
            response.success, response.error_message = False, str(error)
            return response
        response.success = True
        response.unique_id, response.full_node_name = number, component.name
        return response

    def _on_unload(self, request: UnloadNode.Request, response: UnloadNode.Response) -> Any:
        problem = self._unload(request.unique_id)
        if problem:
            self.get_logger().warning(problem)
        response.success, response.error_message = not problem, problem
        return response

    def _unload(self, number: int) -> str:
        """End a component and forget it; '' or what was the matter with it."""
        with self._lock:
            component = self._components.get(number)
            known = ', '.join(f'{n} {c.name}' for n, c in sorted(self._components.items()))
        if component is None:
            return f'no component {number}; there are {known or "none"}'
        was_running = component.state == RUNNING
        component.stop()
        if not component.join(PATIENCE):
            return f'{component} has not ended in {PATIENCE:.0f} s: a callback of it still runs'
        with self._lock:
            self._components.pop(number, None)
        self._report()
        if component.state == FAILED:
            when = 'ended badly' if was_running else 'had failed before, and is forgotten now'
            return f'{component} {when}: {component.problem}'
        return ''

    def _on_list(self, request: ListNodes.Request, response: ListNodes.Response) -> Any:
        with self._lock:
            running = [i for i in sorted(self._components.items()) if i[1].state == RUNNING]
        response.unique_ids = [number for number, _ in running]
        response.full_node_names = [component.name for _, component in running]
        return response

    def _report(self) -> None:
        if not self.context.ok():
            return
        with self._lock:
            values = {str(c): c.told for c in self.components()} | self._not_loaded
            bad = [f'{c}: {c.told}' for c in self.components() if not c.well]
            bad += [f'{name}: {problem}' for name, problem in self._not_loaded.items()]
            well = Verdict(OK, f'{len(values)} components')
            verdict = Verdict(ERROR, '; '.join(bad)) if bad else well
            self._diagnostics.publish('components', verdict, '', values)
