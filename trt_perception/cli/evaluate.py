# SPDX-License-Identifier: Apache-2.0
"""``trt-perception evaluate``: the accuracy of a model on a COCO data set."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trt_perception.cli.arguments import share, whole
from trt_perception.cli.opening import add_backend, open_watched
from trt_perception.cli.progress import counted, interruptible

if TYPE_CHECKING:
    from trt_perception.replay.coco import CocoDataset
    from trt_perception.replay.evaluation import Evaluation

_DESCRIPTION = """\
Measure the accuracy (COCO mAP) of a detector as it will run: every picture goes through the
preprocessing, engine and decoder that a camera's images go through, and the boxes are compared with
what is annotated.

  trt-perception evaluate --model yolov8n.onnx --coco instances_val2017.json --images val2017
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Tell the command line what this command takes."""
    parser = commands.add_parser(
        'evaluate',
        help='measure the accuracy of a model on a COCO data set',
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    add(
        '--model',
        type=Path,
        required=True,
        metavar='FILE',
        help='ONNX file of the detector, or engine',
    )
    add(
        '--coco',
        type=Path,
        required=True,
        metavar='FILE',
        help="what is annotated: COCO's instances_*.json",
    )
    add('--images', type=Path, required=True, metavar='DIR', help='folder of the pictures')
    add(
        '--labels',
        default='',
        metavar='FILE',
        help='class names: a text file with a name a line, a YAML file, or coco (default: those'
        ' that the model carries, else the order of the categories)',
    )
    add_backend(parser)
    add(
        '--threads',
        type=whole(0, 256),
        default=0,
        metavar='N',
        help='CPU threads of one inference (default: one a core)',
    )
    add(
        '--score-threshold',
        type=share,
        metavar='S',
        help='lowest score that counts (default: that of published figures, 0.001)',
    )
    add('--limit', type=whole(1, 10**9), metavar='N', help='take only the first N pictures')
    add(
        '--html',
        type=Path,
        metavar='FILE',
        help='write a page there: precision and recall, what was missed, by class and size, and the'
        ' worst pictures',
    )
    add(
        '--json',
        default='',
        metavar='FILE',
        help='write all that was measured to a file; - prints it instead of the table',
    )


def run(arguments: argparse.Namespace) -> int:
    """Evaluate and report.

    Raises:
        PerceptionError: a file is missing or wrong, or the model does not fit the data set.
    """
    from trt_perception.build.engine.serving import Wish
    from trt_perception.core.files import check_writable, sha256, write_atomically
    from trt_perception.replay.coco import CocoDataset
    from trt_perception.replay.evaluation import COCO_SELECTION, evaluate
    from trt_perception.runtime.versions import versions

    if arguments.json not in ('', '-'):
        check_writable(Path(arguments.json))
    if arguments.html:
        check_writable(arguments.html)
    dataset = CocoDataset(arguments.coco, arguments.images, arguments.limit)
    pipeline, reason = open_watched(
        Wish(
            arguments.model,
            labels=arguments.labels,
            backend=arguments.backend,
            precision=arguments.precision,
            fallback=False,
            accept_failed_gate=True,  # to know how good it is, one must be able to measure it
            threads=arguments.threads,
        )
    )
    selection = COCO_SELECTION
    if arguments.score_threshold is not None:
        selection = dataclasses.replace(selection, score_threshold=arguments.score_threshold)
    with (
        contextlib.closing(pipeline),
        interruptible() as interrupt,
        counted(len(dataset.pictures)) as move_on,
    ):

        def on_picture() -> None:
            move_on()
            interrupt()

        evaluation = evaluate(pipeline, dataset, selection, on_picture)
    report = {
        'model': {'path': str(arguments.model), 'sha256': sha256(arguments.model)},
        'spec': pipeline.spec.to_dict(),
        'data_set': {'annotations': str(arguments.coco), 'images': str(arguments.images)},
        **evaluation.to_dict(),
        'reason': reason,
        'versions': versions(),
    }
    if arguments.html:
        write_atomically(arguments.html, _page(arguments, dataset, evaluation, report))
    text = json.dumps(report, indent=2) + '\n'
    if arguments.json == '-':
        print(text, end='')
        return 0
    _print_tables(evaluation, arguments.model.name, reason)
    if arguments.json:
        write_atomically(Path(arguments.json), text)
    return 0


def _page(
    arguments: argparse.Namespace,
    dataset: CocoDataset,
    evaluation: Evaluation,
    report: dict[str, Any],
) -> str:
    """What was found by a node's threshold, beside the labels."""
    import numpy as np

    from trt_perception.build.report.comparison import WORST, ComparisonPage
    from trt_perception.build.report.pictures import plain
    from trt_perception.core import Detections, Frame, Selection, Stamp
    from trt_perception.core.files import sha256
    from trt_perception.replay.comparison import Rules
    from trt_perception.replay.labels import against_labels
    from trt_perception.replay.matching import compare
    from trt_perception.replay.result import SeenFrame

    score = max(Selection().score_threshold, evaluation.selection.score_threshold)
    looks = []
    for number, picture in enumerate(dataset.pictures):
        every = evaluation.found[picture.id]
        kept = every.scores >= score
        found = Detections(every.boxes[kept], every.scores[kept], every.class_ids[kept])
        size = picture.size or (0, 0)
        name = f'{number + 1}: {picture.path.name}'  # of two folders they may be the same
        looks.append((picture, SeenFrame(name, Stamp(), 0, found, size, {})))
    comparison = compare(
        against_labels(dataset, evaluation.classes, looks),
        (dataset.class_names, tuple(report['spec']['class_names']) or dataset.class_names),
        ('labels', arguments.model.name),
        Rules(score).for_labels(),
    )
    pictures = {look.topic: picture.path for picture, look in looks}
    images = {}
    for k in comparison.worst(WORST):
        file = pictures[comparison.frames.topics[comparison.frames.topic[k]]]
        images[k] = plain(Frame.from_compressed(np.fromfile(file, np.uint8)))
    stages = ', '.join(f'{stage} {ms:.1f}' for stage, ms in evaluation.stage_ms.items())
    engine = evaluation.engine
    facts = [
        ('file', str(arguments.coco), str(arguments.model)),
        ('sha256', sha256(arguments.coco)[:12], report['model']['sha256'][:12]),
        ('pictures', f'{evaluation.pictures:,}', ''),
        ('ran by', '', f'{engine.backend}, {engine.precision}'),
        ('on', '', engine.device),
        ('ms a picture', '', f'{stages} (medians)'),
        ('versions', '', ', '.join(f'{name} {text}' for name, text in report['versions'].items())),
        ('not compared', ', '.join(evaluation.classes.unknown_categories),
         ', '.join(evaluation.classes.unknown_classes)),
    ]  # fmt: skip
    return ComparisonPage(comparison, facts, (), images, accuracy=evaluation.accuracy).to_html()


