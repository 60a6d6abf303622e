# SPDX-License-Identifier: Apache-2.0
"""Charts as inline SVG, in the colours of the page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_LEFT, _BOTTOM, _TOP, _RIGHT = 54, 34, 12, 14


class Point(NamedTuple):
    """A place on a curve, and what is told where the pointer rests on it."""

    x: float
    y: float
    told: str


class Bar(NamedTuple):
    """A bar, its colour (``one``, ``two``), and what is told where the pointer rests on it."""

    height: float
    kind: str
    told: str


class _Plane:
    """From values to the pixels of a drawing."""

    def __init__(
        self, width: int, height: int, x: tuple[float, float], y: tuple[float, float]
    ) -> None:
        self.width, self.height = width, height
        self._x, self._y = x, y
        self.left, self.right = _LEFT, width - _RIGHT
        self.top, self.bottom = _TOP, height - _BOTTOM

    def at(self, x: float, y: float) -> tuple[float, float]:
        (x0, x1), (y0, y1) = self._x, self._y
        across = (x - x0) / ((x1 - x0) or 1)
        up = (y - y0) / ((y1 - y0) or 1)
        return (
            round(self.left + across * (self.right - self.left), 1),
            round(self.bottom - up * (self.bottom - self.top), 1),
        )

    def rule(self, y: float, text: str) -> str:
        _, at = self.at(0, y)
        return (
            f'<line class="axis" x1="{self.left}" x2="{self.right}" y1="{at}" y2="{at}"/>'
            f'<text x="{self.left - 6}" y="{at + 4}" text-anchor="end">{text}</text>'
        )

    def under(self, x: float, text: str, anchor: str = 'middle') -> str:
        at, _ = self.at(x, 0)
        return f'<text x="{at}" y="{self.height - 7}" text-anchor="{anchor}">{escape(text)}</text>'

    def svg(self, what: str, parts: Sequence[str]) -> str:
        kind = 'wide' if self.width > 400 else 'small'
        return (
            f'<svg class="{kind}" viewBox="0 0 {self.width} {self.height}" role="img"'
            f' aria-label="{escape(what)}">{"".join(parts)}</svg>'
        )


def curve(
    points: Sequence[Point], chosen: int, what: str, across: str, level: float | None = None
) -> str:
    """Shares against shares; a line joins those than which none is better in both.

    Args:
        points: x and y in 0..1.
        chosen: number of the one that was taken.
        across: what x is.
        level: y of the floats, marked by a line; None: they are at 1.
    """
    whole = 1.0 if level is None else level
    low = min(min(p.y for p in points), 0.99 * whole)
    high = max(max(p.y for p in points), whole)
    step = _step(high - low)
    floor = max(np.floor(low / step) * step, 0.0)
    top = min(np.ceil(high / step) * step, 1.0)
    first = max(np.floor(min(p.x for p in points) * 10) / 10, 0.0)
    start = min(first, 0.9)
    plane = _Plane(640, 260, (start, 1), (floor, top))
    marks = np.arange(floor, top + step / 2, step).tolist()
    parts = [plane.rule(y, f'{100 * y:.4g}') for y in marks]
    parts.append(plane.under(start, f'{100 * start:.0f} %', 'start'))
    parts.append(plane.under((start + 1) / 2, f'{50 * (start + 1):.0f} %'))
    parts.append(plane.under(1, f'100 % {across}', 'end'))
    best = [
        p for p in sorted(points) if all(p.y > q.y for q in points if q.x >= p.x and q[:2] != p[:2])
    ]
    line = ' '.join('{},{}'.format(*plane.at(p.x, p.y)) for p in best)
    if level is not None:
        _, at = plane.at(1, level)
        parts.append(
            f'<line class="mark" x1="{plane.left}" x2="{plane.right}" y1="{at}" y2="{at}"/>'
        )
    parts.append(f'<polyline class="line" points="{line}"/>')
    for number, point in enumerate(points):
        x, y = plane.at(point.x, point.y)
        kind, radius = ('one', 6) if number == chosen else ('ring', 3.5)
        told = f'<title>{escape(point.told)}</title>'
        parts.append(f'<circle class="{kind}" cx="{x}" cy="{y}" r="{radius}">{told}</circle>')
    return plane.svg(what, parts)


def bars(shown: Sequence[Bar], what: str, across: str) -> str:
    """Bars side by side, in their order."""
    highest = max((b.height for b in shown), default=0.0) or 1.0
    plane = _Plane(640, 200, (0, len(shown)), (0, highest))
    parts = [plane.rule(y, f'{100 * y:.3g}') for y in (0, highest / 2, highest)]
    for number, bar in enumerate(shown):
        left, top = plane.at(number + 0.12, bar.height)
        right, _ = plane.at(number + 0.88, 0)
        top = min(top, plane.bottom - 1)  # a layer that costs nothing is there all the same
        parts.append(
            f'<rect class="{bar.kind}" x="{left}" y="{top}" width="{right - left:.1f}"'
            f' height="{plane.bottom - top:.1f}" rx="1"><title>{escape(bar.told)}</title></rect>'
        )
    parts.append(plane.under(0, across, 'start'))
    return plane.svg(what, parts)


def histogram(counts: NDArray[np.int64], largest: float, threshold: float | None, what: str) -> str:
    """Magnitudes from 0 to the largest, how often each (by its logarithm), and what is clipped."""
    grouped = [int(part.sum()) for part in np.array_split(counts, min(len(counts), 80))]
    heights = np.log10(1 + np.array(grouped, np.float64))
    plane = _Plane(320, 150, (0, largest), (0, float(heights.max()) or 1.0))
    parts = []
    if threshold is not None and threshold < largest:
        left, _ = plane.at(threshold, 0)
        parts.append(
            f'<rect class="tint" x="{left}" y="{plane.top}" width="{plane.right - left:.1f}"'
            f' height="{plane.bottom - plane.top}"/>'
        )
    width = largest / len(grouped)
    for number, height in enumerate(heights.tolist()):
        left, top = plane.at(number * width, height)
        right, _ = plane.at((number + 0.9) * width, 0)
        parts.append(
            f'<rect class="one" x="{left}" y="{top}" width="{right - left:.1f}"'
            f' height="{plane.bottom - top:.1f}"/>'
        )
    parts.append(plane.rule(0, '0'))
    parts.append(plane.under(largest, f'{largest:.3g}', 'end'))
    if threshold is not None:
        at, _ = plane.at(min(threshold, largest), 0)
        parts.append(
            f'<line class="mark" x1="{at}" x2="{at}" y1="{plane.top}" y2="{plane.bottom}"/>'
        )
        if threshold < 0.8 * largest:
            parts.append(plane.under(threshold, f'{threshold:.3g}'))
    return plane.svg(what, parts)


def _step(reach: float) -> float:
    """Between two lines across, so that there are two to five of them."""
    for step in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2):
        if reach <= 4 * step:
            return step
    return 0.25
