# SPDX-License-Identifier: Apache-2.0
"""INT8: what each step is there for, on small real networks, and all together on real ones."""

from __future__ import annotations

import resource
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from trt_perception.build.agreement import agreement
from trt_perception.build.quantization.bench import Bench, open_model
from trt_perception.build.quantization.graph import Graph, QuantizationError, prepare
from trt_perception.build.quantization.insertion import Plan
from trt_perception.build.quantization.integers import in_integers
from trt_perception.build.quantization.layers import spread
from trt_perception.build.quantization.local import correct_biases, local_errors
from trt_perception.build.quantization.measurements import Measurements
from trt_perception.build.quantization.network import Network
from trt_perception.build.quantization.planning import make_plan, round_weights
from trt_perception.build.quantization.quantize import quantize
from trt_perception.build.quantization.ranges import METHODS
from trt_perception.build.quantization.rounding import observe_moments, rounded
from trt_perception.build.quantization.scaling import choose
from trt_perception.build.quantization.weights import quantized, scales
from trt_perception.core import Detections, Frame, ModelSpec
from trt_perception.runtime.host.onnx_runtime import open_session
from trt_perception.runtime.model_file import load_spec
from trt_perception.runtime.precision import has_integer_kernels

SIZE = 16
SPEC = ModelSpec('yolov8', 'x', SIZE, SIZE, 'float32', ('y',), 2)


