# SPDX-License-Identifier: Apache-2.0
"""The recorder: what a detector saw, as a video, pictures and a summary."""

from __future__ import annotations

import json
import threading
from time import monotonic
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from trt_perception.core import Frame, FrameError, PerceptionError, Sighting
from trt_perception.core.files import user_path, write_atomically
from trt_perception.replay.pairing import Found, Pair, Pairing
from trt_perception.replay.recording import SUMMARY, Recording
from trt_perception.ros import parameters
from trt_perception.ros.detections_input import DetectionsInput
from trt_perception.ros.diagnostics import ThrottledErrors
from trt_perception.ros.image_input import ImageInput
from trt_perception.ros.inference_status import inference_status
from trt_perception.ros.recording_parameters import RECORDER


class RecorderNode(Node):
    """Draws detections onto their images and writes them, until there are no more images.

    The executor, or the threads of a camera and a detector in this process, only pair images and
    detections; a thread draws and encodes. The files are whole once the node is destroyed.

    Attributes:
        received, answered: images and detection arrays that have come.
        finished: neither camera nor detector has sent anything for the idle time-out, or nothing
            more can be written.
        exit_code: for the process; not 0 if the files could not be written.
    """

    _built = False  # rclpy destroys nodes whose constructor has failed, too

    def __init__(self, **kwargs: Any) -> None:
        """Make the output folder and subscribe.

        Args:
            kwargs: those of ``rclpy.node.Node``.

        Raises:
            ParameterError: a parameter's value cannot be used.
            RecordingError: the output folder cannot be written to.
        """
        super().__init__('recorder', **kwargs)
        parameters.declare(self, RECORDER, fixed=True)
        values = parameters.values(self, RECORDER)
        self.finished = False
        self.exit_code = 0
        self._folder = user_path(values['output'])
        self._idle_timeout = values['idle_timeout']
        self._recording = Recording(self._folder, values['pictures'])
        self._pairing = Pairing()
        self._lock = threading.Lock()  # of what images and detections change
        self._errors = ThrottledErrors(self.get_logger())
        self.received = self.answered = 0
        self._unusable = self._lost = 0
        # Of life, from camera or detector; none before the first image.
        self._last_sign: float | None = None
        self._detector: dict[str, Any] | None = None
        self._images = ImageInput(
            self,
            self._on_image,
            self._on_unusable,
            self._on_lost,
            transport=values['image_transport'],
            reliability=values['image_reliability'],
            depth=30,  # the executor may have to wait for the encoder's core
        )
        self._detections = DetectionsInput(self, self._on_detections, depth=100)
        self._images.start()
        self._detections.start()
        self.get_logger().info(f'waiting for images and detections, to write to {self._folder}')
        self.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(0.2, self._look_for_end, clock=steady)
        self._built = True

    def destroy_node(self) -> None:
        """Finish the files; waits until all is drawn."""
        if self._built:
            self._images.close()
            self._detections.close()
            self._pairing.close()
            self._recording.close()
            self._write_summary()
        super().destroy_node()

    def _on_image(self, frame: Frame) -> None:
        with self._lock:
            self._last_sign = monotonic()
            self._record(self._pairing.frame(frame))
            self.received += 1

    def _on_unusable(self, error: FrameError) -> None:
        with self._lock:
            self.received += 1
            self._unusable += 1
            self._last_sign = monotonic()
        self._errors.error(error.kind, f'image not used: {error}')

    def _on_lost(self, number: int) -> None:
        self._lost += number

    def _on_detections(self, sighting: Sighting) -> None:
        found = Found(sighting.detections.boxes, sighting.detections.scores, sighting.names)
        with self._lock:
            if self._last_sign is not None:
                self._last_sign = monotonic()  # a slow detector may have more to say
            self._record(self._pairing.answer(sighting.stamp, found))
            self.answered += 1

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        status = inference_status(message)
        if status is not None:
            # At its end a detector no longer says what it ran on.
            self._detector = {**(self._detector or {}), **status}

    def _record(self, pair: Pair | None) -> None:
        if pair is not None and not self._recording.add(pair):
            self._errors.error('behind', 'image not drawn: the encoder is behind')

    def _look_for_end(self) -> None:
        idle = 0.0 if self._last_sign is None else monotonic() - self._last_sign
        if self._recording.failure or 0 < self._idle_timeout < idle:
            self.finished = True

    def _write_summary(self) -> None:
        recording = self._recording
        frames = {
            'received': self.received,
            'lost': self._lost,
            'annotated': recording.annotated,
            'unpaired': self._pairing.unpaired,
            'dropped': recording.dropped,
            'unusable': self._unusable + recording.unusable,
        }
        summary = {
            'frames': frames,
            'detections_without_image': self._pairing.orphans,
            **recording.summary(),
            'detector': self._detector,
        }
        try:
            if recording.failure:
                raise PerceptionError(recording.failure)
            write_atomically(self._folder / SUMMARY, json.dumps(summary, indent=2) + '\n')
        except PerceptionError as error:
            self.get_logger().error(str(error))
            self.exit_code = 1
            (self._folder / SUMMARY).unlink(missing_ok=True)  # of an earlier recording
            return
        counts = ', '.join(f'{number} {name}' for name, number in frames.items())
        self.get_logger().info(f'{self._folder}: {counts}')
