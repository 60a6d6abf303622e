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


def status_msg(
    name: str, verdict: Verdict, hardware_id: str, values: Mapping[str, object]
) -> DiagnosticStatus:
    """A verdict and what is beside it, as a message."""
    return DiagnosticStatus(
        level=verdict.level,
        name=name,
        message=verdict.message,
        hardware_id=hardware_id,
        values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
    )


class DiagnosticPublisher:
    """Publishes one status of a node on ``/diagnostics``.

    Attributes:
        name: of the status.
        level: that was last told; None before the first.
    """

    def __init__(self, node: Node, task: str) -> None:
        """Advertise.

        Args:
            task: the status is named ``<node>: <task>``, as diagnostic_updater does, with the
                namespace, so that two cameras' are told apart.
        """
        self.level: bytes | None = None
        self._node = node
        self.name = f'{node.get_fully_qualified_name().lstrip("/")}: {task}'
        self._publisher = node.create_publisher(DiagnosticArray, '/diagnostics', 10)

    def publish(self, verdict: Verdict, hardware_id: str, values: Mapping[str, object]) -> None:
        """Say how it goes.

        Args:
            hardware_id: what it is about, always the same: a device, a source, a camera's topic.
        """
        self.level = verdict.level
        message = DiagnosticArray(status=[status_msg(self.name, verdict, hardware_id, values)])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)


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
