# SPDX-License-Identifier: Apache-2.0
"""The decode kernels, on the CPU, against the host's decoders: the same objects, bit by bit."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from cuda_on_cpu import KERNELS, Cpu, build
from decode_cases import (
    LAYOUTS,
    QUERIES,
    Kernels,
    assert_same,
    compare,
    garbage,
    on_host,
    placements,
    random_outputs,
    spec_of,
    with_scores,
    without_suppression,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from trt_perception.core import Frame, Selection
from trt_perception.core.decoders import decoders
from trt_perception.runtime.cuda.decode import CAPACITY, RESULT, DecodePlan, Output, supported
from trt_perception.runtime.engine import EngineError
from trt_perception.runtime.host.onnx_runtime import OnnxRuntimeEngine
from trt_perception.runtime.host.preprocess import HostPreprocessor
from trt_perception.runtime.model_file import load_spec

# Large inputs take long, fiber by fiber.
FEW = settings(max_examples=25)


@pytest.fixture(scope='session')
def kernels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp('kernels')
    sources = (KERNELS / 'decode.cu', KERNELS / 'suppress.cu')
    return {name: run for source in sources for name, run in build(source, folder).items()}


@pytest.mark.parametrize('layout', LAYOUTS)
@given(
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from(['float32', 'float16']),
    classes=st.sampled_from([1, 2, 3, 80]),
    size=st.sampled_from([(32, 32), (64, 64), (96, 64)]),
    where=st.integers(0, 4),
    class_ids=st.none() | st.frozensets(st.integers(-1, 90), max_size=9),
    selection=st.builds(
        Selection,
        score_threshold=st.sampled_from([0.0, 0.001, 0.25, 0.5, 0.9, 1.0]),
        iou_threshold=st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]),
        max_detections=st.sampled_from([0, 1, 2, 300, 10_000]),
        multi_label=st.booleans(),
    ),
    other_way=st.booleans(),
    junk=st.booleans(),
)
@FEW
def test_agrees_with_the_host(
    kernels, layout, seed, dtype, classes, size, where, class_ids, selection, other_way, junk
):
    """Frame after frame in the same buffers, the second one with garbage in it or not."""
    random = np.random.default_rng(seed)
    spec = spec_of(layout, classes, *size)
    if other_way:
        spec = spec_of(layout, classes, *size, nms=not spec.nms)
    frames = [random_outputs(spec, random, dtype) for _ in range(2)]
    if junk:
        garbage(frames[1], random, 0.05)
    selection = Selection(
        selection.score_threshold, selection.iou_threshold, selection.max_detections,
        selection.multi_label, class_ids,
    )  # fmt: skip
    compare(Cpu(kernels, seed % 3), spec, frames, placements(spec)[where], selection)


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('dtype', ['float32', 'float16'])
@pytest.mark.parametrize('multi_label', [False, True])
def test_many_one_none(kernels, layout, dtype, multi_label):
    """Frame after frame: what one leaves behind would show in the next."""
    spec = spec_of(layout, 3)
    random = np.random.default_rng(1)
    many, one, none = (random_outputs(spec, random, dtype, busy=b) for b in (0.5, 0, 0))
    row = 17
    if layout == 'detr':
        one[0][0, row, 2] = 3
    elif layout == 'yolov8':
        one[0][0, 4 + 2, row] = 0.9
    else:
        one[0][0, row, 4:] = 0.9
    middle = [0.5, 0.5, 0.25, 0.25] if layout in QUERIES else [30, 30, 16, 16]
    middle = [0, 0, 0, 0] if layout == 'yolox_raw' else middle
    if layout == 'yolov8':
        one[0][0, :4, row] = middle
    else:
        one[-1][0, row, :4] = middle
    found = compare(
        Cpu(kernels), spec, [many, one, none, one, many], placements(spec)[0],
        Selection(multi_label=multi_label, iou_threshold=0.5),
    )  # fmt: skip
    counts = [len(f) for f in found]
    each = 1 if layout in ('yolov8', 'detr') or not multi_label else 3
    assert counts == [counts[0], each, 0, each, counts[0]]
    assert counts[0] > 5


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('multi_label', [False, True])
def test_equal_scores_keep_the_order_of_rows_and_classes(kernels, layout, multi_label):
    spec = spec_of(layout, 3)
    outputs = random_outputs(spec, np.random.default_rng(2), 'float32', busy=1)
    with_scores(outputs, layout, 0.5)
    selection = Selection(multi_label=multi_label, iou_threshold=0.9)
    for seed in range(3):
        for kind in (spec, without_suppression(spec)):
            found = compare(Cpu(kernels, seed), kind, [outputs], placements(kind)[0], selection)
            assert len(found[0]) > 20


@pytest.mark.parametrize('layout', ['yolov8', 'yolov5', 'detr'])
def test_every_order_of_threads_gives_the_same(kernels, layout):
    spec = spec_of(layout, 5)
    outputs = random_outputs(spec, np.random.default_rng(3), 'float32', busy=0.8)
    raw = []
    for seed in range(4):
        run = Kernels(Cpu(kernels, seed), spec, outputs, True)
        run(outputs, placements(spec)[1], Selection(0.1, multi_label=True))
        record = run.machine.download(run.result, RESULT)
        raw.append([record[name].tobytes() for name in RESULT.names if name != 'stamps'])
    assert raw[1:] == raw[:-1]


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('equal', [False, True])
def test_of_more_than_the_capacity_the_best_are_kept_and_the_others_counted(kernels, layout, equal):
    """The boxes lie alone, so that all that are sorted come out."""
    classes = {'yolov5': 40}.get(layout, 80)
    spec = without_suppression(spec_of(layout, classes))
    outputs = random_outputs(spec, np.random.default_rng(4), 'float32', busy=1)
    if equal:
        with_scores(outputs, layout, 0.5)
    selection = Selection(0.0, max_detections=10_000, multi_label=True)
    geometry = placements(spec)[0]
    found, dropped, _ = Kernels(Cpu(kernels, 1), spec, outputs, True)(outputs, geometry, selection)
    expected, _ = on_host(spec, outputs, geometry, selection)
    assert_same(layout, found, expected)
    if layout in QUERIES:  # the host, too, looks at as many as there are queries
        assert dropped == 0 and 0 < len(found) <= 60
    else:
        assert dropped > 0 and len(found) == CAPACITY


def test_suppression_of_a_full_house(kernels):
    """All tiles of the mask, and one chain of boxes that each overlap the next."""
    spec = spec_of('yolov8', 2, 640, 384)
    rows = 5040
    x = np.arange(rows) % 2500 * 0.25
    table = np.stack((x, x * 0 + 64, x * 0 + 1, x * 0 + 32, 1 - np.arange(rows) / 8192, x * 0))
    outputs = [table[None].astype(np.float32)]
    for iou in (0.0, 0.6, 0.7):
        selection = Selection(0.0, iou, 10_000)
        found = compare(Cpu(kernels), spec, [outputs], placements(spec)[0], selection)
        assert len(found[0]) > 400


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('multi_label', [False, True])
def test_infinite_scores_take_a_place_only_where_they_do_on_the_host(kernels, layout, multi_label):
    spec = spec_of(layout, 80)
    outputs = random_outputs(spec, np.random.default_rng(6), 'float32', busy=1)
    if layout == 'yolov8':
        outputs[0][0, 4 + 7, ::3] = np.inf
    else:
        outputs[0][0, ::3, -7] = np.inf
    selection = Selection(0.0, multi_label=multi_label)
    compare(Cpu(kernels), spec, [outputs], placements(spec)[0], selection)


def test_many_classes(kernels):
    for layout in ('yolov8', 'yolox', 'detr'):
        spec = spec_of(layout, 1203, 32, 32)
        outputs = random_outputs(spec, np.random.default_rng(5), 'float16')
        for multi_label in (False, True):
            selection = Selection(0.9, 0.6, 50, multi_label, frozenset(range(0, 1203, 3)))
            compare(Cpu(kernels), spec, [outputs], placements(spec)[0], selection)


@pytest.mark.parametrize(
    ('model', 'dtype'),
    [
        ('yolov8n_coco_640', 'float32'),
        ('yolov8n_coco_640', 'float16'),
        ('yolox_nano_416', 'float32'),
        ('deimv2_atto_coco_320_raw', 'float32'),
    ],
)
def test_real_networks(kernels, assets, model, dtype):
    path = assets / 'models' / f'{model}.onnx'
    spec = load_spec(path)
    engine, preprocess = OnnxRuntimeEngine(path, spec, 1), HostPreprocessor(spec)
    pictures = sorted((assets / 'data' / 'coco_ccby_bysa' / 'images').rglob('*.jpg'))[:2]
    machine, seen = Cpu(kernels), 0
    for selection in (Selection(), Selection(0.01, multi_label=True)):
        for picture in pictures:
            frame = Frame.from_array(cv2.imread(str(picture)), 'bgr8')
            tensor, geometry = preprocess(frame, selection.region)
            outputs = [o.astype(dtype) for o in engine.infer({spec.input_name: tensor})]
            seen += len(compare(machine, spec, [outputs], geometry, selection)[0])
    assert seen > 20


def test_which_layouts_the_kernels_decode():
    assert [layout for layout in decoders() if supported(layout)] == list(LAYOUTS)
    assert supported('yolov8', [Output((1, 84, 8400), 'float16')])
    for shape, dtype in (((1, 5000, 8400), 'float32'), ((1, 84, 8400), 'int8')):
        assert not supported('yolov8', [Output(shape, dtype)])
        with pytest.raises(EngineError, match='decode them on the host'):
            DecodePlan(spec_of('yolov8', 80), [Output(shape, dtype)], multi_label=False)
    with pytest.raises(EngineError, match='100 cells fit no pyramid of a 64x64 input'):
        DecodePlan(spec_of('yolox_raw', 80), [Output((1, 100, 85), 'float32')], multi_label=False)
    plan = DecodePlan(spec_of('yolov8', 80), [Output((1, 84, 84), 'float32')], multi_label=False)
    with pytest.raises(EngineError, match='no room for multi_label'):
        plan.launches(
            Selection(multi_label=True), placements(spec_of('yolov8', 80))[0],
            dict.fromkeys(plan.buffers, 0), [0], 0,
        )  # fmt: skip
