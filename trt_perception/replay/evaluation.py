# SPDX-License-Identifier: Apache-2.0
"""Accuracy of a whole pipeline, from the picture's file to boxes, on a COCO data set."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from trt_perception.core import Detections, Frame, FrameError, Selection
from trt_perception.replay.coco import Accuracy, Classes, CocoDataset, DatasetError, Picture
from trt_perception.runtime.engine import EngineInfo
from trt_perception.runtime.host.color import to_bgr
from trt_perception.runtime.pipeline import AnyPipeline, StageTimes

#: As published COCO figures count: nearly every box, of each of its classes, the best 100 of a
#: picture; suppressed at YOLOX's threshold (Ultralytics' 0.7 differs by less than half a point).
COCO_SELECTION = Selection(
    score_threshold=0.001, iou_threshold=0.65, max_detections=100, multi_label=True
)


@dataclass(frozen=True)
class Evaluation:
    """How well, how fast, and where a model did.

    Attributes:
        accuracy: of all pictures.
        classes: which of the model's classes and of the data set's categories were compared.
        selection: which detections were asked for.
        found: the detections, by picture id.
        stage_ms: median milliseconds of each stage of one picture, once its file was decoded.
        engine: what ran the network, and where.
    """

    accuracy: Accuracy
    classes: Classes
    selection: Selection
    found: Mapping[int, Detections]
    stage_ms: dict[str, float]
    engine: EngineInfo

    @property
    def pictures(self) -> int:
        """How many were looked at."""
        return len(self.found)

    @property
    def detections(self) -> int:
        """How many were found in all pictures."""
        return sum(len(d) for d in self.found.values())

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        asked = ('score_threshold', 'iou_threshold', 'max_detections', 'multi_label')
        return {
            'accuracy': {
                'map': self.accuracy.map,
                'map50': self.accuracy.map50,
                'classes': [c._asdict() for c in self.accuracy.classes],
                'only_in_model': list(self.classes.unknown_classes),
                'only_in_data_set': list(self.classes.unknown_categories),
            },
            'pictures': self.pictures,
            'detections': self.detections,
            'selection': {name: getattr(self.selection, name) for name in asked},
            'stage_ms': self.stage_ms,
            'engine': dataclasses.asdict(self.engine),
        }


def evaluate(
    pipeline: AnyPipeline,
    dataset: CocoDataset,
    selection: Selection = COCO_SELECTION,
    on_picture: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Detect in every picture and compare with what is annotated.

    Args:
        on_picture: called after each picture, to show progress.

    Raises:
        DatasetError: the classes do not match, or a picture cannot be used.
        EngineError: the network could not be run.
    """
    classes = dataset.match(pipeline.spec)
    found: dict[int, Detections] = {}
    times: list[StageTimes] = []
    for picture in dataset.pictures:
        try:
            result = pipeline(_read(picture), selection)
        except (FrameError, OSError) as error:
            raise DatasetError(f"image '{picture.path}': {error}") from None
        highest = int(result.detections.class_ids.max(initial=-1))
        if highest >= len(classes.category_ids):
            raise DatasetError(
                f"the model found class {highest} in '{picture.path}' and has only"
                f' {len(classes.category_ids)} names; give one per class (labels)'
            )
        found[picture.id] = result.detections
        times.append(result.times)
        on_picture()
    medians = np.median(np.array(times), axis=0) / 1e6
    return Evaluation(
        dataset.score(found, classes),
        classes,
        selection,
        found,
        dict(zip(StageTimes._fields, medians.tolist(), strict=True)),
        pipeline.info,
    )


def _read(picture: Picture) -> Frame:
    image = to_bgr(Frame.from_compressed(np.fromfile(picture.path, np.uint8)))
    size = image.shape[1], image.shape[0]
    if picture.size not in (None, size):
        # Its boxes are in other pixels, or the other way up.
        raise DatasetError(
            f"image '{picture.path}' is {size[0]}x{size[1]} and was annotated at"
            f' {picture.size[0]}x{picture.size[1]}; give the pictures that were annotated'
        )
    return Frame.from_array(image)
