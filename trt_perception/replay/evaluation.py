# SPDX-License-Identifier: Apache-2.0
"""Accuracy of a whole pipeline, from the picture's file to boxes, on a COCO data set."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trt_perception.core import (
    Detections,
    Frame,
    FrameError,
    ModelSpec,
    PerceptionError,
    Selection,
)
from trt_perception.runtime.engine import EngineInfo
from trt_perception.runtime.pipeline import Pipeline, StageTimes

if TYPE_CHECKING:
    from pycocotools.coco import COCO

#: As COCO results are reported: nearly every box counts, the best 100 of a picture.
COCO_SELECTION = Selection(score_threshold=0.001, iou_threshold=0.7, max_detections=100)


class EvaluationError(PerceptionError):
    """A data set that cannot be used, or that does not fit the model."""


class Picture(NamedTuple):
    """One image of a data set: its COCO id and its file."""

    id: int
    path: Path


class ClassAccuracy(NamedTuple):
    """Average precision of one class.

    Attributes:
        name: as the data set spells it.
        objects: annotated objects, crowds left out.
        ap, ap50: in 0..1; None where the data set shows no such object.
    """

    name: str
    objects: int
    ap: float | None
    ap50: float | None


class Accuracy(NamedTuple):
    """What pycocotools says of a set of detections.

    Attributes:
        map: AP averaged over IoU 0.50 to 0.95 and over the classes that were annotated, 0..1.
        map50: the same at IoU 0.50.
        classes: in the order of the data set's category ids.
    """

    map: float
    map50: float
    classes: tuple[ClassAccuracy, ...]


class Classes(NamedTuple):
    """Which category of the data set each class of the model is.

    Attributes:
        category_ids: per class of the model; None for one that the data set does not have.
        unknown_classes: names of the model's classes that the data set does not have.
        unknown_categories: names of categories that the model does not have; left out of the mean.
    """

    category_ids: tuple[int | None, ...]
    unknown_classes: tuple[str, ...]
    unknown_categories: tuple[str, ...]


@dataclass(frozen=True)
class Evaluation:
    """How well, how fast, and where a model did.

    Attributes:
        accuracy: of all pictures.
        classes: which of the model's classes and of the data set's categories were compared.
        pictures, detections: how many.
        stage_ms: median milliseconds of each stage of one picture, decoding the file included in
            the first.
        engine: what ran the network, and where.
    """

    accuracy: Accuracy
    classes: Classes
    pictures: int
    detections: int
    stage_ms: dict[str, float]
    engine: EngineInfo


class CocoDataset:
    """Pictures and their annotated objects, in COCO's JSON (``instances_*.json``)."""

    def __init__(self, instances: Path, images: Path, limit: int | None = None) -> None:
        """Read the annotations and see that every picture is there.

        Args:
            instances: the JSON.
            images: folder that the file names in it start from.
            limit: take only the first so many pictures.

        Raises:
            EvaluationError: a file is missing or not of this form.
        """
        self._coco = _load(instances)
        listed = self._coco.dataset['images'][:limit]
        self.pictures = tuple(Picture(i['id'], images / i['file_name']) for i in listed)
        if not self.pictures:
            raise EvaluationError(f"'{instances}' lists no images")
        missing = [p.path for p in self.pictures if not p.path.is_file()]
        if missing:
            raise EvaluationError(
                f"{len(missing)} of the {len(listed)} images in '{instances}' are missing, the"
                f" first is '{missing[0]}'; give the folder that holds them"
            )
        categories = sorted(self._coco.dataset['categories'], key=lambda c: c['id'])
        self._names: dict[int, str] = {c['id']: c['name'] for c in categories}

    def match(self, spec: ModelSpec) -> Classes:
        """Pair the model's classes with the categories: by name, or by order if it has no names.

        Raises:
            EvaluationError: neither is possible.
        """
        if not spec.class_names:
            if spec.num_classes != len(self._names):
                told = f'{spec.num_classes} classes' if spec.num_classes else 'classes'
                raise EvaluationError(
                    f'the model has {told} without names and the data set has'
                    f' {len(self._names)} categories; give the names (labels)'
                )
            return Classes(tuple(self._names), (), ())
        by_name = {_plain(name): category for category, name in self._names.items()}
        ids = tuple(by_name.get(_plain(name)) for name in spec.class_names)
        if not any(i is not None for i in ids):
            raise EvaluationError(
                f'no class of the model ({_few(spec.class_names)}) is a category of the data set'
                f' ({_few(tuple(self._names.values()))}); give other names (labels)'
            )
        return Classes(
            ids,
            tuple(n for n, i in zip(spec.class_names, ids, strict=True) if i is None),
            tuple(n for i, n in self._names.items() if i not in ids),
        )

    def score(self, found: Mapping[int, Detections], classes: Classes) -> Accuracy:
        """Accuracy of detections, over the pictures in ``found`` and the shared categories.

        Args:
            found: by picture id.
            classes: from `match`.
        """
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        shared = [i for i in self._names if i in classes.category_ids]
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints what it does
            results = COCO()
            results.dataset = {
                'images': [{'id': i} for i in found],
                'categories': self._coco.dataset['categories'],
                'annotations': _annotations(found, classes.category_ids),
            }
            results.createIndex()
            run = COCOeval(self._coco, results, 'bbox')
            run.params.imgIds = list(found)
            run.params.catIds = shared
            run.evaluate()
            run.accumulate()
            run.summarize()
        # (IoU, recall, category, area, limit): every area, 100 boxes a picture.
        precision = run.eval['precision'][:, :, :, 0, -1]
        return Accuracy(
            float(run.stats[0]),
            float(run.stats[1]),
            tuple(
                ClassAccuracy(
                    self._names[category],
                    self._objects(found, category),
                    _mean(precision[:, :, k]),
                    _mean(precision[0, :, k]),
                )
                for k, category in enumerate(run.params.catIds)
            ),
        )

    def _objects(self, found: Mapping[int, Detections], category: int) -> int:
        return len(self._coco.getAnnIds(imgIds=list(found), catIds=[category], iscrowd=False))


