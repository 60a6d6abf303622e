# SPDX-License-Identifier: Apache-2.0
"""The float part in FP16: what becomes FP16, what must not, and that the results stay."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import LAYOUTS, constant_detector
from onnx import TensorProto, helper, numpy_helper
from quantized import DETECTORS, difference, feeds, model_path, quantize_naively, run, widened

from trt_perception.build.half import to_half
from trt_perception.build.half_scales import half_scale
from trt_perception.core import Frame, Selection
from trt_perception.core.nms import pairwise_iou
from trt_perception.runtime.pipeline import open_pipeline

_HALF = TensorProto.FLOAT16
RNG = np.random.default_rng(0)


def network(
    nodes: Sequence[onnx.NodeProto],
    weights: dict[str, np.ndarray],
    *,
    outputs: Sequence[tuple[str, int]] = (('y', TensorProto.FLOAT),),
    opset: int = 17,
    inputs: Sequence[tuple[str, int, Sequence[int]]] = (('x', TensorProto.FLOAT, (1, 3, 8, 8)),),
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        'test',
        [helper.make_tensor_value_info(*i) for i in inputs],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', opset)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)


def convert(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, str]]:
    """The converted network, sound and with the types it had outside; the type of each tensor."""
    half = to_half(model)
    onnx.checker.check_model(half, full_check=True)
    for before, after in zip(
        (*model.graph.input, *model.graph.output),
        (*half.graph.input, *half.graph.output),
        strict=True,
    ):
        assert before.name == after.name
        assert before.type.tensor_type.elem_type == after.type.tensor_type.elem_type
    graph = onnx.shape_inference.infer_shapes(half, check_type=True, strict_mode=True).graph
    values = [*graph.input, *graph.value_info, *graph.output]
    types = {v.name: v.type.tensor_type.elem_type for v in values}
    types |= {w.name: w.data_type for w in graph.initializer}
    return half, {name: TensorProto.DataType.Name(kind) for name, kind in types.items()}


def conv(x: str, y: str, weight: str = 'w', bias: str = '') -> onnx.NodeProto:
    given_ = [x, weight, bias] if bias else [x, weight]
    return helper.make_node('Conv', given_, [y], f'conv_{y}', pads=[1, 1, 1, 1])


WEIGHT = RNG.normal(0, 0.2, (3, 3, 3, 3)).astype(np.float32)
IMAGE = [{'x': RNG.random((1, 3, 8, 8), np.float32)}]


def same(model: onnx.ModelProto, feed: list[dict[str, np.ndarray]] = IMAGE) -> None:
    assert difference(run(model, feed), run(to_half(model), feed)) < 2e-3


def test_between_the_borders() -> None:
    nodes = [
        conv('x', 'a'),
        helper.make_node('Relu', ['a'], ['b']),
        conv('b', 'c'),
        helper.make_node('Sigmoid', ['c'], ['y']),
    ]
    model = network(nodes, {'w': WEIGHT})
    half, types = convert(model)
    assert (types['a'], types['b'], types['c']) == ('FLOAT16',) * 3
    # One weight, not one a layer; a cast in, and one to the pixels after the last convolution.
    assert [w.name for w in half.graph.initializer] == ['w_half']
    assert [n.op_type for n in half.graph.node].count('Cast') == 2
    same(model)


def test_the_input_is_left_alone() -> None:
    model = network([conv('x', 'y')], {'w': WEIGHT})
    before = model.SerializeToString()
    to_half(model)
    assert model.SerializeToString() == before


def test_an_output_that_others_read() -> None:
    nodes = [conv('x', 'a'), conv('a', 'y')]
    kinds = (('a', TensorProto.FLOAT), ('y', TensorProto.FLOAT))
    model = network(nodes, {'w': WEIGHT}, outputs=kinds)
    half, _ = convert(model)
    assert [n.op_type for n in half.graph.node] == ['Cast', 'Conv', 'Cast', 'Conv', 'Cast']
    same(model)


def test_pixels_stay_fine() -> None:
    """Half a pixel is all that FP16 knows beyond 512."""
    shift = np.array([1000.25], np.float32)
    nodes = [
        conv('x', 'a'),
        helper.make_node('Mul', ['a', 'zero'], ['b']),
        helper.make_node('Add', ['b', 'shift'], ['y']),
    ]
    model = network(nodes, {'w': WEIGHT, 'zero': np.zeros(1, np.float32), 'shift': shift})
    half, _ = convert(model)
    assert (run(half, IMAGE)[0][0] == 1000.25).all()


@pytest.mark.parametrize('value', [1e6, -7e4, 3e-7], ids=['large', 'negative', 'small'])
def test_constants_that_fp16_cannot_hold(value: float) -> None:
    constant = np.array([value], np.float32)
    nodes = [
        helper.make_node('Mul', ['x', 'k'], ['a']),
        helper.make_node('Div', ['a', 'k'], ['b']),
        conv('b', 'y'),
    ]
    model = network(nodes, {'w': WEIGHT, 'k': constant})
    _, types = convert(model)
    assert (types['a'], types['b'], types['y']) == ('FLOAT', 'FLOAT', 'FLOAT')
    assert types['w_half'] == 'FLOAT16'
    same(model)


def test_a_divisor_of_which_a_part_would_vanish() -> None:
    divisor = np.array([1, 1, 1e-6], np.float32).reshape(1, 3, 1, 1)
    nodes = [helper.make_node('Div', ['x', 'd'], ['a']), conv('a', 'y')]
    _, types = convert(network(nodes, {'w': WEIGHT, 'd': divisor}))
    assert types['a'] == 'FLOAT'


def test_a_bias_may_vanish() -> None:
    bias = np.full(3, 1e-9, np.float32)
    _, types = convert(
        network([conv('x', 'a', bias='b'), conv('a', 'y')], {'w': WEIGHT, 'b': bias})
    )
    assert (types['a'], types['b_half']) == ('FLOAT16', 'FLOAT16')


def test_results_that_leave_the_range() -> None:
    """The layer norm that exporters write: its squares pass 65504 from 256 on."""
    nodes = [
        helper.make_node('Mul', ['x', 'k'], ['a']),
        helper.make_node('Pow', ['a', 'two'], ['b']),
        helper.make_node('ReduceMean', ['b'], ['c'], axes=[1]),
        helper.make_node('Add', ['c', 'eps'], ['d']),
        helper.make_node('Sqrt', ['d'], ['e']),
        helper.make_node('Div', ['a', 'e'], ['f']),
        conv('f', 'y'),
    ]
    weights = {'w': WEIGHT, 'k': np.array(2000, np.float32), 'two': np.array(2, np.float32)}
    model = network(nodes, weights | {'eps': np.array(1e-5, np.float32)})
    _, types = convert(model)
    assert [types[n] for n in 'abcdef'] == ['FLOAT16', *['FLOAT'] * 4, 'FLOAT16']
    same(model)


def test_settings_stay() -> None:
    nodes = [
        conv('x', 'a'),
        helper.make_node('Resize', ['a', '', 'scales'], ['b'], mode='nearest'),
        conv('b', 'y'),
    ]
    scales = np.array([1, 1, 2, 2], np.float32)
    model = network(nodes, {'w': WEIGHT, 'scales': scales})
    _, types = convert(model)
    assert (types['b'], types['scales']) == ('FLOAT16', 'FLOAT')
    same(model)


def test_operators_without_fp16() -> None:
    """Range, and what is counted in integers: 2049 is not a number of FP16."""
    nodes = [
        helper.make_node('Range', ['start', 'end', 'step'], ['r']),
        helper.make_node('Cast', ['n'], ['i'], to=TensorProto.FLOAT),
        helper.make_node('Add', ['r', 'i'], ['s']),
        helper.make_node('Cast', ['s'], ['t'], to=TensorProto.INT64),
        helper.make_node('Gather', ['table', 't'], ['g']),
        helper.make_node('MatMul', ['x', 'g'], ['y']),
    ]
    weights = {
        'start': np.array(0, np.float32), 'end': np.array(8, np.float32),
        'step': np.array(1, np.float32), 'n': np.array(2049, np.int64),
        'table': RNG.random((2100, 4), np.float32),
    }  # fmt: skip
    model = network(nodes, weights)
    _, types = convert(model)
    assert [types[n] for n in 'ris'] == ['FLOAT'] * 3
    assert types['g'] == 'FLOAT16'
    same(model)


def test_nms() -> None:
    nodes = [
        helper.make_node('MatMul', ['x', 'w'], ['boxes']),
        helper.make_node('NonMaxSuppression', ['boxes', 'scores', 'most'], ['kept']),
    ]
    weights = {
        'w': np.eye(4, dtype=np.float32), 'scores': np.array([[[0.9, 0.8]]], np.float32),
        'most': np.array(5, np.int64),
    }  # fmt: skip
    inputs = [('x', TensorProto.FLOAT, (1, 2, 4))]
    model = network(nodes, weights, inputs=inputs, outputs=[('kept', TensorProto.INT64)])
    half, types = convert(model)
    assert (types['boxes'], types['scores']) == ('FLOAT16', 'FLOAT')
    boxes = np.array([[[0, 0, 9, 9], [20, 20, 30, 30]]], np.float32)
    assert run(half, [{'x': boxes}])[0][0].tolist() == [[0, 0, 0], [0, 0, 1]]


def test_casts_and_comparisons() -> None:
    nodes = [
        conv('x', 'a'),
        helper.make_node('Greater', ['a', 'k'], ['b']),
        helper.make_node('Cast', ['b'], ['c'], to=TensorProto.FLOAT),
        helper.make_node('Mul', ['a', 'c'], ['d']),
        helper.make_node('Shape', ['d'], ['s']),
        helper.make_node('Reshape', ['d', 's'], ['e']),
        conv('e', 'y'),
    ]
    model = network(nodes, {'w': WEIGHT, 'k': np.array(0.1, np.float32)})
    half, types = convert(model)
    assert [types[n] for n in 'acde'] == ['FLOAT16'] * 4
    assert [n.op_type for n in half.graph.node].count('Cast') == 3  # its own, and the borders
    same(model)


def test_constant_nodes() -> None:
    nodes = [
        helper.make_node('Constant', [], ['k'], value_float=0.5),
        helper.make_node('Constant', [], ['t'], value=numpy_helper.from_array(WEIGHT)),
        helper.make_node('Mul', ['x', 'k'], ['a']),
        conv('a', 'y', 't'),
    ]
    half, types = convert(network(nodes, {}))
    assert (types['k_half'], types['t_half'], types['a']) == ('FLOAT16',) * 3
    assert 'Constant' not in {n.op_type for n in half.graph.node}


@pytest.mark.parametrize('branch', [True, False])
def test_bodies_stay_as_they_are(branch: bool) -> None:
    """They read from around them what has become FP16."""

    def body(name: str, operator: str) -> onnx.GraphProto:
        inner = helper.make_node(operator, ['a'], [name])
        return helper.make_graph([inner], name, [], [_value(name, TensorProto.FLOAT)])

    nodes = [
        conv('x', 'a'),
        helper.make_node(
            'If', ['c'], ['b'], then_branch=body('p', 'Relu'), else_branch=body('q', 'Neg')
        ),
        conv('b', 'y'),
    ]
    model = network(nodes, {'w': WEIGHT, 'c': np.array(branch)})
    half, types = convert(model)
    assert (types['a'], types['b']) == ('FLOAT16', 'FLOAT')
    assert len({n.op_type for n in half.graph.node} & {'If'}) == 1
    same(model)


def _value(name: str, kind: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, None)


def test_operators_of_others() -> None:
    """What is unknown gets and gives what it did."""
    nodes = [
        conv('x', 'a'),
        helper.make_node('Secret', ['a'], ['b'], domain='somebody'),
        helper.make_node('Relu', ['b'], ['y']),
    ]
    graph = helper.make_graph(
        nodes, 'test', [helper.make_tensor_value_info('x', TensorProto.FLOAT, (1, 3, 8, 8))],
        [_value('y', TensorProto.FLOAT)], [numpy_helper.from_array(WEIGHT, 'w')],
    )  # fmt: skip
    opsets = [helper.make_opsetid('', 17), helper.make_opsetid('somebody', 1)]
    half = to_half(helper.make_model(graph, opset_imports=opsets, ir_version=8))
    secret = next(n for n in half.graph.node if n.op_type == 'Secret')
    maker = next(n for n in half.graph.node if secret.input[0] in n.output)
    assert (maker.op_type, maker.attribute[0].i) == ('Cast', TensorProto.FLOAT)


def test_fp16_models_stay() -> None:
    """Exported in FP16, its inputs and outputs are FP16 and nothing is to be done."""
    inputs = [('x', _HALF, (1, 3, 8, 8))]
    model = network(
        [conv('x', 'y')], {'w': WEIGHT.astype(np.float16)}, inputs=inputs, outputs=[('y', _HALF)]
    )
    half, _ = convert(model)
    assert [n.op_type for n in half.graph.node] == ['Conv']


@pytest.mark.parametrize('dtype', ['float32', 'float16'])
@pytest.mark.parametrize('layout', LAYOUTS)
def test_what_makes_boxes_stays(layout: str, dtype: str, tmp_path: Path) -> None:
    """Networks without a convolution, one with a loop around its matrix products."""
    path = constant_detector(tmp_path / 'm.onnx', layout=layout, dtype=dtype, work=2)
    model = onnx.load(str(path))
    half, _ = convert(model)
    feed = {'images': np.zeros((1, 3, 64, 64), dtype)}
    if layout == 'detr_end_to_end':
        feed['orig_target_sizes'] = np.array([[64, 64]])
    for before, after in zip(run(model, [feed])[0], run(half, [feed])[0], strict=True):
        assert before.dtype == after.dtype
        assert (before == after).all()


SCALE = np.array([0.02, 3e-6, 1e-9], np.float32)


def quantized() -> onnx.ModelProto:
    nodes = [
        helper.make_node('QuantizeLinear', ['x', 'sx', 'zero'], ['q']),
        helper.make_node('DequantizeLinear', ['q', 'sx', 'zero'], ['a']),
        helper.make_node('DequantizeLinear', ['w', 'sw'], ['b'], axis=0),
        conv('a', 'c', 'b', 'bias'),
        helper.make_node('Relu', ['c'], ['d']),
        helper.make_node('QuantizeLinear', ['d', 'sd', 'zero'], ['r']),
        helper.make_node('DequantizeLinear', ['r', 'sd', 'zero'], ['y']),
    ]
    weights = {
        'sx': np.array(0.0078741, np.float32), 'sd': np.array(0.03, np.float32),
        'zero': np.array(0, np.int8), 'sw': SCALE,
        'w': RNG.integers(-127, 128, (3, 3, 3, 3)).astype(np.int8),
        'bias': np.array([0.1, 0, 1], np.float32),
    }  # fmt: skip
    return network(nodes, weights)


def test_quantized_networks() -> None:
    model = quantized()
    half, types = convert(model)
    assert [types[n] for n in 'abcd'] == ['FLOAT16'] * 4
    # The image is quantized as it comes, the result dequantized as it goes: no casts at all.
    assert 'Cast' not in {n.op_type for n in half.graph.node}
    weights = {w.name: numpy_helper.to_array(w) for w in half.graph.initializer}
    # Both sides of a pair scale alike, though one is FP32 and one FP16.
    assert weights['sx'] == weights['sx_half'] and weights['sx'].dtype == np.float32
    # Weights keep their values as closely as the rounded scales allow.
    before = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
    axes = (3, 1, 1, 1)
    old = before['w'] * before['sw'].reshape(axes).astype(np.float64)
    new = weights['w'] * weights['sw_half'].reshape(axes).astype(np.float64)
    assert np.abs(old - new)[0].max() <= 127 * 0.02 * 2.0**-11
    for channel in (1, 2):
        assert np.abs(old - new)[channel].max() <= float(weights['sw_half'][channel]) / 2
    assert (weights['w'][0] == before['w'][0]).all()
    assert difference(run(model, IMAGE), run(widened(half), IMAGE)) < 0.01


@pytest.mark.parametrize('domain', ['', 'TRT'])
def test_quantized_networks_with_a_plugin(domain: str) -> None:
    """TensorRT's plugins are no operators of ONNX, and may yet go by its domain."""
    model = quantized()
    model.graph.node.append(helper.make_node('EfficientNMS_TRT', ['y'], ['n'], domain=domain))
    model.graph.output.append(helper.make_tensor_value_info('n', TensorProto.INT32, (1, 1)))
    if domain:
        model.opset_import.append(helper.make_opsetid(domain, 1))
    half = to_half(model)
    assert {o.domain for o in half.opset_import} == {'', domain}
    (plugin,) = [n for n in half.graph.node if n.op_type == 'EfficientNMS_TRT']
    assert (plugin.domain, list(plugin.input), list(plugin.output)) == (domain, ['y'], ['n'])
    assert any(n.op_type == 'Conv' and n.input[0] == 'a' for n in half.graph.node)


