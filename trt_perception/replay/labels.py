# SPDX-License-Identifier: Apache-2.0
"""COCO labels of frames of a recording, to compare a replay with.

Which frame a picture of the labels is, its entry in the JSON says: ``"stamp"``, the header's stamp
in nanoseconds, or as text in seconds with nine decimals; and ``"topic"``, where the replay has
several cameras. Where there is no stamp the last number in the file's name is taken: for a stamp
if it has nine decimals or 16 digits or more (``1700000000.033000000.jpg``), else for the number of
the frame in its topic, from 0 (``frame_000017.png``, as annotation tools call a video's frames).
"""

from __future__ import annotations

import dataclasses
import re
import reprlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trt_perception.core import Detections, Stamp
from trt_perception.core.nms import pairwise_iou
from trt_perception.replay.coco import Classes, CocoDataset, DatasetError, Picture
from trt_perception.replay.result import SeenFrame

_NUMBER = re.compile(r'\d+\.\d{9}(?!\d)|\d+')
_ENDING = re.compile(r'\.[A-Za-z]\w*$')
_STAMP = re.compile(r'(\d{1,10})\.(\d{9})|\d{16,19}')
#: A detection of which more than half lies in a crowd is of it, unless it is of an object.
_INSIDE, _IOU = 0.5, 0.5


class Place(NamedTuple):
    """Which frame a picture is.

    Attributes:
        topic: '' for that of the only camera.
        stamp: of the header; None where the number tells.
        number: of the frame in its topic, from 0; -1 where the stamp tells.
    """

    topic: str
    stamp: Stamp | None
    number: int = -1


class ClassList(NamedTuple):
    """The classes of a replay."""

    class_names: tuple[str, ...]
    num_classes: int


class Labels:
    """What is annotated in some of the frames of a recording.

    Attributes:
        dataset: the annotations.
        numbered: whether a frame is given by its number, which is wrong where one is missing.
    """

    def __init__(self, path: Path) -> None:
        """Read the JSON.

        Raises:
            DatasetError: it is missing, is no COCO detection data set, or does not say which frames
                its pictures are.
        """
        self._path = path
        self.dataset = CocoDataset(path, None)
        self._pictures: dict[Place, Picture] = {}
        for picture in self.dataset.pictures:
            place = self._place(picture)
            if place in self._pictures:
                raise self._error(
                    f"'{self._pictures[place].path}' and '{picture.path}' are the same frame"
                )
            self._pictures[place] = picture
        self.numbered = any(place.stamp is None for place in self._pictures)

    def looks(self, frames: Iterable[SeenFrame]) -> Iterator[tuple[Picture, SeenFrame]]:
        """Each frame that is labelled, with its picture.

        Raises:
            DatasetError: none is, or labels that name no topic meet several.
        """
        numbers: dict[str, int] = {}
        found = 0
        for frame in frames:
            number = numbers[frame.topic] = numbers.get(frame.topic, -1) + 1
            # Of one camera, whether its images came raw or compressed.
            topic = frame.topic.removesuffix('/compressed')
            for place in (Place(topic, frame.stamp), Place(topic, None, number),
                          Place('', frame.stamp), Place('', None, number)):  # fmt: skip
                if place not in self._pictures:
                    continue
                if not place.topic and len(numbers) > 1:
                    raise self._error(
                        f'it names no topic and the replay has {" and ".join(numbers)}; give each'
                        ' image its "topic", or replay one (--topics)'
                    )
                found += 1
                yield self._pictures[place], frame
                break
        if not found:
            raise self._error(
                f'none of its {len(self._pictures)} images is a frame of the replay; their "stamp",'
                ' or the numbers in their file names, must be the stamps of the camera images'
            )

    def _place(self, picture: Picture) -> Place:
        topic = '' if picture.topic is None else picture.topic
        if not isinstance(topic, str):
            raise self._error(f"'{picture.path}' has topic {reprlib.repr(topic)}, which is no text")
        if topic:
            topic = ('/' + topic.strip('/')).removesuffix('/compressed')
        if picture.stamp is not None:
            stamp = _stamp(str(picture.stamp))
            if stamp is None or type(picture.stamp) not in (int, str):
                raise self._error(
                    f"'{picture.path}' has stamp {reprlib.repr(picture.stamp)}, which is neither"
                    ' nanoseconds nor text of seconds with nine decimals'
                )
            return Place(topic, stamp)
        numbers = _NUMBER.findall(_ENDING.sub('', picture.path.name))
        if not numbers:
            raise self._error(
                f'\'{picture.path}\' does not say which frame it is; give each image its "stamp"'
                ' (nanoseconds), or name it by it'
            )
        stamp = _stamp(numbers[-1])
        return Place(topic, stamp) if stamp else Place(topic, None, int(numbers[-1]))

    def _error(self, what: str) -> DatasetError:
        return DatasetError(f"labels '{self._path}': {what}")


