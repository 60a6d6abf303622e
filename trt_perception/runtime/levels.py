# SPDX-License-Identifier: Apache-2.0
"""What a network is given for each level of a pixel; the same on the host and on a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_perception.core import ModelSpec


def level_tables(spec: ModelSpec) -> NDArray[Any]:
    """Scale, mean and std of the 256 levels of each channel: exact, and one look-up a pixel.

    Returns:
        (3, 256) of the spec's dtype, channels in the order of its ``color``.
    """
    values = np.arange(256, dtype=np.float64) * spec.scale
    tables = [(values - m) / s for m, s in zip(spec.mean, spec.std, strict=True)]
    return np.stack(tables).astype(spec.dtype)
