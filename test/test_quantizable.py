# SPDX-License-Identifier: Apache-2.0
"""Which networks can be quantized, and what is told of those that cannot."""

from __future__ import annotations

import resource
import tempfile
from typing import Any

import numpy as np
import onnx
import pytest
from networks import (
    SIZE,
    Seen,
    all_int8,
    conv,
    depthwise_network,
    network,
    run,
    signal_to_noise,
)
from onnx import TensorProto, helper, numpy_helper

from trt_perception.build.quantization.graph import QuantizationError, prepare
from trt_perception.build.quantization.integers import in_integers
from trt_perception.build.quantization.layers import inside_bodies
from trt_perception.build.quantization.local import correct_biases, local_errors
from trt_perception.build.quantization.planning import make_plan, round_weights
from trt_perception.build.quantization.ranges import METHODS
from trt_perception.build.quantization.result import Quantization

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


def test_what_multiplies_in_a_branch_is_told() -> None:
    seen = Seen(branches(np.random.default_rng(0)))
    assert inside_bodies(seen.model.graph) == ['inside'] and 'inside' not in seen.macs
    (told,) = Quantization(None, 'mse', {}, (), (), uncounted=('inside',)).warnings
    assert told.endswith('within If and Loop: inside')


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