def _print_tables(evaluation: Evaluation, model: str, reason: str) -> None:
    """The classes, best first, then the whole: what matters most ends next to the prompt."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    accuracy, missing = evaluation.accuracy, evaluation.classes
    shown = [c for c in accuracy.classes if c.ap is not None]
    shown.sort(key=lambda c: c.ap or 0.0, reverse=True)
    classes = Table('class', box=SIMPLE)
    for heading in ('objects', 'AP', 'AP50'):
        classes.add_column(heading, justify='right')
    for name, objects, ap, ap50 in shown:
        classes.add_row(name, str(objects), _percent(ap), _percent(ap50))
    whole = Table(show_header=False, box=None)
    whole.add_row('model', model)
    whole.add_row('mAP', _percent(accuracy.map))
    whole.add_row('mAP50', _percent(accuracy.map50))
    whole.add_row(
        'on',
        f'{evaluation.pictures} pictures with {sum(c.objects for c in shown)} objects of'
        f' {len(shown)} classes; {evaluation.detections} boxes of score'
        f' {evaluation.selection.score_threshold:g} or more',
    )
    whole.add_row('ran', str(evaluation.engine))
    whole.add_row('because', reason)
    stages = ', '.join(f'{stage} {ms:.1f} ms' for stage, ms in evaluation.stage_ms.items())
    whole.add_row('median', f'{stages} (on {evaluation.engine.device})')
    for whose, names in (
        ('model', missing.unknown_classes),
        ('data set', missing.unknown_categories),
    ):
        if names:
            whole.add_row('not compared', f'only in the {whose}: {", ".join(names)}')
    # Names are text: neither markup, nor emoji, nor numbers to be coloured.
    console = Console(markup=False, emoji=False, highlight=False)
    console.print(classes, whole)


def _percent(share: float | None) -> str:
    return '' if share is None else f'{100 * share:.1f}'
