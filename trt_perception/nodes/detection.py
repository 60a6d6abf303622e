# SPDX-License-Identifier: Apache-2.0
"""A loaded model and the cameras that it looks at."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from rclpy.clock import Clock
from rclpy.node import Node

from trt_perception.build.engine.serving import Wish
from trt_perception.core import ModelSpec, PerceptionError, Selection
from trt_perception.core.files import user_path
from trt_perception.health.budget import Budget
from trt_perception.nodes.monitor import StreamMonitor
from trt_perception.nodes.replicas import Replicas
from trt_perception.nodes.stream import DetectionStream
from trt_perception.ros.detector_parameters import camera_values, devices_of, selection
from trt_perception.ros.diagnostics import ERROR, WARN, Verdict
from trt_perception.ros.parameters import ParameterError
from trt_perception.runtime.pipeline import AnyPipeline
from trt_perception.runtime.worker import InferenceWorker

#: Images that a GPU works on at a time, unless more are asked for: it is full with them.
MOST_LANES = 3
#: Cameras whose images are looked at together, where the model can and that is faster.
MOST_TOGETHER = 8


class Detection:
    """The model on its devices, and a stream for each camera, from configuring to cleaning up.

    Attributes:
        model: the path that was opened.
        replicas: what runs it.
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
        self.model = str(path)
        self.replicas = Replicas(node, clock, wish, devices_of(values))
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

        def run_on(device: str, pipeline: AnyPipeline) -> None:
            self._worker.run_on(device, pipeline)
            on_pipeline()

        self.replicas.start(run_on)

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

    def judge(self, usual: Verdict) -> Verdict:
        """The usual verdict, unless a device does not run what was asked for, or not any more."""
        verdict = self.replicas.judge(usual)
        lost = self._worker.lost
        if not lost:
            return verdict
        device, why = next(iter(lost.items()))
        level = WARN if self._worker.serves else ERROR
        return Verdict(max(level, verdict.level), f'device {device} is out of use: {why}')

    def values(self) -> dict[str, object]:
        """What runs and why, for diagnostics."""
        lost = {f'{device} out of use': why for device, why in self._worker.lost.items()}
        return {'model': self.model, **self.replicas.values(), **lost}

    def close(self) -> None:
        """Stop for good. Does not wait for what is under way; `join` does."""
        for stream in self.streams.values():
            stream.close()
        self._worker.close()
        self.replicas.close()

    def join(self) -> None:
        """Wait, after `close`, until all is freed."""
        self._worker.join()
        self.replicas.join()


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
