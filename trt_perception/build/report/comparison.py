# SPDX-License-Identifier: Apache-2.0
"""The page of a comparison: the verdict first, then what changed, where and when."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import NamedTuple

import numpy as np

from trt_perception.build.report import accuracy, course, page, script, strip, timeline
from trt_perception.replay.coco import Accuracy
from trt_perception.replay.comparison import Comparison, Counts
from trt_perception.replay.limits import Check

#: Frames of the strip.
WORST = 12
_SHOWN = 10
_NOTHING = '\u2013'


class Words(NamedTuple):
    """What the two kinds of difference are called."""

    lost: str
    new: str


@dataclass(frozen=True)
class ComparisonPage:
    """All that stands on the page.

    Attributes:
        comparison: what was found out.
        facts: of what was compared: what it is, of the first and of the second.
        checks: what was asked, and whether it holds.
        images: JPEG pictures of the worst frames, by their numbers, as far as they are there.
        notes: what weakens all of it, a line each.
        accuracy: against labels, which are the first then; None where two looks are compared.
    """

    comparison: Comparison
    facts: Sequence[tuple[str, str, str]]
    checks: Sequence[Check]
    images: Mapping[int, bytes]
    notes: Sequence[str] = ()
    accuracy: Accuracy | None = None

    def to_html(self) -> str:
        """One page."""
        failed = [check for check in self.checks if not check.passed]
        verdict, passed = 'Compared' if self.accuracy is None else 'Measured', None
        if self.checks:
            verdict, passed = ('Failed', False) if failed else ('Passed', True)
        elif self.comparison.identical:
            verdict, passed = 'Identical', True
        return page.page(self._title(), verdict, passed, self._body(), script.SCRIPT)

    @cached_property
    def _words(self) -> Words:
        return Words('lost', 'new') if self.accuracy is None else Words('missed', 'false')

    @cached_property
    def _clock(self) -> timeline.Clock:
        return timeline.Clock.of(self.comparison.frames.time)

    @cached_property
    def _counts(self) -> Counts:
        return self.comparison.counts()

    @cached_property
    def _by_class(self) -> dict[str, Counts]:
        return self.comparison.by_class()

    def _title(self) -> str:
        if self.comparison.identical:
            return 'The same detections, bit for bit'
        if not self._counts.first:
            return f'{self._counts.second:,} detections where there were none'
        kept = _percent(self._counts.matched, self._counts.first)
        if self.accuracy is not None:
            return f'{kept} of what is labelled was found'
        return f'{kept} of the detections are still there'

    def _body(self) -> Iterator[str]:
        yield self._summary()
        yield page.notes(self.notes)
        classes = [(name, f'{max(c.first, c.second):,}') for name, c in self._by_class.items()]
        if len(classes) > 1:
            yield script.filter_by_class(classes[:24])
        yield self._frames()
        yield self._tables()
        if self.accuracy is not None:
            yield accuracy.section(self.accuracy, self.comparison.rules.score)
        if self._clock.bins > 2:
            yield course.differences(self.comparison, self._clock, *self._words)
            yield course.found(self.comparison, self._clock)
        yield course.times(self.comparison, self._clock)
        yield self._origin()

    def _summary(self) -> str:
        seen, counts, words = self.comparison.frames.seen, self._counts, self._words
        first, second = self.comparison.names
        both = int(seen.all(axis=1).sum())
        lead = (
            f'{second}, compared with {first}: {both:,} frames that both have,'
            f' {counts.first:,} and {counts.second:,} detections.'
        )
        if self._labelled:
            score = self.comparison.rules.score
            least = '' if score is None else f' of score {score:g} or more'
            lead = (
                f'{second}: {counts.second:,} detections{least} in {both:,} pictures, in which'
                f' {counts.first:,} objects are labelled.'
            )
        changed = counts.changed
        kinds = [
            ('same', counts.matched - changed, 'as before' if not self._labelled else 'found'),
            ('changed', changed, 'moved or of another score' if not self._labelled else 'loose'),
            ('lost', counts.lost, words.lost),
            ('new', counts.new, words.new),
        ]
        key = [(kind, f'{number:,} {what}') for kind, number, what in kinds]
        parts = [
            page.lead(lead),
            page.proportions([(kind, number) for kind, number, _ in kinds]),
            page.key(*key),
            page.cards(self._cards()),
        ]
        if self.checks:
            parts.append(page.box(_checks(self.checks)))
        parts.append(page.told(self.changes()))
        return '\n'.join(parts)

    @property
    def _labelled(self) -> bool:
        return self.accuracy is not None

    def _cards(self) -> Iterator[page.Card]:
        counts, words, comparison = self._counts, self._words, self.comparison
        if self.accuracy is not None:
            yield page.Card(f'{100 * self.accuracy.map:.1f}', 'mAP50-95')
            yield page.Card(f'{100 * self.accuracy.map50:.1f}', 'mAP50')
            yield page.Card(
                _percent(counts.second - counts.new, counts.second), 'of what was found is labelled'
            )
        yield page.Card(_percent(counts.lost, counts.first), f'{words.lost}: {counts.lost:,}')
        yield page.Card(_percent(counts.new, counts.second), f'{words.new}: {counts.new:,}')
        if not self._labelled:
            yield page.Card(
                _percent(counts.moved, counts.matched),
                f'moved: overlap below {comparison.rules.moved:g}',
            )
            yield page.Card(
                _percent(counts.rescored, counts.matched),
                f're-scored by more than {comparison.rules.rescored:g}',
            )
        differing = int((comparison.distances() > 0).sum())
        what = 'have a mistake' if self._labelled else 'differ'
        yield page.Card(_percent(differing, len(comparison.frames)), f'of the frames {what}')
        first, second = _medians(comparison)
        if first is not None and second is not None:
            yield page.Card(f'{first:.1f} → {second:.1f}', 'ms a frame, median')

    def changes(self) -> Iterator[tuple[str, str]]:
        """What changed, in words."""
        comparison, words = self.comparison, self._words
        by_class = self._by_class.items()
        for kind, word in (('lost', words.lost), ('new', words.new)):
            most = sorted(by_class, key=lambda c: -getattr(c[1], kind))
            for name, counts in most[:3]:
                number, of = (
                    getattr(counts, kind),
                    counts.first if kind == 'lost' else counts.second,
                )
                if number:
                    yield kind, f'{name}: {number:,} of {of:,} {word}{self._mostly(name, kind)}.'
        if comparison.lost.any() and not self._labelled:
            half = float(np.median(comparison.rows.scores[comparison.lost, 0]))
            yield 'lost', f'Half of what was lost had a score of {half:.2f} or less.'
        for old, new, number in comparison.renamed()[:3]:
            yield 'changed', f'{old} is called {new}: {number:,}.'
        slower = comparison.slower()
        if slower is not None:
            percent = round(100 * slower)
            what = f'{abs(percent)} % {"longer" if percent > 0 else "shorter"}'
            yield 'same', f'A frame takes {what if percent else "as long"} (median).'
        for side, name in enumerate(comparison.names):
            alone = int((~comparison.frames.seen[:, 1 - side]).sum())
            if alone:
                kind, word = ('lost', 'new')[side], words[side]
                what = f'{alone:,} frame{"s are" if alone != 1 else " is"} only in {name}'
                yield kind, f'{what}: what was found there counts as {word}.'

    def _mostly(self, name: str, kind: str) -> str:
        """The size that most of them are of."""
        comparison = self.comparison
        rows = comparison.lost if kind == 'lost' else comparison.new
        rows = rows & (comparison.rows.class_id == comparison.class_names.index(name))
        sizes = np.bincount(comparison.size[rows], minlength=3)
        size = ('small', 'medium', 'large')[int(sizes.argmax())]
        return f', {"all" if sizes.max() == sizes.sum() else "most"} of them {size}'

    def _frames(self) -> str:
        comparison = self.comparison
        worst = comparison.worst(WORST)
        if not worst:
            return ''
        shots = [self._shot(k) for k in (sorted(worst) if self._clock.bins > 2 else worst)]
        words = self._words
        kinds = [('same', 'matched'), ('changed', 'moved or re-scored')]
        if self._labelled:
            kinds = [('same', 'matched'), ('changed', 'loose box')]
        kinds += [('lost', f'{words.lost} (dashed)'), ('new', words.new)]
        order = ', in order of time and at least a second apart' if self._clock.bins > 2 else ''
        return page.section(
            'What is wrong' if self._labelled else 'Where they differ most',
            f'The {len(shots)} worst of {len(comparison.frames):,} frames{order}. Choose one to'
            ' enlarge it.',
            strip.strip(shots, kinds),
            '<p class="none soft" hidden>None of these frames differs in the chosen classes.</p>',
            anchor='frames',
        )

    def _shot(self, number: int) -> strip.Shot:
        comparison = self.comparison
        frames, rows = comparison.frames, comparison.rows
        mine = np.flatnonzero(rows.frame == number)
        lost, new = comparison.lost[mine], comparison.new[mine]
        changed = (comparison.moved | comparison.rescored)[mine]
        boxes: tuple[list[strip.Box], list[strip.Box]] = ([], [])
        for k, row in enumerate(mine.tolist()):
            name = comparison.class_names[rows.class_id[row]]
            first, second = rows.scores[row].tolist()
            for side in (0, 1):
                if (new, lost)[side][k]:
                    continue
                score = (first, second)[side]
                label = told = name if self._labelled and not side else f'{name} {score:.2f}'
                kind = 'changed' if changed[k] else 'same'
                if lost[k] or new[k]:
                    kind = 'lost' if lost[k] else 'new'
                    told = f'{self._words[side]}: {told}'
                    other = int(rows.renamed[row])
                    if other >= 0:
                        called = comparison.class_names[other]
                        told += f'; {comparison.names[1 - side]} calls it {called}'
                x1, y1, x2, y2 = rows.boxes[row, side].tolist()
                boxes[side].append(strip.Box((x1, y1, x2, y2), name, kind, label, told))
        width, height = frames.sizes[number].tolist()
        image = self.images.get(number)
        told = [f'{n} {w}' for n, w in zip((lost.sum(), new.sum()), self._words, strict=True) if n]
        what = 'loose' if self._labelled else 'moved or re-scored'
        told += [f'{changed.sum()} {what}'] if changed.any() else []
        topic = frames.topics[frames.topic[number]]
        when = self._clock.told(int(frames.time[number])) if self._clock.bins > 2 else ''
        where = topic if len(frames.topics) > 1 or not when else ''
        return strip.Shot(
            image,
            (width or 1280, height or 720),
            [strip.Pane(n, b) for n, b in zip(comparison.names, boxes, strict=True)],
            ' · '.join(part for part in (when, where) if part),
            ', '.join(told),
        )

    def _tables(self) -> str:
        first, second = self.comparison.names
        words = self._words
        headings = ['class', first, second, words.lost, '', words.new, '']
        headings.append('loose' if self._labelled else 'moved')
        right = '.rrrrrrr'
        if not self._labelled:
            headings.append('re-scored')
            right += 'r'
        rows = [self._row(name, counts) for name, counts in self._by_class.items()]
        names = list(self._by_class)
        parts = [page.table(headings, rows[:_SHOWN], right, names[:_SHOWN])]
        if rows[_SHOWN:]:
            rest = page.table(headings, rows[_SHOWN:], right, names[_SHOWN:])
            parts.append(page.folded(f'the other {len(rows) - _SHOWN} classes', rest, rest=True))
        sizes = [self._row(name, counts) for name, counts in self.comparison.by_size().items()]
        return page.section(
            'By class and size',
            'A pair is of one class and overlaps by'
            f' {self.comparison.rules.iou:g} or more, as intersection over union;'
            f' {"its box is loose" if self._labelled else "it has moved"} below'
            f' {self.comparison.rules.moved:g}. Small is below 32 by 32 pixels,'
            ' large from 96 by 96 on.',
            page.box(*parts),
            page.box(page.table(['size', *headings[1:]], sizes, right)),
        )

    def _row(self, name: str, counts: Counts) -> list[str]:
        same = counts.matched - counts.changed
        shares = [('same', same), ('changed', counts.changed)]
        bar = page.proportions([*shares, ('lost', counts.lost), ('new', counts.new)], 'thin')
        cells = [
            escape(name) + bar, f'{counts.first:,}', f'{counts.second:,}',
            _cell('bad', counts.lost), _share(counts.lost, counts.first),
            _cell('new', counts.new), _share(counts.new, counts.second), f'{counts.moved:,}',
        ]  # fmt: skip
        return cells if self._labelled else [*cells, f'{counts.rescored:,}']

    def _origin(self) -> str:
        rows = [
            (
                f'<span class="soft">{escape(what)}</span>',
                *(
                    f'<b>{escape(text)}</b>'
                    if first != second and not self._labelled
                    else escape(text)
                    for text in (first, second)
                ),
            )
            for what, first, second in self.facts
            if first or second
        ]
        return page.section(
            'What was compared',
            '' if self._labelled else 'In bold what is not the same.',
            page.table(('', *self.comparison.names), rows, kind='facts'),
        )


def _checks(checks: Sequence[Check]) -> str:
    rows = [
        (
            f'<b class="{"good" if check.passed else "bad"}">{"✓" if check.passed else "✗"}</b> '
            + escape(check.what),
            escape(check.told(check.found)),
            escape(check.told(check.limit)),
        )
        for check in checks
    ]
    return page.table(('what was asked', 'is', 'may be'), rows, '.rr')


def _medians(comparison: Comparison) -> tuple[float | None, float | None]:
    both = comparison.frames.total_ms
    known = ~np.isnan(both)
    first, second = (
        float(np.median(both[known[:, k], k])) if known[:, k].any() else None for k in (0, 1)
    )
    return first, second


def _cell(kind: str, number: int) -> str:
    return f'<span class="{kind}">{number:,}</span>' if number else '0'


def _share(number: int, of: int) -> str:
    return f'<span class="soft">{_percent(number, of)}</span>' if number else ''


def _percent(number: int, of: int) -> str:
    """As exact as it has to be: what is not all does not read 100 %."""
    if not of:
        return _NOTHING
    share = 100 * number / of
    if number and share < 0.1:
        return f'{share:.2f} %'
    if number < of and share > 99.9:
        return f'{min(share, 99.99):.2f} %'
    return f'{share:.1f} %'
