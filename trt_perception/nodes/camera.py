# SPDX-License-Identifier: Apache-2.0
"""The camera: live images out as a topic, with their calibration."""

from __future__ import annotations

from typing import Any

from trt_perception.nodes.camera_monitor import CameraMonitor
from trt_perception.nodes.camera_stream import CameraStream
from trt_perception.nodes.managed import ManagedNode
from trt_perception.ros import parameters
from trt_perception.ros.camera_info import Calibration, read_calibration
from trt_perception.ros.camera_parameters import CAMERA, wish
from trt_perception.ros.diagnostics import Diagnostics
from trt_perception.ros.lifecycle_parameters import AUTOSTART
from trt_perception.runtime.capture import capture_of

REPORT_PERIOD = 1.0


class CameraNode(ManagedNode):
    """Publishes what a device, a stream, a file or a pipeline gives, while it is active.

    An image is stamped with the time of its capture: the device's where it has a clock that this
    machine shares, else the time when the image came. A source that breaks off is opened again
    until it comes back. While the node is not active the source is closed, and another program may
    have it.

    Attributes:
        finished: a recording is over, or trying again cannot help; never of a node that was left to
            a lifecycle manager, which may give it another source.
        exit_code: for the process; not 0 if trying again cannot help.
    """

    def __init__(self, **kwargs: Any) -> None:
        """Declare parameters, and start up from the executor if ``autostart`` is set.

        Args:
            kwargs: those of ``rclpy.node.Node``.

        Raises:
            ParameterError: a parameter's value cannot be used.
            CaptureError: what is meant to be the source can be none, and is to be started.
            CalibrationError: the calibration cannot be used, and is to be.
        """
        super().__init__('camera', CAMERA, **kwargs)
        self.finished = False
        self.exit_code = 0
        self._source = ''
        self._values: dict[str, Any] = {}
        self._calibration: Calibration | None = None
        self._stream: CameraStream | None = None
        self._monitor = CameraMonitor()
        self._diagnostics = Diagnostics(self)
        self._ends_by_itself = bool(self.get_parameter(AUTOSTART.name).value)
        if self._ends_by_itself:
            self._load()  # what can never work ends the process, rather than staying unconfigured
        self._begin(REPORT_PERIOD)

    def _load(self) -> None:
        """Read the calibration, and see that there can be such a source."""
        values = parameters.values(self, self._table)
        url = values['camera_info_url']
        self._calibration = read_calibration(url) if url else None
        self._source = capture_of(wish(values)).name
        self._values = values

    def _start(self) -> None:
        """Advertise and begin; does not wait for the source."""
        if self.get_parameter('use_sim_time').value:
            self.get_logger().info('use_sim_time: images are stamped with the time of /clock')
        self.exit_code = 0
        self._problem = ''
        self._monitor.begin()
        # Anew each time: the one before may not have come back yet from what it waits for.
        capture = capture_of(wish(self._values))
        self._stream = CameraStream(self, self._monitor, self._values, self._calibration, capture)

    def _stop(self) -> None:
        """Close the source."""
        if self._stream is not None:
            self._stream.close()
            if self._stream.failed:
                self.exit_code = 1
                self._problem = self._monitor.problem  # until it is given another one
            self._stream = None

    def _unload(self) -> None:
        self._stop()
        self._calibration = None

    def _report(self) -> None:
        stream, calibration = self._stream, self._calibration
        values: dict[str, object] = {
            'source': self._source,
            'images': stream.what if stream else 'none',
            'calibration': f'{calibration.width}x{calibration.height}' if calibration else 'none',
            'subscribers': stream.subscribers if stream else 0,
            **self._monitor.values(),
        }
        if stream is None:
            verdict = self._standing()
            values['state'] = self._state
        else:
            verdict = self._monitor.judge()
            if self._ends_by_itself and stream.over:
                self.exit_code = int(stream.failed)
                self.finished = True
        self._diagnostics.publish('capture', verdict, self._source, values)
