# SPDX-License-Identifier: Apache-2.0
"""What a node says of itself on ``/diagnostics``, and log lines that do not flood."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

if TYPE_CHECKING:
    from rclpy.impl.rcutils_logger import RcutilsLogger
    from rclpy.node import Node

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
STALE = DiagnosticStatus.STALE


class Verdict(NamedTuple):
    """How it goes, in one word and one line."""

    level: bytes
    message: str


class Diagnostics:
    """What a node says of its tasks on ``/diagnostics``.

    A status is named ``<node>: <task>``, as diagnostic_updater does, with the namespace, so that
    those of two nodes are told apart.

    Attributes:
        levels: that were told last, by task.
    """

    def __init__(self, node: Node) -> None:
        """Advertise."""
        self.levels: dict[str, bytes] = {}
        self._node = node
        # They come at once, a status for each camera among them.
        self._publisher = node.create_publisher(DiagnosticArray, '/diagnostics', 100)

    def publish(
        self, task: str, verdict: Verdict, hardware_id: str, values: Mapping[str, object]
    ) -> DiagnosticStatus:
        """Say how it goes.

        Args:
            hardware_id: what it is about, always the same: a device, a source, a camera's topic.

        Returns:
            What was said.
        """
        status = DiagnosticStatus(
            level=verdict.level,
            name=f'{self._node.get_fully_qualified_name().lstrip("/")}: {task}',
            message=verdict.message,
            hardware_id=hardware_id,
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)
        self.levels[task] = verdict.level
        return status

    def forget(self, task: str) -> None:
        """It is told of no more."""
        self.levels.pop(task, None)


class ThrottledErrors:
    """Logs errors, each kind at most once in a while, with how many there were meanwhile."""

    def __init__(self, logger: RcutilsLogger, period: float = 5.0) -> None:
        self._logger = logger
        self._period = period
        self._last: dict[str, float] = {}
        self._held_back: dict[str, int] = {}

    def error(self, kind: str, text: str) -> None:
        now = monotonic()
        if now - self._last.get(kind, -self._period) < self._period:
            self._held_back[kind] = self._held_back.get(kind, 0) + 1
            return
        self._last[kind] = now
        more = self._held_back.pop(kind, 0)
        self._logger.error(f'{text} ({more} more such errors before)' if more else text)