def evaluate(
    pipeline: Pipeline,
    dataset: CocoDataset,
    selection: Selection = COCO_SELECTION,
    on_picture: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Detect in every picture and compare with what is annotated.

    Args:
        on_picture: called after each picture, to show progress.

    Raises:
        EvaluationError: the classes do not match, or a picture cannot be read.
        EngineError: the network could not be run.
    """
    classes = dataset.match(pipeline.spec)
    found: dict[int, Detections] = {}
    times: list[StageTimes] = []
    for picture in dataset.pictures:
        try:
            frame = Frame.from_compressed(np.fromfile(picture.path, np.uint8))
            result = pipeline(frame, selection)
        except (FrameError, OSError) as error:
            raise EvaluationError(f"image '{picture.path}': {error}") from None
        found[picture.id] = result.detections
        times.append(result.times)
        on_picture()
    medians = np.median(np.array(times), axis=0) / 1e6
    return Evaluation(
        dataset.score(found, classes),
        classes,
        len(found),
        sum(len(d) for d in found.values()),
        dict(zip(StageTimes._fields, medians.tolist(), strict=True)),
        pipeline.engine.info,
    )


def _load(instances: Path) -> COCO:
    try:
        from pycocotools.coco import COCO
    except ImportError as error:
        raise EvaluationError(f'{error}; pip install pycocotools') from None
    try:
        raw = json.loads(instances.read_text(encoding='utf-8'))
        annotations = [
            # Renumbered from 1: pycocotools takes an object of id 0 for one that nobody found.
            {'iscrowd': 0, 'area': a['bbox'][2] * a['bbox'][3], **a, 'id': number}
            for number, a in enumerate(raw['annotations'], 1)
        ]
        dataset = {
            'images': [{'id': i['id'], 'file_name': i['file_name']} for i in raw['images']],
            'categories': [{'id': c['id'], 'name': c['name']} for c in raw['categories']],
            'annotations': annotations,
        }
        coco = COCO()
        coco.dataset = dataset
        with contextlib.redirect_stdout(io.StringIO()):
            coco.createIndex()
    except OSError as error:
        raise EvaluationError(f"'{instances}': {error.strerror}") from None
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise EvaluationError(
            f"'{instances}' is not a COCO detection data set ({type(error).__name__}: {error});"
            ' it needs images, categories and annotations with bbox'
        ) from None
    return coco


def _annotations(
    found: Mapping[int, Detections], category_ids: Sequence[int | None]
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for picture, detections in found.items():
        sizes = detections.boxes[:, 2:] - detections.boxes[:, :2]
        boxes = np.concatenate((detections.boxes[:, :2], sizes), axis=1).tolist()
        columns = zip(detections.class_ids.tolist(), detections.scores.tolist(), boxes, strict=True)
        for class_id, score, box in columns:
            category = category_ids[class_id] if class_id < len(category_ids) else None
            if category is not None:
                rows.append(
                    {
                        'id': len(rows) + 1,
                        'image_id': picture,
                        'category_id': category,
                        'bbox': box,
                        'area': box[2] * box[3],
                        'score': score,
                        'iscrowd': 0,
                    }
                )
    return rows


def _mean(precision: NDArray[np.float64]) -> float | None:
    """Over what was annotated; pycocotools marks the rest with -1."""
    annotated = precision[precision > -1]
    return float(annotated.mean()) if annotated.size else None


def _plain(name: str) -> str:
    """Spelling apart, 'Traffic_light' is 'traffic light'."""
    return ' '.join(name.replace('_', ' ').lower().split())


def _few(names: Sequence[str]) -> str:
    return ', '.join(names[:3]) + (', ...' if len(names) > 3 else '')
