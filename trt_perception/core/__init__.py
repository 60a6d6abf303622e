# SPDX-License-Identifier: Apache-2.0
"""Floor 1: what everything speaks. NumPy only; no ROS, no CUDA, no OpenCV."""

from trt_perception.core.detections import Candidates, Detections, Region, Selection, Sighting
from trt_perception.core.errors import FrameError, PerceptionError
from trt_perception.core.frame import Frame, Stamp
from trt_perception.core.geometry import Geometry, place
from trt_perception.core.model_spec import ModelSpec, Signature, SpecError, TensorInfo
from trt_perception.core.recognise import recognise

__all__ = [
    'Candidates', 'Detections', 'Frame', 'FrameError', 'Geometry', 'ModelSpec', 'PerceptionError',
    'Region', 'Selection', 'Sighting', 'Signature', 'SpecError', 'Stamp', 'TensorInfo', 'place',
    'recognise',
]  # fmt: skip
