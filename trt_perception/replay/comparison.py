# SPDX-License-Identifier: Apache-2.0
"""What two looks at the same frames have in common: matched, lost, new, moved, re-scored."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

#: By area in source pixels, as COCO has it: below 32 squared, below 96 squared, and the rest.
SIZES = ('small', 'medium', 'large')
_AREAS = 32**2, 96**2

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Mask = NDArray[np.bool_]


class Rules(NamedTuple):
    """What counts, and as what.

    Attributes:
        score: a detection counts from this score on; its partner may have less. None: all that was
            recorded counts.
        iou: boxes that overlap less are not of the same object.
        moved: a matched box that overlaps less than this has moved.
        rescored: a score that differs by more than this is another one.
    """

    score: float | None = None
    iou: float = 0.5
    moved: float = 0.8
    rescored: float = 0.1

    def for_labels(self) -> Rules:
        """The same, where the first has no scores to compare with: no difference reaches 1."""
        return self._replace(rescored=1.0)


class Counts(NamedTuple):
    """Detections of the first and of the second, and what became of them.

    ``matched`` is of the first; what is ``moved`` or ``rescored`` is matched too, and ``changed``
    is what is one or both of these.
    """

    first: int
    second: int
    matched: int
    moved: int
    rescored: int
    changed: int
    lost: int
    new: int


@dataclass(frozen=True)
class Frames:
    """The frames that were compared, a column each, in the order of their times.

    Attributes:
        topics: names that ``topic`` counts in.
        topic, stamp, time: (N,) of the image; nanoseconds.
        sizes: (N, 2) width and height; 0 where unknown.
        seen: (N, 2) whether the first and the second looked at it.
        found: (N, 2) detections of each that count.
        total_ms: (N, 2) how long each took; NaN where it is not known.
    """

    topics: tuple[str, ...]
    topic: Ints
    stamp: NDArray[np.int64]
    time: NDArray[np.int64]
    sizes: Ints
    seen: Mask
    found: Ints
    total_ms: Floats

    def __len__(self) -> int:
        return len(self.time)


@dataclass(frozen=True)
class Rows:
    """A row for each pair, and for each detection that found none, sorted by frame.

    Attributes:
        frame: (N,) its number.
        class_id: (N,) of the comparison's names.
        boxes: (N, 2, 4) of the first and of the second, x1, y1, x2, y2 in source pixels; NaN where
            there is none.
        scores: (N, 2) likewise.
        overlap: (N,) intersection over union of a pair; 0 where there is none.
        renamed: (N,) what the other calls what it has there and was not paired; -1 for nothing.
    """

    frame: Ints
    class_id: Ints
    boxes: Floats
    scores: Floats
    overlap: Floats
    renamed: Ints


@dataclass(frozen=True)
class Comparison:
    """What was found by both, one, or the other.

    Attributes:
        names: what the first and the second are called.
        class_names: of both; what has the same name, spelling apart, is one class.
        rules: that were compared by.
        frames, rows: what was compared.
    """

    names: tuple[str, str]
    class_names: tuple[str, ...]
    rules: Rules
    frames: Frames
    rows: Rows

    @cached_property
    def lost(self) -> Mask:
        """Rows that only the first has."""
        return np.isnan(self.rows.scores[:, 1])

    @cached_property
    def new(self) -> Mask:
        """Rows that only the second has."""
        return np.isnan(self.rows.scores[:, 0])

    @cached_property
    def matched(self) -> Mask:
        """Rows that both have."""
        return ~(self.lost | self.new)

    @cached_property
    def moved(self) -> Mask:
        """Matched rows whose box is elsewhere."""
        return self.matched & (self.rows.overlap < self.rules.moved)

    @cached_property
    def rescored(self) -> Mask:
        """Matched rows whose score is another one."""
        scores = self.rows.scores
        return self.matched & (np.abs(scores[:, 1] - scores[:, 0]) > self.rules.rescored)

    @cached_property
    def size(self) -> Ints:
        """(N,) of each row, index into `SIZES`: of the first one's box where it has one."""
        boxes = np.where(self.new[:, None], self.rows.boxes[:, 1], self.rows.boxes[:, 0])
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        return np.digitize(area, _AREAS).astype(np.int32)

    @property
    def identical(self) -> bool:
        """Whether both saw the same frames and found the same in them, bit for bit."""
        boxes, scores = self.rows.boxes, self.rows.scores
        return (
            bool(self.frames.seen.all())
            and np.array_equal(boxes[:, 0], boxes[:, 1])
            and np.array_equal(scores[:, 0], scores[:, 1])
        )

    def counts(self, rows: Mask | None = None) -> Counts:
        """How many of all rows, or of some."""
        least = -1.0 if self.rules.score is None else self.rules.score
        chosen = np.ones(len(self.rows.frame), bool) if rows is None else rows
        counted = (self.rows.scores >= least) & chosen[:, None]  # NaN is not
        first, second = counted.T
        moved, rescored = self.moved, self.rescored
        return Counts(
            first=int(first.sum()),
            second=int(second.sum()),
            matched=int((first & self.matched).sum()),
            moved=int((first & moved).sum()),
            rescored=int((first & rescored).sum()),
            changed=int((first & (moved | rescored)).sum()),
            lost=int((first & self.lost).sum()),
            new=int((second & self.new).sum()),
        )

    def by_class(self) -> dict[str, Counts]:
        """Of each class that either found, the most frequent first."""
        ids, frequent = np.unique(self.rows.class_id, return_counts=True)
        order = ids[np.argsort(-frequent, kind='stable')].tolist()
        return {self.class_names[k]: self.counts(self.rows.class_id == k) for k in order}

    def by_size(self) -> dict[str, Counts]:
        """Of small, medium and large objects."""
        size = self.size
        return {name: self.counts(size == k) for k, name in enumerate(SIZES)}

    def renamed(self) -> list[tuple[str, str, int]]:
        """What is still seen, under another name: old name, new name and how often."""
        rows = self.lost & (self.rows.renamed >= 0)
        pairs = np.stack((self.rows.class_id[rows], self.rows.renamed[rows]), axis=1)
        kinds, number = np.unique(pairs, axis=0, return_counts=True)
        named = [
            (self.class_names[a], self.class_names[b], n)
            for (a, b), n in zip(kinds.tolist(), number.tolist(), strict=True)
        ]
        return sorted(named, key=lambda kind: -kind[2])

    def distances(self) -> NDArray[np.float64]:
        """(frames,) how far the two are apart in each: the scores of what only one has, how far
        boxes moved, and how much scores changed."""
        scores = self.rows.scores
        alone = np.nansum(scores, axis=1)
        moved = np.where(self.moved, (1 - self.rows.overlap) * alone / 2, 0)
        change = np.abs(scores[:, 1] - scores[:, 0])
        apart = np.where(self.matched, moved + np.where(self.rescored, change, 0), alone)
        return np.bincount(self.rows.frame, apart, len(self.frames)).astype(np.float64)

    def worst(self, number: int, apart_s: float = 1.0) -> list[int]:
        """Frames in which the two differ most, the worst first.

        Args:
            number: at most so many.
            apart_s: neighbours in time look alike; of one topic none is nearer to another.
        """
        distances = self.distances()
        chosen: list[int] = []
        for k in np.argsort(-distances, kind='stable').tolist():
            if len(chosen) == number or distances[k] <= 0:
                break
            same = [i for i in chosen if self.frames.topic[i] == self.frames.topic[k]]
            gaps = np.abs(self.frames.time[same] - self.frames.time[k])
            if not (gaps < apart_s * 1e9).any():
                chosen.append(k)
        return chosen

    def slower(self) -> float | None:
        """Median time of the second over that of the first, less 1; None if one is not known."""
        both = self.frames.total_ms
        if not (~np.isnan(both)).any(axis=0).all():
            return None
        first, second = np.nanmedian(both, axis=0).tolist()
        return second / first - 1 if first else None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        seen = self.frames.seen
        return {
            'first': self.names[0],
            'second': self.names[1],
            'rules': self.rules._asdict(),
            'identical': self.identical,
            'frames': {
                'both': int(seen.all(axis=1).sum()),
                'only_first': int((~seen[:, 1]).sum()),
                'only_second': int((~seen[:, 0]).sum()),
                'differing': int((self.distances() > 0).sum()),
            },
            'counts': self.counts()._asdict(),
            'by_class': {name: c._asdict() for name, c in self.by_class().items()},
            'by_size': {name: c._asdict() for name, c in self.by_size().items()},
            'renamed': [{'from': a, 'to': b, 'count': n} for a, b, n in self.renamed()],
            'slower': self.slower(),
            'worst_frames': [
                {
                    'topic': self.frames.topics[self.frames.topic[k]],
                    'stamp': int(self.frames.stamp[k]),
                }
                for k in self.worst(12)
            ],
        }
