# SPDX-License-Identifier: Apache-2.0
"""A replay compared with another one or with labels, as several commands do it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trt_perception.cli.arguments import percentage, share

if TYPE_CHECKING:
    from trt_perception.build.report.comparison import ComparisonPage
    from trt_perception.replay.coco import Accuracy
    from trt_perception.replay.comparison import Comparison, Rules
    from trt_perception.replay.result import ReplayResult

#: The exit code where more changed than may.
CHANGED = 3

LIMITS = ('lost', 'new', 'moved', 'rescored', 'slower')


def add_limits(parser: argparse.ArgumentParser) -> None:
    """The options of what counts as a change, and of how much may."""
    add = parser.add_argument_group(
        'limits', f'Exit with {CHANGED} if more changed than this. Without any, nothing fails.'
    ).add_argument
    for name, what in (
        ('lost', 'detections of the first that the second does not have'),
        ('new', 'detections of the second that the first does not have'),
        ('moved', 'matched boxes that overlap by less than 0.8'),
        ('rescored', 'matched detections whose score differs by more than 0.1'),
        ('slower', 'by how much a frame may take longer, in the median'),
    ):
        add(f'--max-{name}', type=percentage, metavar='P%', help=what)


def add_matching(parser: argparse.ArgumentParser) -> None:
    """The options of what is the same object."""
    add = parser.add_argument_group('matching').add_argument
    add(
        '--iou',
        type=share,
        default=0.5,
        metavar='S',
        help='boxes of a class that overlap as much are the same object (default: 0.5)',
    )
    add(
        '--count-from',
        type=share,
        metavar='S',
        help='score from which on a detection counts; what it is matched with may have less'
        ' (default: all that the replays recorded)',
    )
    add(
        '--common',
        action='store_true',
        help='leave out the frames that only one of two replays looked at: a live detector drops'
        ' some',
    )


def compared(
    reference: Path,
    result: ReplayResult,
    name: str,
    arguments: argparse.Namespace,
    with_pictures: bool = True,
) -> ComparisonPage:
    """Compare a replay with what was before, or with labels.

    Args:
        reference: folder of a replay, or COCO labels.
        result: the replay.
        name: what it is called.
        with_pictures: of the worst frames, read from the bag.

    Raises:
        PerceptionError: a file is missing or wrong, or the two have nothing in common.
    """
    from trt_perception.build.report.comparison import ComparisonPage
    from trt_perception.replay.comparison import Rules
    from trt_perception.replay.limits import Limits, check

    _check_whole(result)
    limits = Limits(*(getattr(arguments, f'max_{limit}') for limit in LIMITS))
    rules = Rules(arguments.count_from, arguments.iou)
    accuracy, before = None, None
    if reference.is_file():
        check_labels(reference, arguments)
        comparison, accuracy = _with_labels(reference, result, name, rules)
    else:
        comparison, before = _with_replay(reference, result, name, rules, arguments.common)
    checks = check(comparison, limits)
    notes = weaknesses(comparison, before, result.summary)
    images: dict[int, bytes] = {}
    if with_pictures:
        images, gone = worst_images(comparison, result.summary)
        notes += [f'No pictures: {gone}.'] if gone else []
    told = facts(reference, before, result.summary)
    return ComparisonPage(comparison, told, checks, images, notes, accuracy)


def check_labels(path: Path, arguments: argparse.Namespace) -> None:
    """See that nothing is asked for that labels have no answer to.

    Raises:
        PerceptionError: it is.
    """
    from trt_perception.core import PerceptionError

    if arguments.common:
        raise PerceptionError(f"--common is for two replays, and '{path}' is a file")
    if arguments.max_slower is not None:
        raise PerceptionError(f"--max-slower is for two replays, and '{path}' is a file")


def _with_labels(
    path: Path, result: ReplayResult, name: str, rules: Rules
) -> tuple[Comparison, Accuracy]:
    from trt_perception.core import PerceptionError
    from trt_perception.replay.labels import ClassList, Labels, against_labels
    from trt_perception.replay.matching import compare

    labels, class_names = Labels(path), result.class_names
    if labels.numbered and rejected(result):
        raise PerceptionError(
            f"labels '{path}' count the frames, and {rejected(result)} of the images could not be"
            ' used, which makes the numbers wrong; give the "stamp" of each image'
        )
    looks = list(labels.looks(result.frames()))
    dataset = labels.dataset.only({picture.id for picture, _ in looks})
    classes = dataset.match(ClassList(class_names, len(class_names)))
    pairs = against_labels(dataset, classes, looks)
    both_names = dataset.class_names, class_names
    comparison = compare(pairs, both_names, ('labels', name), rules.for_labels())
    found = {picture.id: frame.detections for picture, frame in looks}
    return comparison, dataset.score(found, classes)


def _with_replay(
    path: Path, result: ReplayResult, name: str, rules: Rules, common: bool
) -> tuple[Comparison, dict[str, Any]]:
    from trt_perception.core import PerceptionError
    from trt_perception.replay.matching import compare, paired
    from trt_perception.replay.result import open_result

    before = open_result(path)
    _check_whole(before)
    names = (path.resolve().name, name)
    if names[0] == names[1]:
        names = (str(path), name) if str(path) != name else ('before', 'after')
    pairs = paired(before.frames(), result.frames())
    if common:
        pairs = (pair for pair in pairs if None not in pair)
    comparison = compare(pairs, (before.class_names, result.class_names), names, rules)
    if not comparison.frames.seen.all(axis=1).any():
        raise PerceptionError(
            f"'{path}' and '{name}' have no frame in common: none has the same topic and stamp;"
            ' compare replays of one bag'
        )
    return comparison, before.summary


#: What a page tells of a replay, and of what type it is.
_TOLD: dict[str, Any] = {
    'bag': {'path': str, 'files': list},
    'model': {'path': str, 'sha256': str},
    'backend': str,
    'precision': str,
    'device': str,
    'machine': {'system': str},
    'versions': dict,
    'selection': {'score_threshold': (int, float)},
    'date': str,
    'frames': int,
    'frames_per_second': (int, float),
    'complete': bool,
    'damage': list,
}
_FILE = {'name': str, 'bytes': int, 'sha256': str}
_CAMERA = {'frames': {'rejected': dict}}


def _check_whole(result: ReplayResult) -> None:
    from trt_perception.replay.result import SUMMARY, ResultError

    summary = result.summary
    wrong = [name for name, kind in _TOLD.items() if not _is(summary.get(name), kind)]
    if not wrong and not all(_is(file, _FILE) for file in summary['bag']['files']):
        wrong = ['bag']
    if not all(_is(camera, _CAMERA) for camera in summary['cameras'].values()):
        wrong += ['cameras']
    if wrong:
        raise ResultError(
            f"'{result.path}': {SUMMARY} has no {wrong[0]}, or something else in its place; replay"
            ' the bag anew'
        )


def _is(value: Any, kind: Any) -> bool:
    """Whether a value is of a type, or a dict that has what is given by name."""
    if not isinstance(kind, dict):
        return isinstance(value, kind)
    return isinstance(value, dict) and all(_is(value.get(name), of) for name, of in kind.items())


def worst_images(comparison: Comparison, summary: dict[str, Any]) -> tuple[dict[int, bytes], str]:
    """Pictures of the frames that differ most, by their numbers; and why there are none."""
    from trt_perception.build.report.comparison import WORST
    from trt_perception.build.report.pictures import plain
    from trt_perception.replay.images import Wanted, find_images

    frames = comparison.frames
    worst = comparison.worst(WORST)
    wanted = [
        Wanted(frames.topics[frames.topic[k]], int(frames.stamp[k]), int(frames.time[k]))
        for k in worst
    ]
    found, gone = find_images(summary, wanted, plain)
    return {worst[place]: image for place, image in found.items()}, gone


def rejected(result: ReplayResult) -> int:
    """Images that could not be used."""
    cameras = result.summary['cameras'].values()
    return sum(sum(camera['frames']['rejected'].values()) for camera in cameras)


def weaknesses(
    comparison: Comparison, first: dict[str, Any] | None, second: dict[str, Any]
) -> list[str]:
    """What a reader must know to judge the figures."""
    from trt_perception.build.report.replay import hash_of_bag

    notes = []
    for name, summary in zip(comparison.names, (first, second), strict=True):
        if summary is None:
            continue
        if not summary['complete']:
            notes.append(
                f'{name} is of the beginning of its bag only ({summary["frames"]} images).'
            )
        notes += [f'{name}: {text}' for text in summary['damage']]
    if first is not None:
        if hash_of_bag(first) != hash_of_bag(second):
            notes.append('The two are of different bags; frames are the same by topic and stamp.')
        if ('online' in first) != ('online' in second):
            notes.append('One of the two was live: its times begin with the stamps of the images.')
        ours, theirs = first['selection'], second['selection']
        unlike = [f'{k} {v} and {theirs.get(k)}' for k, v in ours.items() if v != theirs.get(k)]
        if unlike:
            notes.append(f'They were made with other parameters: {"; ".join(unlike)}.')
    return notes


def facts(
    reference: Path, first: dict[str, Any] | None, second: dict[str, Any]
) -> list[tuple[str, str, str]]:
    """What was compared, side by side."""
    from trt_perception.build.report.replay import facts as told

    if first is None:
        both = [dict.fromkeys(told(second), ''), told(second)]
        both[0]['model'] = str(reference)
    else:
        both = [told(first), told(second)]
    return [(name, both[0][name], text) for name, text in both[1].items()]


def to_dict(page: ComparisonPage) -> dict[str, Any]:
    """For JSON."""
    told = page.comparison.to_dict()
    if page.accuracy is not None:
        told['accuracy'] = {'map': page.accuracy.map, 'map50': page.accuracy.map50}
    return {
        'passed': passed(page),
        'limits': [check.to_dict() for check in page.checks],
        **told,
        'notes': list(page.notes),
        'sides': [
            {name: text for name, *both in page.facts for text in [both[side]]} for side in (0, 1)
        ],
    }


def passed(page: ComparisonPage) -> bool:
    """Whether all limits hold."""
    return all(check.passed for check in page.checks)


def print_comparison(page: ComparisonPage) -> None:
    """The classes, then the whole, then the verdict: what matters most ends next to the prompt."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Column, Table

    comparison = page.comparison
    classes = comparison.by_class()
    width = min(14, max(map(len, classes), default=0))  # of a name that is not broken
    first = Column('class', overflow='fold', min_width=width)
    table = Table(first, box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    headings = [*comparison.names, 'matched', 'moved', 're-scored', 'changed', 'lost', 'new']
    for heading in headings:
        table.add_column(heading, justify='right', overflow='fold')
    for name, counts in classes.items():
        table.add_row(name, *map(str, counts))
    sizes = {k: c for k, c in comparison.by_size().items() if c.first or c.second}
    table.add_section()
    for name, counts in (*sizes.items(), ('all', comparison.counts())):
        table.add_row(name, *map(str, counts))
    told = Table(show_header=False, box=None)
    for text in page.notes:
        told.add_row('note', text)
    for _, text in page.changes():
        told.add_row('', text)
    for check in page.checks:
        word = 'passed' if check.passed else 'FAILED'
        told.add_row(
            word, f'{check.told(check.found)} {check.what}; {check.told(check.limit)} may be'
        )
    console = Console(markup=False, emoji=False, highlight=False)
    console.print(table, told)
