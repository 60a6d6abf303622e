# SPDX-License-Identifier: Apache-2.0
"""Which magnitude becomes 127: four ways to read it off a histogram.

TensorRT fuses symmetric INT8 only: a value v becomes round(v / threshold * 127), within -127..127
for weights and -128..127 for activations.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

#: Levels on one side of zero.
LEVELS = 127
#: Of the magnitudes that `percentile` leaves inside.
PERCENTILE = 99.99

Counts = NDArray[np.int64]


def minmax(counts: Counts, largest: float) -> float:
    """Nothing is clipped."""
    return largest


def percentile(counts: Counts, largest: float) -> float:
    """All but one magnitude in ten thousand is inside."""
    total = np.cumsum(counts)
    bin_ = int(np.searchsorted(total, total[-1] * PERCENTILE / 100))
    return largest * min(bin_ + 1, len(counts)) / len(counts)


def mse(counts: Counts, largest: float) -> float:
    """The smallest mean squared error of rounding and clipping together."""
    magnitudes = (np.arange(len(counts)) + 0.5) * (largest / len(counts))
    best, least = largest, np.inf
    for share in np.geomspace(1.0, 0.02, 120):
        threshold = largest * share
        step = threshold / LEVELS
        clipped = magnitudes > threshold
        # Within the range the error is uniform over a step; a histogram's bins are too coarse to
        # round by themselves.
        error = counts[~clipped].sum() * step**2 / 12
        error += (counts[clipped] * (magnitudes[clipped] - threshold) ** 2).sum()
        if error < least:
            best, least = threshold, error
    return best


def entropy(counts: Counts, largest: float) -> float:
    """The least information lost (Kullback-Leibler divergence) between the magnitudes clipped at
    the threshold and the same in 128 levels.

    The method of S. Migacz, "8-bit Inference with TensorRT", GTC 2017.
    """
    levels = LEVELS + 1
    counts = counts.astype(np.float64)
    # Zeros say nothing of the range, and a ReLU makes most of them.
    counts[0] = counts[1] if len(counts) > 1 else 0
    if not counts.any():
        return largest
    best, least = len(counts), np.inf
    beyond = counts.sum() - np.cumsum(counts)
    for end in range(levels, len(counts) + 1, max(1, len(counts) // 512)):
        inside = counts[:end]
        reference = inside.copy()
        reference[-1] += beyond[end - 1]
        edges = np.linspace(0, end, levels + 1).astype(int)
        sums = np.add.reduceat(inside, edges[:-1])
        filled = np.add.reduceat((inside > 0).astype(np.float64), edges[:-1])
        means = np.divide(sums, filled, out=np.zeros(levels), where=filled > 0)
        candidate = np.repeat(means, np.diff(edges)) * (inside > 0)
        p, q = reference / reference.sum(), candidate / max(candidate.sum(), 1e-300)
        both = (p > 0) & (q > 0)
        # What the clipped end holds and the candidate does not is infinitely surprising; a small
        # floor keeps the figure finite.
        lost = float((p[both] * np.log(p[both] / q[both])).sum())
        lost += float((p[(p > 0) & (q == 0)] * np.log(1e6)).sum())
        if lost < least:
            best, least = end, lost
    return largest * best / len(counts)


METHODS: dict[str, Callable[[Counts, float], float]] = {
    'minmax': minmax,
    'entropy': entropy,
    'percentile': percentile,
    'mse': mse,
}