@given(st.floats(min_value=2.0**-40, max_value=60000, width=32))
def test_scales(scale: float) -> None:
    (rounded,) = half_scale(np.array([scale], np.float32))
    assert rounded == np.float16(rounded) > 0
    assert rounded >= scale * (1 - 1 / 512)
    assert rounded <= max(scale * (1 + 1 / 512), scale + 2.0**-24)


def test_scales_beyond() -> None:
    large = np.array([1e6, 0], np.float32)
    assert half_scale(large).tolist() == [1e6, 0]


@pytest.mark.parametrize('name', DETECTORS)
def test_detectors(name: str, assets: Path, tmp_path: Path) -> None:
    model = onnx.load(str(model_path(assets, name)))
    half, types = convert(model)
    convolutions = [n for n in half.graph.node if n.op_type == 'Conv']
    assert convolutions
    assert all(types[n.output[0]] == 'FLOAT16' for n in convolutions)
    assert half.ByteSize() < 0.56 * model.ByteSize()
    # DETR-like networks list their queries by scores that all but tie: compare what they mean.
    if not name.startswith('deimv2'):
        pictures = feeds(assets, name, 2)
        assert difference(run(model, pictures), run(half, pictures)) < 0.02
    if name != 'fastestdet':  # which takes a decoder of the user's own
        onnx.save(half, str(tmp_path / 'half.onnx'))
        names = '' if name == 'warehouse' else 'coco'
        check_detections(model_path(assets, name), tmp_path / 'half.onnx', assets, names)


