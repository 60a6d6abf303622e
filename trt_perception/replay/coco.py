# SPDX-License-Identifier: Apache-2.0
"""COCO data sets: pictures, what is annotated in them, and how well detections agree with it."""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import json
import reprlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from trt_perception.core import Detections, PerceptionError
from trt_perception.core.errors import one_line
from trt_perception.core.files import is_file
from trt_perception.core.labels import plain_name

if TYPE_CHECKING:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

_Row = dict[str, Any]
#: What is read of the JSON, each with the type that it must be of.
_FIELDS: dict[str, dict[str, type]] = {
    'images': {'id': int, 'file_name': str},
    'categories': {'id': int, 'name': str},
    'annotations': {'image_id': int, 'category_id': int, 'bbox': list},
}


class DatasetError(PerceptionError):
    """A data set that cannot be used, or that does not fit the model."""


class HasClasses(Protocol):
    """What has classes, with or without names, as a ``ModelSpec`` has."""

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def num_classes(self) -> int: ...


class Picture(NamedTuple):
    """One image of a data set.

    Attributes:
        id: COCO's.
        path: its file.
        size: width and height where they are noted.
        stamp, topic: of the camera image that it is, as they are noted; None where they are not.
    """

    id: int
    path: Path
    size: tuple[int, int] | None
    stamp: Any = None
    topic: Any = None


