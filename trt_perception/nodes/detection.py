# SPDX-License-Identifier: Apache-2.0
"""A loaded model and the cameras that it looks at."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any

from rclpy.clock import Clock
from rclpy.node import Node
from rclpy.timer import Timer

from trt_perception.build.engine.serving import Wish
from trt_perception.core import ModelSpec, PerceptionError, Selection
from trt_perception.core.files import user_path
from trt_perception.health.budget import Budget
from trt_perception.nodes.models import Models
from trt_perception.nodes.monitor import StreamMonitor
from trt_perception.nodes.stream import DetectionStream
from trt_perception.ros.detector_parameters import camera_values, devices_of, selection
from trt_perception.ros.diagnostics import ERROR, OK, WARN, Verdict
from trt_perception.ros.parameters import ParameterError
from trt_perception.runtime.pipeline import AnyPipeline
from trt_perception.runtime.worker import InferenceWorker

#: Images that a GPU works on at a time, unless more are asked for: it is full with them.
MOST_LANES = 3
#: Cameras whose images are looked at together, where the model can and that is faster.
MOST_TOGETHER = 8
#: Seconds between two looks at what is being built, what hangs and what is lost.
PERIOD = 0.2
#: Seconds between two such looks from which on this process was kept from running, and seconds that
#: diagnostics tell of it.
STANDSTILL, RECENT = 2.0, 5.0


class Detection:
    """The model on its devices, and a stream for each camera, from configuring to cleaning up.

    Attributes:
        replicas: what runs the model.
        streams: of each camera, by name.
    """

    def __init__(
        self,
        node: Node,
        clock: Clock,
        values: Mapping[str, Any],
        monitors: Mapping[str, StreamMonitor],
    ) -> None:
        """Load what is there, and advertise.

        Args:
            clock: that ticks whatever the node's does.
            values: of the detector's parameters and those of its cameras.
            monitors: of each camera, by name; '' is the only one.

        Raises:
            PerceptionError: the model cannot be run here as it was asked for.
        """
        if not values['model']:
            raise PerceptionError('model is empty; set it to the path of an ONNX file')
        path = user_path(values['model'])
        names = {field.name for field in dataclasses.fields(Wish)} - {'model', 'lanes', 'batch'}
        lanes = values['lanes'] or min(len(monitors), MOST_LANES)
        batch = min(len(monitors), MOST_TOGETHER)
        wish = Wish(path, **{name: values[name] for name in names}, lanes=lanes, batch=batch)
        self._node = node
        self._clock = clock
        self._watchdog: float = values['watchdog']
        self._timer: Timer | None = None
        self._looked = 0.0  # when `_follow` did last
        self._stood = 0.0, -RECENT  # how long this process stood still, and when that was over
        lighter = [user_path(each) for each in values['policy.lighter_models'] if each]
        self.replicas = Models(node.get_logger(), wish, devices_of(values), lighter)
        self.streams: dict[str, DetectionStream] = {}
        self._worker = InferenceWorker()
        try:
            for camera, wanted in selections(values, monitors, self.spec).items():
                self.streams[camera] = DetectionStream(
                    node, self._worker, camera, self.spec, wanted, camera_values(camera, values),
                    monitors[camera],
                )  # fmt: skip
        except BaseException:
            self.close()
            raise

    @property
    def model(self) -> str:
        """The path of the model that runs."""
        return str(self.replicas.path)

    @property
    def lighter_model(self) -> str:
        """The same where that is one of the lighter ones; '' while it is the one asked for."""
        return self.model if self.replicas.step else ''

    @property
    def spec(self) -> ModelSpec:
        """What the model wants and gives."""
        return self.replicas.spec

    @property
    def threshold(self) -> float:
        """The lowest score that is published of any camera."""
        return min(stream.threshold for stream in self.streams.values())

    @property
    def busy(self) -> bool:
        """After `close`: whether something is still coming to its end."""
        return self._worker.busy or self.replicas.busy

    def run(self, on_pipeline: Callable[[], None]) -> None:
        """Take over the pipelines that there are, and those to come.

        Args:
            on_pipeline: called after each, on the executor.
        """

        def run_on(device: str, pipeline: AnyPipeline, spare: bool) -> None:
            self._worker.run_on(device, pipeline, spare)
            on_pipeline()

        self.replicas.start(run_on)
        self._timer = self._node.create_timer(PERIOD, self._follow, clock=self._clock)

    def start(self) -> None:
        """Take images."""
        for stream in self.streams.values():
            stream.start()

    def pause(self) -> None:
        """Take no more images; nothing is published once this returns."""
        for stream in self.streams.values():
            stream.pause()

    def select(self, values: Mapping[str, Any], wanted: Mapping[str, Selection]) -> None:
        """Look and publish according to this from the next frame on.

        Args:
            wanted: what `selections` made of the values.
        """
        for camera, stream in self.streams.items():
            stream.select(wanted[camera], camera_values(camera, values))

    def limit(self, camera: str, share: float) -> None:
        """Look at this share of a camera's images: 1 is all, 0 none."""
        self.streams[camera].share = share

    def lighter(self, step: int) -> str:
        """Run a lighter model, the first, second, ... of them; 0 runs the one that was asked for.

        Returns:
            Why it does not; '' if it does.
        """
        return self.replicas.use(step)

    def pause_overlay(self, paused: bool) -> None:
        """Draw nothing, or draw again where somebody looks."""
        for stream in self.streams.values():
            stream.draws = not paused

    def judge(self, usual: Verdict) -> Verdict:
        """The usual verdict, unless a device does not run what was asked for, or not any more."""
        self.replicas.follow(self._worker)  # what has been lost since
        verdict = self.replicas.judge(usual)
        losses = self.replicas.losses
        if losses:
            device, told = next(iter(losses.items()))
            level = WARN if self._worker.serves else ERROR
            return Verdict(max(level, verdict.level), f'device {device} {told}')
        stood, over = self._stood
        if verdict.level == OK and monotonic() - over < RECENT:
            return Verdict(
                WARN,
                f'this process stood still for {stood:.1f} s: it was stopped, or the machine is'
                ' overloaded',
            )
        change = self.replicas.file.change
        if change and verdict.level == OK:
            return Verdict(
                WARN,
                f"model '{self.model}' is {change} on disk since it was loaded, and what was loaded"
                ' runs on; configure the node anew to run what is there',
            )
        return verdict

    def values(self) -> dict[str, object]:
        """What runs and why, for diagnostics."""
        return self.replicas.values()

    def close(self) -> None:
        """Stop for good. Does not wait for what is under way; `join` does."""
        for stream in self.streams.values():
            stream.close()
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
        self._worker.close()
        self.replicas.close()

    def join(self) -> None:
        """Wait, after `close`, until all is freed."""
        self._worker.join(self._watchdog)
        self.replicas.join()

    def _follow(self) -> None:
        now = monotonic()
        if self._looked and now - self._looked > STANDSTILL:
            self._stood = now - self._looked, now
        self._looked = now
        self._worker.watch(PERIOD, self._watchdog)
        self.replicas.follow(self._worker)


def selections(
    values: Mapping[str, Any], cameras: Mapping[str, Any], spec: ModelSpec | None
) -> dict[str, Selection]:
    """What the live parameters ask for, for each camera.

    Args:
        cameras: by name; '' is the only one.
        spec: of the model that is loaded; without one class names are not looked up yet.

    Raises:
        ParameterError: a region of impossible numbers, a class that the model does not have, or a
            budget that is none.
    """
    wanted = {}
    for camera in cameras:
        try:
            of_camera = camera_values(camera, values)
            wanted[camera] = selection(of_camera, spec)
            Budget.of(of_camera)
        except PerceptionError as error:
            raise ParameterError(f'{camera}.{error}' if camera else str(error)) from None
    return wanted
