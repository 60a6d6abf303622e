# SPDX-License-Identifier: Apache-2.0
"""What the trainer reads is what the robot will see."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from data import class_names, load_samples

from trt_perception.core import Frame, ModelSpec, PerceptionError
from trt_perception.runtime.host.preprocess import HostPreprocessor


def write(folder: Path, change: Any = None) -> Path:
    """Two pictures of odd sizes, with an object in the first and a crowd in the second."""
    rng = np.random.default_rng(0)
    (folder / 'images').mkdir(parents=True)
    for name, shape in (('a.png', (75, 133)), ('b.png', (97, 41))):
        cv2.imwrite(str(folder / 'images' / name), rng.integers(0, 255, (*shape, 3), np.uint8))
    data: dict[str, list[dict]] = {
        'images': [
            {'id': 7, 'file_name': 'a.png', 'width': 133, 'height': 75},
            {'id': 9, 'file_name': 'b.png', 'width': 41, 'height': 97},
        ],
        'categories': [{'id': 5, 'name': 'barrel'}, {'id': 2, 'name': 'cone'}],
        'annotations': [
            {'id': 1, 'image_id': 7, 'category_id': 5, 'bbox': [10, 20, 30, 40]},
            {'id': 2, 'image_id': 9, 'category_id': 2, 'bbox': [1, 2, 3, 4], 'iscrowd': 1},
        ],
    }
    if change:
        change(data)
    (folder / 'instances.json').write_text(json.dumps(data))
    return folder


def test_the_pixels_are_those_of_the_pipeline(tmp_path: Path) -> None:
    folder = write(tmp_path / 'set')
    samples = load_samples(folder, 96, 64)
    spec = ModelSpec('yolov8', 'images', 96, 64, 'float32', ('output0',), 2)
    for image, name in zip(samples.images, ('a.png', 'b.png'), strict=True):
        picture = cv2.imread(str(folder / 'images' / name))
        tensor, _ = HostPreprocessor(spec)(Frame.from_array(picture))
        assert np.array_equal(image.permute(2, 0, 1).numpy(), np.rint(tensor[0] * 255))


def test_boxes_come_back_to_where_they_were_annotated(tmp_path: Path) -> None:
    folder = write(tmp_path / 'set')
    assert class_names(folder) == ('cone', 'barrel')
    samples = load_samples(folder, 96, 64)
    assert samples.labels.tolist() == [[1], [-1]]
    spec = ModelSpec('yolov8', 'images', 96, 64, 'float32', ('output0',), 2)
    _, geometry = HostPreprocessor(spec)(Frame.from_array(np.zeros((75, 133, 3), np.uint8)))
    back = geometry.to_source(samples.boxes[0].numpy())
    assert back[0].tolist() == pytest.approx([10, 20, 40, 60], abs=1e-3)


def test_a_limit(tmp_path: Path) -> None:
    assert len(load_samples(write(tmp_path / 'set'), 96, 64, 1).images) == 1


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda d: d['images'][0].update(width=75, height=133), 'was annotated at 75x133'),
        (lambda d: d['images'][0].update(file_name='c.png'), '1 of the 2 images'),
        (lambda d: d['annotations'].clear(), 'shows no object; label some'),
        (lambda d: d.pop('categories'), 'it has no list of categories'),
        (lambda d: d['annotations'][0].update(bbox=[1, 2, 3]), 'is not x, y, width, height'),
    ],
)
def test_mistakes_are_named(tmp_path: Path, change: Any, words: str) -> None:
    with pytest.raises(PerceptionError, match=words):
        load_samples(write(tmp_path / 'set', change), 96, 64)


def test_a_picture_that_is_none(tmp_path: Path) -> None:
    folder = write(tmp_path / 'set')
    (folder / 'images' / 'b.png').write_bytes(b'no picture')
    with pytest.raises(PerceptionError, match=r"b\.png' is not a readable picture"):
        load_samples(folder, 96, 64)


def test_a_class_that_comes_twice(tmp_path: Path) -> None:
    def twice(data: dict[str, Any]) -> None:
        data['categories'][1]['name'] = 'barrel'

    with pytest.raises(PerceptionError, match="names the class 'barrel' twice"):
        class_names(write(tmp_path / 'set', twice))
