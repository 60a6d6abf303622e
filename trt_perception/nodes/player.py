# SPDX-License-Identifier: Apache-2.0
"""The player: recorded images out as a camera's topic."""

from __future__ import annotations

import threading
from dataclasses import replace
from itertools import count
from time import monotonic_ns
from typing import Any

from rclpy.node import Node

from trt_perception.core import Frame, PerceptionError, Stamp
from trt_perception.core.files import user_path
from trt_perception.replay.sources import open_source, timeline
from trt_perception.ros import parameters
from trt_perception.ros.image_output import ImageOutput
from trt_perception.ros.parameters import ParameterError
from trt_perception.ros.recording_parameters import PLAYER

#: Seconds that the last image gets to reach its subscribers.
LINGER = 1.0
#: Seconds that the subscribers waited for get to be ready.
SETTLE = 0.5


class PlayerNode(Node):
    """Publishes a video, a bag or a folder of pictures, at the recorded times, from its own thread.

    An image is stamped when it is published, not with the time of its recording: what is downstream
    then measures its latency, and drops nothing as too old.

    Attributes:
        published: images sent.
        late: of those, sent after their time: reading or sending took too long.
        finished: all is played, or playing failed.
        exit_code: for the process; not 0 if it failed.
    """

    _built = False  # rclpy destroys nodes whose constructor has failed, too

    def __init__(self, **kwargs: Any) -> None:
        """Open the input, advertise and begin.

        Args:
            kwargs: those of ``rclpy.node.Node``.

        Raises:
            ParameterError: a parameter's value cannot be used.
            SourceError: the input is not there or cannot be read.
        """
        super().__init__('player', **kwargs)
        parameters.declare(self, PLAYER, fixed=True)
        self._values = parameters.values(self, PLAYER)
        if not self._values['input']:
            raise ParameterError('input: is empty; give a video, a rosbag2 or a folder of pictures')
        path = user_path(self._values['input'])
        self._source = open_source(path, self._values['topic'])
        self.published = self.late = 0
        self.finished = False
        self.exit_code = 1  # until all is played
        self._output = ImageOutput(
            self, compressed=self._source.compressed, reliability=self._values['reliability']
        )
        many = self._source.count or 'an unknown number of'
        rate = self._values['rate'] or self._source.rate
        self.get_logger().info(f'{path}: {many} images at {rate:.4g} Hz to {self._output.topic}')
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name='player')
        self._thread.start()
        self._built = True

    def destroy_node(self) -> None:
        """Stop playing."""
        if self._built:
            self._stopping.set()
            self._thread.join()
            self._output.close()
        super().destroy_node()

    def _run(self) -> None:
        try:
            self._play()
            self.exit_code = 0
        except PerceptionError as error:
            self.get_logger().error(str(error))
        finally:
            # An image under way dies with its publisher. Fast DDS acknowledges the last one only
            # seconds later, with its next heartbeat: there is nothing better to wait for.
            self._stopping.wait(LINGER)
            late = f', {self.late} of them late' if self.late else ''
            self.get_logger().info(f'{self.published} images published{late}')
            self.finished = True

    def _play(self) -> None:
        self._wait_for_subscribers(self._values['wait_for_subscribers'])
        start = 0
        for due, frame in timeline(self._source, self._values['rate'], self._values['loop']):
            start = start or monotonic_ns()
            # From the start, not from the image before: small delays do not add up.
            wait = start + due - monotonic_ns()
            if self._stopping.wait(max(0, wait) / 1e9):
                return
            self.late += wait < 0 and due > 0
            self._publish(frame)

    def _wait_for_subscribers(self, wanted: int) -> None:
        for look in count():
            have = self._output.subscribers
            if have >= wanted:
                # They may know of this publisher a moment later than it knows of them.
                self._stopping.wait(SETTLE if wanted else 0)
                return
            if look % 100 == 50:
                self.get_logger().info(
                    f'waiting for {wanted} subscriptions of {self._output.topic}, {have} there'
                )
            if self._stopping.wait(0.05):
                return

    def _publish(self, frame: Frame) -> None:
        frame_id = self._values['frame_id'] or frame.frame_id or 'camera'
        stamp = Stamp.of(self.get_clock().now().nanoseconds)
        source = self._output.source
        self._output.send(replace(frame, stamp=stamp, frame_id=frame_id, source=source))
        self.published += 1
