# SPDX-License-Identifier: Apache-2.0
"""What the demo's container and detector say of themselves."""

from __future__ import annotations

from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from trt_perception.health.statistics import FrameCounts
from trt_perception.ros.inference_status import component_states, inference_status

#: Name of the container's node.
CONTAINER = 'demo_graph'


class Listener:
    """Hears diagnostics; a context manager.

    Attributes:
        components: how each node is that the container has loaded, by its name.
        status: the last one, as `inference_status` gives it; empty before the first.
    """

    def __init__(self) -> None:
        self.status: dict[str, Any] = {}
        self.components: dict[str, str] = {}
        #: Images received, of each status since `forget` that told where every one of them went.
        self._complete: list[int] = []

    def __enter__(self) -> Listener:
        self._context = Context()
        rclpy.init(args=[], context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node('demo', context=self._context)
        self._node.create_subscription(DiagnosticArray, '/diagnostics', self._hear, 10)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        return self

    def __exit__(self, *error: object) -> None:
        self._node.destroy_node()
        self._executor.shutdown()
        rclpy.shutdown(context=self._context)

    def spin(self) -> None:
        """Listen for a moment."""
        self._executor.spin_once(timeout_sec=0.1)

    def forget(self) -> None:
        """There are more images to come."""
        self._complete.clear()

    def settled(self) -> bool:
        """Whether no frame is under way: the same number is accounted for a second time."""
        return len(self._complete) > 1 and self._complete[-1] == self._complete[-2]

    def _hear(self, message: DiagnosticArray) -> None:
        self.components = component_states(message, CONTAINER) or self.components
        status = inference_status(message)
        if status is None:
            return
        self.status = status
        if status['received'] == sum(status[fate] for fate in FrameCounts.FATES):
            self._complete.append(status['received'])
