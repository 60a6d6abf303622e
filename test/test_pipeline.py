# SPDX-License-Identifier: Apache-2.0
"""A frame in, detections out: real networks in ONNX Runtime, with answers known beforehand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from models import (
    LAYOUTS,
    color_detector,
    constant_detector,
    raw_outputs,
    ultralytics_metadata,
    write_network,
)

from trt_perception.core import Detections, Frame, FrameError, PerceptionError, Region, Selection
from trt_perception.runtime.engine import EngineError
from trt_perception.runtime.host.onnx_runtime import OnnxRuntimeEngine
from trt_perception.runtime.model_file import load_spec
from trt_perception.runtime.pipeline import open_pipeline

# NumPy's warnings too: nobody wants one for every frame of a camera.
pytestmark = pytest.mark.filterwarnings('error')

EVERYTHING = Selection()
CLASSES = ('car', 'person', 'dog')


def frame(width: int = 64, height: int = 64, color: tuple[int, int, int] = (0, 0, 0)) -> Frame:
    return Frame.from_array(np.full((height, width, 3), color, np.uint8), 'rgb8')


def detect(
    path: Path, image: Frame | None = None, selection: Selection = EVERYTHING, **detector
) -> Detections:
    """What a detector that sees the same everywhere gives for this image."""
    model = constant_detector(path / 'm.onnx', **{'classes': CLASSES, **detector})
    return open_pipeline(model)(image or frame(), selection).detections


def check(detections: Detections, width: int = 64, height: int = 64) -> None:
    """What holds for all detections."""
    n = len(detections)
    assert (detections.boxes.shape, detections.boxes.dtype) == ((n, 4), np.float32)
    assert (detections.scores.shape, detections.scores.dtype) == ((n,), np.float32)
    assert (detections.class_ids.shape, detections.class_ids.dtype) == ((n,), np.int32)
    assert np.isfinite(detections.boxes).all() and np.isfinite(detections.scores).all()
    assert ((detections.boxes >= 0) & (detections.boxes <= [width, height] * 2)).all()
    assert (detections.boxes[:, 2:] > detections.boxes[:, :2]).all()
    assert ((detections.scores >= 0) & (detections.scores <= 1)).all()
    assert (np.diff(detections.scores) <= 0).all()
    assert (detections.class_ids >= 0).all()


# From file to detections


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('dtype', ['float32', 'float16'])
@pytest.mark.parametrize('dynamic', [False, True])
def test_every_layout_finds_what_is_there(tmp_path, layout, dtype, dynamic):
    boxes = [[8, 16, 40, 32], [64, 16, 96, 64], [4, 4, 12, 60]]
    found = detect(
        tmp_path, frame(192, 128), boxes=boxes, scores=[0.5, 0.9, 0.7], class_ids=[2, 0, 1],
        layout=layout, width=96, height=64, dtype=dtype, dynamic=dynamic,
    )  # fmt: skip
    check(found, 192, 128)
    # Best first; source pixels are twice the network's. Half floats have 11 bits.
    exact = 1e-4 if dtype == 'float32' else 0.1
    np.testing.assert_allclose(found.boxes, 2.0 * np.array(boxes)[[1, 2, 0]], atol=exact)
    np.testing.assert_allclose(found.scores, [0.9, 0.7, 0.5], atol=1e-5 + exact / 100)
    assert found.class_ids.tolist() == [0, 1, 2]


@pytest.mark.parametrize('layout', LAYOUTS)
def test_nothing_there_is_an_empty_answer(tmp_path, layout):
    found = detect(tmp_path, boxes=[], scores=[], class_ids=[], layout=layout)
    check(found)
    assert len(found) == 0
    assert len(Detections.empty()) == 0


@pytest.mark.parametrize('order', ['rgb8', 'bgr8', 'rgba8', 'bgra8'])
def test_colors_reach_the_network(tmp_path, order):
    pipeline = open_pipeline(color_detector(tmp_path / 'm.onnx'))
    for k, name in enumerate(('red', 'green', 'blue')):
        pixel = [255 if letter == name[0] else 0 for letter in order[:-1]]
        image = np.full((48, 64, len(pixel)), pixel, np.uint8)
        found = pipeline(Frame.from_array(image, order), Selection(score_threshold=0.5)).detections
        assert found.class_ids.tolist() == [k]
        assert pipeline.spec.class_name(k) == name


@pytest.mark.parametrize(
    ('size', 'expected'),
    [
        ((128, 64), [[16, 0, 80, 16]]),  # scale 2, 16 rows of padding above
        ((64, 128), [[0, 16, 48, 48]]),
        ((64, 64), [[8, 8, 40, 24]]),
        ((63, 1), [[63 / 64 * 8, 0, 63 / 64 * 40, 1]]),
    ],
)
def test_the_letterbox_is_undone(tmp_path, size, expected):
    boxes = [[8, 8, 40, 24]] if size != (63, 1) else [[8, 8, 40, 60]]
    found = detect(tmp_path, frame(*size), boxes=boxes)
    np.testing.assert_allclose(found.boxes, expected, rtol=1e-5)


# What is selected


ROW = [[16 * i, 0, 16 * i + 12, 12] for i in range(4)]


def scores_of(path: Path, selection: Selection, **detector) -> list[float]:
    seen = {'boxes': ROW, 'scores': [0.3, 0.9, 0.6, 0.1], 'class_ids': [0, 1, 2, 0], **detector}
    found = detect(path, None, selection, **seen)
    check(found)
    return [round(s, 3) for s in found.scores.tolist()]


@pytest.mark.parametrize('layout', ['yolov8', 'yolov5', 'end_to_end', 'detr'])
@pytest.mark.parametrize(
    ('threshold', 'scores'),
    [(0.0, [0.9, 0.6, 0.3, 0.1]), (0.25, [0.9, 0.6, 0.3]), (0.75, [0.9]), (1.0, [])],
)
def test_score_threshold(tmp_path, layout, threshold, scores):
    found = scores_of(tmp_path, Selection(score_threshold=threshold), layout=layout)
    # A threshold of 0 also lets through what a network has for nothing.
    assert [s for s in found if s > 0.01] == scores


@pytest.mark.parametrize('layout', ['yolov8', 'end_to_end', 'detr'])
@pytest.mark.parametrize(
    ('class_ids', 'scores'),
    [
        (None, [0.9, 0.6, 0.3]),
        ({0}, [0.3]),
        ({1, 2}, [0.9, 0.6]),
        ({0, 7}, [0.3]),
        ({7}, []),
        (set(), []),
    ],
)
def test_class_filter(tmp_path, layout, class_ids, scores):
    wanted = None if class_ids is None else frozenset(class_ids)
    assert scores_of(tmp_path, Selection(class_ids=wanted), layout=layout) == scores


@pytest.mark.parametrize('layout', ['yolov8', 'end_to_end'])
@pytest.mark.parametrize('limit', [0, 1, 2, 300])
def test_max_detections_keeps_the_best(tmp_path, layout, limit):
    selection = Selection(max_detections=limit)
    assert scores_of(tmp_path, selection, layout=layout) == [0.9, 0.6, 0.3][:limit]


def test_the_class_filter_comes_before_the_limit(tmp_path):
    selection = Selection(max_detections=1, class_ids=frozenset({0}))
    assert scores_of(tmp_path, selection) == [0.3]


def test_overlaps_are_suppressed_by_class_where_the_network_does_not(tmp_path):
    same = {'boxes': [[8, 8, 40, 24]] * 3, 'scores': [0.9, 0.8, 0.7], 'class_ids': [0, 0, 1]}
    assert scores_of(tmp_path, Selection(), **same) == [0.9, 0.7]
    assert scores_of(tmp_path, Selection(iou_threshold=1.0), **same) == [0.9, 0.8, 0.7]
    assert scores_of(tmp_path, Selection(), layout='end_to_end', **same) == [0.9, 0.8, 0.7]
    (tmp_path / 'm.yaml').write_text('nms: true')
    assert scores_of(tmp_path, Selection(), layout='end_to_end', **same) == [0.9, 0.7]


@pytest.mark.parametrize('layout', ['yolov8', 'yolov5', 'yolox_raw', 'detr', 'rtdetr_ultralytics'])
def test_a_box_is_of_its_best_class_or_of_all_that_are_likely(tmp_path, layout):
    outputs = raw_outputs(layout, [[8, 8, 40, 24]], [0.9], [1], 3, 64, 64)
    scores = next(iter(outputs.values()))[0]
    scores = scores.T[0] if layout == 'yolov8' else scores[0]
    scores[-1] = scores[-2] * 0.8  # of class 2, after those of class 1
    model = write_network(tmp_path / 'm.onnx', outputs, telling='TopK' if layout == 'detr' else '')
    (tmp_path / 'm.yaml').write_text(f'layout: {layout}')
    for multi_label, class_ids in ((False, [1]), (True, [1, 2])):
        found = open_pipeline(model)(frame(), Selection(multi_label=multi_label)).detections
        check(found)
        assert found.class_ids.tolist() == class_ids


def test_scores_are_clipped(tmp_path):
    # What half floats and quantised sigmoids really give.
    assert scores_of(tmp_path, Selection(), scores=[1.001, 0.5, 1.5, 0.3]) == [1, 1, 0.5, 0.3]


# Where boxes may lie


def test_boxes_are_clipped_to_the_source(tmp_path):
    boxes = [[-20, 10, 30, 50], [50, 30, 99, 99]]
    found = detect(tmp_path, frame(128, 64), boxes=boxes, scores=[0.9, 0.8], class_ids=[0, 0])
    check(found, 128, 64)
    assert found.boxes.tolist() == [[0, 0, 60, 64], [100, 28, 128, 64]]


def test_what_lies_in_the_padding_alone_is_dropped_before_the_limit(tmp_path):
    ghosts = [[8, 0, 40, 14], [8, 2, 40, 16], [8, 50, 40, 60]]
    found = detect(
        tmp_path, frame(128, 64), Selection(max_detections=1),
        boxes=[*ghosts, [8, 20, 40, 40]], scores=[0.9, 0.9, 0.9, 0.5], class_ids=[0] * 4,
    )  # fmt: skip
    assert found.boxes.tolist() == [[16, 8, 80, 48]]


def test_boxes_without_area_are_dropped(tmp_path):
    boxes = [[8, 8, 8, 24], [20, 20, 20, 20], [30, 30, 20, 20], [8, 8, 40, 24]]
    for layout in ('yolov8', 'end_to_end'):
        found = detect(tmp_path, boxes=boxes, scores=[0.9] * 4, class_ids=[0] * 4, layout=layout)
        assert found.boxes.tolist() == [[8, 8, 40, 24]]


def test_region_of_interest(tmp_path):
    selection = Selection(region=Region(100, 50, 128, 64))
    boxes = [[8, 20, 40, 40], [8, 2, 40, 14]]  # the second in the region's padding
    found = detect(
        tmp_path, frame(640, 480), selection, boxes=boxes, scores=[0.9, 0.8], class_ids=[0, 0]
    )
    assert found.boxes.tolist() == [[116, 58, 180, 98]]
    with pytest.raises(FrameError, match='lies outside of the 64x64 image'):
        detect(tmp_path, frame(), selection)


# Garbage


SPECIAL = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 1e30, 1e-45, -1.0, 0.0, 0.5, 1.0, 99.0])


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('dtype', ['float32', 'float16'])
def test_garbage_is_dropped_without_a_warning(tmp_path, layout, seed, dtype):
    """NaN, infinity and overflow everywhere; the one good object is still found."""
    random = np.random.default_rng(seed)
    outputs = raw_outputs(layout, [[8, 8, 40, 24]], [0.9], [1], 3, 64, 64)
    for name, array in outputs.items():
        if array.dtype.kind != 'f':
            array[:] = np.where(array, array, random.integers(-9, 9, array.shape))
            continue
        # A logit of infinity is no garbage: nothing could be more certain.
        junk = random.choice(
            SPECIAL[~(SPECIAL > 0)] if name == 'pred_logits' else SPECIAL, array.shape
        )
        good = np.zeros(array.shape, bool)
        good[(0, slice(None), 0) if layout == 'yolov8' else (0, 0)] = True
        with np.errstate(over='ignore'):
            outputs[name] = np.where(good, array, junk).astype(dtype)
    if layout == 'efficient_nms':
        outputs['num_dets'][:] = 300
    model = write_network(
        tmp_path / 'm.onnx', outputs, dtype=dtype, sizes=layout == 'detr_end_to_end',
        metadata=ultralytics_metadata(CLASSES, 64, 64),
    )  # fmt: skip
    (tmp_path / 'm.yaml').write_text(f'layout: {layout}')
    found = open_pipeline(model)(frame(), Selection(max_detections=10_000)).detections
    check(found)
    distance = np.abs(found.boxes - [8, 8, 40, 24]).max(axis=1)
    hit = (distance < 0.1) & (np.abs(found.scores - 0.9) < 0.01) & (found.class_ids == 1)
    assert hit.sum() == 1


def test_rows_of_class_minus_one_are_no_objects(tmp_path):
    layouts = {'detr_end_to_end': 'labels', 'efficient_nms': 'det_classes'}
    for layout, name in layouts.items():
        outputs = raw_outputs(layout, [[8, 8, 40, 24]] * 2, [0.9, 0.8], [0, 1], 3, 64, 64)
        outputs[name][0, 0] = -1
        model = write_network(tmp_path / 'm.onnx', outputs, sizes=layout == 'detr_end_to_end')
        found = open_pipeline(model)(frame(), Selection()).detections
        assert found.class_ids.tolist() == [1]


# The pipeline as a whole


def test_frames_do_not_disturb_each_other(tmp_path):
    pipeline = open_pipeline(color_detector(tmp_path / 'm.onnx'))
    selection = Selection(score_threshold=0.3)
    first = pipeline(frame(64, 64, (255, 0, 0)), selection).detections
    kept = first.boxes.copy(), first.scores.copy()
    with pytest.raises(FrameError):
        pipeline(frame(), Selection(region=Region(900, 0, 5, 5)))
    second = pipeline(frame(32, 64, (0, 255, 0)), selection).detections
    assert (first.class_ids.tolist(), second.class_ids.tolist()) == ([0], [1])
    assert (first.boxes == kept[0]).all() and (first.scores == kept[1]).all()


def test_what_runs_is_said(tmp_path):
    pipeline = open_pipeline(constant_detector(tmp_path / 'm.onnx', dtype='float16'), threads=1)
    info = pipeline.info
    assert info.backend.startswith('ONNX Runtime ') and info.backend.endswith(' CPU')
    assert info.precision == 'float16'
    assert info.device
    assert str(info) == f'{info.backend}, float16, on {info.device}'


def test_a_result_has_the_time_of_each_stage(tmp_path):
    result = open_pipeline(constant_detector(tmp_path / 'm.onnx', work=1))(frame(), Selection())
    assert len(result.detections) == 1
    assert result.times._fields == ('preprocess', 'infer', 'decode')
    assert all(isinstance(t, int) and t > 0 for t in result.times)


def test_a_closed_engine_says_so(tmp_path):
    pipeline = open_pipeline(constant_detector(tmp_path / 'm.onnx'))
    pipeline.close()
    pipeline.close()
    with pytest.raises(EngineError, match='closed'):
        pipeline(frame(), Selection())


def test_a_network_that_fails_says_so_in_one_line(tmp_path):
    model = constant_detector(tmp_path / 'm.onnx')
    engine = OnnxRuntimeEngine(model, load_spec(model))
    with pytest.raises(EngineError, match='ONNX Runtime failed') as caught:
        engine.infer({'images': np.zeros((1, 3, 32, 32), np.float32)})
    assert '\n' not in str(caught.value)
    assert engine.infer({'images': np.zeros((1, 3, 64, 64), np.float32)})[0].shape == (1, 6, 84)


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(PerceptionError, match=r'absent\.onnx'):
        open_pipeline(tmp_path / 'absent.onnx')
