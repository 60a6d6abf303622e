# SPDX-License-Identifier: Apache-2.0
"""What a detector found, whether it is in this process or in another one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from rclpy.clock import Clock, ClockType
from vision_msgs.msg import Detection2DArray

from trt_perception.core import Detections, Sighting, Stamp
from trt_perception.core.errors import one_line
from trt_perception.ros.detections_output import DETECTIONS
from trt_perception.ros.diagnostics import ThrottledErrors
from trt_perception.ros.image_input import FOLLOW_PERIOD
from trt_perception.ros.intra_process import LocalInput, Place

if TYPE_CHECKING:
    from rclpy.node import Node
    from rclpy.subscription import Subscription


class DetectionsInput:
    """Takes sightings from a detector in this process, or subscribes while there is none."""

    def __init__(
        self,
        node: Node,
        on_sighting: Callable[[Sighting], None],
        *,
        topic: str = 'detections',
        depth: int = 10,
    ) -> None:
        """Prepare; nothing is subscribed before `start`.

        Args:
            on_sighting: takes each, in the executor or on the thread of a detector in this process:
                it must not wait.
            topic: name before remapping.
            depth: messages that the middleware holds back.
        """
        self._node = node
        self._on_sighting = on_sighting
        self._topic = node.resolve_topic_name(topic)
        self._depth = depth
        self._errors = ThrottledErrors(node.get_logger())
        place = Place(self._topic, DETECTIONS)
        self._local = LocalInput(node, [place], on_sighting, self._on_local_error)
        self._subscription: Subscription[Detection2DArray] | None = None
        clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(FOLLOW_PERIOD, self._follow, clock=clock)
        self._timer.cancel()

    def start(self) -> None:
        """Listen."""
        self._local.start()
        self._follow()
        self._timer.reset()

    def close(self) -> None:
        """Stop for good; nothing is taken once this returns."""
        self._timer.cancel()
        self._local.stop()
        self._unsubscribe()
        self._node.destroy_timer(self._timer)

    def problem(self) -> str:
        """Why nothing can arrive, in one line with the cure; '' if nothing is in the way."""
        if self._local.place is not None or self._node.count_publishers(self._topic):
            return ''
        return f'nobody publishes {self._topic}; start a detector or remap detections'

    def _follow(self) -> None:
        if self._local.place is not None:
            self._unsubscribe()
        elif self._subscription is None:
            self._subscription = self._node.create_subscription(
                Detection2DArray, self._topic, self._take, self._depth
            )

    def _unsubscribe(self) -> None:
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def _take(self, message: Detection2DArray) -> None:
        if self._local.place is None:  # else it is here already
            self._on_sighting(sighting(message))

    def _on_local_error(self, error: Exception) -> None:
        text = f'detections not taken: {type(error).__name__}: {one_line(error)}'
        self._errors.error(type(error).__name__, text)


def sighting(message: Detection2DArray) -> Sighting:
    """What a detection array says, by the best hypothesis of each detection.

    The numbers of the classes are this message's own: only their names were sent.
    """
    boxes, scores, names = [], [], []
    for detection in message.detections:
        centre = detection.bbox.center.position
        half_x, half_y = detection.bbox.size_x / 2, detection.bbox.size_y / 2
        best = max(detection.results, key=lambda r: r.hypothesis.score, default=None)
        boxes.append((centre.x - half_x, centre.y - half_y, centre.x + half_x, centre.y + half_y))
        scores.append(best.hypothesis.score if best else 0.0)
        names.append(best.hypothesis.class_id if best else '')
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    header = message.header
    return Sighting(
        Stamp(header.stamp.sec, header.stamp.nanosec),
        header.frame_id,
        Detections(
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array(scores, np.float32),
            np.array([numbers[name] for name in names], np.int32),
        ),
        tuple(numbers),
    )
