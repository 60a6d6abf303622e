# SPDX-License-Identifier: Apache-2.0
"""Plots over the time of a recording, of one size however long it is.

The frames are put into at most `_MOST` bins of equal time; of each only the least, the median, the
95th of 100 and the largest are drawn. The drawings stretch to the width that there is; what is
written on them is text of the page.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trt_perception.build.report import page

Array = NDArray[np.float64]

_MOST, _FEW = 240, 40
_LANES = 24


@dataclass(frozen=True)
class Clock:
    """The time of a recording, cut into bins.

    Attributes:
        start: nanoseconds since the epoch.
        seconds: until the last frame.
        bins: how many.
    """

    start: int
    seconds: float
    bins: int

    @classmethod
    def of(cls, time: NDArray[np.int64]) -> Clock:
        """Of frames that were recorded at these times."""
        if not len(time):
            return cls(0, 1.0, 1)
        start, end = int(time.min()), int(time.max())
        # Several frames a bin, where there are enough: one has no spread.
        number = len(np.unique(time))
        bins = min(number, max(number // 3, _FEW), _MOST)
        return cls(start, max((end - start) / 1e9, 1e-3), bins)

    def bin(self, time: NDArray[np.int64]) -> NDArray[np.intp]:
        """(N,) which bin each time is in."""
        share = (time - self.start) / (self.seconds * 1e9)
        return np.clip((share * self.bins).astype(np.intp), 0, self.bins - 1)

    def told(self, time: int) -> str:
        """A time as minutes and seconds since the start."""
        return _clock((time - self.start) / 1e9, 0.1)

    def middle(self, number: int) -> str:
        """Of a bin."""
        return _clock((number + 0.5) * self.seconds / self.bins, self.seconds / self.bins)


class Envelope(NamedTuple):
    """Figures of each bin, (bins,) each; NaN where no frame is."""

    least: Array
    median: Array
    p95: Array
    most: Array

    @classmethod
    def of(cls, bins: NDArray[np.intp], values: NDArray[np.floating], number: int) -> Envelope:
        """Of values that fall into these bins; NaN is passed over."""
        figures = np.full((4, number), np.nan)
        known = ~np.isnan(values)
        bins, values = bins[known], values[known].astype(np.float64)
        order = np.argsort(bins, kind='stable')
        edges = np.searchsorted(bins[order], np.arange(number + 1))
        for k in np.flatnonzero(np.diff(edges)).tolist():
            inside = values[order[edges[k] : edges[k + 1]]]
            figures[:, k] = np.quantile(inside, (0, 0.5, 0.95, 1))
        return cls(*figures)


class Line(NamedTuple):
    """Values over time, drawn as a median in a band from the least to the 95th of 100.

    Attributes:
        kind: class of the style, ``first`` or ``second``.
        name: of what it is.
        values: of each bin.
    """

    kind: str
    name: str
    values: Envelope


def milliseconds(
    clock: Clock, lines: Sequence[Line], what: str, budget: float | None = None
) -> str:
    """How long frames took.

    Args:
        what: the picture shows.
        budget: how long they may take, marked by a line.
    """
    # A few slow frames must not press all others flat: they are marked at the edge.
    top = max(float(np.nanquantile(line.values.p95, 0.98)) for line in lines)
    step, limit = _scale(max(top * 1.15, 1.2 * budget if budget else 0) or 1)
    parts = []
    for line in lines:
        e = line.values
        parts.append(_band(e.least, e.p95, limit, f'band {line.kind}'))
        parts.append(_line(e.median, limit, f'line {line.kind}'))
        for k in np.flatnonzero(e.most > limit).tolist():
            x = _x(k + 0.5, clock.bins)
            parts.append(f'<line class="over {line.kind}" x1="{x}" x2="{x}" y1="0" y2="4"/>')
    marks = ''
    if budget is not None:
        at = 100 - 100 * budget / limit
        parts.append(f'<line class="budget" x1="0" x2="1000" y1="{at:.1f}" y2="{at:.1f}"/>')
        marks = f'<span class="may" style="top:{at:.1f}%">{budget:.4g}</span>'
    parts += _tips(clock, [(_told_ms(line), line.values.median) for line in lines])
    ticks = [(v / limit, f'{v:g}') for v in np.arange(0, limit * 1.001, step).tolist()]
    ticks[-1] = (1.0, f'{limit:g} ms')
    return _plot(clock, what, ticks, parts, marks)


def _told_ms(line: Line) -> list[str]:
    e = line.values
    return [
        f'{line.name}{": " if line.name else ""}median {m:.1f}, p95 {p:.1f}, most {top:.1f} ms'
        for m, p, top in zip(e.median.tolist(), e.p95.tolist(), e.most.tolist(), strict=True)
    ]


def lane(clock: Clock, name: str, lines: Sequence[Line], number: str, kind: str = '') -> str:
    """One class over time: how many were found in a frame.

    Args:
        name: of the class, which the filter goes by; '' for all of them.
        number: what stands beside the name.
        kind: more classes of the style.
    """
    top = max(float(np.nanmax(line.values.most, initial=0)) for line in lines) or 1.0
    parts = []
    for line in lines:
        parts.append(_band(line.values.least, line.values.most, top, f'band {line.kind}'))
        parts.append(_line(line.values.median, top, f'line {line.kind}'))
    parts += _tips(clock, [(_told_count(line), line.values.median) for line in lines])
    return _lane(name, number, f'{top:.3g}', parts, kind, 'found in a frame')


def _told_count(line: Line) -> list[str]:
    e = line.values
    return [
        f'{line.name}{": " if line.name else ""}{low:g} to {high:g}, median {m:g}'
        for low, m, high in zip(e.least.tolist(), e.median.tolist(), e.most.tolist(), strict=True)
    ]


def mirrored(
    clock: Clock, name: str, lost: NDArray[np.intp], new: NDArray[np.intp], number: str
) -> str:
    """One class over time: new ones above the line, lost ones below.

    Args:
        name: of the class; '' for all of them.
        lost, new: the bins that they are in.
        number: what stands beside the name.
    """
    down, up = (np.bincount(bins, minlength=clock.bins) for bins in (lost, new))
    top = float(max(down.max(), up.max())) or 1.0
    parts = ['<line class="axis" x1="0" x2="1000" y1="50" y2="50"/>']
    for k in np.flatnonzero(down + up).tolist():
        left, width = _x(k, clock.bins), max(1000 / clock.bins * 0.85, 1)
        told = escape(f'{clock.middle(k)}: {down[k]} lost, {up[k]} new')
        bars = ''
        for kind, count, y in (('new', up[k], 50 - 48 * up[k] / top), ('lost', down[k], 50)):
            if count:
                bars += (
                    f'<rect class="{kind}" x="{left}" width="{width:.1f}" y="{y:.1f}"'
                    f' height="{48 * count / top:.1f}"/>'
                )
        parts.append(f'<g><title>{told}</title>{bars}</g>')
    return _lane(name, number, f'± {top:.0f}', parts, '', 'lost and new')


def lanes(clock: Clock, shown: Sequence[str]) -> str:
    """Lanes below each other, with one axis of time."""
    axis = f'<div class="lane-axis">{_time_axis(clock)}</div>'
    return f'<div class="lanes">{"".join(shown)}{axis}</div>'


def more(clock: Clock, rest: Sequence[str]) -> str:
    """The other lanes, folded away, as far as a page can hold them."""
    told = f'{len(rest)} more classes'
    if len(rest) > _LANES:
        told = f'{_LANES} of {len(rest)} more classes, the first'
    return page.folded(told, lanes(clock, rest[:_LANES]), rest=True)


def _lane(name: str, number: str, top: str, parts: Sequence[str], kind: str, what: str) -> str:
    title = escape(name or 'all classes')
    chosen = f' data-class="{escape(name)}"' if name else ' data-all'
    return (
        f'<div class="lane {kind}"{chosen}><div class="lane-name"><b>{title}</b>'
        f'<span>{escape(number)}</span></div>'
        f'<svg viewBox="0 0 1000 100" preserveAspectRatio="none" role="img"'
        f' aria-label="{title}: {what} over time">{"".join(parts)}</svg>'
        f'<span class="lane-top">{escape(top)}</span></div>'
    )


def _plot(
    clock: Clock, what: str, ticks: Sequence[tuple[float, str]], parts: Sequence[str], marks: str
) -> str:
    rules = ''.join(
        f'<line class="axis" x1="0" x2="1000" y1="{100 - 100 * y:.1f}" y2="{100 - 100 * y:.1f}"/>'
        for y, _ in ticks
    )
    labels = ''.join(
        f'<span style="top:{100 - 100 * y:.1f}%">{escape(text)}</span>' for y, text in ticks
    )
    return (
        f'<div class="plot"><div class="plot-y" aria-hidden="true">{labels}{marks}</div>'
        f'<div class="plot-area"><svg viewBox="0 0 1000 100" preserveAspectRatio="none" role="img"'
        f' aria-label="{escape(what)}">{rules}{"".join(parts)}</svg></div>'
        f'{_time_axis(clock)}</div>'
    )


def _time_axis(clock: Clock) -> str:
    step = next((s for s in _TIME_STEPS if clock.seconds / s <= 6), max(clock.seconds / 6, 1.0))
    marks = np.arange(0, clock.seconds, step).tolist()
    spans = ''.join(
        f'<span style="left:{100 * at / clock.seconds:.2f}%">{_clock(at, step)}</span>'
        for at in marks
        if at < 0.93 * clock.seconds
    )
    return f'<div class="plot-x" aria-hidden="true">{spans}</div>'


_TIME_STEPS = (
    0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400,
)  # fmt: skip


def _clock(seconds: float, step: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    decimals = 0 if step >= 1 else 1 if step >= 0.1 else 2
    text = f'{rest:0{2 + (decimals and decimals + 1)}.{decimals}f}'
    return f'{hours}:{minutes:02d}:{text}' if hours else f'{minutes}:{text}'


def _tips(clock: Clock, told: Sequence[tuple[list[str], Array]]) -> Iterator[str]:
    """What the pointer is told over each bin."""
    for k in range(clock.bins):
        lines = [text[k] for text, values in told if not np.isnan(values[k])]
        if lines:
            text = escape('\n'.join((clock.middle(k), *lines)))
            width = 1000 / clock.bins
            yield (
                f'<rect class="tip" x="{_x(k, clock.bins)}" width="{width:.2f}" y="0"'
                f' height="100"><title>{text}</title></rect>'
            )


def _runs(values: Array) -> Iterator[tuple[int, int]]:
    """From and to, of each stretch without a gap."""
    known = np.concatenate(([0], ~np.isnan(values), [0])).astype(np.int8)
    edges = np.flatnonzero(np.diff(known)).tolist()
    yield from zip(edges[::2], edges[1::2], strict=True)


def _points(values: Array, start: int, end: int, limit: float) -> list[str]:
    """Through the middle of each bin, and out to the edges of the stretch."""
    heights = (100 - 100 * np.minimum(values[start:end] / limit, 1)).tolist()
    places = [start, *(k + 0.5 for k in range(start, end)), end]
    number = len(values)
    return [
        f'{_x(x, number)},{y:.1f}'
        for x, y in zip(places, [heights[0], *heights, heights[-1]], strict=True)
    ]


def _line(values: Array, limit: float, kind: str) -> str:
    moves = ('M' + 'L'.join(_points(values, a, b, limit)) for a, b in _runs(values))
    return f'<path class="{kind}" d="{"".join(moves)}"/>'


def _band(low: Array, high: Array, limit: float, kind: str) -> str:
    moves = (
        'M' + 'L'.join(_points(high, a, b, limit) + _points(low, a, b, limit)[::-1]) + 'Z'
        for a, b in _runs(low)
    )
    return f'<path class="{kind}" d="{"".join(moves)}"/>'


def _x(place: float, number: int) -> str:
    return f'{1000 * place / number:.1f}'.removesuffix('.0')


def _scale(top: float) -> tuple[float, float]:
    """Distance between two rules, and the height of the uppermost, for values up to ``top``."""
    size = 10.0 ** np.floor(np.log10(top / 4))
    step = float(next(s * size for s in (1, 2, 2.5, 5, 10) if top / (s * size) <= 5))
    return step, float(np.ceil(top / step - 1e-9)) * step
