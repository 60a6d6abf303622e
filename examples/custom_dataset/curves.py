# SPDX-License-Identifier: Apache-2.0
"""The picture of a training: how the loss fell and the accuracy rose."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from trt_perception.core.files import write_atomically


class Epoch(NamedTuple):
    """One pass over the data.

    Attributes:
        box, step, classes: means of the parts of the loss.
        map, map50: of the averaged network on the validation pictures, 0..1; None where it was not
            measured after this pass.
    """

    box: float
    step: float
    classes: float
    map: float | None = None
    map50: float | None = None

    @property
    def loss(self) -> float:
        return self.box + self.step + self.classes


def draw_curves(path: Path, epochs: Sequence[Epoch]) -> None:
    """Write a PNG."""
    figure = Figure(figsize=(10, 4), layout='constrained')
    FigureCanvasAgg(figure)
    losses, accuracies = figure.subplots(1, 2)
    passes = range(1, len(epochs) + 1)
    for part in ('loss', 'box', 'step', 'classes'):
        losses.plot(passes, [getattr(e, part) for e in epochs], label=part)
    losses.set(xlabel='epoch', ylabel='training loss', yscale='log')
    measured = [(n, e) for n, e in zip(passes, epochs, strict=True) if e.map is not None]
    for name, label in (('map50', 'mAP50'), ('map', 'mAP50-95')):
        points = [getattr(e, name) for _, e in measured]
        accuracies.plot([n for n, _ in measured], points, marker='.', label=label)
    accuracies.set(xlabel='epoch', ylabel='validation', ylim=(0, 1))
    for axes in (losses, accuracies):
        axes.grid(alpha=0.3)
        axes.legend()
    data = io.BytesIO()
    figure.savefig(data, dpi=100)
    write_atomically(path, data.getvalue())
