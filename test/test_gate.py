# SPDX-License-Identifier: Apache-2.0
"""The gate: what is measured of a model in INT8, how it is noted, and who is refused for it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from models import constant_detector
from onnx import TensorProto, helper, numpy_helper

from trt_perception.build.gate import AccuracyGate, AgreementGate, Claim, Comparison
from trt_perception.core import Frame, Selection
from trt_perception.replay.coco import CocoDataset
from trt_perception.replay.evaluation import evaluate
from trt_perception.runtime.gate_result import (
    METADATA_KEY,
    GateError,
    GateResult,
    check_gate,
    read_gate,
    rounded_down,
)
from trt_perception.runtime.pipeline import Pipeline, open_pipeline
from trt_perception.runtime.precision import graph_precision, read_precision

CLAIM = Claim(0.98, 'frames of a test', 'f' * 64)
BOX, FAR = (8, 8, 40, 24), (44, 40, 60, 60)
#: What `Selection` keeps of the box above when it is a quarter of itself wide of the mark: IoU 0.6.
OFF = (16, 8, 48, 24)


@pytest.fixture
def frames() -> list[Frame]:
    return [Frame.from_array(np.full((64, 64, 3), n, np.uint8)) for n in range(10)]


@contextlib.contextmanager
def detector(
    folder: Path, boxes: Sequence[Sequence[float]], scores: Sequence[float], ids: Sequence[int] = ()
) -> Iterator[Pipeline]:
    path = folder / f'{len(list(folder.iterdir()))}.onnx'
    constant_detector(path, boxes, scores, ids or [0] * len(boxes))
    with contextlib.closing(open_pipeline(path)) as pipeline:
        yield pipeline


def compared(tmp_path: Path, frames: list[Frame], floats: tuple, int8: tuple) -> Comparison:
    with detector(tmp_path, *floats) as a, detector(tmp_path, *int8) as b:
        return AgreementGate(a, frames).judge(b, CLAIM)


# By agreement


@pytest.mark.parametrize(
    ('floats', 'int8', 'figure'),
    [
        (([BOX], [0.9]), ([BOX], [0.9]), 1),
        # Lost: 0.8 of all scores, which are 0.8 + 0.4 and 0.4.
        (([BOX, FAR], [0.8, 0.4]), ([FAR], [0.4]), 1 - 0.8 / 1.6),
        # Made up: as bad.
        (([FAR], [0.4]), ([BOX, FAR], [0.8, 0.4]), 1 - 0.8 / 1.6),
        # Another class, or somewhere else: lost and made up.
        (([BOX], [0.8]), ([BOX], [0.8], [1]), 0),
        (([BOX], [0.8]), ([FAR], [0.8]), 0),
        (([BOX], [0.8]), ([OFF], [0.8]), 1),
        # Half the score is still the same detection, less is not; what is left is confirmed.
        (([BOX], [0.8]), ([BOX], [0.41]), 1),
        (([BOX], [0.8]), ([BOX], [0.39]), 0.39 / (0.8 + 0.39)),
        # What falls below the threshold by a hair is not lost.
        (([BOX, FAR], [0.8, 0.26]), ([BOX, FAR], [0.8, 0.24]), 1),
        # Nor does anybody ask about what both models doubt.
        (([BOX, FAR], [0.8, 0.2]), ([BOX], [0.8]), 1),
        (([BOX], [0.8]), ([], []), 0),
    ],
)
def test_detections_in_common(tmp_path, frames, floats, int8, figure):
    gate = compared(tmp_path, frames, floats, int8).result
    assert gate.figure == pytest.approx(figure, abs=1e-6)
    assert gate.passed == (figure >= 0.98)
    assert gate.frames == 10
    assert gate.objects == 10 * sum(s >= 0.25 for s in floats[1])


def test_scores_that_moved_are_told(tmp_path, frames):
    gate = compared(tmp_path, frames, ([BOX, FAR], [0.8, 0.5]), ([BOX, FAR], [0.7, 0.5])).result
    assert gate.figures == pytest.approx(
        {
            'float_found_by_int8': 1,
            'int8_found_by_float': 1,
            'mean_score_shift': 0.05,
            'p95_score_shift': 0.1,
        }
    )


def test_one_detection_is_the_partner_of_one(tmp_path, frames):
    with detector(tmp_path, [BOX, (9, 8, 41, 24)], [0.8, 0.7]) as floats:
        # Two of one object: the network's suppression must not be what tells them apart.
        found = floats(frames[0], Selection(iou_threshold=1.0)).detections
    assert len(found) == 2
    from trt_perception.build.gate import _Match

    match = _Match.of(found, dataclasses.replace(
        found, boxes=found.boxes[:1], scores=found.scores[:1], class_ids=found.class_ids[:1]
    ))  # fmt: skip
    assert (match.floats, match.kept, match.int8, match.confirmed) == (2, 1, 1, 1)


def test_how_sure_the_figure_is(tmp_path, frames):
    """All frames alike leave no doubt; a few tell nothing; what varies has an interval."""
    gate = compared(tmp_path, frames, ([BOX, FAR], [0.8, 0.4]), ([FAR], [0.4])).result
    assert gate.interval == pytest.approx((0.5, 0.5))
    few = compared(tmp_path, frames[:3], ([BOX], [0.8]), ([BOX], [0.8])).result
    assert few.interval is None
    assert few.warnings == ('3 frames with 3 objects are too few to say how sure the figure is',)


def test_the_floats_must_see_something(tmp_path, frames):
    with (
        detector(tmp_path, [BOX], [0.2]) as floats,
        pytest.raises(GateError, match='sees nothing in the 10 frames'),
    ):
        AgreementGate(floats, frames)


def test_the_worst_frames_come_first(tmp_path, frames):
    comparison = compared(tmp_path, frames, ([BOX], [0.8]), ([BOX], [0.8]))
    assert comparison.worst(5) == []
    lost = list(comparison.int8)
    lost[3] = dataclasses.replace(lost[3], scores=lost[3].scores * 0.9)
    lost[7] = dataclasses.replace(lost[7], scores=lost[7].scores * 0.1)
    comparison = dataclasses.replace(comparison, int8=lost)
    assert comparison.worst(5) == [7, 3]
    assert comparison.worst(1) == [7]


# By labels


@pytest.fixture
def dataset(tmp_path: Path) -> CocoDataset:
    """Ten pictures of a car, which the detectors of these tests find or not."""
    pytest.importorskip('pycocotools')
    folder = tmp_path / 'pictures'
    folder.mkdir()
    x1, y1, x2, y2 = BOX
    for n in range(10):
        cv2.imwrite(str(folder / f'{n}.png'), np.zeros((64, 64, 3), np.uint8))
    data = {
        'images': [{'id': n, 'file_name': f'{n}.png'} for n in range(10)],
        'categories': [{'id': 1, 'name': 'car'}],
        'annotations': [
            {'image_id': n, 'category_id': 1, 'bbox': [x1, y1, x2 - x1, y2 - y1]} for n in range(10)
        ],
    }
    (tmp_path / 'instances.json').write_text(json.dumps(data))
    return CocoDataset(tmp_path / 'instances.json', folder)


def test_accuracy_decides_by_map(tmp_path, dataset):
    told: list[float] = []
    with detector(tmp_path, [BOX], [0.9]) as a, detector(tmp_path, [OFF], [0.9]) as b:
        comparison = AccuracyGate(a, dataset, told.append).judge(b, CLAIM, told.append)
    gate = comparison.result
    # IoU 0.6 counts at 0.50, 0.55 and 0.60.
    assert gate.figures == pytest.approx(
        {'map_float': 1, 'map_int8': 0.3, 'map50_float': 1, 'map50_int8': 1, 'map50_share': 1}
    )
    assert gate.figure == pytest.approx(0.3) and not gate.passed
    assert (gate.measure, gate.frames, gate.objects) == ('map', 10, 10)
    assert gate.interval == pytest.approx((0.3, 0.3))
    assert told == [n / 10 for n in range(1, 11)] * 2
    assert len(comparison.frames) == len(comparison.floats) == len(comparison.int8) == 10


def test_a_sample_is_spread_over_the_pictures(tmp_path, dataset):
    few = dataset.sample(4)
    assert [p.id for p in few.pictures] == [1, 3, 6, 8]
    assert dataset.sample(10).pictures == dataset.pictures
    with detector(tmp_path, [BOX], [0.9]) as a, detector(tmp_path, [OFF], [0.9]) as b:
        gate = AccuracyGate(a, dataset)
        assert gate.sampled == pytest.approx(1)
        assert gate.sample(b) == pytest.approx(0.3)
        # Its objects are those of its pictures, and no other is missed.
        assert evaluate(a, few).accuracy.map == pytest.approx(1)


def test_the_interval_is_as_wide_as_the_pictures_differ(tmp_path, dataset):
    """Half of the objects lost: the share of them among ten drawn pictures is binomial."""
    with detector(tmp_path, [BOX], [0.9]) as a:
        found = {p.id: a(Frame.from_array(np.zeros((64, 64, 3), np.uint8)), Selection()).detections
                 for p in dataset.pictures}  # fmt: skip
        classes = dataset.match(a.spec)
    half = {
        i: d if i % 2 else dataclasses.replace(
            d, boxes=d.boxes[:0], scores=d.scores[:0], class_ids=d.class_ids[:0]
        )
        for i, d in found.items()
    }  # fmt: skip
    drawn = dataset.resampled([found, half], classes, 200)
    assert drawn.shape == (200, 2)
    assert drawn[:, 0] == pytest.approx(1)
    assert drawn[:, 1].mean() == pytest.approx(0.5, abs=0.05)
    assert drawn[:, 1].std() == pytest.approx(np.sqrt(0.25 / 10), abs=0.03)


def test_floats_that_find_nothing_are_a_mistake(tmp_path, dataset):
    with (
        detector(tmp_path, [FAR], [0.9]) as a,
        pytest.raises(GateError, match='finds nothing of what is annotated in the 10 pictures'),
    ):
        AccuracyGate(a, dataset)


# The note


GATE = GateResult(
    'map', 0.93, 0.98, (0.9, 0.96), 27, 173, {'map_float': 0.4}, 'val.json', 'ONNX Runtime', 'ab',
    True, ('few',),
)  # fmt: skip


def note(path: Path, text: str) -> Path:
    model = onnx.load(str(path))
    prop = model.metadata_props.add()
    prop.key, prop.value = METADATA_KEY, text
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize('gate', [GATE, dataclasses.replace(GATE, interval=None, figure=1.01)])
def test_a_result_survives_json(gate):
    fields = json.loads(json.dumps(gate.to_dict()))
    assert GateResult.from_dict(fields) == gate
    assert fields['passed'] == gate.passed == (gate.figure > 0.98)


def test_a_miss_never_looks_like_a_hit():
    assert rounded_down(0.97996) == '0.979'
    assert rounded_down(0.98) == '0.980'
    assert 'keeps 0.979 of' in str(dataclasses.replace(GATE, figure=0.97996))


def test_a_model_that_failed_is_refused(tmp_path):
    path = constant_detector(tmp_path / 'm.onnx')
    assert read_gate(path) is None
    check_gate(path)
    note(path, json.dumps(GATE.to_dict()))
    assert read_gate(path) == GATE
    with pytest.raises(GateError, match=r'keeps 0\.930 of FP32.*set accept_failed_gate') as caught:
        open_pipeline(path)
    assert str(path) in str(caught.value) and '\n' not in str(caught.value)
    open_pipeline(path, accept_failed_gate=True).close()


def test_a_model_that_passed_is_not(tmp_path):
    path = constant_detector(tmp_path / 'm.onnx')
    note(path, json.dumps(dataclasses.replace(GATE, figure=0.98).to_dict()))
    open_pipeline(path).close()


@pytest.mark.parametrize(
    'text',
    ['', 'yes', '[]', '{}', '{"figure": 1}', json.dumps({**GATE.to_dict(), 'interval': [1]}),
     json.dumps({**GATE.to_dict(), 'measure': 'luck'}), '[' * 100000],
)  # fmt: skip
def test_a_note_that_cannot_be_read_is_not_passed_over(tmp_path, text):
    path = note(constant_detector(tmp_path / 'm.onnx'), text)
    with pytest.raises(GateError, match=r'cannot be read .*quantize it anew'):
        open_pipeline(path)


# What precision it is


def multiplying(*kinds: str) -> onnx.GraphProto:
    """A graph of a layer for each of ``float32``, ``float16``, ``int8``, ``half int8``."""
    nodes, weights = [], []
    for k, kind in enumerate(kinds):
        dtype = np.float16 if kind == 'float16' else np.float32
        weights.append(numpy_helper.from_array(np.ones((4, 4), dtype), f'w{k}'))
        factors = [f'x{k}', f'w{k}']
        if 'int8' in kind:
            for name in factors if kind == 'int8' else factors[1:]:
                nodes.append(helper.make_node('DequantizeLinear', [name, 's'], [f'{name}_d']))
            factors = [f'x{k}_d' if kind == 'int8' else f'x{k}', f'w{k}_d']
        nodes.append(helper.make_node('MatMul' if k % 2 else 'Gemm', factors, [f'y{k}']))
    nodes.append(helper.make_node('Relu', ['y0'], ['y']))
    value = helper.make_tensor_value_info('y', TensorProto.FLOAT, [4, 4])
    return helper.make_graph(nodes, 'g', [], [value], weights)


@pytest.mark.parametrize(
    ('kinds', 'told'),
    [
        ((), 'float32'),
        (('float32', 'float32'), 'float32'),
        (('float16', 'float16', 'float32'), 'float16'),
        (('int8', 'int8'), 'int8'),
        (('int8', 'float32', 'int8'), 'int8 (2 of 3 layers, else float32)'),
        (('int8', 'float16'), 'int8 (1 of 2 layers, else float16)'),
        # Weights alone in INT8 are unpacked, and multiplied as floats.
        (('half int8', 'float32'), 'float32'),
    ],
)
def test_precision_is_that_of_the_layers(kinds, told):
    assert graph_precision(multiplying(*kinds)) == told


def test_precision_without_layers_is_that_of_the_input(tmp_path):
    for dtype in ('float32', 'float16'):
        path = constant_detector(tmp_path / 'm.onnx', dtype=dtype)
        assert read_precision(path, dtype) == dtype
        with contextlib.closing(open_pipeline(path)) as pipeline:
            assert pipeline.info.precision == dtype
