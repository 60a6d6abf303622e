# SPDX-License-Identifier: Apache-2.0
"""The executables of ``ros2 run trt_perception ...``.

Only the standard library is imported up here: importing ROS and OpenCV takes half a second, and a
signal that comes meanwhile must find `Stop` in place.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rclpy.node import Node

T = TypeVar('T')
NodeT = TypeVar('NodeT', bound='Node')


class Stop:
    """SIGINT and SIGTERM as a flag, so that they can never break into what is being done.

    rclpy's own handlers shut the context down at once, under the feet of a node that still has a
    frame to publish and a model to free, and its ``spin`` can miss an early SIGTERM.
    """

    def __init__(self) -> None:
        self.requested = False
        signal.signal(signal.SIGINT, self._handle)
        signal.signal(signal.SIGTERM, self._handle)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        self.requested = True

    @staticmethod
    def ignore() -> None:
        """From now on: the process ends anyway, and Python gives up its handlers before that."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def run(make_node: Callable[[], Node], stop: Stop) -> int:
    """Spin a node until a signal or until its attribute ``finished`` is true.

    Returns:
        The process's exit code: 0, or 2 for a user's mistake, which is printed in one line.
    """
    try:
        return _spin(make_node, stop)
    finally:
        stop.ignore()


def attempt(work: Callable[[], T]) -> T | None:
    """What it gives; a user's mistake is printed in one line and gives None."""
    from rclpy.exceptions import NameValidationException
    from rclpy.impl.implementation_singleton import rclpy_implementation

    from trt_perception.core import PerceptionError
    from trt_perception.core.errors import one_line

    try:
        return work()
    except (
        PerceptionError,
        NameValidationException,
        # A mistake in the ROS arguments, files among them, or in the environment.
        rclpy_implementation.RCLError,
        RuntimeError,
        ValueError,
    ) as error:
        print(f'error: {one_line(error)}', file=sys.stderr)
        return None


def begin(make_node: Callable[[], NodeT]) -> NodeT | None:
    """Start ROS and make a node, as an `attempt`."""
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    from trt_perception.runtime.malloc import few_arenas

    few_arenas()

    def start() -> NodeT:
        rclpy.init(args=sys.argv, signal_handler_options=SignalHandlerOptions.NO)
        return make_node()

    node = attempt(start)
    if node is None:
        rclpy.try_shutdown()
    return node


def _spin(make_node: Callable[[], Node], stop: Stop) -> int:
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.utilities import remove_ros_args

    if stop.requested:
        return 0

    def make() -> Node:
        for argument in remove_ros_args(sys.argv)[1:]:
            print(f"warning: '{argument}' has no effect; --ros-args goes before", file=sys.stderr)
        return make_node()

    node = begin(make)
    if node is None:
        return 2
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        while not stop.requested and not getattr(node, 'finished', False):
            # The time-out bounds how long a signal waits to be seen.
            executor.spin_once(timeout_sec=0.1)
    finally:
        executor.remove_node(node)
        node.destroy_node()
        executor.shutdown()
        rclpy.shutdown()
    return int(getattr(node, 'exit_code', 0))


def detector() -> int:
    """Detect objects in a camera topic."""
    stop = Stop()
    from trt_perception.nodes.detector import DetectorNode

    return run(DetectorNode, stop)


def player() -> int:
    """Publish a video, a bag or a folder of pictures as a camera topic."""
    stop = Stop()
    from trt_perception.nodes.player import PlayerNode

    return run(PlayerNode, stop)


def recorder() -> int:
    """Draw detections onto their images and keep a video, pictures and a summary."""
    stop = Stop()
    from trt_perception.nodes.recorder import RecorderNode

    return run(RecorderNode, stop)


def camera() -> int:
    """Publish what a device, a stream, a file or a GStreamer pipeline gives as a camera topic."""
    stop = Stop()
    from trt_perception.nodes.camera import CameraNode

    return run(CameraNode, stop)


def overlay() -> int:
    """Draw detections onto their images and publish these."""
    stop = Stop()
    from trt_perception.nodes.overlay import OverlayNode

    return run(OverlayNode, stop)


def replay() -> int:
    """Play a bag to a live detector and keep what it makes of it."""
    stop = Stop()
    from trt_perception.nodes.replay import ReplayNode

    return run(ReplayNode, stop)


def perception_container() -> int:
    """Run components, the callbacks of each one after the other."""
    return _container('perception_container', threads=1)


def perception_container_mt() -> int:
    """Run components, the callbacks of each at the same time as far as its groups allow."""
    return _container('perception_container_mt', threads=max(2, os.cpu_count() or 2))


def _container(name: str, threads: int) -> int:
    stop = Stop()
    from trt_perception.nodes.compose import run_container

    try:
        return run_container(name, stop, threads)
    finally:
        stop.ignore()
