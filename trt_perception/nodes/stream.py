# SPDX-License-Identifier: Apache-2.0
"""One camera's way through the detector: images in, detections out."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter, perf_counter_ns
from typing import Any

from rclpy.node import Node
from sensor_msgs.msg import Image

from trt_perception.core import Detections, Frame, FrameError, ModelSpec, Selection, Sighting
from trt_perception.health.budget import Budget
from trt_perception.nodes.monitor import StreamMonitor
from trt_perception.ros.detections_output import DetectionsOutput
from trt_perception.ros.image_input import ImageInput
from trt_perception.ros.images import image_msg
from trt_perception.runtime.host.color import to_bgr
from trt_perception.runtime.host.overlay import draw
from trt_perception.runtime.pipeline import Result
from trt_perception.runtime.rate_limit import RateLimit, Thinning
from trt_perception.runtime.worker import InferenceWorker, Job


class DetectionStream:
    """From an `ImageInput` through a place in an `InferenceWorker` to the publishers.

    Owns all but the worker. Frames come in on the executor, or on the thread of a camera in this
    process, and are only handed over there; the rest happens on the worker's threads.

    Attributes:
        max_rate: images looked at a second, at most; 0 is no limit.
        share: of what that leaves, how much is looked at: 1 is all, 0 none.
        draws: whether pictures are drawn for who wants to see them.
    """

    def __init__(
        self,
        node: Node,
        worker: InferenceWorker,
        camera: str,
        spec: ModelSpec,
        selection: Selection,
        values: Mapping[str, Any],
        monitor: StreamMonitor,
    ) -> None:
        """Advertise; no image is taken before `start`.

        Args:
            camera: name of one of several, which its topics begin with; '' for the only one.
            spec: of the model; its classes are those of every pipeline.
            values: of the detector's parameters, as they are for this camera.
        """
        self._node = node
        self._spec = spec
        self._class_ids = spec.class_names if values['class_id_format'] == 'name' else ()
        self._monitor = monitor
        self._expect(values)
        self.share = 1.0
        self.draws = True
        self._rate_limit = RateLimit()
        self._thinning = Thinning()
        within = f'{camera}/' if camera else ''
        self._detections = DetectionsOutput(node, f'{within}detections')
        self._annotated = node.create_publisher(Image, f'~/{within}annotated', 1)
        self.images = ImageInput(
            node,
            self._on_image,
            self._on_unusable,
            monitor.lost,
            topic=f'{within}image',
            transport=values['image_transport'],
            reliability=values['image_reliability'],
            depth=values['image_depth'],
            max_pixels=values['max_image_pixels'],
        )
        self._place = worker.camera(camera, selection, self, values['priority'])

    @property
    def threshold(self) -> float:
        """The lowest score that is published."""
        return self._place.selection.score_threshold

    @property
    def subscribers(self) -> int:
        """Of the detections, in this process and elsewhere."""
        return self._detections.subscribers

    def select(self, selection: Selection, values: Mapping[str, Any]) -> None:
        """Look and publish according to this from the next frame on."""
        self._expect(values)
        self._place.selection = selection
        self._place.priority = values['priority']

    def start(self) -> None:
        """Take images."""
        self._monitor.begin()
        self._place.resume()
        self.images.start()

    def pause(self) -> None:
        """Take no more images; nothing is published once this returns."""
        self.images.stop()
        self._place.pause()

    def close(self) -> None:
        """Pause for good. Does not wait for an inference under way."""
        self.images.close()
        self._place.close()
        self._detections.close()
        self._node.destroy_publisher(self._annotated)

    def _on_image(self, frame: Frame) -> None:
        self._monitor.received(frame)
        within = self._rate_limit.passes(perf_counter(), self.max_rate)
        if within and self._thinning.passes(self.share):
            self._place.submit(frame)
        else:
            self._monitor.count('limited')

    def _on_unusable(self, error: FrameError) -> None:
        self._monitor.unusable(error)

    def _expect(self, values: Mapping[str, Any]) -> None:
        self.max_rate: float = values['max_rate']
        self._monitor.budget = Budget.of(values)
        self._monitor.frozen.after = values['frozen_after']

    def on_result(self, job: Job, result: Result) -> None:
        """Publish what was found."""
        frame = job.frame
        begun = perf_counter_ns()
        self._detections.send(
            Sighting(frame.stamp, frame.frame_id, result.detections, self._class_ids)
        )
        published = perf_counter_ns()
        stages = {
            'queue': job.started - job.received,
            **result.times._asdict(),
            'publish': published - begun,
            'total': published - job.received,
        }
        self._monitor.published(frame, stages, result.dropped)
        # Drawing and sending a picture takes longer than all but the network: only if it is seen.
        if self.draws and self._annotated.get_subscription_count():
            self._publish_annotated(frame, result.detections)

    def on_error(self, job: Job, error: Exception) -> None:
        """Count a frame that gave nothing."""
        self._monitor.failed(error)

    def on_dropped(self, job: Job) -> None:
        """Count a frame that a newer one overtook."""
        self._monitor.count('dropped')

    def on_discarded(self, job: Job) -> None:
        """Count a frame that a pause overtook."""
        self._monitor.count('discarded')

    def on_unserved(self, job: Job) -> None:
        """Count a frame that nothing could look at yet."""
        self._monitor.count('unserved')

    def _publish_annotated(self, frame: Frame, detections: Detections) -> None:
        picture = to_bgr(frame)
        draw(picture, detections, self._spec)
        self._annotated.publish(
            image_msg(Frame.from_array(picture, stamp=frame.stamp, frame_id=frame.frame_id))
        )
