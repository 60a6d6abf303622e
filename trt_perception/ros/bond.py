# SPDX-License-Identifier: Apache-2.0
"""A bond: how Nav2's lifecycle manager notices that a node has died.

Both sides publish a heartbeat on one topic under the bond's id, and each takes the other's as a
sign of life. A side that ends the bond says so, until the other has said the same.
"""

from __future__ import annotations

import uuid
from time import monotonic
from typing import TYPE_CHECKING

from rclpy.clock import Clock, ClockType
from rclpy.qos import QoSProfile

from trt_perception.core import PerceptionError

if TYPE_CHECKING:
    from bond.msg import Status
    from rclpy.node import Node

WAITING, FORMED, BREAKING, BROKEN = 'waiting', 'formed', 'breaking', 'broken'
#: Nav2's, in seconds. Its manager breaks the bond without a heartbeat for its own bond_timeout, and
#: a managed node never does: where there is no manager any more, it works on.
HEARTBEAT_PERIOD, HEARTBEAT_TIMEOUT = 0.1, 4.0
#: The other side gets so long to come, and to say that it has heard of the end.
CONNECT_TIMEOUT, DISCONNECT_TIMEOUT = 10.0, 2.0
#: Between two messages about the end.
BREAK_PERIOD = 0.05


class BondError(PerceptionError):
    """A bond that cannot be had."""


class Bond:
    """The managed node's side; made when it is activated.

    Its heart beats on the executor: a node whose callbacks hang is as good as dead.

    Attributes:
        state: ``waiting`` for the other side, ``formed``, ``breaking`` or ``broken``.
    """

    def __init__(self, node: Node) -> None:
        """Begin, under the node's name and on the topic ``bond`` of its namespace, as Nav2 does.

        Raises:
            BondError: the package bond is not installed.
        """
        check_installed()
        from bond.msg import Status

        self.state = WAITING
        self._node = node
        self._id = node.get_name()
        self._own = str(uuid.uuid4())
        self._give_up = monotonic() + CONNECT_TIMEOUT
        self._publisher = node.create_publisher(Status, 'bond', QoSProfile(depth=5))
        self._subscription = node.create_subscription(
            Status, 'bond', self._hear, QoSProfile(depth=100)
        )
        # Real time: a paused simulation must not break it.
        self._clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(HEARTBEAT_PERIOD, self._beat, clock=self._clock)
        self._beat()

    def break_off(self) -> None:
        """Say that it ends; does not wait until the other side has heard it."""
        if self.state == FORMED:
            self.state = BREAKING
            self._give_up = monotonic() + DISCONNECT_TIMEOUT
            self._say(active=False)
            self._node.destroy_timer(self._timer)
            self._timer = self._node.create_timer(BREAK_PERIOD, self._beat, clock=self._clock)
        elif self.state == WAITING:
            self._say(active=False)
            self._end()

    def close(self) -> None:
        """Break off for good, with the node."""
        if self.state != BROKEN:
            self._say(active=False)
            self._end()
        self._node.destroy_timer(self._timer)
        self._node.destroy_subscription(self._subscription)
        self._node.destroy_publisher(self._publisher)

    def _hear(self, message: Status) -> None:
        if message.id != self._id or message.instance_id == self._own or self.state == BROKEN:
            return
        if not message.active:
            if self.state != BREAKING:
                self._say(active=False)  # heard
                self._node.get_logger().info('the bond with the lifecycle manager has ended')
            self._end()
        elif self.state == WAITING:
            self.state = FORMED
            self._node.get_logger().info('bond formed with a lifecycle manager')

    def _beat(self) -> None:
        late = monotonic() > self._give_up
        if self.state == FORMED or (self.state == WAITING and not late):
            self._say(active=True)
        elif self.state == BREAKING and not late:
            self._say(active=False)
        else:
            if self.state == WAITING:
                self._node.get_logger().warning(
                    f'no lifecycle manager has formed a bond within {CONNECT_TIMEOUT:.0f} s; its'
                    ' bond_timeout may be 0, or it is in another namespace'
                )
            self._end()

    def _say(self, active: bool) -> None:
        from bond.msg import Status

        message = Status(
            id=self._id,
            instance_id=self._own,
            active=active,
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            heartbeat_period=HEARTBEAT_PERIOD,
        )
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)

    def _end(self) -> None:
        self.state = BROKEN
        self._timer.cancel()


def check_installed() -> None:
    """See that there can be a bond.

    Raises:
        BondError: the package bond is not installed.
    """
    try:
        import bond.msg  # noqa: F401
    except ImportError:
        raise BondError(
            'bond: the package bond is not installed; sudo apt install ros-$ROS_DISTRO-bond'
        ) from None
