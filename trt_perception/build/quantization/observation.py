# SPDX-License-Identifier: Apache-2.0
"""What flows through a model on the calibration frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

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


#: A tensor, and the axis that numbers its channels.
Place = tuple[str, int]


def look(bench: Bench, model: onnx.ModelProto, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Tensors as the first frame gives them."""
    seen: Tensors = {}
    bench.first(1).observe(model, names, seen.update)
    return {name: np.asarray(seen[name]) for name in names}


def observe(
    bench: Bench,
    model: onnx.ModelProto,
    places: Iterable[Place],
    on_frame: Callable[[], None] = lambda: None,
) -> tuple[dict[Place, Activation], dict[str, str]]:
    """Look at tensors on every frame, twice: ranges first, then histograms within them.

    Returns:
        What was seen, and why of some tensors nothing can be told.
    """
    seen: dict[Place, Activation] = {}
    filled: dict[Place, int] = {}
    unfit: dict[str, str] = {}
    places = list(dict.fromkeys(places))
    names = list(dict.fromkeys(name for name, _ in places))

    def see_ranges(tensors: Tensors) -> None:
        for place in places:
            name, axis = place
            array = np.asarray(tensors[name], np.float32)
            if not array.size or name in unfit:
                continue  # nothing was found that it could describe, as in a second stage
            flat = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
            if (known := seen.get(place)) is None:
                channels = len(flat)
                known = seen[place] = Activation(
                    array.shape,
                    axis,
                    largest=np.zeros(channels),
                    power=np.zeros(channels),
                    mean=np.zeros(channels),
                    counts=np.zeros((channels, BINS), np.int64),
                )
            if len(flat) != len(known.largest):
                unfit[name] = 'its channels differ in number from frame to frame'
                continue
            power = np.einsum('ij,ij->i', flat, flat) / flat.shape[1]
            if not np.isfinite(power).all():
                unfit[name] = 'in floats it gives or takes values that are not finite'
                continue
            known.largest = np.maximum(known.largest, np.maximum(flat.max(1), -flat.min(1)))
            known.power += power
            known.mean += flat.mean(axis=1)
            filled[place] = filled.get(place, 0) + 1

    def see_histograms(tensors: Tensors) -> None:
        for (name, axis), known in seen.items():
            array = np.asarray(tensors[name], np.float32)
            if not array.size:
                continue
            channels = len(known.largest)
            flat = np.moveaxis(array, axis, 0).reshape(channels, -1)
            flat = np.abs(flat[:, :: max(1, array.size // _SAMPLES)])
            top = np.where(known.largest > 0, known.largest, 1)[:, None]
            bins = np.minimum((flat * (BINS / top)).astype(np.int64), BINS - 1)
            bins += BINS * np.arange(channels)[:, None]
            known.counts += np.bincount(bins.ravel(), minlength=channels * BINS).reshape(
                channels, BINS
            )

    bench.observe(model, names, see_ranges, on_frame)
    unfit |= {
        name: 'no frame gives it anything'
        for name, axis in places
        if (name, axis) not in seen and name not in unfit
    }
    seen = {place: known for place, known in seen.items() if place[0] not in unfit}
    for place, known in seen.items():
        known.power /= filled[place]
        known.mean /= filled[place]
    bench.observe(model, names, see_histograms, on_frame)
    return seen, unfit
