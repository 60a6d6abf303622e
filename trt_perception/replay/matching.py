# SPDX-License-Identifier: Apache-2.0
"""Bring two looks at the same frames together: which frames, and which detections in them.

Detections of one class pair up by overlap, the largest first, from an intersection over union of
0.5 on, each with one other at most. By overlap and not by score, as COCO's evaluation does it: then
a box always meets its own copy, and comparing B with A says the same as comparing A with B.
The optimal assignment is not better: where suppression has been, two boxes of a class that compete
for one are rare (docs/replay.md has the figure).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trt_perception.core import Detections, Stamp
from trt_perception.core.labels import plain_name
from trt_perception.core.nms import pairwise_iou
from trt_perception.replay.comparison import (
    Comparison,
    Floats,
    Frames,
    Ints,
    Mask,
    Rows,
    Rules,
)
from trt_perception.replay.result import SeenFrame

Pair = tuple[SeenFrame | None, SeenFrame | None]


def paired(first: Iterable[SeenFrame], second: Iterable[SeenFrame]) -> Iterator[Pair]:
    """Bring the looks at one frame together, by topic and stamp, in whatever order they come.

    Frames that share a stamp pair up in their order. What stays alone comes last. Memory is only
    taken by what is waiting for its partner.
    """
    sides: tuple[dict[tuple[str, Stamp], deque[SeenFrame]], ...] = ({}, {})
    for both in zip_longest(first, second):
        for side, frame in enumerate(both):
            if frame is None:
                continue
            # Of one camera, whether its images came raw or compressed.
            key = frame.topic.removesuffix('/compressed'), frame.stamp
            if key in sides[1 - side]:
                partner = sides[1 - side][key].popleft()
                if not sides[1 - side][key]:
                    del sides[1 - side][key]
                yield (partner, frame) if side else (frame, partner)
            else:
                sides[side].setdefault(key, deque()).append(frame)
    yield from ((frame, None) for waiting in sides[0].values() for frame in waiting)
    yield from ((None, frame) for waiting in sides[1].values() for frame in waiting)


def compare(
    pairs: Iterable[Pair],
    class_names: tuple[Sequence[str], Sequence[str]],
    names: tuple[str, str],
    rules: Rules,
) -> Comparison:
    """Compare, frame by frame. In a frame that one did not look at, it found nothing.

    Args:
        pairs: of looks at one frame, as `paired` gives them.
        class_names: of the first and of the second.
        names: what the two are called.
    """
    classes = _Classes()
    tables = [_Ids(classes, names) for names in class_names]
    topics: dict[str, int] = {}
    frames: list[tuple[Any, ...]] = []
    rows: list[_Found] = []
    least = -1.0 if rules.score is None else rules.score
    for both in pairs:
        frame = both[1] or both[0]
        assert frame is not None
        sides = [look.detections if look is not None else Detections.empty() for look in both]
        ids = [table(side.class_ids) for table, side in zip(tables, sides, strict=True)]
        rows.append(_match(sides, ids, rules, least))
        size = next((s for s in (f.size for f in both if f is not None) if s[0]), (0, 0))
        frames.append((
            topics.setdefault(frame.topic, len(topics)), frame.stamp.nanoseconds, frame.time, size,
            [look is not None for look in both],
            [int((side.scores >= least).sum()) for side in sides],
            [look.latencies_ms.get('total', np.nan) if look else np.nan for look in both],
        ))  # fmt: skip
    return _assembled(frames, rows, tuple(topics), names, tuple(classes.names), rules)


class _Classes:
    """Names of classes as they turn up, each once however it is spelled."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._known: dict[str, int] = {}

    def id(self, name: str) -> int:
        number = self._known.setdefault(plain_name(name), len(self.names))
        if number == len(self.names):
            self.names.append(name)
        return number


class _Ids:
    """From the class ids of one side to those of the comparison."""

    def __init__(self, classes: _Classes, names: Sequence[str]) -> None:
        self._classes = classes
        self._table = np.array([classes.id(name) for name in names], np.int32)

    def __call__(self, ids: Ints) -> Ints:
        for unnamed in range(len(self._table), int(ids.max(initial=-1)) + 1):
            self._table = np.append(self._table, np.int32(self._classes.id(str(unnamed))))
        return self._table[ids]


