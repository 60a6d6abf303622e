# SPDX-License-Identifier: Apache-2.0
"""The page of a replay: what was seen, how fast, and when."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_perception.build.report import page, script, strip, timeline
from trt_perception.build.report.pictures import plain
from trt_perception.core.files import write_atomically
from trt_perception.replay.bag_reader import METADATA
from trt_perception.replay.images import Wanted, find_images
from trt_perception.replay.ledger import DROPPED
from trt_perception.replay.result import PAGE, ReplayResult, SeenFrame, stages_of

#: Frames of the strip: those with the most objects, each of another part of the recording, and the
#: slowest ones.
_BUSY, _SLOW = 8, 4
_SHOWN = 8


#: Changes of diagnostics that are told.
_CHANGES = 6


def write_page(result: ReplayResult) -> None:
    """Write the page of a replay beside its results.

    Raises:
        PerceptionError: they are broken, or it cannot be written.
    """
    page = ReplayPage(result)
    images = find_images(result.summary, page.wanted, plain)
    write_atomically(result.path / PAGE, page.to_html(*images))


class ReplayPage:
    """A page for the folder of a replay."""

    def __init__(self, result: ReplayResult) -> None:
        """Read through what was found, once.

        Raises:
            ResultError: the files are broken.
        """
        self._summary = result.summary
        self._online: dict[str, Any] = result.summary.get('online', {})
        self._budget: float = self._online.get('latency_budget_ms', 0.0)
        self._rows: NDArray[Any] = np.array(result.rows())
        self._cameras = result.cameras
        self._names = result.class_names
        slow = self._slowest()
        edges = np.linspace(0, len(self._rows), min(_BUSY, len(self._rows)) + 1).astype(int)
        part = np.searchsorted(edges, np.arange(len(self._rows)), side='right')
        busy: dict[int, tuple[int, SeenFrame]] = {}
        kept: dict[int, tuple[str, SeenFrame]] = {}
        classes: list[NDArray[np.int32]] = []
        for k, seen in enumerate(result.frames()):
            ids = seen.detections.class_ids
            classes.append(ids)
            if k in slow:
                kept[k] = f'{self._rows["total"][k]:.1f} ms, one of the slowest', seen
            best = busy.get(int(part[k]))
            if best is None or len(ids) > len(best[1].detections):
                busy[int(part[k])] = k, seen
        for k, seen in busy.values():
            n = len(seen.detections)
            kept[k] = f'{n} found, the most around here' if n else 'nothing found around here', seen
        #: Frames worth a look, by their numbers: why, and what was found.
        self._kept = dict(sorted(kept.items()))
        self._frame = np.repeat(np.arange(len(classes)), [len(ids) for ids in classes])
        self._class = np.concatenate([*classes, np.zeros(0, np.int32)])

    @property
    def wanted(self) -> list[Wanted]:
        """The frames whose pictures are shown."""
        return [
            Wanted(seen.topic, seen.stamp.nanoseconds, seen.time) for _, seen in self._kept.values()
        ]

    def _slowest(self) -> set[int]:
        """Numbers of frames that took long, not all of one moment."""
        times = self._rows['time']
        apart = (int(times.max()) - int(times.min())) / 20 if len(times) else 0
        slow: list[int] = []
        for k in np.argsort(-self._rows['total'], kind='stable').tolist():
            if len(slow) == _SLOW:
                break
            if (np.abs(times[slow] - times[k]) >= apart).all():
                slow.append(k)
        return set(slow)

    @cached_property
    def _clock(self) -> timeline.Clock:
        return timeline.Clock.of(self._rows['time'])

    @cached_property
    def _by_class(self) -> dict[str, int]:
        """Classes, the most frequent first: name and how often."""
        ids, often = np.unique(self._class, return_counts=True)
        order = np.argsort(-often, kind='stable').tolist()
        return {self._name(int(ids[k])): int(often[k]) for k in order}

    def _name(self, number: int) -> str:
        return self._names[number] if number < len(self._names) else str(number)

    def to_html(self, images: Mapping[int, bytes], gone: str = '') -> str:
        """One page.

        Args:
            images: JPEG pictures of the frames that are `wanted`, by their place there.
            gone: why some are missing.
        """
        found = {k: images[place] for place, k in enumerate(self._kept) if place in images}
        rejected = self._rejected()
        whole = self._summary['complete'] and not self._summary['damage']
        verdict = 'Every image was used' if whole and not rejected else 'Not every image was used'
        good = whole and not rejected
        title = f'{_many(len(self._class), "detection")} in {_many(len(self._rows), "image")}'
        return page.page(title, verdict, good, self._body(found, gone), script.SCRIPT)

    def _rejected(self) -> int:
        cameras = self._summary['cameras'].values()
        return sum(sum(camera['frames']['rejected'].values()) for camera in cameras)

    def _body(self, images: Mapping[int, bytes], gone: str) -> Iterator[str]:
        summary = self._summary
        yield page.lead(
            f'{Path(summary["model"]["path"]).name} on {Path(summary["bag"]["path"]).name}, run by'
            f' {summary["backend"]} in {summary["precision"]} on {summary["device"]}.'
        )
        yield page.cards(self._cards())
        yield page.notes([*self._notes(), *([f'No pictures: {gone}.'] if gone else [])])
        if len(self._by_class) > 1:
            classes = list(self._by_class.items())[:24]
            yield script.filter_by_class([(name, f'{often:,}') for name, often in classes])
        yield self._strip(images)
        yield self._times()
        yield self._found()
        yield self._origin()

    def _cards(self) -> Iterator[page.Card]:
        summary, total = self._summary, self._rows['total']
        yield page.Card(f'{summary["frames_per_second"]:.1f}', 'images a second')
        p50, p99 = np.percentile(total, (50, 99)).tolist()
        yield page.Card(f'{p50:.1f} ms', 'an image, median')
        yield page.Card(f'{p99:.1f} ms', '99 of 100 take less')
        # What a live detector dropped makes the time between two images longer than it was.
        periods = [self._period(k) for k in range(len(self._cameras))] if not self._online else []
        if self._budget:
            share = 100 * float((total <= self._budget).mean())
            yield page.Card(f'{share:.1f} %', 'of these within the latency budget')
        elif any(periods):
            budget = np.array([p or np.inf for p in periods])[self._rows['camera']]
            share = 100 * float((total <= budget).mean())
            yield page.Card(f'{share:.1f} %', 'were done before the next one came')
        yield page.Card(f'{len(self._class) / max(len(self._rows), 1):.1f}', 'detections an image')
        yield page.Card(f'{len(self._by_class)}', 'classes were seen')

    def _period(self, camera: int) -> float | None:
        """Milliseconds from one image of a camera to the next, in the median."""
        steps = np.diff(self._rows['time'][self._rows['camera'] == camera])
        steps = steps[steps > 0]
        return float(np.median(steps)) / 1e6 if len(steps) else None

    def _notes(self) -> Iterator[str]:
        yield from self._summary['damage']
        for topic, camera in self._summary['cameras'].items():
            for kind, why in camera['rejected_because'].items():
                number = camera['frames']['rejected'][kind]
                if kind == DROPPED:
                    yield f'{topic}: {number:,} were dropped: {why}'
                else:
                    yield f'{topic}: {number:,} could not be used, the first: {why}'
            odd = ', '.join(f'{n:,} {kind}' for kind, n in camera['stamps'].items() if n)
            if odd:
                yield f'{topic}: stamps that are {odd}.'
        if not self._summary['complete']:
            yield 'This is the beginning of the bag only.'
        for change in self._online.get('changes', ())[:_CHANGES]:
            what = '{at_s} s: diagnostics of {task} became {level}: {message}'
            yield what.format(**change)

    def _strip(self, images: Mapping[int, bytes]) -> str:
        shots = [self._shot(*kept, images.get(k)) for k, kept in self._kept.items()]
        return page.section(
            'Worth a look',
            'Frames with many detections, from all parts of the recording, and the slowest ones.'
            ' Choose one to enlarge it.',
            strip.strip(shots, ()),
            '<p class="none soft" hidden>None of these frames shows the chosen classes.</p>',
            anchor='frames',
        )

    def _shot(self, why: str, seen: SeenFrame, image: bytes | None) -> strip.Shot:
        found = seen.detections
        boxes = []
        columns = (found.boxes.tolist(), found.scores.tolist(), found.class_ids.tolist())
        for (x1, y1, x2, y2), score, class_id in zip(*columns, strict=True):
            name = self._name(class_id)
            told = f'{name} {score:.2f}'
            boxes.append(strip.Box((x1, y1, x2, y2), name, 'found', told, told))
        when = self._clock.told(seen.time)
        return strip.Shot(
            image,
            seen.size if seen.size[0] else (1280, 720),
            [strip.Pane(seen.topic, boxes)],
            f'{when} · {seen.topic}' if len(self._cameras) > 1 else when,
            why,
        )

    def _times(self) -> str:
        parts = []
        how = 'From the message to the detections, without waiting in queues'
        if self._online:
            how = 'Live: from the stamp of an image to its detections, all queues included'
        for number, topic in enumerate(self._cameras):
            rows = self._rows[self._rows['camera'] == number]
            if not len(rows):
                continue
            clock, budget, period = self._clock, self._budget, self._period(number)
            bins = clock.bin(rows['time'])
            line = timeline.Line('', '', timeline.Envelope.of(bins, rows['total'], clock.bins))
            key = ('budget', 'until the next image comes') if period else ('one', 'median')
            if budget:
                key = ('budget', 'latency budget of the detector')
            what = f'milliseconds an image of {topic} over time'
            drawn = timeline.milliseconds(clock, [line], what, budget or period)
            title = page.titled(topic, '') if len(self._cameras) > 1 else ''
            parts.append(page.box(title, page.key(key), drawn, _stages(rows)))
        return page.section(
            'Time an image takes',
            f'{how}. The line is the median,'
            ' the band reaches from the least to the 95th of 100; a mark at the top edge stands for'
            ' slower ones. Below, milliseconds by stage.',
            *parts,
        )

    def _found(self) -> str:
        if not len(self._class):
            return page.section('Detections over time', 'Nothing was found in any image.')
        clock = self._clock
        bins = clock.bin(self._rows['time'])
        names = np.array([self._name(int(k)) for k in range(int(self._class.max()) + 1)])

        def one(name: str, often: int) -> str:
            mine = self._frame if not name else self._frame[names[self._class] == name]
            found = np.bincount(mine, minlength=len(self._rows)).astype(float)
            line = timeline.Line('', '', timeline.Envelope.of(bins, found, clock.bins))
            return timeline.lane(clock, name, [line], f'{often:,}')

        shown = [one('', len(self._class))]
        shown += [one(name, often) for name, often in self._by_class.items()]
        parts = [timeline.lanes(clock, shown[: _SHOWN + 1])]
        if shown[_SHOWN + 1 :]:
            parts.append(timeline.more(clock, shown[_SHOWN + 1 :]))
        return page.section(
            'Detections over time',
            'How many are found in an image: the line is the median, the band reaches from the'
            ' least to the most.',
            page.box(*parts),
        )

    def _origin(self) -> str:
        summary = self._summary
        parts = [page.facts([(k, v) for k, v in facts(summary).items()])]
        if len(self._cameras) > 1:
            rows = [
                (escape(topic), f'{camera["frames"]["looked_at"]:,}',
                 f'{sum(camera["detections"].values()):,}')
                for topic, camera in summary['cameras'].items()
            ]  # fmt: skip
            parts.insert(0, page.table(('camera', 'images', 'detections'), rows, '.rr'))
        return page.section('How this was made', 'All figures were measured here.', *parts)


def facts(summary: Mapping[str, Any]) -> dict[str, str]:
    """What ran on what, in words."""
    model, bag = summary['model'], summary['bag']
    return {
        'model': f'{Path(model["path"]).name}, sha256 {model["sha256"][:12]}',
        'ran by': summary['backend'],
        'precision': summary['precision'],
        'on': f'{summary["device"]}, {summary["machine"]["system"]}',
        'bag': f'{Path(bag["path"]).name}, sha256 {hash_of_bag(summary)[:12]}',
        'images': f'{summary["frames"]:,} of {", ".join(summary["cameras"])}',
        'rate': f'{summary["frames_per_second"]:g} images a second',
        'score from': f'{summary["selection"]["score_threshold"]:g}',
        'versions': ', '.join(f'{name} {text}' for name, text in summary['versions'].items()),
        'made': summary['date'],
    }


def _many(number: int, what: str) -> str:
    return f'{number:,} {what}{"" if number == 1 else "s"}'


def _stages(rows: NDArray[Any]) -> str:
    longest = float(np.percentile(rows['total'], 50)) or 1.0
    lines = []
    for stage in stages_of(rows):
        figures = np.percentile(rows[stage], (50, 95, 99, 100)).tolist()
        lines.append([stage, page.meter(figures[0] / longest), *(f'{ms:.2f}' for ms in figures)])
    headings: Sequence[str] = ('stage', '', 'median', 'p95', 'p99', 'most')
    return page.table(headings, lines, '..rrrr')


def hash_of_bag(summary: Mapping[str, Any]) -> str:
    """One SHA-256 for all files that hold messages; its own where there is one file."""
    digests = [f['sha256'] for f in summary['bag']['files'] if f['name'] != METADATA]
    if len(digests) == 1:
        return str(digests[0])
    return hashlib.sha256('\n'.join(digests).encode()).hexdigest()