def against_labels(
    dataset: CocoDataset, classes: Classes, looks: Iterable[tuple[Picture, SeenFrame]]
) -> Iterator[tuple[SeenFrame, SeenFrame]]:
    """Bring looks together with their labels, to be compared.

    What only one of the two has a class for is left out, and so are crowds and what is in them.

    Args:
        classes: from `CocoDataset.match`.
        looks: at pictures of the data set.

    Returns:
        For each the labels, with `CocoDataset.class_names`, and what was found.
    """
    for picture, frame in looks:
        yield _judged(dataset, classes, picture, frame)


def _judged(
    dataset: CocoDataset, classes: Classes, picture: Picture, frame: SeenFrame
) -> tuple[SeenFrame, SeenFrame]:
    categories = np.array(dataset.category_ids)
    objects, crowds = (dataset.objects(picture.id, crowd) for crowd in (False, True))
    objects = _only(objects, np.isin(categories[objects.class_ids], _known(classes)))
    found = frame.detections
    # A category for each class of the model; -1 is none.
    ids = np.array([-1 if c is None else c for c in classes.category_ids])[found.class_ids]
    keep = ids >= 0
    if len(crowds):
        keep &= ~_in_crowd(found, ids, objects, crowds, categories)
    labels = dataclasses.replace(frame, detections=objects, latencies_ms={})
    return labels, dataclasses.replace(frame, detections=_only(found, keep))


def _known(classes: Classes) -> list[int]:
    return [c for c in classes.category_ids if c is not None]


def _in_crowd(
    found: Detections,
    ids: NDArray[np.int64],
    objects: Detections,
    crowds: Detections,
    categories: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """(N,) what lies in a crowd of its class and is not one of the objects apart from it."""
    low = np.maximum(found.boxes[:, None, :2], crowds.boxes[None, :, :2])
    high = np.minimum(found.boxes[:, None, 2:], crowds.boxes[None, :, 2:])
    shared = np.maximum(high - low, 0).prod(axis=2)
    area = (found.boxes[:, 2:] - found.boxes[:, :2]).prod(axis=1)
    same = ids[:, None] == categories[crowds.class_ids]
    inside = ((shared > _INSIDE * area[:, None]) & same).any(axis=1)
    near = pairwise_iou(found.boxes, objects.boxes) >= _IOU
    return inside & ~(near & (ids[:, None] == categories[objects.class_ids])).any(axis=1)


def _only(detections: Detections, keep: NDArray[np.bool_]) -> Detections:
    return Detections(detections.boxes[keep], detections.scores[keep], detections.class_ids[keep])


def _stamp(text: str) -> Stamp | None:
    match = _STAMP.fullmatch(text)
    if not match:
        return None
    seconds, decimals = match.groups()
    return Stamp.of(int(text)) if seconds is None else Stamp(int(seconds), int(decimals))