class _Found(NamedTuple):
    """Rows of one frame; as in `Rows`."""

    class_id: Ints
    boxes: Floats
    scores: Floats
    overlap: Floats
    renamed: Ints


def _match(sides: Sequence[Detections], ids: Sequence[Ints], rules: Rules, least: float) -> _Found:
    a, b = sides
    overlap = pairwise_iou(a.boxes, b.boxes)
    same = ids[0][:, None] == ids[1][None, :]
    i, j = _greedy(np.where(same, overlap, 0), rules.iou)
    counts = (a.scores[i] >= least) | (b.scores[j] >= least)
    lost, new = (_left(side.scores >= least, taken) for side, taken in ((a, i), (b, j)))
    i, j = i[counts], j[counts]
    both, gone, number = len(i), len(lost), len(i) + len(lost) + len(new)
    nobody = np.full(max(len(lost), len(new)), -1, np.intp)
    boxes = np.full((number, 2, 4), np.nan, np.float32)
    scores = np.full((number, 2), np.nan, np.float32)
    rows = np.concatenate((i, lost, nobody[: len(new)])), np.concatenate((j, nobody[:gone], new))
    for side, row in enumerate(rows):
        there = row >= 0
        boxes[there, side] = sides[side].boxes[row[there]]
        scores[there, side] = sides[side].scores[row[there]]
    pairs = np.zeros(number, np.float32)
    pairs[:both] = overlap[i, j]
    renamed = np.full(number, -1, np.int32)
    k, m = _greedy(overlap[np.ix_(lost, new)], rules.iou)
    renamed[both + k], renamed[both + gone + m] = ids[1][new[m]], ids[0][lost[k]]
    return _Found(
        np.concatenate((ids[0][i], ids[0][lost], ids[1][new])),
        boxes, scores, pairs, renamed,
    )  # fmt: skip


def _left(counts: Mask, taken: NDArray[np.intp]) -> NDArray[np.intp]:
    """Numbers of those that count and are not taken."""
    counts[taken] = False
    return np.flatnonzero(counts)


def _greedy(overlap: Floats, least: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pairs of rows and columns, each used once, the largest overlap first."""
    rows, columns = np.nonzero((overlap >= least) & (overlap > 0))
    order = np.argsort(-overlap[rows, columns], kind='stable')
    taken: list[tuple[int, int]] = []
    used: tuple[set[int], set[int]] = (set(), set())
    for i, j in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if i not in used[0] and j not in used[1]:
            used[0].add(i)
            used[1].add(j)
            taken.append((i, j))
    pairs = np.array(taken, np.intp).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def _assembled(
    frames: list[tuple[Any, ...]],
    rows: list[_Found],
    topics: tuple[str, ...],
    names: tuple[str, str],
    class_names: tuple[str, ...],
    rules: Rules,
) -> Comparison:
    order = sorted(range(len(frames)), key=lambda k: (frames[k][2], frames[k][0]))
    columns = list(zip(*(frames[k] for k in order), strict=True)) or [()] * 7
    kinds = (np.int32, np.int64, np.int64, np.int32, bool, np.int32, np.float32)
    shapes = ((-1,), (-1,), (-1,), (-1, 2), (-1, 2), (-1, 2), (-1, 2))
    arrays = [
        np.array(column, kind).reshape(shape)
        for column, kind, shape in zip(columns, kinds, shapes, strict=True)
    ]
    sorted_rows = [rows[k] for k in order] or [
        _match([Detections.empty()] * 2, [np.zeros(0, np.int32)] * 2, rules, 0)
    ]
    number = [len(found.class_id) for found in sorted_rows]
    frame = np.repeat(np.arange(len(number), dtype=np.int32), number)
    parts = [np.concatenate(part) for part in zip(*sorted_rows, strict=True)]
    return Comparison(names, class_names, rules, Frames(topics, *arrays), Rows(frame, *parts))
