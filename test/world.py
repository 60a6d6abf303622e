# SPDX-License-Identifier: Apache-2.0
"""A small ROS world for tests: real nodes over real DDS, spun in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import cv2
import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Log
from rcl_interfaces.msg import Parameter as ParameterMsg
from rcl_interfaces.srv import SetParametersAtomically
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Detection2DArray

from trt_perception.core import Frame, Stamp
from trt_perception.health.statistics import FrameCounts
from trt_perception.ros.images import compressed_msg, image_msg

T = TypeVar('T')
TIMEOUT = 120.0  # for what takes a moment; a loaded machine takes more of them
RELIABLE = QoSProfile(depth=100)
LATCHED = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
LATEST = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
#: What a test's machine has to do with it, and its pictures, which are all the same.
NO_BUDGET = {
    'latency_budget_ms': 0.0,
    'rate_min_hz': 0.0,
    'frozen_after': 0.0,
    'policy.enabled': False,
}
BEST_EFFORT = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)


class World:
    """Nodes in a domain of their own. The test's thread only waits for what they do."""

    def __init__(self, domain_id: int) -> None:
        self.domain_id = domain_id
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain_id)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._nodes: list[Node] = []
        self._closing = False
        self._changed = threading.Condition()
        self.node = Node('observer', context=self.context)
        self.add(self.node)
        self._thread = threading.Thread(target=self._spin)
        self._thread.start()

    def add(self, node: Node) -> Node:
        self._nodes.append(node)
        self._executor.add_node(node)
        self._executor.wake()
        return node

    def remove(self, node: Node) -> None:
        self._executor.remove_node(node)
        self._nodes.remove(node)
        node.destroy_node()

    def close(self) -> None:
        self._closing = True
        self._executor.wake()
        self._thread.join()
        for node in reversed(self._nodes):
            node.destroy_node()
        self._executor.shutdown()
        rclpy.shutdown(context=self.context)

    def until(self, condition: Callable[[], T], what: str = '') -> T:
        """Wait until the condition is true; its value."""
        give_up = monotonic() + TIMEOUT
        while not (value := condition()):
            assert monotonic() < give_up, f'not within {TIMEOUT:.0f} s: {what or condition}'
            with self._changed:
                self._changed.wait(0.05)
        return value

    def subscribe(self, kind: type[T], topic: str, qos: QoSProfile = RELIABLE) -> list[T]:
        """Collect what comes, in the list that is returned."""
        seen: list[T] = []
        self.node.create_subscription(kind, topic, seen.append, qos)
        return seen

    def log(self) -> list[Log]:
        """Collect what the nodes log. What they said before this is heard too."""
        return self.subscribe(Log, '/rosout', LATCHED)

    def call(self, kind: Any, name: str, request: Any) -> Any:
        """Call a service; its response."""
        client = self.node.create_client(kind, name)
        try:
            assert client.wait_for_service(TIMEOUT), name
            future = client.call_async(request)
            return self.until(lambda: future.done() and future.result(), name)
        finally:
            self.node.destroy_client(client)

    def _spin(self) -> None:
        while not self._closing:
            self._executor.spin_once(timeout_sec=0.1)
            with self._changed:
                self._changed.notify_all()


class Camera:
    """A publisher of images."""

    def __init__(
        self, world: World, topic: str = 'image', kind: Any = Image, qos: QoSProfile = RELIABLE
    ) -> None:
        self._world = world
        self.publisher = world.node.create_publisher(kind, topic, qos)
        self._sent = 0

    def until_heard(self) -> Camera:
        self._world.until(self.publisher.get_subscription_count, 'somebody subscribes')
        return self

    def send(self, msg: Image | CompressedImage) -> None:
        self.publisher.publish(msg)

    def close(self) -> None:
        self._world.node.destroy_publisher(self.publisher)


def picture(
    number: int = 0, width: int = 64, height: int = 64, color: Sequence[int] = (0, 0, 0)
) -> Image:
    """An rgb8 image whose stamp is its number."""
    pixels = np.full((height, width, 3), color, np.uint8)
    stamp = Stamp(number, 123)
    return image_msg(Frame.from_array(pixels, 'rgb8', stamp=stamp, frame_id='camera_optical'))


def jpeg(color: Sequence[int] = (255, 0, 0), extension: str = '.jpg') -> CompressedImage:
    """A compressed image of one colour; red, green, blue."""
    _, data = cv2.imencode(extension, np.full((48, 64, 3), color[::-1], np.uint8))
    return compressed_msg(Frame.from_compressed(data.reshape(-1), stamp=Stamp(5, 6)))


