# SPDX-License-Identifier: Apache-2.0
"""What comes of a source: images on a topic, with the calibration that fits them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from time import monotonic, monotonic_ns
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo

from trt_perception.core import FrameError, Stamp
from trt_perception.nodes.camera_monitor import CameraMonitor
from trt_perception.ros.camera_info import Calibration, camera_info
from trt_perception.ros.diagnostics import ThrottledErrors
from trt_perception.ros.image_output import ImageOutput
from trt_perception.ros.images import header_msg
from trt_perception.runtime.capture import Capture, CaptureError, CaptureLoop, Shot

#: Seconds that the last image of a recording gets to reach its subscribers.
LINGER = 1.0


class CameraStream:
    """Publishes what a source gives, on the two threads of its `CaptureLoop`, until it is closed.

    Attributes:
        what: what comes, in words.
        failed: trying again cannot help.
    """

    def __init__(
        self,
        node: Node,
        monitor: CameraMonitor,
        values: Mapping[str, Any],
        calibration: Calibration | None,
        capture: Capture,
    ) -> None:
        """Advertise and begin; does not wait for the source.

        Args:
            values: of the camera's parameters.
        """
        self.what = 'none'
        self.failed = False
        self._node = node
        self._monitor = monitor
        self._calibration = calibration
        self._source = capture.name
        self._frame_id = values['frame_id']
        self._misfit = (0, 0)
        self._ended_at: float | None = None
        self._errors = ThrottledErrors(node.get_logger())
        self._output = ImageOutput(
            node,
            'image',
            compressed=values['image_transport'] == 'compressed',
            reliability=values['reliability'],
        )
        self._info = node.create_publisher(
            CameraInfo,
            f'{node.resolve_topic_name("image").rpartition("/")[0]}/camera_info',
            QoSProfile(depth=10, reliability=ReliabilityPolicy[values['reliability'].upper()]),
        )
        self._loop = CaptureLoop(
            capture,
            self,
            repeat=values['loop'],
            rate=values['rate'],
            longest_pause=values['longest_pause'],
        )

    @property
    def subscribers(self) -> int:
        """Of the images, in this process and elsewhere."""
        return self._output.subscribers

    @property
    def over(self) -> bool:
        """Whether nothing more will come, and the last image has had its time to arrive."""
        # Fast DDS acknowledges it with its next heartbeat: nothing else tells when.
        return self._ended_at is not None and monotonic() > self._ended_at + LINGER

    def close(self) -> None:
        """Leave the source; nothing is sent once this returns."""
        if not self._loop.close():
            self._node.get_logger().info(
                f'{self._source} does not answer; it is left when its time-out is over, and the'
                ' process does not end before'
            )
        self._output.close()
        self._node.destroy_publisher(self._info)

    # What the `CaptureLoop` tells, on its threads.

    def on_open(self, what: str) -> None:
        """Say what comes, and that it comes again."""
        if self._monitor.state == 'running' and self.what == what:
            return  # a recording that begins again
        self.what = what
        self._monitor.count('connected')
        self._monitor.state, self._monitor.problem = 'running', ''
        self._misfit, self._monitor.misfit = (0, 0), ''
        self._node.get_logger().info(f'{self._source}: {what}; to {self._output.topic}')

    def on_read(self) -> None:
        """Count an image."""
        self._monitor.count('read')

    def on_shot(self, shot: Shot) -> None:
        """Send an image, with the calibration that fits it, if there is anybody to take them."""
        self._check_size(shot.width, shot.height)
        calibrating = self._info.get_subscription_count()
        if not calibrating and not self._output.subscribers:
            self._monitor.count('unheard')
            return
        stamp = self._stamp(shot.taken)
        frame = replace(shot.develop(), stamp=stamp, frame_id=self._frame_id)
        self._output.send(frame)
        if calibrating:
            header = header_msg(frame)
            self._info.publish(camera_info(self._calibration, header, shot.width, shot.height))
        self._monitor.published(monotonic_ns() - shot.taken)

    def on_unusable(self, error: FrameError) -> None:
        """Count and log an image that could not be sent."""
        text = f'image not sent: {error}'
        self._monitor.unusable(text)
        self._errors.error(error.kind, text)

    def on_passed(self, fate: str, number: int) -> None:
        """Count images that nobody gets."""
        self._monitor.count(fate, number)

    def on_failed(self, error: CaptureError, pause: float) -> None:
        """Say why there are no images; in the log only what was not said last."""
        if self._monitor.state == 'running':
            self._monitor.count('disconnected')
        if self._monitor.problem != str(error):
            again = '' if error.final else '; tried again until it works'
            self._node.get_logger().error(f'{error}{again}')
        self._monitor.problem = str(error)
        self._monitor.state = 'failed' if error.final else 'waiting'
        if error.final:
            self.failed = True
            self._ended_at = monotonic()

    def on_end(self) -> None:
        """Say that a recording is over."""
        self._monitor.state = 'ended'
        skipped = self._monitor.values()['skipped']
        if skipped:
            text = f'{self._source} has ended; {skipped} images of it are damaged or cut off'
            self._node.get_logger().warning(text)
        else:
            self._node.get_logger().info(f'{self._source} has ended')
        self._ended_at = monotonic()

    def _stamp(self, taken: int) -> Stamp:
        # Anew for each image: the two clocks drift apart, and one of them may be set.
        age = monotonic_ns() - taken
        return Stamp.of(max(0, self._node.get_clock().now().nanoseconds - age))

    def _check_size(self, width: int, height: int) -> None:
        calibration = self._calibration
        if calibration is None or not width:  # an image without a size will be refused
            return
        fits = calibration.fits(width, height)
        misfit = (0, 0) if fits else (width, height)
        if misfit == self._misfit:
            return
        self._misfit, self._monitor.misfit = misfit, ''
        if not fits:
            self._monitor.misfit = (
                f'the calibration is for {calibration.width}x{calibration.height} and the images'
                f' are {width}x{height}: camera_info says not calibrated; calibrate at this size'
            )
            self._node.get_logger().warning(self._monitor.misfit)
