# SPDX-License-Identifier: Apache-2.0
"""Precision and recall against labels, as a part of a page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from trt_perception.build.report import page
from trt_perception.replay.coco import Accuracy, Curve

_SHOWN = 11


def section(accuracy: Accuracy, score: float | None) -> str:
    """A curve for each class, and that of their mean.

    Args:
        score: from which on detections count elsewhere on the page, marked on each curve.
    """
    objects = {c.name: (c.objects, c.ap50) for c in accuracy.classes}
    curves = sorted(accuracy.curves, key=lambda c: -objects[c.name][0])
    mean = np.mean([c.precision for c in curves], axis=0)
    shown = [_card('all classes', f'mAP50 {100 * accuracy.map50:.1f}', mean, None, ' data-all')]
    for curve in curves:
        number, ap50 = objects[curve.name]
        told = f'AP50 {100 * (ap50 or 0):.1f}, {number:,} object{"s" * (number != 1)}'
        named = f' data-class="{escape(curve.name)}"'
        shown.append(_card(curve.name, told, curve.precision, _reached(curve, score), named))
    parts = [f'<div class="curves">{"".join(shown[: _SHOWN + 1])}</div>']
    rest = shown[_SHOWN + 1 :]
    if rest:
        folded = f'<div class="curves">{"".join(rest)}</div>'
        parts.append(page.folded(f'the other {len(rest)} classes', folded, rest=True))
    marked = '' if score is None else f' The dot is where detections count from score {score:g} on.'
    return page.section(
        'Precision and recall',
        'Of what is found, how much is right (upwards), over how much of what is labelled is found'
        f' (to the right); boxes count from an overlap of 0.5 on.{marked}',
        *parts,
    )


def _reached(curve: Curve, score: float | None) -> int | None:
    """The last point of the curve that is reached with a score; None if none is."""
    if score is None:
        return None
    reached = np.flatnonzero((curve.scores >= score) & (curve.precision > 0))
    return int(reached[-1]) if len(reached) else None


def _card(name: str, told: str, precision: NDArray[np.float64], mark: int | None, kind: str) -> str:
    return (
        f'<figure class="curve"{kind}><h3>{escape(name)}</h3>{_drawn(name, precision, mark)}'
        f'<figcaption>{escape(told)}</figcaption></figure>'
    )


def _drawn(name: str, precision: NDArray[np.float64], mark: int | None) -> str:
    ends = int(np.flatnonzero(precision)[-1]) if precision.any() else 0
    points: Sequence[str] = [
        f'{k},{100 - 100 * p:.1f}' for k, p in enumerate(precision[: ends + 1])
    ]
    line = 'M' + 'L'.join(points) + f'L{ends},100'
    dot = ''
    if mark is not None:
        x, y = mark, 100 - 100 * precision[mark]
        dot = f'<path class="dot" d="M{x},{y:.1f}h0"/>'
    rules = ''.join(
        f'<line class="axis" x1="0" x2="100" y1="{y}" y2="{y}"/>'
        f'<line class="axis" x1="{y}" x2="{y}" y1="0" y2="100"/>'
        for y in (0, 50, 100)
    )
    return (
        f'<svg viewBox="0 0 100 100" preserveAspectRatio="none" role="img"'
        f' aria-label="precision over recall of {escape(name)}">{rules}'
        f'<path class="band" d="{line}L0,100Z"/><path class="line" d="{line}"/>{dot}</svg>'
    )
