# SPDX-License-Identifier: Apache-2.0
"""Ranges, scales, Q/DQ, weights and biases: what each step is there for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from networks import (
    SIZE,
    SPEC,
    Seen,
    all_int8,
    conv,
    depthwise_network,
    frames,
    network,
    run,
    signal_to_noise,
)
from onnx import helper

from trt_perception.build.quantization.bench import Bench
from trt_perception.build.quantization.folding import fold_divisions
from trt_perception.build.quantization.graph import Graph
from trt_perception.build.quantization.insertion import insert
from trt_perception.build.quantization.integers import in_integers
from trt_perception.build.quantization.layers import spread
from trt_perception.build.quantization.local import correct_biases, local_errors
from trt_perception.build.quantization.planning import make_plan
from trt_perception.build.quantization.ranges import METHODS
from trt_perception.build.quantization.rounding import observe_moments, rounded
from trt_perception.build.quantization.scaling import choose
from trt_perception.build.quantization.weights import quantized, scales

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
    model = seen.with_int8(make_plan(seen, 'mse')[0], {'depthwise'})
    nodes = {n.name: n for n in model.graph.node}
    assert list(nodes['expand'].input) == ['x', 'w0', 'b0']
    assert list(nodes['project'].input)[:2] == ['depthwise_out', 'w2']
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


def test_a_division_behind_relu_is_the_convolutions_own() -> None:
    """The channels of both differ a thousandfold; only what the residual takes as well stays."""
    generator = np.random.default_rng(0)
    spans = np.geomspace(0.01, 10, 8)
    nodes = [
        conv('expand', 'x', 'w0', 'b0'),
        helper.make_node('Relu', ['expand_out'], ['r0'], 'relu0'),
        conv('depthwise', 'r0', 'w1', group=8, pads=[1, 1, 1, 1]),
        helper.make_node('MaxPool', ['depthwise_out'], ['p'], 'pool', kernel_shape=[2, 2]),
        conv('again', 'p', 'w1', group=8, pads=[1, 1, 1, 1]),
        helper.make_node('Relu', ['again_out'], ['r1'], 'relu1'),
        conv('project', 'r1', 'w2'),
        helper.make_node('Add', ['project_out', 'r1'], ['y'], 'add'),
    ]
    model = network(
        nodes,
        w0=generator.normal(size=(8, 3, 1, 1)) * spans[:, None, None, None],
        b0=generator.normal(size=8) * spans,
        w1=generator.normal(size=(8, 1, 3, 3)),
        w2=generator.normal(size=(8, 8, 1, 1)) / spans[None, :, None, None],
    )
    seen = Seen(model)
    plan, _ = make_plan(seen, 'minmax')
    assert {'r0', 'p', 'r1'} <= set(plan.divisors)
    for int8 in (set(seen.layers), {'depthwise', 'project'}):
        unfolded = insert(seen.model, seen.layers, plan, int8, seen.shapes)
        folded = fold_divisions(unfolded)
        divided = [n.name for n in folded.graph.node if n.op_type == 'Mul']
        assert divided == ['r1/divide']
        # What rounds to one side here may round to the other there.
        assert (run(folded) - run(unfolded)).var() < 1e-3 * run(unfolded).var()
    assert signal_to_noise(seen.model, all_int8(seen, plan)) > 100


def test_a_division_behind_silu_stays() -> None:
    seen = Seen(depthwise_network(np.random.default_rng(0)))
    plan, _ = make_plan(seen, 'minmax')
    divided = {n.name for n in all_int8(seen, plan).graph.node if n.op_type == 'Mul'}
    assert 'silu/divide' in divided and 'silu' in plan.divisors


def test_few_frames_are_seen_in_the_mirror_too() -> None:
    two = frames(2)
    plain, mirrored = (
        [feeds['x'].copy() for feeds in Bench(SPEC, two, mirrored=m).inputs()]
        for m in (False, True)
    )
    assert (len(plain), len(mirrored)) == (2, len(Bench(SPEC, two, mirrored=True))) == (2, 4)
    np.testing.assert_array_equal(mirrored[::2], plain)
    np.testing.assert_array_equal(np.flip(mirrored[1::2], axis=-1), plain)


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