def check_detections(float_: Path, half: Path, assets: Path, names: str) -> None:
    """What one of them is sure of the other one sees too, at the same place."""
    pipelines = [open_pipeline(path, labels=names) for path in (float_, half)]
    seen = 0
    for path in sorted((assets / 'data' / 'carnd_images').glob('*.jpg'))[:6]:
        frame = Frame.from_array(cv2.imread(str(path)))
        for one, other in (pipelines, reversed(pipelines)):
            sure = one(frame, Selection(score_threshold=0.5)).detections
            found = other(frame, Selection(score_threshold=0.4)).detections
            for box, class_id in zip(sure.boxes, sure.class_ids, strict=True):
                alike = found.boxes[found.class_ids == class_id]
                assert pairwise_iou(box[None], alike).max(initial=0) > 0.9
                seen += 1
    assert seen or 'warehouse' in float_.name  # which knows no cars


@pytest.mark.parametrize('name', ['fastestdet', 'warehouse'])
def test_quantized_detectors(name: str, assets: Path, tmp_path: Path) -> None:
    """Scales that FP16 can hold add next to nothing to what INT8 costs."""
    path = model_path(assets, name)
    pictures = feeds(assets, name, 2)
    model = onnx.load(str(quantize_naively(path, pictures, tmp_path / 'int8.onnx')))
    half, types = convert(model)
    assert all(types[n.output[0]] == 'FLOAT16' for n in half.graph.node if n.op_type == 'Conv')
    true = run(onnx.load(str(path)), pictures)
    int8 = difference(true, run(model, pictures))
    assert difference(true, run(widened(half), pictures)) < 1.25 * int8
