# SPDX-License-Identifier: Apache-2.0
"""Accuracy on tiny data sets whose answer can be worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from models import color_detector, constant_detector, raw_outputs, write_network

from trt_perception.core import Detections, ModelSpec
from trt_perception.replay.coco import Accuracy, CocoDataset, DatasetError
from trt_perception.replay.evaluation import COCO_SELECTION, evaluate
from trt_perception.runtime.pipeline import StageTimes, open_pipeline

Box = tuple[float, float, float, float]  # x, y, width, height

NAMES = ('car', 'person')
HERE: Box = (10, 10, 40, 40)
THERE: Box = (60, 10, 20, 30)


def spec(*names: str, num_classes: int | None = None) -> ModelSpec:
    count = len(names) if num_classes is None else num_classes
    return ModelSpec('yolov8', 'images', 64, 64, 'float32', ('o',), count, names)


def write_data(
    folder: Path,
    objects: list[list[tuple[str, Box]]],
    *,
    names: tuple[str, ...] = NAMES,
    size: tuple[int, int] = (96, 64),
    color: tuple[int, int, int] = (0, 0, 0),
) -> dict[str, Any]:
    """Write one picture a list of objects; what its JSON says, with ids from 0."""
    pictures = [f'{i}.png' for i in range(len(objects))]
    for name in pictures:
        cv2.imwrite(str(folder / name), np.full((size[1], size[0], 3), color, np.uint8))
    every = [(i, name, box) for i, found in enumerate(objects) for name, box in found]
    return {
        'images': [
            {'id': i, 'file_name': name, 'width': size[0], 'height': size[1]}
            for i, name in enumerate(pictures)
        ],
        'categories': [{'id': 7 + k, 'name': name} for k, name in enumerate(names)],
        'annotations': [
            {'id': k, 'image_id': i, 'category_id': 7 + names.index(name), 'bbox': list(box),
             'area': 1, 'iscrowd': 0}
            for k, (i, name, box) in enumerate(every)
        ],
    }  # fmt: skip


def load(folder: Path, data: Any, limit: int | None = None) -> CocoDataset:
    path = folder / 'instances.json'
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding='utf-8')
    return CocoDataset(path, folder, limit)


def refusal(folder: Path, data: Any, model: ModelSpec | None = None) -> str:
    """The one line that a user reads."""
    with pytest.raises(DatasetError) as caught:
        load(folder, data).match(model or spec(*NAMES))
    text = str(caught.value)
    assert text.isprintable()
    return text


def found(*rows: tuple[str, Box, float], names: tuple[str, ...] = NAMES) -> Detections:
    """Detections of these names, boxes and scores, in any order."""
    boxes = np.array([[x, y, x + w, y + h] for _, (x, y, w, h), _ in rows], np.float32)
    return Detections(
        boxes.reshape(-1, 4),
        np.array([score for _, _, score in rows], np.float32),
        np.array([names.index(name) for name, _, _ in rows], np.int32),
    )


def score(folder: Path, data: dict[str, Any], *pictures: Detections) -> Accuracy:
    dataset = load(folder, data)
    return dataset.score(dict(enumerate(pictures)), dataset.match(spec(*NAMES)))


def test_perfect_detections(tmp_path):
    data = write_data(tmp_path, [[('car', HERE), ('person', THERE)], [('car', THERE)], []])
    accuracy = score(
        tmp_path, data,
        found(('person', THERE, 0.3), ('car', HERE, 0.9)), found(('car', THERE, 0.2)), found(),
    )  # fmt: skip
    assert (accuracy.map, accuracy.map50) == pytest.approx((1, 1))
    assert [(c.name, c.objects) for c in accuracy.classes] == [('car', 2), ('person', 1)]
    assert [c.ap for c in accuracy.classes] == pytest.approx([1, 1])


def test_nothing_found(tmp_path):
    data = write_data(tmp_path, [[('car', HERE)]])
    assert score(tmp_path, data, found())[:2] == (0, 0)
    assert score(tmp_path, data)[:2] == (0, 0)


@pytest.mark.parametrize(
    ('shift', 'expected'),
    # IoU (40 - s) / (40 + s): 36/44 reaches 0.50, 0.55, ... 0.80, which are 7 of 10 thresholds.
    [(0, 1.0), (1, 1.0), (2, 0.9), (4, 0.7), (8, 0.4), (13, 0.1), (14, 0.0)],
)
def test_shifted_boxes_fail_the_high_thresholds(tmp_path, shift, expected):
    data = write_data(tmp_path, [[('car', HERE)]])
    moved = (HERE[0] + shift, *HERE[1:])
    accuracy = score(tmp_path, data, found(('car', moved, 0.9)))
    assert accuracy.map == pytest.approx(expected)
    assert accuracy.map50 == pytest.approx(1.0 if expected else 0.0)


def test_what_is_missed_and_what_is_not_there(tmp_path):
    data = write_data(tmp_path, [[('car', HERE), ('car', THERE)]])
    # Half of the objects: precision 1 at the recalls 0.00, 0.01, ... 0.50.
    accuracy = score(tmp_path, data, found(('car', HERE, 0.9)))
    assert accuracy.map == pytest.approx(51 / 101)
    # A worse box that is none costs nothing, a better one costs.
    data = write_data(tmp_path, [[('car', HERE)]])
    for ghost, expected in ((0.5, 1), (0.95, 0.5)):
        accuracy = score(tmp_path, data, found(('car', HERE, 0.9), ('car', THERE, ghost)))
        assert accuracy.map == pytest.approx(expected)
    # So does a second box for one object.
    data = write_data(tmp_path, [[('car', HERE), ('car', THERE)]])
    accuracy = score(
        tmp_path, data, found(('car', HERE, 0.9), ('car', HERE, 0.8), ('car', THERE, 0.7))
    )
    assert accuracy.map == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_the_class_counts(tmp_path):
    data = write_data(tmp_path, [[('car', HERE)]])
    assert score(tmp_path, data, found(('person', HERE, 0.9))).map == 0


def test_a_class_that_is_never_shown_has_no_accuracy(tmp_path):
    data = write_data(tmp_path, [[('car', HERE)]])
    accuracy = score(tmp_path, data, found(('car', HERE, 0.9), ('person', THERE, 0.9)))
    assert accuracy.map == pytest.approx(1)
    assert accuracy.classes[1] == ('person', 0, None, None)


def test_an_object_of_id_0_is_one_like_any_other(tmp_path):
    data = write_data(tmp_path, [[('car', HERE)]])
    assert data['annotations'][0]['id'] == 0
    assert score(tmp_path, data, found(('car', HERE, 0.9))).map == pytest.approx(1)


def test_ids_of_annotations_do_not_matter(tmp_path):
    data = write_data(tmp_path, [[('car', HERE), ('car', THERE)]])
    for annotation in data['annotations']:
        annotation['id'] = 'same'
    del data['annotations'][0]['id'], data['annotations'][1]['area']
    everything = found(('car', HERE, 0.9), ('car', THERE, 0.8))
    assert score(tmp_path, data, everything).map == pytest.approx(1)


def test_a_crowd_is_neither_found_nor_missed(tmp_path):
    data = write_data(tmp_path, [[('car', HERE), ('car', THERE), ('person', THERE)]])
    data['annotations'][1]['iscrowd'] = data['annotations'][2]['iscrowd'] = 1
    rows = [('car', HERE, 0.5), ('car', THERE, 0.9), ('car', (62, 12, 5, 5), 0.8)]
    for several in (rows, rows[:1]):
        accuracy = score(tmp_path, data, found(*several))
        assert accuracy.map == pytest.approx(1)
        assert accuracy.classes[0].objects == 1
        assert accuracy.classes[1] == ('person', 0, None, None)


def test_large_objects_count(tmp_path):
    data = write_data(tmp_path, [[('car', (0, 0, 1e5, 1e5))]])
    assert score(tmp_path, data, found(('car', (0, 0, 1e5, 1e5), 0.9))).map == pytest.approx(1)


def test_a_limit_leaves_the_other_pictures_out(tmp_path):
    data = write_data(tmp_path, [[('car', HERE)], [('car', HERE), ('person', HERE)], []])
    (tmp_path / '2.png').unlink()
    dataset = load(tmp_path, data, limit=1)
    assert [p.path.name for p in dataset.pictures] == ['0.png']
    accuracy = dataset.score({0: found(('car', HERE, 1))}, dataset.match(spec(*NAMES)))
    assert [(c.objects, c.ap) for c in accuracy.classes] == [(1, pytest.approx(1)), (0, None)]
    assert len(load(tmp_path, data, limit=2).pictures) == 2


# Whose classes are whose


def test_classes_by_name(tmp_path):
    names = ('traffic light', 'person', 'T-shirt', 'zebra')
    data = write_data(tmp_path, [[('person', HERE)]], names=names)
    classes = load(tmp_path, data).match(spec('Person', 'dog', 'traffic_light ', 't shirt'))
    assert classes.category_ids == (8, None, 7, 9)
    assert classes.unknown_classes == ('dog',)
    assert classes.unknown_categories == ('zebra',)


def test_what_is_not_shared_does_not_count(tmp_path):
    data = write_data(tmp_path, [[('person', HERE), ('zebra', THERE)]], names=('person', 'zebra'))
    dataset = load(tmp_path, data)
    names = ('dog', 'person')
    classes = dataset.match(spec(*names))
    for place, expected in ((HERE, 1), (THERE, 0)):
        seen = found(('dog', THERE, 0.9), ('person', place, 0.5), names=names)
        accuracy = dataset.score({0: seen}, classes)
        assert accuracy.map == pytest.approx(expected)
        assert [c.name for c in accuracy.classes] == ['person']


def test_classes_by_order_of_the_ids_where_the_model_has_no_names(tmp_path):
    data = write_data(tmp_path, [[('car', HERE)]])
    data['categories'].reverse()
    assert load(tmp_path, data).match(spec(num_classes=2)) == ((7, 8), (), ())
    assert load(tmp_path, data).match(spec(*NAMES)).category_ids == (7, 8)
    assert 'the model has 3 classes without names and the data set has 2 categories' in refusal(
        tmp_path, data, spec(num_classes=3)
    )
    assert 'the model has classes without names' in refusal(tmp_path, data, spec(num_classes=0))


def test_an_unused_category_of_the_same_name_is_passed_over(tmp_path):
    """Roboflow writes a category 0 for the whole, which may be named as one of its parts."""
    data = write_data(tmp_path, [[('person', HERE)]])
    data['categories'].insert(0, {'id': 0, 'name': 'Person', 'supercategory': 'none'})
    assert load(tmp_path, data).match(spec(*NAMES)).category_ids == (7, 8)
    data['categories'].append({'id': 99, 'name': 'person'})
    assert load(tmp_path, data).match(spec(*NAMES)).category_ids == (7, 8)
    data['annotations'][0]['category_id'] = 0
    data['annotations'].append({**data['annotations'][0], 'category_id': 8})
    assert "'Person' (id 0) and 'person' (id 8); rename one" in refusal(tmp_path, data)


def test_nothing_in_common(tmp_path):
    data = write_data(tmp_path, [[('car', HERE)]])
    text = refusal(tmp_path, data, spec('a', 'b', 'c', 'd'))
    assert 'no class of the model (a, b, c, ...) is a category of the data set (car, per' in text
    assert 'the 1 pictures show no object of a class' in refusal(tmp_path, data, spec('person'))
    data['annotations'][0]['iscrowd'] = 1
    assert 'show no object' in refusal(tmp_path, data)
    data['annotations'] = []
    assert 'show no object' in refusal(tmp_path, data)


# What is no data set


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda d: '', 'is not readable JSON'),
        (lambda d: '{"images": [', 'is not readable JSON'),
        (lambda d: '[' * 100_000, 'is not readable JSON'),
        (lambda d: '\ud800'.encode('utf-8', 'surrogatepass'), 'is not readable JSON'),
        (lambda d: 'null', 'no list of images; it needs images, categories, annotations'),
        (lambda d: [{'image_id': 1, 'bbox': [1, 2, 3, 4], 'score': 0.5}], 'no list of images'),
        (lambda d: {**d, 'images': {}}, 'no list of images'),
        (lambda d: {**d, 'images': []}, 'it lists no images'),
        (lambda d: {**d, 'images': [5]}, 'images[0] has id None, which is no int'),
        (lambda d: {**d, 'images': [{'id': '1', 'file_name': ''}]}, "images[0] has id '1'"),
        (lambda d: {**d, 'images': [{'id': True, 'file_name': ''}]}, 'images[0] has id True'),
        (lambda d: {**d, 'images': [{'id': 1, 'file_name': 5}]}, 'file_name 5, which is no str'),
        (lambda d: {**d, 'images': d['images'] * 2}, 'two images of id 0'),
        (lambda d: {k: v for k, v in d.items() if k != 'categories'}, 'no list of categories'),
        (lambda d: {**d, 'categories': []}, 'it lists no categories'),
        (lambda d: {**d, 'categories': d['categories'] * 2}, 'two categories of id 7'),
        (lambda d: {**d, 'categories': [{'id': 7, 'name': None}]}, 'categories[0] has name None'),
        (lambda d: {**d, 'categories': d['categories'][1:]}, 'of category 7, which is not listed'),
        (lambda d: {k: v for k, v in d.items() if k != 'annotations'}, 'no list of annotations'),
    ],
)
def test_malformed_files(tmp_path, change, words):
    data = change(write_data(tmp_path, [[('car', HERE)]]))
    if isinstance(data, bytes):
        (tmp_path / 'instances.json').write_bytes(data)
        with pytest.raises(DatasetError, match=words):
            CocoDataset(tmp_path / 'instances.json', tmp_path)
        return
    text = refusal(tmp_path, data)
    assert words in text
    assert str(tmp_path / 'instances.json') in text
    assert len(text) < 400


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'bbox': None}, 'annotations[1] has bbox None, which is no list'),
        ({'bbox': [1, 2, 3]}, 'bbox [1, 2, 3] is not x, y, width, height'),
        ({'bbox': [1, 2, 3, '4']}, "bbox [1, 2, 3, '4'] is not"),
        ({'bbox': [1, 2, 3, True]}, 'is not x, y, width, height'),
        ({'bbox': [1, 2, 3, -1]}, 'is not x, y, width, height'),
        ({'bbox': [float('nan'), 2, 3, 4]}, 'bbox [nan, 2, 3, 4] is not'),
        ({'bbox': [1, 2, float('inf'), 4]}, 'is not x, y, width, height'),
        ({'bbox': [10**400, 2, 3, 4]}, 'is not x, y, width, height'),
        ({'image_id': '0'}, "annotations[1] has image_id '0'"),
        ({'category_id': 8.0}, 'annotations[1] has category_id 8.0'),
        ({'category_id': 5}, 'of category 5, which is not listed'),
        ({'iscrowd': 'no'}, "iscrowd 'no' is neither 0 nor 1"),
        ({'iscrowd': [1]}, 'iscrowd [1] is neither 0 nor 1'),
    ],
)
def test_malformed_annotations(tmp_path, change, words):
    data = write_data(tmp_path, [[('car', HERE), ('car', THERE)]])
    data['annotations'][1].update(change)
    assert words in refusal(tmp_path, data)


def test_files_that_are_not_there(tmp_path):
    data = write_data(tmp_path, [[('car', HERE)], [], []])
    with pytest.raises(DatasetError, match=r"absent\.json': No such file"):
        CocoDataset(tmp_path / 'absent.json', tmp_path)
    with pytest.raises(DatasetError, match='Is a directory'):
        CocoDataset(tmp_path, tmp_path)
    (tmp_path / '1.png').unlink()
    text = refusal(tmp_path, data)
    assert f"1 of the 3 images in '{tmp_path / 'instances.json'}' are missing" in text
    assert f"the first is '{tmp_path / '1.png'}'; give the folder that holds them" in text


# The whole way, from the file to the figure


def test_a_whole_evaluation(tmp_path):
    # Twice the network's size: boxes come back doubled.
    data = write_data(tmp_path, [[('car', (16, 16, 64, 32))]] * 3, size=(128, 128))
    data['annotations'].pop()
    model = constant_detector(tmp_path / 'm.onnx', scores=[0.9], classes=('person', 'dog', 'car'),
                              class_ids=[2])  # fmt: skip
    seen: list[None] = []
    dataset = load(tmp_path, data)
    pipeline = open_pipeline(model)
    result = evaluate(pipeline, dataset, on_picture=lambda: seen.append(None))
    assert result.accuracy.map == pytest.approx(1)
    assert (result.pictures, result.detections, len(seen)) == (3, 3, 3)
    assert tuple(result.stage_ms) == StageTimes._fields
    assert all(ms > 0 for ms in result.stage_ms.values())
    assert result.engine == pipeline.info
    said = json.loads(json.dumps(result.to_dict()))
    assert said['accuracy'] == {
        'map': result.accuracy.map,
        'map50': result.accuracy.map50,
        'classes': [
            {'name': 'car', 'objects': 2, 'ap': result.accuracy.map, 'ap50': result.accuracy.map50},
            {'name': 'person', 'objects': 0, 'ap': None, 'ap50': None},
        ],
        'only_in_model': ['dog'],
        'only_in_data_set': [],
    }
    assert said['selection']['score_threshold'] == COCO_SELECTION.score_threshold
    assert said['engine']['device'] == pipeline.info.device
    assert said['stage_ms'] == result.stage_ms


def measured(model: Path, folder: Path, data: dict[str, Any], yaml: str = '') -> Accuracy:
    model.with_suffix('.yaml').write_text(yaml)
    return evaluate(open_pipeline(model), load(folder, data)).accuracy


def test_a_wrong_order_of_colors_is_seen(tmp_path):
    names, whole = ('red', 'green', 'blue'), (0, 0, 64, 64)
    data = write_data(tmp_path, [[(n, whole)] for n in names], names=names, size=(64, 64))
    for i, bgr in enumerate([(0, 0, 255), (0, 255, 0), (255, 0, 0)]):
        cv2.imwrite(str(tmp_path / f'{i}.png'), np.full((64, 64, 3), bgr, np.uint8))
    model = color_detector(tmp_path / 'm.onnx')
    assert measured(model, tmp_path, data).map == pytest.approx(1)
    swapped = measured(model, tmp_path, data, 'color: bgr')
    assert [c.ap for c in swapped.classes] == pytest.approx([0, 1, 0])


def test_a_half_pixel_and_a_wrong_letterbox_are_seen(tmp_path):
    # A 128x64 picture lies in the middle of 64x64: half as large, 16 pixels down.
    data = write_data(tmp_path, [[('car', (20, 10, 20, 20))]], size=(128, 64))
    right = constant_detector(tmp_path / 'right.onnx', [[10, 21, 20, 31]])
    assert measured(right, tmp_path, data).map == pytest.approx(1)
    # IoU 9.5 / 10.5 fails the last of the ten thresholds.
    shifted = constant_detector(tmp_path / 'shifted.onnx', [[10.5, 21, 20.5, 31]])
    assert measured(shifted, tmp_path, data).map == pytest.approx(0.9)
    for resize in ('letterbox_top_left', 'stretch'):
        assert measured(right, tmp_path, data, f'resize: {resize}').map == 0


def test_every_class_of_a_box_counts(tmp_path):
    """As published figures have it: the second guess is worth something."""
    outputs = raw_outputs('yolov8', [[8, 8, 40, 24]], [0.9], [0], 2, 64, 64)
    outputs['output0'][0, 5, 0] = 0.5
    model = write_network(tmp_path / 'm.onnx', outputs)
    data = write_data(tmp_path, [[('person', (8, 8, 32, 16))]], size=(64, 64))
    assert measured(model, tmp_path, data).map == pytest.approx(1)


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (b'', 'holds no bytes'),
        (b'BM' + bytes(60), 'neither JPEG nor PNG'),
        (b'\x89PNG\r\n\x1a\n' + bytes(60), 'ends before its end'),
    ],
)
def test_pictures_that_cannot_be_read_are_named(tmp_path, content, words):
    data = write_data(tmp_path, [[('car', HERE)], []])
    (tmp_path / '1.png').write_bytes(content)
    pipeline = open_pipeline(constant_detector(tmp_path / 'm.onnx'))
    with pytest.raises(DatasetError, match=words) as caught:
        evaluate(pipeline, load(tmp_path, data))
    assert str(tmp_path / '1.png') in str(caught.value)


def test_pictures_of_another_size_than_annotated(tmp_path):
    data = write_data(tmp_path, [[('car', HERE)]])
    pipeline = open_pipeline(constant_detector(tmp_path / 'm.onnx'))
    data['images'][0].update(width=64, height=96)
    with pytest.raises(DatasetError, match=r'0\.png.* is 96x64 and was annotated at 64x96'):
        evaluate(pipeline, load(tmp_path, data))
    del data['images'][0]['width']
    assert evaluate(pipeline, load(tmp_path, data)).pictures == 1


def test_more_classes_than_names(tmp_path):
    model = constant_detector(tmp_path / 'm.onnx', layout='efficient_nms', class_ids=[5])
    data = write_data(tmp_path, [[('car', HERE)]])
    with pytest.raises(DatasetError, match=r'class 5 in .* has only 2 names'):
        evaluate(open_pipeline(model), load(tmp_path, data))
