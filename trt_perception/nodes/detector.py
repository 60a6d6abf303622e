# SPDX-License-Identifier: Apache-2.0
"""The detector: camera images in, ``vision_msgs/Detection2DArray`` out."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import JumpThreshold, ROSClock
from rclpy.duration import Duration
from rclpy.parameter import Parameter
from vision_msgs.msg import LabelInfo, VisionInfo

from trt_perception.core import PerceptionError
from trt_perception.health.prometheus import Family, MetricsServer
from trt_perception.nodes import metrics
from trt_perception.nodes.board import BoardMonitor
from trt_perception.nodes.degradation import Degradation, settings_of
from trt_perception.nodes.detection import Detection, selections
from trt_perception.nodes.managed import ManagedNode
from trt_perception.nodes.monitor import StreamMonitor
from trt_perception.ros import parameters
from trt_perception.ros.detector_parameters import (
    DETECTOR,
    OF_A_CAMERA,
    camera_table,
    cameras_of,
    devices_of,
    gpus_of,
)
from trt_perception.ros.diagnostics import OK, STALE, WARN, Diagnostics, Verdict
from trt_perception.ros.label_info import LATCHED, label_info, vision_info
from trt_perception.ros.parameters import ParameterError
from trt_perception.runtime.machine import board_model

REPORT_PERIOD = 1.0
#: A simulation that began anew or a recording played once more; /clock may tick slowly.
CLOCK_JUMP = JumpThreshold(min_forward=Duration(seconds=5), min_backward=Duration(nanoseconds=-1))


class DetectorNode(ManagedNode):
    """Detects objects in the images of one camera, or of several that share the model.

    Configuring loads the model, activating subscribes. Inference runs on threads of its own on the
    latest images, and an engine is built on another, so that services, parameters and diagnostics
    answer at any time.
    """

    def __init__(self, **kwargs: Any) -> None:
        """Declare parameters, and start up from the executor if ``autostart`` is set.

        Args:
            kwargs: those of ``rclpy.node.Node``.

        Raises:
            ParameterError: a parameter's first value cannot be used.
        """
        super().__init__('detector', DETECTOR, more=True, **kwargs)
        self._monitors: dict[str, StreamMonitor] = {}  # of each camera, by name; '' of the only one
        self._diagnostics = Diagnostics(self)
        self._declare_cameras()
        parameters.tell_unknown(self, self._table)
        values = parameters.values(self, self._table)
        selections(values, self._monitors, None)
        devices_of(values)
        settings_of(values)
        self._threshold = 0.0  # that was last published
        self._levels: dict[str, bytes] = {}  # of the last verdicts
        self._detection: Detection | None = None
        self._metrics: MetricsServer | None = None
        self._ending: list[Detection] = []  # with an inference or a build that comes to its end
        self._times_configured = 0
        self._label_info = self.create_publisher(LabelInfo, 'label_info', LATCHED)
        self._vision_info = self.create_publisher(VisionInfo, 'vision_info', LATCHED)
        self._jumps = self.get_clock().create_jump_callback(
            CLOCK_JUMP, post_callback=lambda jump: self._on_clock_jump()
        )
        self._board_model = board_model()
        self._devices: dict[str, Any] = {}  # that were told of, by task
        self._board = BoardMonitor(self, self._diagnostics)
        self._degradation = Degradation(self, self._diagnostics, self._board)
        self._board.watch(gpus_of(values) if values['board'] else None)
        self._begin(REPORT_PERIOD)

    def _end(self) -> None:
        """Wait for an inference under way."""
        self._jumps.unregister()
        for detection in self._ending:
            detection.join()
        super()._end()
        self._board.close()

    def _on_clock_jump(self) -> None:
        for monitor in self._monitors.values():
            monitor.clock_jumped()

    def _declare_cameras(self) -> None:
        """Declare the parameters of the cameras that are named now, and no others any more."""
        general = parameters.values(self, DETECTOR)
        cameras = cameras_of(general)
        table = [p for camera in cameras for p in camera_table(camera, general)]
        present, kept = self._table[len(DETECTOR) :], self._monitors
        self._table, self._monitors = [*DETECTOR], {}  # for those who set meanwhile: rclpy is one
        for gone in {p.name for p in present} - {p.name for p in table}:
            self.undeclare_parameter(gone)
        parameters.declare(self, [p for p in table if not self.has_parameter(p.name)], more=True)
        logger, clock = self.get_logger(), self.get_clock()
        assert isinstance(clock, ROSClock)  # as rclpy makes it, and does not promise
        self._table = [*DETECTOR, *table]
        self._monitors = {
            camera: kept.get(camera)
            or StreamMonitor(logger.get_child(camera) if camera else logger, clock)
            for camera in cameras or ['']
        }
        for camera in kept.keys() - self._monitors.keys():
            self._diagnostics.forget(camera)

    def _load(self) -> None:
        """Load the model; does not wait for an engine that has to be built."""
        begun = perf_counter()
        self._declare_cameras()
        values = parameters.values(self, self._table)
        if values['metrics_port']:
            self._metrics = MetricsServer(
                values['metrics_address'], values['metrics_port'], self._collect
            )
            self.get_logger().info(f'metrics at {self._metrics.url}')
            if self._metrics.is_public:
                self.get_logger().warning(
                    'metrics can be read by all who reach this machine; metrics_address 127.0.0.1'
                    ' keeps them to it'
                )
        self._board.watch(gpus_of(values) if values['board'] else None)
        self._detection = Detection(self, self._steady, values, self._monitors)
        self._times_configured += 1
        self._detection.run(self._publish_labels)
        if self._detection.replicas.info is None:
            self._publish_labels()
        spec = self._detection.spec
        self.get_logger().info(
            f'model {self._detection.model}: {spec.layout} of {spec.num_classes or "unknown"}'
            f' classes, input {spec.width}x{spec.height}; runs on {self._detection.replicas};'
            f' loaded in {perf_counter() - begun:.1f} s'
        )

    def _start(self) -> None:
        assert self._detection is not None
        self._detection.start()

    def _stop(self) -> None:
        assert self._detection is not None
        self._detection.pause()

    def _unload(self) -> None:
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None
        if self._detection is not None:
            self._detection.close()
            self._ending = [d for d in (*self._ending, self._detection) if d.busy]
            self._detection = None

    def _publish_labels(self) -> None:
        detection = self._detection
        assert detection is not None
        spec, now = detection.spec, self.get_clock().now().to_msg()
        self._threshold = detection.threshold
        self._label_info.publish(label_info(spec, self._threshold, now))
        runs_on = detection.replicas.info or 'not yet built'
        method = f'{Path(detection.model).name}, {spec.layout}, {runs_on}'
        topic = self.resolve_topic_name('label_info')
        self._vision_info.publish(vision_info(method, topic, self._times_configured, now))

    def _on_set_parameters(self, proposed: list[Parameter[Any]]) -> SetParametersResult:
        detection = self._detection
        try:
            values = parameters.changed(self._table, parameters.values(self, self._table), proposed)
            self._refuse_general(proposed)
            cameras_of(values)
            devices_of(values)
            settings_of(values)
            wanted = selections(values, self._monitors, detection.spec if detection else None)
        except PerceptionError as error:
            return SetParametersResult(successful=False, reason=str(error))
        if detection is not None:
            detection.select(values, wanted)
            if detection.threshold != self._threshold:
                self._publish_labels()
        return SetParametersResult(successful=True)

    def _refuse_general(self, proposed: list[Parameter[Any]]) -> None:
        """Several cameras have begun with the detector's own values, and do not follow them."""
        camera = next(iter(self._monitors), '')
        for parameter in proposed if camera else ():
            if parameter.name in OF_A_CAMERA:
                raise ParameterError(
                    f'{parameter.name}: each of several cameras has its own now; set'
                    f' {camera}.{parameter.name}'
                )

    def _report(self) -> None:
        detection = self._detection
        values: dict[str, object] = {'state': self._state}
        verdict = self._standing()
        verdicts = {camera: self._judge(camera, verdict) for camera in self._monitors}
        devices = {}
        if detection is not None:
            if '' in verdicts:
                verdict = verdicts['']
            verdict = detection.judge(verdict)
            values |= detection.values()
            devices = {f'device {d}': told for d, told in detection.replicas.devices().items()}
        for camera, monitor in self._monitors.items():
            of_camera = self._of_camera(camera) | monitor.values()
            if camera:
                self._log(camera, verdicts[camera])
                topic = self.resolve_topic_name(f'{camera}/image')
                self._diagnostics.publish(camera, verdicts[camera], topic, of_camera)
            else:
                values |= of_camera
        self._board.report(sum(monitor.frames for monitor in self._monitors.values()))
        self._log('inference', verdict)
        self._diagnostics.publish('inference', verdict, self._board_model, values)
        for task in self._devices.keys() - devices.keys():
            self._diagnostics.forget(task)
        for task, (of_device, about) in devices.items():
            self._diagnostics.publish(task, of_device, task.partition(' ')[2], about)
        self._devices = devices
        self._degradation.step(detection, parameters.values(self, self._table))

    def _judge(self, camera: str, usual: Verdict) -> Verdict:
        if self._detection is None or self._state != 'active':
            return usual
        stream = self._detection.streams[camera]
        return self._monitors[camera].judge(stream.images.problem(), stream.share)

    def _of_camera(self, camera: str) -> dict[str, object]:
        if self._detection is None:
            return {}
        stream = self._detection.streams[camera]
        return {'images': stream.images.source or 'none', 'subscribers': stream.subscribers}

    def _collect(self) -> list[Family]:
        """All figures for Prometheus; called on its server's thread."""
        name, detection = self.get_fully_qualified_name(), self._detection
        info = None if detection is None else detection.replicas.info
        streams = {} if detection is None else detection.streams
        return [
            *metrics.of_node(name, self._state, info),
            *metrics.of_status(name, self._diagnostics.levels),
            *metrics.of_cameras(name, self._monitors),
            *metrics.of_board(name, self._board.latest()),
            *metrics.of_policy(
                name, self._degradation.state, {c: s.share for c, s in streams.items()}
            ),
        ]

    def _log(self, task: str, verdict: Verdict) -> None:
        """Log when something begins to be in the way, and when it is over; errors are logged."""
        if self._state == 'active' and verdict.level != self._levels.get(task, OK):
            of = f'{task}: ' if task in self._monitors else ''
            if verdict.level in (WARN, STALE):
                self.get_logger().warning(of + verdict.message)
            elif verdict.level == OK:
                self.get_logger().info(f'{of}all is well: {verdict.message}')
            self._levels[task] = verdict.level
