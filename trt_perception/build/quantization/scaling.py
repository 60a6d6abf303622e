# SPDX-License-Identifier: Apache-2.0
"""The range of each activation, and what its channels are divided by first.

One scale must do for all channels of an activation, and where their ranges differ much the small
ones drown: that is what ruins networks with depthwise convolutions. A channel can be divided by a
number of its own first, if the weights that meet it are multiplied by the same. A depthwise layer
pays nothing for it, since each of its output channels sees one input channel only and has a weight
scale of its own. Elsewhere the weights become harder to quantize as the activation becomes easier;
how far to go is read off the error that both together make in the layer's output.
(Sheng et al., "Same, Same But Different", 2019; Xiao et al., "SmoothQuant", 2023.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_perception.build.quantization.layers import Multiplication, spread
from trt_perception.build.quantization.observation import BINS, Activation, Vector
from trt_perception.build.quantization.ranges import LEVELS, METHODS

#: 0 leaves the channels as they are, 1 gives all of them the same range.
_STRENGTHS = (0.25, 0.5, 0.75, 1.0)
#: Division costs a multiplication, and must take a fifth of the error away to be worth it.
_WORTH = 0.8
#: Channels are not raised beyond this, nor the weights that meet them.
_LARGEST_RATIO = 1e3
_THRESHOLD_SHARES = np.geomspace(1.0, 0.05, 30)


@dataclass(frozen=True)
class Scaling:
    """How one activation becomes INT8.

    Attributes:
        threshold: what becomes 127, once divided.
        divisor: (channels,) float32 what each channel is divided by; None: nothing.
        noise: expected error of the outputs of its layers, as a share of their variance.
        counts, largest: histogram of the divided magnitudes over all channels.
    """

    threshold: float
    divisor: NDArray[np.float32] | None
    noise: float
    counts: NDArray[np.int64]
    largest: float


Consumer = tuple[Multiplication, NDArray[np.float32], float]


def choose(
    activation: Activation, consumers: Sequence[Consumer], method: str, divide: bool = True
) -> Scaling:
    """The division and threshold with the least expected error.

    Args:
        consumers: the layers that take this activation with constant weights, each with those and
            the variance of its output (the sum over channels).
        method: of `METHODS`; ``mse`` weighs an error by what the weights make of it.
        divide: whether the channels may be divided: not where an activation meets another.
    """
    gains = _gains(len(activation.largest), consumers)
    plain = _with_divisor(activation, consumers, gains, np.ones(len(activation.largest)), method)
    if not divide:
        return plain
    ranges = _ranges(activation)
    depthwise = all(layer.groups > 1 and w.shape[1] == 1 for layer, w, _ in consumers)
    strengths = (1.0,) if depthwise else _STRENGTHS
    meets = np.ones(len(ranges)) if depthwise else _meets(len(ranges), consumers)
    candidates = [
        _with_divisor(activation, consumers, gains, _divisor(ranges, meets, strength), method)
        for strength in strengths
    ]
    best = min(candidates, key=lambda c: c.noise)
    return best if best.noise < plain.noise * _WORTH else plain


def _with_divisor(
    activation: Activation,
    consumers: Sequence[Consumer],
    gains: Vector,
    divisor: Vector,
    method: str,
) -> Scaling:
    counts, largest = _divided(activation, divisor)
    if method == 'mse':
        thresholds = largest * _THRESHOLD_SHARES
        errors = [_activation_noise(activation, gains, divisor, t) for t in thresholds]
        threshold = float(thresholds[int(np.argmin(errors))])
    else:
        threshold = METHODS[method](counts, largest)
    noise = _activation_noise(activation, gains, divisor, threshold)
    noise += _weight_noise(activation, consumers, divisor)
    identity = bool((divisor == 1).all())
    return Scaling(
        max(threshold, np.finfo(np.float16).tiny * LEVELS),
        None if identity else divisor.astype(np.float32),
        noise,
        counts,
        largest,
    )


def _ranges(activation: Activation) -> Vector:
    """The range of each channel by itself: where rounding and clipping err least together."""
    magnitudes = (np.arange(BINS) + 0.5) / BINS
    total = np.maximum(activation.counts.sum(axis=1), 1)
    shares = _THRESHOLD_SHARES[:, None]
    beyond = np.maximum(magnitudes - shares, 0) ** 2  # (shares, BINS), in ranges squared
    errors = (activation.counts @ beyond.T) / total[:, None] + (shares.T / LEVELS) ** 2 / 12
    best: Vector = _THRESHOLD_SHARES[errors.argmin(axis=1)] * activation.largest
    return best


def _divisor(ranges: Vector, meets: Vector, strength: float) -> Vector:
    divisor = np.maximum(ranges, 1e-12) ** strength / meets ** (1 - strength)
    return np.maximum(divisor / divisor.max(), 1 / _LARGEST_RATIO)


def _meets(channels: int, consumers: Sequence[Consumer]) -> Vector:
    """The largest weight that meets each channel, as a share of its output channel's largest."""
    meets = np.full(channels, 1e-6)
    for layer, weight, _ in consumers:
        rows = np.moveaxis(np.abs(weight), layer.output_axis, 0)
        tops = rows.reshape(len(rows), -1).max(axis=1)
        shares = rows / np.where(tops > 0, tops, 1).reshape(-1, *[1] * (rows.ndim - 1))
        meets = np.maximum(meets, _by_input(shares, layer, channels, np.max))
    return meets