def network(
    nodes: Sequence[onnx.NodeProto], *, opset: int = 17, **weights: NDArray[np.float32]
) -> onnx.ModelProto:
    """A network from ``x`` (1, 3, 16, 16) to ``y``."""
    graph = helper.make_graph(
        list(nodes),
        'test',
        [helper.make_tensor_value_info('x', TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info('y', TensorProto.FLOAT, None)],
        [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()],
    )
    opsets = [helper.make_opsetid('', opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def frames(count: int = 6) -> list[Frame]:
    """Noise with structure: neighbours are alike, as in a picture."""
    generator = np.random.default_rng(3)
    pictures = []
    for _ in range(count):
        coarse = generator.integers(0, 256, (4, 4, 3))
        picture = np.kron(coarse, np.ones((4, 4, 1))) + generator.normal(0, 8, (SIZE, SIZE, 3))
        pictures.append(Frame.from_array(np.clip(picture, 0, 255).astype(np.uint8)))
    return pictures


def conv(name: str, source: str, weight: str, *rest: str, out: str = '', **kw: object) -> object:
    return helper.make_node('Conv', [source, weight, *rest], [out or f'{name}_out'], name, **kw)


def depthwise_network(generator: np.random.Generator) -> onnx.ModelProto:
    """Pointwise, SiLU, depthwise, pointwise: channels whose ranges differ a thousandfold."""
    spans = np.geomspace(0.01, 10, 8)
    return network(
        [
            conv('expand', 'x', 'w0', 'b0'),
            helper.make_node('Sigmoid', ['expand_out'], ['s'], 'sigmoid'),
            helper.make_node('Mul', ['expand_out', 's'], ['silu'], 'silu'),
            conv('depthwise', 'silu', 'w1', group=8, pads=[1, 1, 1, 1]),
            conv('project', 'depthwise_out', 'w2', out='y'),
        ],
        w0=generator.normal(size=(8, 3, 1, 1)) * spans[:, None, None, None],
        b0=generator.normal(size=8) * spans,
        w1=generator.normal(size=(8, 1, 3, 3)) / spans[:, None, None, None],
        w2=generator.normal(size=(4, 8, 1, 1)),
    )


def run(model: onnx.ModelProto) -> NDArray[np.float32]:
    session = open_model(model)
    return np.concatenate([session.run(['y'], f)[0] for f in Bench(SPEC, frames()).inputs()])


def signal_to_noise(model: onnx.ModelProto, other: onnx.ModelProto) -> float:
    a, b = run(model), run(other)
    return float(a.var() / ((a - b) ** 2).mean())


class Seen(Network):
    """A small network whose output is no detector's."""

    def __init__(self, model: onnx.ModelProto) -> None:
        bench = Bench(SPEC, frames())
        bench.detect = lambda *_: []  # type: ignore[method-assign]
        super().__init__(prepare(model), bench, lambda: None)


def all_int8(seen: Seen, plan: Plan) -> onnx.ModelProto:
    return seen.with_int8(plan, set(seen.layers))


# What comes in


def test_older_opsets_are_converted_up_and_batch_normalisation_is_merged() -> None:
    ones = np.ones(4)
    nodes = [
        conv('first', 'x', 'w', out='c'),
        helper.make_node('BatchNormalization', ['c', 'g', 'b', 'm', 'v'], ['y'], 'norm'),
    ]
    weight = np.random.default_rng(0).normal(size=(4, 3, 1, 1))
    model = network(nodes, opset=11, w=weight, g=2 * ones, b=ones, m=0 * ones, v=ones)
    model.metadata_props.add(key='names', value="{0: 'a'}")
    ready = prepare(model)
    assert ready.opset_import[0].version >= 17
    assert [n.op_type for n in ready.graph.node] == ['Conv']
    assert ready.metadata_props[0].value == "{0: 'a'}"
    np.testing.assert_allclose(run(model), run(ready), atol=1e-5)


def test_a_quantized_model_is_refused() -> None:
    seen = Seen(depthwise_network(np.random.default_rng(0)))
    model = all_int8(seen, make_plan(seen, 'minmax')[0])
    with pytest.raises(QuantizationError, match=r'quantized already .*; give the float model'):
        prepare(model)


def test_weights_that_are_no_floats_of_32_bits_are_refused() -> None:
    weight = np.ones((4, 3, 1, 1))
    half = network([conv('a', 'x', 'w', out='y')], w=weight)
    half.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight.astype(np.float16), 'w'))
    with pytest.raises(QuantizationError, match='weights in 16 bits; give it in FP32'):
        prepare(half)
    nodes = [
        helper.make_node('DequantizeLinear', ['w8', 'scale'], ['w'], 'weights'),
        conv('a', 'x', 'w', out='y'),
    ]
    stored = network(nodes, scale=np.array(0.1))
    stored.graph.initializer.append(numpy_helper.from_array(weight.astype(np.int8), 'w8'))
    with pytest.raises(QuantizationError, match=r'quantized already \(DequantizeLinear\)'):
        prepare(stored)


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit on the size of files stands in for the disk."""
    model = depthwise_network(np.random.default_rng(0))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, hard))
    try:
        with pytest.raises(QuantizationError, match='TMPDIR names, cannot be written to; it may'):
            prepare(model)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    monkeypatch.setattr(tempfile, 'tempdir', '/absent')
    with pytest.raises(QuantizationError, match=r'TMPDIR names, cannot be written to: .*absent'):
        prepare(model)


def test_a_model_that_is_none_is_refused() -> None:
    model = network([helper.make_node('NoSuchThing', ['x'], ['y'], 'n')])
    with pytest.raises(QuantizationError, match='ONNX Runtime refuses the model'):
        prepare(model)


def test_nothing_to_quantize() -> None:
    with pytest.raises(QuantizationError, match='no convolution or matrix product'):
        Seen(network([helper.make_node('Relu', ['x'], ['y'], 'relu')]))


def test_layers_and_what_they_cost() -> None:
    generator = np.random.default_rng(0)
    nodes = [
        conv('conv', 'x', 'w0', strides=[2, 2], pads=[1, 1, 1, 1]),
        conv('grouped', 'conv_out', 'w1', group=2),
        helper.make_node('ConvTranspose', ['grouped_out', 'w2'], ['t'], 'up', strides=[2, 2]),
        helper.make_node('Flatten', ['t'], ['flat'], 'flatten'),
        helper.make_node('Gemm', ['flat', 'w3'], ['g'], 'gemm', transB=1),
        helper.make_node('MatMul', ['g', 'w4'], ['m'], 'matmul'),
        helper.make_node('Transpose', ['m'], ['mt'], 'transpose', perm=[1, 0]),
        helper.make_node('MatMul', ['mt', 'm'], ['y'], 'both'),
    ]
    model = network(
        nodes,
        w0=generator.normal(size=(4, 3, 3, 3)),
        w1=generator.normal(size=(6, 2, 1, 1)),
        w2=generator.normal(size=(6, 2, 2, 2)),
        w3=generator.normal(size=(5, 2 * 16 * 16)),
        w4=generator.normal(size=(5, 7)),
    )
    seen = Seen(model)
    assert {name: seen.macs[name] for name in seen.layers} == {
        'conv': 8 * 8 * 4 * 3 * 9,
        'grouped': 8 * 8 * 6 * 2,
        'up': 8 * 8 * 6 * 2 * 4,
        'gemm': 5 * 512,
        'matmul': 5 * 7,
        'both': 7 * 7,
    }
    # All of them together are still the same network.
    assert signal_to_noise(seen.model, all_int8(seen, make_plan(seen, 'mse')[0])) > 300


def rest(seen: Seen) -> onnx.ModelProto:
    """All that `quantize` does to a network, with every layer in INT8."""
    plan, _ = make_plan(seen, 'mse')
    round_weights(seen, plan, lambda phase, share: None)
    errors = local_errors(seen.bench, seen.model, seen.layers, plan, seen.shapes)
    correct_biases(seen.model, errors, plan)
    return all_int8(seen, plan)


def branches(generator: np.random.Generator) -> onnx.ModelProto:
    """Weights that the body of an If takes, once for itself and once with a layer outside."""
    shape = helper.make_tensor_value_info
    there = helper.make_graph(
        [conv('inside', 'c', 'w1', out='o1')], 'there', [], [shape('o1', TensorProto.FLOAT, None)]
    )
    other = helper.make_graph(
        [helper.make_node('Mul', ['c', 'w3'], ['o2'], 'mul')],
        'other', [], [shape('o2', TensorProto.FLOAT, None)],
    )  # fmt: skip
    nodes = [
        conv('first', 'x', 'w0', out='c'),
        helper.make_node('ReduceMean', ['x'], ['mean'], 'mean', keepdims=0),
        helper.make_node('Greater', ['mean', 'half'], ['light'], 'light'),
        helper.make_node('If', ['light'], ['z'], 'if', then_branch=there, else_branch=other),
        conv('last', 'z', 'w1', out='y'),
    ]
    return network(
        nodes,
        w0=generator.normal(size=(4, 3, 1, 1)),
        w1=generator.normal(size=(4, 4, 1, 1)),
        w3=generator.normal(size=1),
        half=np.array(0.5),
    )


def weights_among_the_inputs(generator: np.random.Generator) -> onnx.ModelProto:
    model = depthwise_network(generator)
    for w in model.graph.initializer:
        value = helper.make_tensor_value_info(w.name, w.data_type, list(w.dims))
        model.graph.input.append(value)
    return model


def names_of_ours(generator: np.random.Generator) -> onnx.ModelProto:
    """Tensors and nodes are called what we would call ours, and one node nothing."""
    nodes = [
        conv('Conv_1', 'x', 'w0', 'b/bias', out='a'),
        conv('', 'a', 'w1', 'a/scale', out='a/quantized'),
        helper.make_node('Mul', ['a/quantized', 'int8_zero'], ['a/int8'], 'a/QuantizeLinear'),
        helper.make_node('Add', ['a', 'a/int8'], ['a/dequantized'], 'a/weight_DequantizeLinear'),
        conv('a', 'a/dequantized', 'w1', 'b/bias', out='b/weight'),
        conv('b', 'b/weight', 'w1', out='b'),
        helper.make_node('Add', ['b', 'b/more'], ['y'], 'b/more'),
    ]
    return network(
        nodes,
        w0=generator.normal(size=(4, 3, 1, 1)),
        w1=generator.normal(size=(4, 4, 1, 1)),
        int8_zero=np.array(1.5),
        **{
            'b/bias': generator.normal(size=4),
            'a/scale': generator.normal(size=4),
            'b/more': generator.normal(size=(4, 1, 1)),
        },
    )


def channels_along_two_axes(generator: np.random.Generator) -> onnx.ModelProto:
    nodes = [
        conv('conv', 'x', 'w0', out='c'),
        conv('down', 'c', 'w1', out='d'),
        helper.make_node('MatMul', ['c', 'w2'], ['m'], 'across'),
        helper.make_node('Concat', ['d', 'm'], ['y'], 'concat', axis=1),
    ]
    return network(
        nodes,
        w0=generator.normal(size=(4, 3, 1, 1)),
        w1=generator.normal(size=(4, 4, 1, 1)),
        w2=generator.normal(size=(SIZE, SIZE)),
    )


def convolutions_of_other_ranks(generator: np.random.Generator) -> onnx.ModelProto:
    nodes = [
        helper.make_node('Reshape', ['x', 'line'], ['flat'], 'flat'),
        conv('one', 'flat', 'w0', 'b0', pads=[2, 1], strides=[2], dilations=[2], out='a'),
        helper.make_node('Reshape', ['a', 'space'], ['deep'], 'deep'),
        conv('three', 'deep', 'w1', pads=[1] * 6, out='y'),
    ]
    model = network(
        nodes,
        w0=generator.normal(size=(4, 3, 3)),
        b0=generator.normal(size=4),
        w1=generator.normal(size=(2, 4, 3, 3, 3)),
    )
    for name, shape in (('line', [1, 3, 256]), ('space', [1, 4, 2, 8, 8])):
        model.graph.initializer.append(numpy_helper.from_array(np.array(shape), name))
    return model


def padded_by_name(generator: np.random.Generator) -> onnx.ModelProto:
    """As TensorFlow pads; the last kernel is larger than what is left."""
    nodes = [
        conv('halve', 'x', 'w0', out='a', auto_pad='SAME_UPPER', strides=[8, 8]),
        conv('keep', 'a', 'w1', out='y', auto_pad='SAME_LOWER'),
    ]
    return network(
        nodes,
        w0=generator.normal(size=(4, 3, 3, 3)),
        w1=generator.normal(size=(4, 4, 3, 3)),
    )


def nothing_flows(generator: np.random.Generator) -> onnx.ModelProto:
    nodes = [
        helper.make_node('Mul', ['x', 'w0'], ['black'], 'black'),
        conv('first', 'black', 'w1', 'b1', out='a'),
        conv('second', 'a', 'w2', out='b'),
        helper.make_node('Add', ['b', 'x'], ['y'], 'add'),
    ]
    return network(
        nodes,
        w0=np.zeros(1),
        w1=generator.normal(size=(4, 3, 1, 1)),
        b1=generator.normal(size=4),
        w2=np.zeros((3, 4, 1, 1)),
    )


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize(
    ('make', 'layers'),
    [
        (branches, 2),
        (weights_among_the_inputs, 3),
        (names_of_ours, 4),
        (channels_along_two_axes, 3),
        (convolutions_of_other_ranks, 2),
        (padded_by_name, 2),
    ],
)
def test_networks_of_every_make(make: Any, layers: int) -> None:
    model = make(np.random.default_rng(0))
    before = model.SerializeToString()
    seen = Seen(model)
    assert model.SerializeToString() == before
    assert len(seen.layers) == layers and not seen.unfit
    int8 = rest(seen)
    names = [n.name for n in int8.graph.node]
    assert len(set(names)) == len(names)
    assert signal_to_noise(model, int8) > 200
    integers, count = in_integers(int8)
    assert count == layers
    # What rounds to one side here may round to the other there, now and then.
    assert (run(integers) - run(int8)).var() < 1e-4 * run(int8).var()


@pytest.mark.filterwarnings('error')
def test_where_nothing_flows_nothing_breaks() -> None:
    model = nothing_flows(np.random.default_rng(0))
    seen = Seen(model)
    for method in METHODS:
        make_plan(seen, method)
    np.testing.assert_allclose(run(rest(seen)), run(model), atol=1e-3)


def test_what_cannot_be_quantized_stays_in_float_and_is_counted() -> None:
    generator = np.random.default_rng(0)
    nodes = [
        conv('first', 'x', 'w0', out='a'),
        helper.make_node('MatMul', ['a', 'w1'], ['b'], 'batch'),
        helper.make_node('MatMul', ['w2', 'b'], ['c'], 'constant'),
        helper.make_node('ConvTranspose', ['c', 'w3'], ['d'], 'up', group=2, strides=[2, 2]),
        helper.make_node('Flatten', ['d'], ['flat'], 'flatten'),
        helper.make_node('Gemm', ['flat', 'w4', 'b4'], ['e'], 'scaled', beta=0.5),
        helper.make_node('Log', ['lost'], ['f'], 'log'),
        helper.make_node('MatMul', ['f', 'f'], ['g'], 'endless'),
        helper.make_node('Cast', ['x'], ['h'], 'wide', to=TensorProto.DOUBLE),
        helper.make_node('MatMul', ['h', 'h'], ['i'], 'double'),
        helper.make_node('Cast', ['x'], ['truth'], 'truth', to=TensorProto.BOOL),
        helper.make_node('And', ['truth', 'no'], ['nowhere'], 'nowhere'),
        helper.make_node('NonZero', ['nowhere'], ['where'], 'where'),
        helper.make_node('Cast', ['where'], ['found'], 'found', to=TensorProto.FLOAT),
        helper.make_node('Transpose', ['found'], ['rows'], 'rows', perm=[1, 0]),
        helper.make_node('MatMul', ['rows', 'w5'], ['j'], 'empty'),
        helper.make_node('Greater', ['x', 'bright'], ['lit'], 'lit'),
        helper.make_node('NonZero', ['lit'], ['lights'], 'lights'),
        helper.make_node('Cast', ['lights'], ['some'], 'some', to=TensorProto.FLOAT),
        helper.make_node('Transpose', ['some'], ['somes'], 'somes', perm=[1, 0]),
        helper.make_node('MatMul', ['somes', 'some'], ['k'], 'varying'),
    ]
    nodes.insert(6, helper.make_node('Sub', ['x', 'x'], ['lost'], 'lose'))
    model = network(
        [*nodes, helper.make_node('Identity', ['e'], ['y'], 'end')],
        w0=generator.normal(size=(4, 3, 1, 1)),
        w1=generator.normal(size=(4, SIZE, 8)),
        w2=generator.normal(size=(8, SIZE)),
        w3=generator.normal(size=(4, 1, 2, 2)),
        w4=generator.normal(size=(512, 5)),
        b4=generator.normal(size=5),
        w5=generator.normal(size=(4, 2)),
        bright=np.array(0.95),
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array([False]), 'no'))
    for name in 'gijk':
        kind = TensorProto.DOUBLE if name == 'i' else TensorProto.FLOAT
        model.graph.output.append(helper.make_tensor_value_info(name, kind, None))
    seen = Seen(model)
    assert list(seen.layers) == ['first']
    for name, word in {
        'batch': 'rank 3', 'constant': 'constant', 'up': 'groups', 'scaled': 'bias',
        'endless': 'not finite', 'double': 'float64', 'empty': 'no frame', 'varying': 'differ',
    }.items():  # fmt: skip
        assert word in seen.unfit.pop(name), name
    assert not seen.unfit
    assert {name: seen.macs[name] for name in ('batch', 'constant', 'up', 'scaled', 'empty')} == {
        'batch': 4 * SIZE * SIZE * 8,
        'constant': 4 * 8 * SIZE * 8,
        'up': 4 * 8 * 8 * 4,
        'scaled': 512 * 5,
        'empty': 0,
    }
    assert signal_to_noise(seen.model, rest(seen)) > 300


@pytest.mark.parametrize('opset', (7, 9, 10, 13, 22))
def test_opsets(opset: int) -> None:
    generator = np.random.default_rng(0)
    kind, given = ('Resize', ['a', '', 'scales']) if opset > 10 else ('Upsample', ['a', 'scales'])
    old = {'scales': [1.0, 1.0, 2.0, 2.0]} if opset < 9 else {}
    if opset == 10:
        kind = 'Resize'
    nodes = [
        conv('first', 'x', 'w0', 'b0', out='a'),
        helper.make_node(kind, given[:1] if old else given, ['b'], 'up', mode='nearest', **old),
        conv('second', 'b', 'w1', out='c'),
        helper.make_node('Softmax', ['c'], ['y'], 'softmax', axis=1),
    ]
    model = network(
        nodes,
        opset=opset,
        w0=generator.normal(size=(4, 3, 3, 3)),
        b0=generator.normal(size=4),
        w1=generator.normal(size=(4, 4, 1, 1)),
        **({} if old else {'scales': np.array([1, 1, 2, 2])}),
    )
    seen = Seen(model)
    np.testing.assert_allclose(run(seen.model), run(model), atol=1e-5)
    assert set(seen.layers) == {'first', 'second'}
    assert signal_to_noise(model, rest(seen)) > 200


# Ranges and scales


def test_methods_clip_outliers_and_nothing_else() -> None:
    generator = np.random.default_rng(0)
    values = np.abs(np.append(generator.normal(size=100_000), 100.0))
    counts, _ = np.histogram(values, 2048, (0, 100))
    found = {name: method(counts, 100.0) for name, method in METHODS.items()}
    assert found['minmax'] == 100
    assert 3 < found['percentile'] < 5
    assert 2 < found['entropy'] < 8
    assert 4 < found['mse'] < 90
    # Where every magnitude is as frequent as any other there is nothing to clip.
    even = np.full(2048, 50)
    for name, method in METHODS.items():
        assert method(even, 1.0) > 0.95, name


def test_weights_are_symmetric_and_each_channel_has_its_own_scale() -> None:
    weight = np.random.default_rng(0).normal(size=(5, 4, 3, 3)).astype(np.float32)
    weight *= np.geomspace(0.001, 10, 5)[:, None, None, None].astype(np.float32)
    weight[2] = 0
    scale = scales(weight, 0)
    steps = quantized(weight, scale, 0)
    assert steps.min() >= -127 and (scale > 0).all()
    error = np.abs(steps * scale[:, None, None, None] - weight)
    # No weight is further off than half a step, but for the few that are clipped.
    assert np.mean(error <= 0.5001 * scale[:, None, None, None]) > 0.97
    assert (steps[2] == 0).all()


def test_channels_that_drown_are_divided_and_the_depthwise_weights_pay_nothing() -> None:
    seen = Seen(depthwise_network(np.random.default_rng(1)))
    activation = seen.seen['silu', 1]
    layer, weight = seen.layers['depthwise'], seen.weights['depthwise']
    variance = seen.variance('depthwise')
    plain = choose(activation, [(layer, weight, variance)], 'minmax', divide=False)
    divided = choose(activation, [(layer, weight, variance)], 'minmax')
    assert plain.divisor is None and divided.divisor is not None
    assert divided.noise < plain.noise / 10

    plan, _ = make_plan(seen, 'minmax')
    good = signal_to_noise(seen.model, all_int8(seen, plan))
    for (tensor, _), a in seen.seen.items():
        plan.thresholds[tensor] = float(a.largest.max())
    plan.divisors.clear()
    for name, plain_weight in seen.weights.items():
        scale = scales(plain_weight, 0)
        plan.weights[name] = quantized(plain_weight, scale, 0), scale
    naive = signal_to_noise(seen.model, all_int8(seen, plan))
    assert good > 10 * naive


def test_a_value_for_each_input_channel_meets_its_weights() -> None:
    weight = np.ones((6, 2, 1, 1), np.float32)
    seen = Seen(
        network(
            [conv('a', 'x', 'w0'), conv('b', 'a_out', 'w1', out='y', group=2)],
            w0=np.ones((4, 3, 1, 1)),
            w1=weight,
        )
    )
    laid = spread(np.array([1.0, 2, 3, 4]), weight, seen.layers['b'])
    assert laid[:, :, 0, 0].tolist() == [[1, 2]] * 3 + [[3, 4]] * 3


# Q/DQ


def test_qdq_stands_where_tensorrt_fuses_it() -> None:
    seen = Seen(depthwise_network(np.random.default_rng(0)))
    model = all_int8(seen, make_plan(seen, 'mse')[0])
    graph = Graph(model)
    for node in model.graph.node:
        if node.op_type == 'Conv':
            for name in node.input[:2]:
                assert graph.producers[name].op_type == 'DequantizeLinear'
            weight = graph.producers[node.input[1]]
            assert graph.weights[weight.input[0]].dtype == np.int8
            assert graph.weights[weight.input[1]].shape == (
                graph.weights[weight.input[0]].shape[0],
            )
        if node.op_type in ('QuantizeLinear', 'DequantizeLinear'):
            zero = graph.weights[node.input[2]]
            assert zero.dtype == np.int8 and not zero.any()
    # Nothing between a convolution and its activation function.
    assert {n.op_type for n in graph.consumers['expand_out']} == {'Sigmoid', 'Mul'}


def test_layers_that_stay_in_float_are_untouched() -> None:
    seen = Seen(depthwise_network(np.random.default_rng(0)))
    model = seen.with_int8(make_plan(seen, 'mse')[0], {'project'})
    nodes = {n.name: n for n in model.graph.node}
    assert list(nodes['depthwise'].input)[:2] == ['silu', 'w1']
    assert sum(n.op_type == 'QuantizeLinear' for n in model.graph.node) == 1


def test_layers_that_share_an_activation_share_its_qdq_and_a_residual_takes_it_too() -> None:
    generator = np.random.default_rng(0)
    nodes = [
        conv('first', 'x', 'w0', pads=[1, 1, 1, 1]),
        helper.make_node('Relu', ['first_out'], ['r'], 'relu'),
        conv('left', 'r', 'w1'),
        conv('right', 'r', 'w2'),
        helper.make_node('Add', ['right_out', 'r'], ['sum'], 'add'),
        helper.make_node('Add', ['sum', 'left_out'], ['y'], 'last'),
    ]
    model = network(
        nodes,
        w0=generator.normal(size=(8, 3, 3, 3)),
        w1=generator.normal(size=(8, 8, 1, 1)),
        w2=generator.normal(size=(8, 8, 1, 1)),
    )
    seen = Seen(model)
    plan, _ = make_plan(seen, 'mse')
    plan.divisors.clear()
    nodes_after = {n.name: n for n in all_int8(seen, plan).graph.node}
    assert nodes_after['left'].input[0] == nodes_after['right'].input[0] == 'r/dequantized'
    assert 'r/dequantized' in nodes_after['add'].input


def residual_network(generator: np.random.Generator) -> onnx.ModelProto:
    """Depthwise with channels far apart, a sum, a transposed convolution and a product."""
    spans = np.geomspace(0.01, 10, 8)
    nodes = [
        conv('expand', 'x', 'w0'),
        helper.make_node('Relu', ['expand_out'], ['a'], 'relu'),
        conv('depthwise', 'a', 'w1', group=8, pads=[1, 1, 1, 1]),
        helper.make_node('Relu', ['depthwise_out'], ['b'], 'relu2'),
        conv('float', 'b', 'w2', pads=[1, 1, 1, 1]),
        conv('block', 'float_out', 'w2', pads=[1, 1, 1, 1]),
        helper.make_node('Add', ['block_out', 'float_out'], ['sum'], 'add'),
        helper.make_node('Relu', ['sum'], ['c'], 'relu3'),
        helper.make_node('ConvTranspose', ['c', 'w3'], ['d'], 'up', strides=[2, 2]),
        helper.make_node('MatMul', ['d', 'w4'], ['y'], 'product'),
    ]
    return network(
        nodes,
        w0=generator.normal(size=(8, 3, 1, 1)) * spans[:, None, None, None],
        w1=generator.normal(size=(8, 1, 3, 3)) / spans[:, None, None, None],
        w2=generator.normal(size=(8, 8, 3, 3)),
        w3=generator.normal(size=(8, 8, 2, 2)),
        w4=generator.normal(size=(2 * SIZE, 4)),
    )


def test_tensorrt_takes_all_of_it_as_it_is_meant() -> None:
    """Divided channels, a sum that takes Q/DQ, a layer in float between layers in INT8."""
    pytest.importorskip('tensorrt_rtx_bindings', reason='TensorRT-RTX is not installed')
    from trt_perception.build.engine.builder import Builder
    from trt_perception.build.half import to_half

    seen = Seen(residual_network(np.random.default_rng(0)))
    plan, _ = make_plan(seen, 'mse')
    assert 'a' in plan.divisors
    plan.divisors.pop('float_out', None)
    meant = set(seen.layers) - {'float'}
    model = seen.with_int8(plan, meant)
    add = next(n for n in model.graph.node if n.name == 'add')
    assert list(add.input) == ['block_out', 'float_out/dequantized']
    builder = Builder(to_half(model).SerializeToString(), Path('m.onnx'), 'int8')
    assert not [layer for layer in builder.layers if layer.unmet]
    multiplying = [x for x in builder.layers if x.kind in ('CONVOLUTION', 'DECONVOLUTION')]
    multiplying += [x for x in builder.layers if x.kind == 'MATRIX_MULTIPLY']
    assert {x.name: x.precision for x in multiplying} == {
        name: 'INT8' if name in meant else 'HALF' for name in seen.layers
    }
    assert len(builder.build().plan) > 1000


def test_in_integers_it_gives_the_same() -> None:
    generator = np.random.default_rng(0)
    nodes = [
        conv('first', 'x', 'w0', 'b0', pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node('Relu', ['first_out'], ['r'], 'relu'),
        helper.make_node('Flatten', ['r'], ['flat'], 'flatten'),
        helper.make_node('Gemm', ['flat', 'w1', 'b1'], ['g'], 'gemm', transB=1),
        helper.make_node('MatMul', ['g', 'w2'], ['y'], 'matmul'),
    ]
    model = network(
        nodes,
        w0=generator.normal(size=(4, 3, 3, 3)),
        b0=generator.normal(size=4),
        w1=generator.normal(size=(6, 4 * 8 * 8)),
        b1=generator.normal(size=6),
        w2=generator.normal(size=(6, 5)),
    )
    seen = Seen(model)
    int8 = all_int8(seen, make_plan(seen, 'mse')[0])
    integers, count = in_integers(int8)
    assert count == 3
    operators = {n.op_type for n in integers.graph.node}
    assert {'ConvInteger', 'MatMulInteger'} < operators
    assert not operators & {'Conv', 'Gemm', 'MatMul', 'DequantizeLinear'}
    np.testing.assert_allclose(run(integers), run(int8), rtol=1e-4, atol=1e-4)


# Weights and biases


def test_rounding_makes_good_for_its_own_errors() -> None:
    generator = np.random.default_rng(0)
    nodes = [
        conv('first', 'x', 'w0', pads=[1, 1, 1, 1]),
        conv('second', 'first_out', 'w1', out='y'),
    ]
    seen = Seen(
        network(
            nodes, w0=generator.normal(size=(16, 3, 3, 3)), w1=generator.normal(size=(8, 16, 1, 1))
        )
    )
    moments = observe_moments(seen.bench, seen.model, seen.layers, seen.weights)
    for name, weight in seen.weights.items():
        # Coarse, so that there is something to make good for.
        scale = 16 * scales(weight, 0)
        layer = seen.layers[name]
        nearest = quantized(weight, scale, 0)
        better = rounded(weight, layer, scale, moments[name], None)
        errors = []
        for steps in (nearest, better):
            off = (steps * scale[:, None, None, None] - weight).reshape(len(weight), -1)
            errors.append(np.einsum('oi,ij,oj->', off, moments[name][0], off))
        assert errors[1] < 0.5 * errors[0], name


@pytest.mark.parametrize('group', (1, 2, 4))
def test_moments_are_of_what_the_weights_meet(group: int) -> None:
    """With moments of one place: a convolution is a product with what was seen there."""
    generator = np.random.default_rng(0)
    weight = generator.normal(size=(8, 4 // group, 3, 3)).astype(np.float32)
    nodes = [
        conv('lift', 'x', 'w0'),
        conv('it', 'lift_out', 'w', out='y', group=group, pads=[1] * 4, dilations=[1, 1]),
    ]
    seen = Seen(network(nodes, w0=generator.normal(size=(4, 3, 1, 1)), w=weight))
    moments = observe_moments(seen.bench, seen.model, seen.layers, seen.weights)['it']
    rows = weight.reshape(group, 8 // group, -1)
    power = np.einsum('goi,gij,goj->go', rows, moments, rows).ravel() / (400 * 6)
    places = SIZE * SIZE
    assert moments.shape == (group, 36 // group, 36 // group)
    # 256 of 256 places are drawn, with repetition: close to the mean square over all.
    sampled = power * 400 / min(400, places)
    np.testing.assert_allclose(sampled, seen.seen['y', 1].power, rtol=0.25)


def test_biases_take_the_mean_error_away() -> None:
    seen = Seen(depthwise_network(np.random.default_rng(2)))
    plan, _ = make_plan(seen, 'percentile')
    for name, (steps, scale) in plan.weights.items():
        plan.weights[name] = np.clip(steps + 2, -127, 127).astype(np.int8), scale  # a bad rounding
    before = local_errors(seen.bench, seen.model, seen.layers, plan, seen.shapes)
    correct_biases(seen.model, before, plan)
    after = local_errors(seen.bench, seen.model, seen.layers, plan, seen.shapes)
    for name in seen.layers:
        assert np.abs(after[name].mean).max() < 1e-3 * np.abs(before[name].mean).max() + 1e-5
        assert after[name].power < before[name].power


# The search


def test_what_was_measured_is_not_measured_again(tmp_path: Path) -> None:
    path = tmp_path / 'measurements.json'
    first = Measurements(path, 'a')
    assert first.get('x', lambda: 0.5) == 0.5
    assert Measurements(path, 'a').get('x', lambda: pytest.fail('measured again')) == 0.5
    assert Measurements(path, 'a').resumed == 1
    assert Measurements(path, 'another question').get('x', lambda: 0.7) == 0.7
    path.write_text('{')
    assert Measurements(path, 'a').get('x', lambda: 0.9) == 0.9


def detections(*rows: tuple[float, float, int]) -> Detections:
    """Boxes 10 wide at x, with score and class."""
    boxes = np.array([[x, 0, x + 10, 10] for x, _, _ in rows], np.float32).reshape(-1, 4)
    return Detections(
        boxes,
        np.array([s for _, s, _ in rows], np.float32),
        np.array([c for _, _, c in rows], np.int32),
    )


def test_agreement() -> None:
    one = detections((0, 0.8, 0), (50, 0.4, 1))
    assert agreement([one], [one]) == pytest.approx(1)
    assert agreement([detections()], [detections()]) == 1
    assert agreement([one], [detections()]) == 0
    assert agreement([one], [detections((0, 0.8, 1), (50, 0.4, 0))]) == 0  # other classes
    assert agreement([one], [detections((0, 0.4, 0), (50, 0.4, 1))]) == pytest.approx(0.8 / 1.2)
    # A third off: overlap 2/4 of the boxes' union... 20/3 in common of 40/3.
    moved = agreement([detections((0, 1, 0))], [detections((10 / 3, 1, 0))])
    assert moved == pytest.approx(0.5, abs=1e-3)
    assert agreement([one], [detections((0, 0.8, 0), (50, 0.4, 1), (80, 0.3, 0))]) < 0.81


def test_an_activation_of_which_nothing_but_zeros_was_sampled() -> None:
    counts = np.zeros(2048, np.int64)
    counts[0] = 9
    for name, method in METHODS.items():
        assert method(counts, 1.0) > 0, name


@pytest.fixture
def colors() -> tuple[onnx.ModelProto, ModelSpec, list[Frame]]:
    """A detector of one box whose class is the colour of the picture, with two convolutions."""
    generator = np.random.default_rng(0)
    mix = generator.normal(size=(3, 3))
    box = np.array([32, 32, 40, 24], np.float32).reshape(1, 4, 1)
    nodes = [
        conv('mix', 'images', 'w0', pads=[1, 1, 1, 1]),
        conv('unmix', 'mix_out', 'w1'),
        helper.make_node('GlobalAveragePool', ['unmix_out'], ['mean'], 'pool'),
        helper.make_node('Reshape', ['mean', 'column'], ['scores'], 'reshape'),
        helper.make_node('Concat', ['box', 'scores'], ['output0'], 'concat', axis=1),
    ]
    kernel = np.zeros((3, 3, 3, 3))
    kernel[:, :, 1, 1] = mix
    weights = {'w0': kernel, 'w1': np.linalg.inv(mix)[:, :, None, None], 'box': box}
    graph = helper.make_graph(
        nodes,
        'colors',
        [helper.make_tensor_value_info('images', TensorProto.FLOAT, [1, 3, 64, 64])],
        [helper.make_tensor_value_info('output0', TensorProto.FLOAT, [1, 7, 1])],
        [
            *(numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()),
            numpy_helper.from_array(np.array([1, 3, 1]), 'column'),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    model.metadata_props.add(key='names', value="{0: 'red', 1: 'green', 2: 'blue'}")
    spec = ModelSpec('yolov8', 'images', 64, 64, 'float32', ('output0',), 3)
    pictures = []
    for color in ((220, 20, 30), (20, 210, 40), (10, 30, 230)) * 2:
        noisy = np.array(color) + generator.normal(0, 10, (64, 64, 3))
        pictures.append(Frame.from_array(np.clip(noisy, 0, 255).astype(np.uint8)))
    return model, spec, pictures


def test_a_detector_is_quantized_and_a_rerun_measures_nothing(
    colors: tuple[onnx.ModelProto, ModelSpec, list[Frame]], tmp_path: Path
) -> None:
    model, spec, pictures = colors
    phases: list[str] = []
    file = tmp_path / 'measurements.json'

    def stop(phase: str, share: float) -> None:
        assert 0 <= share <= 1
        phases.append(phase)
        if phase == 'sensitivity':
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize(model, spec, pictures, Measurements(file, 'q'), on_progress=stop)
    kept = Measurements(file, 'q').resumed
    assert kept >= 4  # one of each method
    done = quantize(model, spec, pictures, Measurements(file, 'q'), target=0.9)
    assert Measurements(file, 'q').resumed > kept
    assert set(done.methods) == set(METHODS)
    assert done.int8_share == 1
    assert all(layer.int8 and layer.reason == '' for layer in done.layers)
    assert done.curve[0].int8_share == 1 and done.curve[0].agreement > 0.9
    bench = Bench(spec, pictures)
    assert agreement(bench.detect(model), bench.detect(done.model)) > 0.9
    assert {p.key for p in done.model.metadata_props} == {p.key for p in model.metadata_props}

    measured = Measurements(file, 'q')
    quantize(model, spec, pictures, measured, target=0.9)
    assert measured.resumed == Measurements(file, 'q').resumed


def test_layers_leave_int8_until_the_target_is_met(
    colors: tuple[onnx.ModelProto, ModelSpec, list[Frame]],
) -> None:
    model, spec, pictures = colors
    asked = []

    def score(candidate: onnx.ModelProto) -> float:
        asked.append(sum(n.op_type == 'QuantizeLinear' for n in candidate.graph.node))
        return 1 - asked[-1] / 10

    done = quantize(model, spec, pictures, Measurements(), score=score, method='minmax', target=0.9)
    assert asked == [2, 1]
    assert 0 < done.int8_share < 1
    assert [point.score for point in done.curve] == [0.8, 0.9]
    assert [layer.reason == '' for layer in done.layers] == [layer.int8 for layer in done.layers]
    assert list(done.methods) == ['minmax']


def test_where_nothing_meets_the_target_nothing_is_in_int8(
    colors: tuple[onnx.ModelProto, ModelSpec, list[Frame]],
) -> None:
    model, spec, pictures = colors
    done = quantize(
        model, spec, pictures, Measurements(), score=lambda _: 0.0, method='minmax', target=0.9
    )
    assert done.int8_share == 0


def test_a_network_that_plain_int8_ruins(assets: Path) -> None:
    """Depthwise: 1.7 of 34 mAP are left of it by plain quantization."""
    path = assets / 'models' / 'yolox_nano_416.onnx'
    spec = load_spec(path, 'coco')
    files = sorted((assets / 'data' / 'coco_ccby_bysa' / 'images' / 'train2017').glob('*.jpg'))[:4]
    pictures = [Frame.from_compressed(np.fromfile(f, np.uint8)) for f in files]
    bench = Bench(spec, pictures)
    seen = Network(prepare(onnx.load(path)), bench, lambda: None)
    plan, _ = make_plan(seen, 'mse')
    model = seen.with_int8(plan, set(seen.layers))
    assert sum(layer.depthwise for layer in seen.layers.values()) == 30
    assert seen.agreement(model) > 0.55
    integers, count = in_integers(model)
    assert count == len(seen.layers)
    # What rounds to one side here rounds to the other there, and it grows from layer to layer.
    assert seen.agreement(integers) > 0.55
    plan.divisors.clear()
    for tensor in plan.thresholds:
        plan.thresholds[tensor] = float(seen.seen[tensor, 1].largest.max())
    for name, weight in seen.weights.items():
        scale = scales(weight, 0)
        plan.weights[name] = quantized(weight, scale, 0), scale
    assert seen.agreement(seen.with_int8(plan, set(seen.layers))) < 0.15


def test_weights_that_are_dequantized_beforehand_are_the_same_numbers() -> None:
    seen = Seen(depthwise_network(np.random.default_rng(0)))
    model = all_int8(seen, make_plan(seen, 'mse')[0])
    assert not has_integer_kernels(model.graph)
    content = model.SerializeToString()
    feeds = next(iter(seen.bench.inputs()))
    (folded,), (unfolded,) = (
        open_session(content, fold_weights=fold).run(['y'], feeds) for fold in (True, False)
    )
    np.testing.assert_allclose(folded, unfolded, rtol=1e-4, atol=1e-4)


def test_models_made_for_integer_kernels_are_left_to_them() -> None:
    weight = np.random.default_rng(0).normal(size=(4, 3, 1, 1))
    seen = Seen(network([conv('only', 'x', 'w', out='y')], w=weight))
    graph = all_int8(seen, make_plan(seen, 'mse')[0]).graph
    assert not has_integer_kernels(graph)
    (quantizer,) = (n for n in graph.node if n.op_type == 'QuantizeLinear')
    graph.node.append(helper.make_node('QuantizeLinear', ['y', *quantizer.input[1:]], ['z']))
    assert has_integer_kernels(graph)
    assert not has_integer_kernels(seen.model.graph)
