# SPDX-License-Identifier: Apache-2.0
"""How a comparison went in the course of the recording, as parts of its page."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trt_perception.build.report import page, timeline
from trt_perception.replay.comparison import Comparison

#: Lanes that are not folded away.
SHOWN = 7
_MINUS = '\u2212'


def differences(
    comparison: Comparison, clock: timeline.Clock, lost_word: str, new_word: str
) -> str:
    """New and lost detections over time, for each class.

    Args:
        lost_word, new_word: what they are called.
    """
    by_class = comparison.by_class()
    bins = clock.bin(comparison.frames.time)[comparison.rows.frame]
    lost, new = comparison.lost, comparison.new
    if not (lost | new).any():
        return ''

    def one(name: str, chosen: NDArray[np.bool_]) -> str:
        number = f'{_MINUS}{(lost & chosen).sum():,}  +{(new & chosen).sum():,}'
        return timeline.mirrored(clock, name, bins[lost & chosen], bins[new & chosen], number)

    shown = [one('', np.ones(len(bins), bool))]
    rest: list[str] = []
    order = sorted(by_class, key=lambda n: -sum(by_class[n][-2:]))
    for name in order:
        if by_class[name].lost + by_class[name].new:
            own = comparison.rows.class_id == comparison.class_names.index(name)
            (shown if len(shown) < SHOWN else rest).append(one(name, own))
    parts = [timeline.lanes(clock, shown)]
    if rest:
        parts.append(timeline.more(clock, rest))
    return page.section(
        'When they differ',
        f'Detections that are {new_word} stand above the line, those that are {lost_word}'
        ' below it.',
        page.box(page.key(('new', new_word), ('lost', lost_word)), *parts),
    )


def found(comparison: Comparison, clock: timeline.Clock) -> str:
    """How many each found in a frame over time, for each class."""
    frames, rows = comparison.frames, comparison.rows
    bins = clock.bin(frames.time)

    def one(name: str, chosen: NDArray[np.bool_]) -> str:
        lines = []
        for side, kind in enumerate(('first', 'second')):
            mine = chosen & ~np.isnan(rows.scores[:, side])
            found = np.bincount(rows.frame[mine], minlength=len(frames)).astype(float)
            found[~frames.seen[:, side]] = np.nan
            envelope = timeline.Envelope.of(bins, found, clock.bins)
            lines.append(timeline.Line(kind, comparison.names[side], envelope))
        counts = comparison.counts(chosen)
        return timeline.lane(clock, name, lines, f'{counts.first:,} → {counts.second:,}')

    shown = [one('', np.ones(len(rows.frame), bool))]
    for name in comparison.by_class():
        shown.append(one(name, rows.class_id == comparison.class_names.index(name)))
    parts = [timeline.lanes(clock, shown[:SHOWN])]
    if shown[SHOWN:]:
        parts.append(timeline.more(clock, shown[SHOWN:]))
    return page.section(
        'Detections over time',
        'How many are found in a frame: the line is the median, the band reaches from the least'
        ' to the most.',
        page.box(_sides(comparison.names), *parts),
    )


def times(comparison: Comparison, clock: timeline.Clock) -> str:
    """How long a frame took each over time; nothing where neither is known."""
    frames = comparison.frames
    bins = clock.bin(frames.time)
    lines = [
        timeline.Line(kind, name, timeline.Envelope.of(bins, values, clock.bins))
        for kind, name, values in zip(
            ('first', 'second'), comparison.names, frames.total_ms.T, strict=True
        )
        if not np.isnan(values).all()
    ]
    if not lines:
        return ''
    what = 'milliseconds a frame over time'
    return page.section(
        'Time a frame takes',
        'From the image to its detections, without waiting in queues: the line is the median,'
        ' the band reaches from the least to the 95th of 100; a mark at the top edge stands'
        ' for slower ones.',
        page.box(_sides(comparison.names), timeline.milliseconds(clock, lines, what)),
    )


def _sides(names: tuple[str, str]) -> str:
    return page.key(('first', names[0]), ('second', names[1]))
