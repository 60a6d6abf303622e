# SPDX-License-Identifier: Apache-2.0
"""What flows through a model on the calibration frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from trt_perception.build.quantization.bench import Bench, Tensors

BINS = 256
#: Of an activation, at most about so many values of a frame go into its histogram.
_SAMPLES = 200_000

Vector = NDArray[np.float64]


@dataclass
class Activation:
    """One activation over all frames, channel by channel.

    Attributes:
        shape: of one image.
        axis: numbers the channels.
        largest: (channels,) largest magnitude.
        power: (channels,) mean square.
        mean: (channels,) mean.
        counts: (channels, BINS) how often a magnitude fell into each of equal bins from 0 to
            ``largest``; of a sample.
    """

    shape: tuple[int, ...]
    axis: int
    largest: Vector
    power: Vector
    mean: Vector
    counts: NDArray[np.int64]

    @property
    def variance(self) -> float:
        """Of all its values, each channel about its own mean."""
        return float((self.power - self.mean**2).sum())


def observe(
    bench: Bench,
    model: onnx.ModelProto,
    axes: Mapping[str, int],
    on_frame: Callable[[], None] = lambda: None,
) -> dict[str, Activation]:
    """Look at tensors on every frame, twice: ranges first, then histograms within them.

    Args:
        axes: the tensors, and the axis that numbers the channels of each.
    """
    seen: dict[str, Activation] = {}

    def see_ranges(tensors: Tensors) -> None:
        for name, axis in axes.items():
            array = np.asarray(tensors[name], np.float32)
            flat = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
            if (known := seen.get(name)) is None:
                channels = len(flat)
                known = seen[name] = Activation(
                    array.shape,
                    axis,
                    largest=np.zeros(channels),
                    power=np.zeros(channels),
                    mean=np.zeros(channels),
                    counts=np.zeros((channels, BINS), np.int64),
                )
            known.largest = np.maximum(known.largest, np.maximum(flat.max(1), -flat.min(1)))
            known.power += np.einsum('ij,ij->i', flat, flat) / flat.shape[1] / len(bench)
            known.mean += flat.mean(axis=1) / len(bench)

    def see_histograms(tensors: Tensors) -> None:
        for name, known in seen.items():
            array = np.asarray(tensors[name], np.float32)
            channels = len(known.largest)
            flat = np.moveaxis(array, known.axis, 0).reshape(channels, -1)
            flat = np.abs(flat[:, :: max(1, array.size // _SAMPLES)])
            top = np.where(known.largest > 0, known.largest, 1)[:, None]
            bins = np.minimum((flat * (BINS / top)).astype(np.int64), BINS - 1)
            bins += BINS * np.arange(channels)[:, None]
            known.counts += np.bincount(bins.ravel(), minlength=channels * BINS).reshape(
                channels, BINS
            )

    bench.observe(model, list(axes), see_ranges, on_frame)
    bench.observe(model, list(axes), see_histograms, on_frame)
    return seen