def classes(message: Detection2DArray) -> list[str]:
    """What each detection is said to be."""
    return [d.results[0].hypothesis.class_id for d in message.detections]


def values(status: DiagnosticStatus) -> dict[str, str]:
    """What a status says beside its message."""
    return {v.key: v.value for v in status.values}


class Managed:
    """A lifecycle node, asked by its services."""

    world: World
    name: str

    def state(self) -> str:
        response = self.world.call(GetState, f'{self.name}/get_state', GetState.Request())
        return str(response.current_state.label)

    def change(self, transition: str) -> bool:
        """Ask for a transition by its label; whether it worked."""
        request = ChangeState.Request()
        request.transition.label = transition
        response = self.world.call(ChangeState, f'{self.name}/change_state', request)
        return bool(response.success)

    def set(self, **values: Any) -> str:
        """Set parameters all at once; '' or the reason why they were refused."""
        messages: list[ParameterMsg] = [
            Parameter(name, value=value).to_parameter_msg() for name, value in values.items()
        ]
        request = SetParametersAtomically.Request(parameters=messages)
        service = f'{self.name}/set_parameters_atomically'
        response = self.world.call(SetParametersAtomically, service, request)
        assert response.result.successful == (not response.result.reason)
        return str(response.result.reason)


class Robot(Managed):
    """A detector in a world, and what it says."""

    name = 'detector'

    def __init__(self, world: World, model: Path | str, **parameters: Any) -> None:
        from trt_perception.nodes.detector import DetectorNode

        self.world = world
        self.detections = world.subscribe(Detection2DArray, 'detections')
        self._said: list[DiagnosticStatus] = []
        world.node.create_subscription(DiagnosticArray, '/diagnostics', self._hear, RELIABLE)
        self._looked_at = 0
        given = {'model': str(model), 'threads': 1, **NO_BUDGET, **parameters}
        overrides = [Parameter(name, value=value) for name, value in given.items()]
        self.node = DetectorNode(context=world.context, parameter_overrides=overrides)
        world.add(self.node)
        world.until(lambda: self.node.count_subscribers('detections'), 'discovery')

    def _hear(self, message: DiagnosticArray) -> None:
        self._said += [s for s in message.status if s.name.endswith(': inference')]

    def status(self) -> DiagnosticStatus:
        """What it said last of itself on /diagnostics."""
        self.world.until(lambda: self._said, 'diagnostics')
        return self._said[-1]

    def until_says(
        self, condition: Callable[[DiagnosticStatus], bool], what: str = ''
    ) -> DiagnosticStatus:
        """The first status that meets a condition, from the one found the last time on.

        None is missed, however soon it is followed by another one.
        """

        def found() -> DiagnosticStatus | None:
            for number in range(self._looked_at, len(self._said)):
                if condition(status := self._said[number]):
                    self._looked_at = number
                    return status
            return None

        return self.world.until(found, what)

    def next_status(self) -> DiagnosticStatus:
        """What it says of a whole period from now on."""
        heard = len(self._said) + 2
        self.world.until(lambda: len(self._said) >= heard, 'diagnostics')
        return self._said[-1]

    def values(self) -> dict[str, str]:
        return values(self.status())

    def counts(self) -> dict[str, int]:
        """Its counters, once they tell where every frame went."""

        def complete() -> dict[str, int]:
            counted = {k: int(v) for k, v in self.values().items() if v.isdecimal()}
            whole = counted['received'] == sum(counted[f] for f in FrameCounts.FATES)
            return counted if whole else {}

        return self.world.until(complete, 'all frames accounted for')

    def until_counted(self, **wanted: int) -> dict[str, int]:
        """Wait for counters to have these values."""
        self.world.until(
            lambda: all(self.values().get(k) == str(v) for k, v in wanted.items()),
            f'{wanted}, last {self.values()}',
        )
        return self.counts()

    def get(self, name: str) -> Any:
        return self.node.get_parameter(name).value

    def until_active(self) -> Robot:
        self.world.until(lambda: self.values()['state'] == 'active', 'active')
        return self

    def answer(self, camera: Camera, image: Image | CompressedImage) -> Detection2DArray:
        """Send one image and wait for what was found in it."""
        already = len(self.detections)
        camera.send(image)
        self.world.until(lambda: len(self.detections) > already, 'detections')
        return self.detections[already]


def all_is_well(robot: Robot) -> None:
    """Wait for a detector to say so of its first answer."""
    robot.until_says(
        lambda s: values(s)['published'] == '1' and s.level == DiagnosticStatus.OK, 'all is well'
    )
