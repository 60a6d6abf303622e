# SPDX-License-Identifier: Apache-2.0
"""Frames as a camera's images, to this process and to others."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from trt_perception.core import Frame, FrameError
from trt_perception.ros.image_input import COMPRESSED, RAW
from trt_perception.ros.images import compressed_msg, image_msg
from trt_perception.ros.intra_process import Place, bus_of

if TYPE_CHECKING:
    from rclpy.node import Node
    from rclpy.publisher import Publisher


class ImageOutput:
    """Hands frames over to the nodes of this process as they are, and publishes them for others.

    A message is made only while somebody subscribes to it. Compressed images go to
    ``<topic>/compressed``, as image_transport names it.

    Attributes:
        topic: what is published on.
        source: what frames that do not name their source are given as one: the camera's topic.
    """

    def __init__(
        self,
        node: Node,
        topic: str = 'image',
        *,
        compressed: bool = False,
        reliability: str = 'reliable',
        depth: int = 10,
    ) -> None:
        """Advertise.

        Args:
            topic: name before remapping.
            compressed: what frames will come: compressed ones, or the others.
            reliability: ``reliable`` or ``best_effort``.
            depth: images that the middleware holds back.
        """
        self._node = node
        self._compressed = compressed
        self.source = node.resolve_topic_name(topic)
        self.topic = f'{self.source}/compressed' if compressed else self.source
        self._lock = threading.Lock()
        # First: whoever sees the publisher in the graph finds that it need not subscribe.
        bus = bus_of(node)
        place = Place(self.topic, COMPRESSED if compressed else RAW)
        self._sender = None if bus is None else bus.sender(place)
        self._publisher: Publisher[Any] | None = node.create_publisher(
            CompressedImage if compressed else Image,
            self.topic,
            QoSProfile(depth=depth, reliability=ReliabilityPolicy[reliability.upper()]),
        )

    @property
    def subscribers(self) -> int:
        """Who takes the images, in this process and elsewhere."""
        with self._lock:
            if self._publisher is None:
                return 0
            here = 0 if self._sender is None else self._sender.readers
            return here + int(self._publisher.get_subscription_count())

    def send(self, frame: Frame) -> None:
        """Send a frame with its own stamp and frame_id; to nobody after `close`.

        From now on its bytes belong to all who take it: they are made read-only, and must not
        change by another way. On the thread that calls, whichever that is.

        Raises:
            FrameError: compressed where the output is for uncompressed images, or the reverse.
        """
        if frame.compressed != self._compressed:
            what = 'compressed' if self._compressed else 'uncompressed'
            raise FrameError('encoding', f'{frame.encoding} frame for {what} {self.topic}')
        with self._lock:
            if self._publisher is None:
                return
            if self._sender is not None:
                frame.data.flags.writeable = False
                self._sender.send(frame if frame.source else replace(frame, source=self.source))
            if self._publisher.get_subscription_count():
                self._publisher.publish((compressed_msg if frame.compressed else image_msg)(frame))

    def close(self) -> None:
        """Send no more; waits for a frame that is being sent."""
        with self._lock:
            if self._publisher is None:
                return
            if self._sender is not None:
                self._sender.close()
            self._node.destroy_publisher(self._publisher)
            self._publisher = None
