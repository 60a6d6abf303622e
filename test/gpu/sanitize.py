# SPDX-License-Identifier: Apache-2.0
"""Every kernel a few times, small, for compute-sanitizer; says how often each was launched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from decode_cases import LAYOUTS, compare, placements, random_outputs, spec_of
from machine import Gpu
from preprocess_cases import ENCODING_NAMES, levels_apart, random_frame
from preprocess_cases import spec_of as preprocess_spec

from trt_perception.core import Selection
from trt_perception.runtime.cuda.device import CudaDevice
from trt_perception.runtime.cuda.launch import Launch


class Counting(Gpu):
    """A GPU that counts."""

    launched: ClassVar[Counter[str]] = Counter()

    def run(self, launches: Sequence[Launch]) -> None:
        """As of the GPU."""
        self.launched.update(launch.kernel for launch in launches)
        super().run(launches)


device = CudaDevice()
gpu = Counting(device)
for number, encoding in enumerate(ENCODING_NAMES):
    for dtype in ('float32', 'float16'):
        frame = random_frame((121 + number, 83), encoding, number)
        assert levels_apart(gpu, preprocess_spec(dtype=dtype), frame).farthest <= 1
for layout in LAYOUTS:
    for multi_label in (False, True):
        spec = spec_of(layout, 80, 96, 64)
        outputs = random_outputs(spec, np.random.default_rng(1), 'float16', busy=0.5)
        selection = Selection(0.1, 0.5, multi_label=multi_label)
        compare(gpu, spec, [outputs, outputs], placements(spec)[1], selection)
gpu.close()
device.close()
print(*sorted(Counting.launched.items()))
