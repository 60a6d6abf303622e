# SPDX-License-Identifier: Apache-2.0
"""Weights in INT8: one scale for each output channel, each clipped where the error is least."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trt_perception.build.quantization.ranges import LEVELS

#: How far the range of a channel may shrink.
_SHARES = np.linspace(1.0, 0.6, 21)


def scales(
    weight: NDArray[np.float32], axis: int, power: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """The scale of each output channel that makes the least squared error of its outputs.

    Args:
        weight: any shape.
        axis: numbers the output channels.
        power: mean square of what each weight is multiplied with, broadcastable to the weights;
            errors count by it. None: all alike.

    Returns:
        (channels,) float32, positive.
    """
    flat = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
    if power is None:
        counts: NDArray[np.float32] = np.ones((1, 1), np.float32)
    else:
        full = np.broadcast_to(power, weight.shape)
        counts = np.moveaxis(full, axis, 0).reshape(flat.shape)
    largest = np.abs(flat).max(axis=1, initial=0)
    # A channel of zeros takes any scale; one that is not tiny keeps FP16 engines finite.
    largest = np.where(largest > 0, largest, 1.0)
    best = largest / LEVELS
    least = np.full(len(flat), np.inf)
    for share in _SHARES:
        scale = largest * share / LEVELS
        error = (((quantized(flat, scale, 0) * scale[:, None] - flat) ** 2) * counts).sum(axis=1)
        better = error < least
        best, least = np.where(better, scale, best), np.where(better, error, least)
    return best.astype(np.float32)


def quantized(
    weight: NDArray[np.float32], scale: NDArray[np.floating], axis: int
) -> NDArray[np.int8]:
    """Weights in steps of their channel's scale."""
    shape = [1] * weight.ndim
    shape[axis] = -1
    steps = np.round(weight / scale.reshape(shape))
    return np.clip(steps, -LEVELS, LEVELS).astype(np.int8)
