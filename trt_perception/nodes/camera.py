# SPDX-License-Identifier: Apache-2.0
"""The camera: live images out as a topic, with their calibration."""

from __future__ import annotations

from dataclasses import replace
from time import monotonic, monotonic_ns
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo

from trt_perception.core import FrameError, Stamp
from trt_perception.nodes.camera_monitor import CameraMonitor
from trt_perception.ros import parameters
from trt_perception.ros.camera_info import camera_info, read_calibration
from trt_perception.ros.camera_parameters import CAMERA, wish
from trt_perception.ros.diagnostics import Diagnostics, ThrottledErrors
from trt_perception.ros.image_output import ImageOutput
from trt_perception.ros.images import header_msg
from trt_perception.runtime.capture import CaptureError, CaptureLoop, Shot, capture_of

REPORT_PERIOD = 1.0
#: Seconds that the last image of a recording gets to reach its subscribers.
LINGER = 1.0


class CameraNode(Node):
    """Publishes what a device, a stream, a file or a pipeline gives, from threads of its own.

    An image is stamped with the time of its capture: the device's where it has a clock that this
    machine shares, else the time when the image came. A source that breaks off is opened again
    until it comes back.

    Attributes:
        finished: a recording is over, or trying again cannot help.
        exit_code: for the process; not 0 if trying again cannot help.
    """

    _built = False  # rclpy destroys nodes whose constructor has failed, too

    def __init__(self, **kwargs: Any) -> None:
        """Advertise and begin; does not wait for the source.

        Args:
            kwargs: those of ``rclpy.node.Node``.

        Raises:
            ParameterError: a parameter's value cannot be used.
            CaptureError: what is meant to be the source can be none.
            CalibrationError: the calibration cannot be used.
        """
        super().__init__('camera', **kwargs)
        parameters.declare(self, CAMERA, fixed=True)
        values = parameters.values(self, CAMERA)
        url = values['camera_info_url']
        self._calibration = read_calibration(url) if url else None
        capture = capture_of(wish(values))
        self.finished = False
        self.exit_code = 0
        self._source = capture.name
        self._what = ''
        self._frame_id = values['frame_id']
        self._misfit = (0, 0)
        self._ended_at: float | None = None
        self._monitor = CameraMonitor()
        self._errors = ThrottledErrors(self.get_logger())
        self._output = ImageOutput(
            self,
            'image',
            compressed=values['image_transport'] == 'compressed',
            reliability=values['reliability'],
        )
        self._info = self.create_publisher(
            CameraInfo,
            f'{self.resolve_topic_name("image").rpartition("/")[0]}/camera_info',
            QoSProfile(depth=10, reliability=ReliabilityPolicy[values['reliability'].upper()]),
        )
        self._diagnostics = Diagnostics(self)
        # Real time: a paused simulation must not stop the diagnostics.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(REPORT_PERIOD, self._report, clock=steady)
        if self.get_parameter('use_sim_time').value:
            self.get_logger().info('use_sim_time: images are stamped with the time of /clock')
        self._loop = CaptureLoop(
            capture,
            self,
            repeat=values['loop'],
            rate=values['rate'],
            longest_pause=values['longest_pause'],
        )
        self._built = True

    def destroy_node(self) -> None:
        """Stop; the last word goes to diagnostics."""
        if self._built:
            if not self._loop.close():
                self.get_logger().info(
                    f'{self._source} does not answer; the process ends when its time-out is over'
                )
            self._report()
            self._output.close()
        super().destroy_node()

    # What the `CaptureLoop` tells, on its threads.

    def on_open(self, what: str) -> None:
        """Say what comes, and that it comes again."""
        if self._monitor.state == 'running' and self._what == what:
            return  # a recording that begins again
        self._what = what
        self._monitor.count('connected')
        self._monitor.state, self._monitor.problem = 'running', ''
        self._misfit, self._monitor.misfit = (0, 0), ''
        self.get_logger().info(f'{self._source}: {what}; to {self._output.topic}')

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
            self.get_logger().error(f'{error}{again}')
        self._monitor.problem = str(error)
        self._monitor.state = 'failed' if error.final else 'waiting'
        if error.final:
            self.exit_code = 1
            self._ended_at = monotonic()

    def on_end(self) -> None:
        """Say that a recording is over."""
        self._monitor.state = 'ended'
        skipped = self._monitor.values()['skipped']
        if skipped:
            text = f'{self._source} has ended; {skipped} images of it are damaged or cut off'
            self.get_logger().warning(text)
        else:
            self.get_logger().info(f'{self._source} has ended')
        self._ended_at = monotonic()

    def _stamp(self, taken: int) -> Stamp:
        # Anew for each image: the two clocks drift apart, and one of them may be set.
        age = monotonic_ns() - taken
        return Stamp.of(max(0, self.get_clock().now().nanoseconds - age))

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
            self.get_logger().warning(self._monitor.misfit)

    def _report(self) -> None:
        calibration = self._calibration
        values = {
            'source': self._source,
            'images': self._what or 'none',
            'calibration': f'{calibration.width}x{calibration.height}' if calibration else 'none',
            'subscribers': self._output.subscribers,
        }
        verdict = self._monitor.judge()
        self._diagnostics.publish('capture', verdict, self._source, values | self._monitor.values())
        # Fast DDS acknowledges the last image with its next heartbeat: nothing else tells when.
        if self._ended_at is not None and monotonic() > self._ended_at + LINGER:
            self.finished = True
