# SPDX-License-Identifier: Apache-2.0
"""Lose a CUDA context to a preprocess kernel that is told to read from nowhere, then close."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from trt_perception.core import Frame, Selection
from trt_perception.runtime.cuda.driver import CudaError
from trt_perception.runtime.cuda.pipeline import open_engine

pipeline = open_engine(Path(sys.argv[1]))
frame = Frame.from_array(np.zeros((480, 640, 3), np.uint8))
pipeline(frame, Selection())
lane = pipeline._lanes[0]
lane._seats[0]._images.reach = lambda frame, geometry, stream: 64  # type: ignore[method-assign]
for _ in range(2):
    try:
        pipeline(frame, Selection())
    except CudaError as error:
        assert error.sticky
        print(error)
pipeline.close()
pipeline.close()
print('closed')
