# SPDX-License-Identifier: Apache-2.0
"""What was found in images, to this process and to others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vision_msgs.msg import Detection2DArray

from trt_perception.core import Sighting
from trt_perception.core.cdr import detection_array_cdr
from trt_perception.ros.intra_process import Place, bus_of

if TYPE_CHECKING:
    from rclpy.node import Node

DETECTIONS = 'vision_msgs/msg/Detection2DArray'


class DetectionsOutput:
    """Hands sightings over to the nodes of this process, and publishes them for others.

    A message is made only while somebody subscribes to it.
    """

    def __init__(self, node: Node, topic: str = 'detections', depth: int = 10) -> None:
        """Advertise.

        Args:
            topic: name before remapping.
            depth: messages that the middleware holds back.
        """
        self._node = node
        # First: whoever sees the publisher in the graph finds that it need not subscribe.
        bus = bus_of(node)
        place = Place(node.resolve_topic_name(topic), DETECTIONS)
        self._sender = None if bus is None else bus.sender(place)
        self._publisher = node.create_publisher(Detection2DArray, topic, depth)

    @property
    def subscribers(self) -> int:
        """Who takes the detections, in this process and elsewhere."""
        here = 0 if self._sender is None else self._sender.readers
        return here + int(self._publisher.get_subscription_count())

    def send(self, sighting: Sighting) -> None:
        """Send what was found in one image; its arrays must not change any more."""
        if self._sender is not None and self._sender.readers:
            found = sighting.detections
            for array in (found.boxes, found.scores, found.class_ids):
                array.flags.writeable = False
            self._sender.send(sighting)
        if self._publisher.get_subscription_count():
            stamp, frame_id, detections, class_names = sighting
            self._publisher.publish(detection_array_cdr(detections, stamp, frame_id, class_names))

    def close(self) -> None:
        """Send no more; not while `send` is under way."""
        if self._sender is not None:
            self._sender.close()
        self._node.destroy_publisher(self._publisher)
