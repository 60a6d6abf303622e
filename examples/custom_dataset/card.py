# SPDX-License-Identifier: Apache-2.0
"""The figures of a model card: how good a detector is, by class and by size of the object.

Every picture goes through the pipeline that a camera's images go through.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from command import imports, run, whole

with imports():
    import cv2
    import numpy as np

    from trt_perception.core import Detections, Frame, PerceptionError
    from trt_perception.replay.coco import Accuracy, CocoDataset
    from trt_perception.replay.evaluation import COCO_SELECTION
    from trt_perception.runtime.pipeline import open_pipeline

#: COCO's own bounds: the square root of a box's area, in pixels of the picture.
SIZES = {'small, under 32 px': (0, 32), 'medium, 32 to 96 px': (32, 96), 'large': (96, 1e5)}


class Row(NamedTuple):
    """A line of the table; precisions in 0..1."""

    what: str
    objects: int
    map50: float
    map: float


def measure(model: Path, folder: Path, limit: int | None = None) -> tuple[int, list[Row]]:
    """Detect in the pictures of a data set, and compare.

    Args:
        model: an ONNX detector.
        folder: with ``instances.json`` and ``images/``.
        limit: take only the first so many pictures.

    Returns:
        How many pictures, and the rows: all, each class, each size.

    Raises:
        PerceptionError: model or data cannot be used, or do not fit.
    """
    dataset = CocoDataset(folder / 'instances.json', folder / 'images', limit)
    pipeline = open_pipeline(model)
    classes = dataset.match(pipeline.spec)
    found: dict[int, Detections] = {}
    for picture in dataset.pictures:
        image = cv2.imread(str(picture.path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if image is None:
            raise PerceptionError(f"'{picture.path}' is not a readable picture; remove it")
        found[picture.id] = pipeline(Frame.from_array(image), COCO_SELECTION).detections
    accuracy = dataset.score(found, classes)
    rows = list(_by_class(accuracy))
    rows += _by_size(folder / 'instances.json', found, classes.category_ids)
    return len(found), rows


def _by_class(accuracy: Accuracy) -> Iterator[Row]:
    shown = [c for c in accuracy.classes if c.ap is not None and c.ap50 is not None]
    yield Row('all', sum(c.objects for c in shown), accuracy.map50, accuracy.map)
    for name, objects, ap, ap50 in shown:
        yield Row(name, objects, ap50 or 0.0, ap or 0.0)


def _by_size(
    instances: Path, found: Mapping[int, Detections], category_ids: tuple[int | None, ...]
) -> Iterator[Row]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints what it does
        annotated, results = COCO(str(instances)), COCO()
        for row in annotated.anns.values():
            row['area'] = row['bbox'][2] * row['bbox'][3]
            row.setdefault('iscrowd', 0)
        # Its loadRes cannot take a detector that sees nothing.
        seen = list(_seen(found, category_ids))
        results.dataset = {**annotated.dataset, 'annotations': seen}
        results.createIndex()
        run = COCOeval(annotated, results, 'bbox')
        run.params.imgIds = sorted(found)
        run.params.catIds = [i for i in category_ids if i is not None]
        run.params.areaRngLbl = list(SIZES)
        run.params.areaRng = [[low**2, high**2] for low, high in SIZES.values()]
        run.params.maxDets = [COCO_SELECTION.max_detections]
        run.evaluate()
        run.accumulate()
    sides = np.sqrt([
        a['area'] for a in annotated.anns.values() if a['image_id'] in found and not a['iscrowd']
    ])  # fmt: skip
    for k, (name, (low, high)) in enumerate(SIZES.items()):
        precision = run.eval['precision'][:, :, :, k, 0]  # (IoU, recall, category); -1: no object
        shown = (precision >= 0).all((0, 1))
        if shown.any():
            objects = int(((sides >= low) & (sides < high)).sum())
            part = precision[:, :, shown]
            yield Row(name, objects, float(part[0].mean()), float(part.mean()))


def _seen(
    found: Mapping[int, Detections], category_ids: tuple[int | None, ...]
) -> Iterator[dict[str, Any]]:
    """Detections as pycocotools takes them; their ids start at 1."""
    number = itertools.count(1)
    for picture, seen in found.items():
        columns = seen.boxes.tolist(), seen.scores.tolist(), seen.class_ids.tolist()
        for (x1, y1, x2, y2), score, class_id in zip(*columns, strict=True):
            width, height = x2 - x1, y2 - y1
            if category_ids[class_id] is not None:
                yield {
                    'id': next(number),
                    'image_id': picture,
                    'category_id': category_ids[class_id],
                    'bbox': [x1, y1, width, height],
                    'area': width * height,
                    'iscrowd': 0,
                    'score': score,
                }


def main() -> int:
    """Read the arguments, measure and print a table in Markdown; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('model', type=Path, help='ONNX detector')
    parser.add_argument('folder', type=Path, help='with instances.json and images/')
    parser.add_argument('--limit', type=whole(1), help='take only the first so many pictures')
    given = parser.parse_args()
    try:
        pictures, rows = measure(given.model, given.folder, given.limit)
    except PerceptionError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    print(f'| {pictures} pictures | objects | mAP50 | mAP50-95 |')
    print('|---|---|---|---|')
    for what, objects, map50, mean in rows:
        print(f'| {what} | {objects} | {map50:.3f} | {mean:.3f} |')
    return 0


if __name__ == '__main__':
    run(main)
