# SPDX-License-Identifier: Apache-2.0
"""The detector: camera images in, ``vision_msgs/Detection2DArray`` out."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import rclpy.lifecycle
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from vision_msgs.msg import LabelInfo, VisionInfo

from trt_perception.build.engine.serving import Wish
from trt_perception.core import PerceptionError
from trt_perception.core.errors import one_line
from trt_perception.core.files import user_path
from trt_perception.nodes.backend import Backend
from trt_perception.nodes.monitor import StreamMonitor
from trt_perception.nodes.stream import DetectionStream
from trt_perception.ros import parameters
from trt_perception.ros.bond import Bond, check_installed
from trt_perception.ros.detector_parameters import DETECTOR, selection
from trt_perception.ros.diagnostics import ERROR, OK, WARN, DiagnosticPublisher, Verdict
from trt_perception.ros.intra_process import bus_of
from trt_perception.ros.label_info import LATCHED, label_info, vision_info
from trt_perception.runtime.pipeline import AnyPipeline

REPORT_PERIOD = 1.0

_Transition = Callable[['DetectorNode', LifecycleState], TransitionCallbackReturn]


def _told(transition: _Transition) -> _Transition:
    """Say what goes wrong in a transition: rclpy takes every exception for an error, unread."""

    @functools.wraps(transition)
    def told(node: DetectorNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(node, state)
        except Exception as error:
            node.fail(f'{transition.__name__} failed: {type(error).__name__}: {one_line(error)}')
            return TransitionCallbackReturn.ERROR

    return told


class DetectorNode(rclpy.lifecycle.LifecycleNode):
    """Detects objects in one camera's images.

    Configuring loads the model, activating subscribes. Inference runs on a thread of its own on the
    latest image, and an engine is built on another, so that services, parameters and diagnostics
    answer at any time.
    """

    _built = False  # rclpy destroys nodes whose constructor has failed, too

    def __init__(self, **kwargs: Any) -> None:
        """Declare parameters, and start up from the executor if ``autostart`` is set.

        Args:
            kwargs: those of ``rclpy.node.Node``.

        Raises:
            ParameterError: a parameter's first value cannot be used.
        """
        super().__init__('detector', **kwargs)
        parameters.declare(self, DETECTOR)
        values = parameters.values(self, DETECTOR)
        selection(values, None)
        if values['bond']:
            check_installed()
        self.add_on_set_parameters_callback(self._on_set_parameters)
        bus_of(self)  # whether it has one is decided here; what uses it is made later
        self._state = 'unconfigured'  # rclpy of Humble does not tell its own
        self._level = OK  # of the last verdict
        self._problem = ''  # why it is not configured
        self._monitor = StreamMonitor(self.get_logger())
        self._stream: DetectionStream | None = None
        self._backend: Backend | None = None
        self._bond: Bond | None = None
        self._ending: list[Backend] = []  # builds that are told to stop
        self._model = ''
        self._times_configured = 0
        self._label_info = self.create_publisher(LabelInfo, 'label_info', LATCHED)
        self._vision_info = self.create_publisher(VisionInfo, 'vision_info', LATCHED)
        self._diagnostics = DiagnosticPublisher(self, 'inference')
        # Real time: a paused simulation must not stop the diagnostics.
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(REPORT_PERIOD, self._report, clock=self._steady)
        if values['autostart']:
            self._start_timer = self.create_timer(0.0, self._autostart, clock=self._steady)
        self._built = True

    @_told
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model; does not wait for an engine that has to be built."""
        values = parameters.values(self, DETECTOR)
        begun = perf_counter()
        try:
            self._load(values)
        except PerceptionError as error:
            self._unload()
            self.fail(f'not configured: {error}')
            return TransitionCallbackReturn.FAILURE
        seconds = perf_counter() - begun
        assert self._backend is not None
        spec = self._backend.spec
        self.get_logger().info(
            f'model {self._model}: {spec.layout} of {spec.num_classes or "unknown"} classes,'
            f' input {spec.width}x{spec.height}; runs on {self._backend}; loaded in {seconds:.1f} s'
        )
        self._problem = ''
        self._state = 'inactive'
        return TransitionCallbackReturn.SUCCESS

    @_told
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the camera."""
        assert self._stream is not None
        self._stream.start()
        self._break_bond()
        if self.get_parameter('bond').value:
            self._bond = Bond(self)
        self._state = 'active'
        return TransitionCallbackReturn.SUCCESS

    @_told
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Take no more images; nothing is published once this returns."""
        assert self._stream is not None
        self._stream.pause()
        if self._bond is not None:
            self._bond.break_off()
        self._state = 'inactive'
        self._report()
        return TransitionCallbackReturn.SUCCESS

    @_told
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model."""
        self._unload()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model, from any state."""
        self._unload()
        self._state = 'finalized'
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free what there is; the node can be configured again."""
        self._unload()
        return TransitionCallbackReturn.SUCCESS

    def fail(self, problem: str) -> None:
        """Say why the node is not configured, in the log now and on diagnostics until it is."""
        self._problem = problem
        self.get_logger().error(problem)

    def destroy_node(self) -> None:
        """Free all, after an inference under way; the last word goes to diagnostics."""
        if self._built:
            stream = self._stream
            self._unload()
            if stream is not None:
                stream.join()
            for backend in self._ending:
                backend.join()
            self._report()
            # rclpy leaves it to the garbage collector, and with it the node below, whose late end
            # would take /rosout away from the next node of this name.
            self._state_machine.destroy_when_not_in_use()
        super().destroy_node()

    def _autostart(self) -> None:
        self._start_timer.cancel()
        if self._state == 'unconfigured':
            self.trigger_configure()
        if self._state == 'inactive':
            self.trigger_activate()

    def _load(self, values: dict[str, Any]) -> None:
        if not values['model']:
            raise PerceptionError('model is empty; set it to the path of an ONNX file')
        path = user_path(values['model'])
        names = {field.name for field in dataclasses.fields(Wish)} - {'model'}
        wish = Wish(path, **{name: values[name] for name in names})
        self._backend = Backend(self, self._steady, wish)
        wanted = selection(values, self._backend.spec)
        self._stream = DetectionStream(self, self._backend.spec, wanted, values, self._monitor)
        self._model = str(path)
        self._times_configured += 1
        self._backend.start(self._run_on)
        if self._backend.info is None:
            self._publish_labels(values['score_threshold'])

    def _break_bond(self) -> None:
        if self._bond is not None:
            self._bond.close()
            self._bond = None

    def _unload(self) -> None:
        self._break_bond()
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        if self._backend is not None:
            self._backend.close()
            self._ending = [b for b in (*self._ending, self._backend) if b.busy]
            self._backend = None
        self._state = 'unconfigured'

    def _run_on(self, pipeline: AnyPipeline) -> None:
        assert self._stream is not None
        self._stream.run_on(pipeline)
        self._publish_labels(self.get_parameter('score_threshold').value)

    def _publish_labels(self, threshold: float) -> None:
        assert self._backend is not None
        spec, now = self._backend.spec, self.get_clock().now().to_msg()
        self._label_info.publish(label_info(spec, threshold, now))
        method = f'{Path(self._model).name}, {spec.layout}, {self._backend.info or "not yet built"}'
        topic = self.resolve_topic_name('label_info')
        self._vision_info.publish(vision_info(method, topic, self._times_configured, now))

    def _on_set_parameters(self, proposed: list[Parameter[Any]]) -> SetParametersResult:
        present = parameters.values(self, DETECTOR)
        try:
            values = parameters.changed(DETECTOR, present, proposed)
            wanted = selection(values, self._backend.spec if self._backend else None)
        except PerceptionError as error:
            return SetParametersResult(successful=False, reason=str(error))
        if self._stream is not None:
            self._stream.select(wanted)
            self._stream.max_rate = values['max_rate']
            if values['score_threshold'] != present['score_threshold']:
                self._publish_labels(values['score_threshold'])
        return SetParametersResult(successful=True)

    def _report(self) -> None:
        values: dict[str, object] = {'state': self._state}
        verdict = Verdict(ERROR, self._problem) if self._problem else Verdict(OK, self._state)
        device = ''
        if self._stream is not None and self._backend is not None:
            images = self._stream.images
            if self._state == 'active':
                verdict = self._monitor.judge(images.problem())
            verdict = self._backend.judge(verdict)
            device = self._backend.info.device if self._backend.info else ''
            values |= {
                'model': self._model,
                **self._backend.values(),
                'images': images.source or 'none',
                'subscribers': self._stream.subscribers,
            }
        elif not self._problem:
            verdict = Verdict(WARN, self._state)
        self._log(verdict)
        self._diagnostics.publish(verdict, device, values | self._monitor.values())

    def _log(self, verdict: Verdict) -> None:
        """Log when something begins to be in the way, and when it is over; errors are logged."""
        if self._state == 'active' and verdict.level != self._level:
            if verdict.level == WARN:
                self.get_logger().warning(verdict.message)
            elif verdict.level == OK:
                self.get_logger().info(f'all is well: {verdict.message}')
            self._level = verdict.level