def _gains(channels: int, consumers: Sequence[Consumer]) -> Vector:
    """What a squared error of each channel adds to the outputs, as a share of their variance."""
    if not consumers:
        return np.ones(channels)
    gains = np.zeros(channels)
    for layer, weight, variance in consumers:
        rows = np.moveaxis(weight, layer.output_axis, 0).astype(np.float64) ** 2
        gains += _by_input(rows, layer, channels, np.sum) / max(variance, 1e-12)
    return gains


def _by_input(
    rows: NDArray[Any], layer: Multiplication, channels: int, reduce: Callable[..., Any]
) -> Vector:
    """Reduce weights, output channels first, to one value an input channel."""
    # What was before the output channels' axis has moved behind it.
    axis = layer.input_axis + (1 if layer.input_axis < layer.output_axis else 0)
    if layer.groups == 1:
        flat = np.moveaxis(rows, axis, 0).reshape(channels, -1)
        return np.asarray(reduce(flat, axis=1))
    inside = channels // layer.groups
    grouped = rows.reshape(layer.groups, -1, inside, *rows.shape[2:])
    flat = np.moveaxis(grouped, 2, 1).reshape(channels, -1)
    return np.asarray(reduce(flat, axis=1))


def _activation_noise(
    activation: Activation, gains: Vector, divisor: Vector, threshold: float
) -> float:
    """Rounding within the range, clipping beyond it."""
    limit = threshold * divisor
    rounding = np.minimum((limit / LEVELS) ** 2 / 12, activation.power)
    magnitudes = (np.arange(BINS) + 0.5) / BINS * activation.largest[:, None]
    beyond = np.maximum(magnitudes - limit[:, None], 0)
    total = np.maximum(activation.counts.sum(axis=1), 1)
    clipping = (activation.counts * beyond**2).sum(axis=1) / total
    return float(((rounding + clipping) * gains).sum())


def _weight_noise(activation: Activation, consumers: Sequence[Consumer], divisor: Vector) -> float:
    noise = 0.0
    for layer, weight, variance in consumers:
        factors = spread(divisor, weight, layer)
        rows = np.moveaxis(np.abs(weight) * factors, layer.output_axis, 0)
        steps = rows.reshape(len(rows), -1).max(axis=1) / LEVELS
        power = spread(activation.power / divisor**2, weight, layer)
        seen = np.moveaxis(np.broadcast_to(power, weight.shape), layer.output_axis, 0)
        seen = seen.reshape(len(rows), -1).sum(axis=1)
        noise += float((steps**2 / 12 * seen).sum()) / max(variance, 1e-12)
    return noise


def _divided(activation: Activation, divisor: Vector) -> tuple[NDArray[np.int64], float]:
    """The histogram of all channels once divided, in 8 times as many bins."""
    tops = activation.largest / divisor
    largest = float(tops.max(initial=0))
    bins = BINS * 8
    counts = np.zeros(bins, np.int64)
    if largest > 0:
        magnitudes = (np.arange(BINS) + 0.5) / BINS * tops[:, None]
        where = np.minimum((magnitudes * (bins / largest)).astype(np.int64), bins - 1)
        np.add.at(counts, where.ravel(), activation.counts.ravel())
    return counts, largest
