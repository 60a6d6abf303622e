# SPDX-License-Identifier: Apache-2.0
"""Live images of a device, a stream, a file or a pipeline, with the times when they were taken."""

from __future__ import annotations

from trt_perception.runtime.capture.base import Capture, CaptureError, Shot, Wish
from trt_perception.runtime.capture.loop import CaptureLoop, Listener
from trt_perception.runtime.capture.select import capture_of

__all__ = ['Capture', 'CaptureError', 'CaptureLoop', 'Listener', 'Shot', 'Wish', 'capture_of']