class Curve(NamedTuple):
    """Precision over recall of one class, boxes counting from IoU 0.50 on.

    Attributes:
        name: as the data set spells it.
        precision: (101,) at recall 0, 0.01 to 1; 0 where the recall is not reached.
        scores: (101,) score from which on detections count to get there.
    """

    name: str
    precision: NDArray[np.float64]
    scores: NDArray[np.float64]


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
        curves: of the classes that are annotated.
    """

    map: float
    map50: float
    classes: tuple[ClassAccuracy, ...]
    curves: tuple[Curve, ...] = ()


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


class CocoDataset:
    """Pictures and their annotated objects, in COCO's JSON (``instances_*.json``)."""

    def __init__(self, instances: Path, images: Path | None, limit: int | None = None) -> None:
        """Read the annotations and see that every picture is there.

        Args:
            instances: the JSON.
            images: folder that the file names in it start from; None: the files are not needed.
            limit: take only the first so many pictures.

        Raises:
            DatasetError: a file is missing or not of this form, or pycocotools is absent.
        """
        try:
            # Now, so that its absence shows before the pictures are worked through.
            import pycocotools.cocoeval  # noqa: F401
        except ImportError as error:
            raise DatasetError(
                f'accuracy needs pycocotools ({error}); pip install pycocotools'
            ) from None
        raw = _read(instances)
        try:
            listed, categories = _rows(raw, 'images'), _rows(raw, 'categories')
            annotations = _rows(raw, 'annotations')
            self._names = {c['id']: c['name'] for c in sorted(categories, key=lambda c: c['id'])}
            self.pictures = tuple(_picture(row, images or Path()) for row in listed[:limit])
            taken = {p.id for p in self.pictures}
            self._annotations = [
                _annotation(row, number)
                for number, row in enumerate(annotations, 1)
                if row['image_id'] in taken and self._known(row['category_id'])
            ]
        except DatasetError as error:
            raise DatasetError(f"'{instances}' is not a COCO detection data set: {error}") from None
        missing = [p.path for p in self.pictures if not is_file(p.path)]
        if missing and images:
            raise DatasetError(
                f"{len(missing)} of the {len(self.pictures)} images in '{instances}' are missing,"
                f" the first is '{missing[0]}'; give the folder that holds them"
            )
        self._objects = Counter(a['category_id'] for a in self._annotations if not a['iscrowd'])

    def _known(self, category: int) -> bool:
        if category not in self._names:
            raise DatasetError(f'an annotation is of category {category}, which is not listed')
        return True

    def sample(self, count: int) -> CocoDataset:
        """At most so many of the pictures, at even distances."""
        every = self.pictures
        if len(every) <= count:
            return self
        return self.only({every[(2 * i + 1) * len(every) // (2 * count)].id for i in range(count)})

    def only(self, taken: Collection[int]) -> CocoDataset:
        """The same without the pictures of other ids."""
        few = copy.copy(self)
        few.pictures = tuple(p for p in self.pictures if p.id in taken)
        few._annotations = [a for a in self._annotations if a['image_id'] in taken]
        few._objects = Counter(a['category_id'] for a in few._annotations if not a['iscrowd'])
        return few

    @property
    def category_ids(self) -> tuple[int, ...]:
        """Of all categories, in the order of the ids."""
        return tuple(self._names)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of all categories, in the order of their ids."""
        return tuple(self._names.values())

    @functools.cached_property
    def _by_picture(self) -> dict[int, list[_Row]]:
        rows: dict[int, list[_Row]] = {}
        for annotation in self._annotations:
            rows.setdefault(annotation['image_id'], []).append(annotation)
        return rows

    def objects(self, picture: int, crowds: bool = False) -> Detections:
        """What is annotated in a picture, with score 1 and classes as `class_names` has them.

        Args:
            picture: its id.
            crowds: give the regions that are marked as crowds instead of the objects.
        """
        rows = [a for a in self._by_picture.get(picture, ()) if bool(a['iscrowd']) is crowds]
        places = {category: k for k, category in enumerate(self._names)}
        boxes = np.array([a['bbox'] for a in rows], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        ids = np.array([places[a['category_id']] for a in rows], np.int32)
        return Detections(boxes, np.ones(len(rows), np.float32), ids)

    def match(self, spec: HasClasses) -> Classes:
        """Pair the model's classes with the categories: by name, or by order if it has no names.

        Raises:
            DatasetError: neither is possible, or no object of a class of the model is annotated.
        """
        ids: tuple[int | None, ...] = tuple(self._names)
        if spec.class_names:
            by_name = self._by_name()
            ids = tuple(by_name.get(plain_name(name)) for name in spec.class_names)
        elif spec.num_classes != len(ids):
            told = f'{spec.num_classes} classes' if spec.num_classes else 'classes'
            raise DatasetError(
                f'the model has {told} without names and the data set has {len(ids)} categories;'
                ' give the names (labels)'
            )
        if not any(i is not None for i in ids):
            raise DatasetError(
                f'no class of the model ({_few(spec.class_names)}) is a category of the data set'
                f' ({_few(tuple(self._names.values()))}); give other names (labels)'
            )
        if not any(self._objects[i] for i in ids if i is not None):
            raise DatasetError(
                f'the {len(self.pictures)} pictures show no object of a class of the model, there'
                ' is nothing to compare with; take more of them'
            )
        return Classes(
            ids,
            tuple(n for n, i in zip(spec.class_names, ids, strict=False) if i is None),
            tuple(n for i, n in self._names.items() if i not in ids),
        )

    def _by_name(self) -> dict[str, int]:
        """Category by plain name. Some tools add an unused category named as one that is used."""
        found: dict[str, int] = {}
        for category, name in self._names.items():
            other = found.setdefault(plain_name(name), category)
            if category == other or not self._objects[category]:
                continue
            if self._objects[other]:
                raise DatasetError(
                    f"two categories have one name, '{self._names[other]}' (id {other}) and"
                    f" '{name}' (id {category}); rename one of them"
                )
            found[plain_name(name)] = category
        return found

    def score(self, found: Mapping[int, Detections], classes: Classes) -> Accuracy:
        """Accuracy of detections over the shared categories.

        Args:
            found: by picture id; the best 100 of a class in a picture count.
            classes: from `match`.
        """
        shared = self._shared(classes)
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints what it does
            run = self._evaluated(found, classes)
            run.accumulate()
        # (IoU, recall, category)
        precision: NDArray[np.float64] = run.eval['precision'][..., 0, 0]
        scores: NDArray[np.float64] = run.eval['scores'][0, :, :, 0, 0]
        shown = [self._objects[i] > 0 for i in shared]
        ap, ap50 = precision.mean(axis=(0, 1)), precision[0].mean(axis=0)
        return Accuracy(
            float(ap[shown].mean()),
            float(ap50[shown].mean()),
            tuple(
                ClassAccuracy(
                    self._names[i],
                    self._objects[i],
                    float(ap[k]) if shown[k] else None,
                    float(ap50[k]) if shown[k] else None,
                )
                for k, i in enumerate(shared)
            ),
            tuple(
                Curve(self._names[i], precision[0, :, k], scores[:, k])
                for k, i in enumerate(shared)
                if shown[k]
            ),
        )

    def resampled(
        self, found: Sequence[Mapping[int, Detections]], classes: Classes, draws: int
    ) -> NDArray[np.float64]:
        """What chance does to mAP: the same pictures, drawn anew with repetitions.

        Args:
            found: sets of detections, each as for `score`.
            draws: how often; the same in every run.

        Returns:
            (draws, sets) mAP of each set, in every row on the same pictures.
        """
        chance = np.random.default_rng(0)
        number = len(self.pictures)
        figures = np.zeros((draws, len(found)))
        with contextlib.redirect_stdout(io.StringIO()):
            runs = [self._evaluated(one, classes) for one in found]
            for row in figures:
                drawn = chance.integers(number, size=number).tolist()
                for k, run in enumerate(runs):
                    again = copy.copy(run)
                    # By category, then by picture.
                    starts = range(0, len(run.evalImgs), number)
                    again.evalImgs = [run.evalImgs[start + i] for start in starts for i in drawn]
                    again.accumulate()
                    precision = again.eval['precision']
                    shown = precision > -1  # what no drawn picture shows has none
                    row[k] = precision[shown].mean() if shown.any() else 0.0
        return figures

    def _shared(self, classes: Classes) -> list[int]:
        return [i for i in self._names if i in classes.category_ids]

    def _evaluated(self, found: Mapping[int, Detections], classes: Classes) -> COCOeval:
        from pycocotools.cocoeval import COCOeval

        annotated, results = (
            self._index(rows) for rows in (self._annotations, _results(found, classes))
        )
        run = COCOeval(annotated, results, 'bbox')
        run.params.catIds = self._shared(classes)
        # Neither small, medium and large objects apart, nor with fewer boxes a picture.
        run.params.areaRng, run.params.areaRngLbl = [[0, 1e10]], ['all']
        run.params.maxDets = [100]
        run.evaluate()
        return run

    def _index(self, annotations: list[_Row]) -> COCO:
        from pycocotools.coco import COCO

        coco = COCO()
        coco.dataset = {
            'images': [{'id': p.id} for p in self.pictures],
            'categories': [{'id': i} for i in self._names],
            'annotations': annotations,
        }
        coco.createIndex()
        return coco


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DatasetError(f"'{path}': {error.strerror}; give COCO's instances JSON") from None
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"'{path}' is not readable JSON: {one_line(error)}") from None


def _rows(raw: Any, kind: str) -> list[_Row]:
    """One of the lists of a data set, with every field that is read of the right type."""
    rows = raw.get(kind) if isinstance(raw, dict) else None
    if not isinstance(rows, list):
        raise DatasetError(f'it has no list of {kind}; it needs {", ".join(_FIELDS)}')
    for number, row in enumerate(rows):
        for key, wanted in _FIELDS[kind].items():
            value = row.get(key) if isinstance(row, dict) else None
            if type(value) is not wanted:
                raise DatasetError(
                    f'{kind}[{number}] has {key} {reprlib.repr(value)}, which is no'
                    f' {wanted.__name__}'
                )
    if kind != 'annotations':
        if not rows:
            raise DatasetError(f'it lists no {kind}')
        twice = [i for i, count in Counter(row['id'] for row in rows).items() if count > 1]
        if twice:
            raise DatasetError(f'it lists two {kind} of id {twice[0]}')
    return rows


def _picture(row: _Row, images: Path) -> Picture:
    width, height = row.get('width'), row.get('height')
    size = (width, height) if type(width) is int and type(height) is int else None
    path = images / row['file_name']
    return Picture(row['id'], path, size, row.get('stamp'), row.get('topic'))


def _annotation(row: _Row, number: int) -> _Row:
    """An annotated object as pycocotools takes it.

    Args:
        number: its id from now on, not 0: pycocotools takes that for "found by nobody".
    """
    box, crowd = row['bbox'], row.get('iscrowd', 0)
    if len(box) != 4 or not all(_is_number(n) for n in box) or min(box[2:]) < 0:
        raise DatasetError(f'bbox {reprlib.repr(box)} is not x, y, width, height')
    if crowd not in (0, 1):
        raise DatasetError(f'iscrowd {reprlib.repr(crowd)} is neither 0 nor 1')
    return {
        'id': number,
        'image_id': row['image_id'],
        'category_id': row['category_id'],
        'bbox': box,
        'area': box[2] * box[3],
        'iscrowd': int(crowd),
    }


def _results(found: Mapping[int, Detections], classes: Classes) -> list[_Row]:
    rows: list[_Row] = []
    for picture, detections in found.items():
        sizes = detections.boxes[:, 2:] - detections.boxes[:, :2]
        boxes = np.concatenate((detections.boxes[:, :2], sizes), axis=1).tolist()
        columns = zip(detections.class_ids.tolist(), detections.scores.tolist(), boxes, strict=True)
        for class_id, score, box in columns:
            category = classes.category_ids[class_id]
            if category is not None:
                row = {'image_id': picture, 'category_id': category, 'bbox': box}
                rows.append({**_annotation(row, len(rows) + 1), 'score': score})
    return rows


def _is_number(value: Any) -> bool:
    # No picture is larger; NaN is not smaller than anything.
    return type(value) in (int, float) and abs(value) <= 1e5


def _few(names: Sequence[str]) -> str:
    return ', '.join(names[:3]) + (', ...' if len(names) > 3 else '')
