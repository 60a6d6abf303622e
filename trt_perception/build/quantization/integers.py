# SPDX-License-Identifier: Apache-2.0
"""A Q/DQ model as ONNX Runtime would run it in integers, to see that nothing rests on floats.

A convolution whose output goes to its activation function in float has no integer kernel in ONNX
Runtime, which then multiplies the dequantized factors: right, but not what a GPU does. Here each
such layer is written as what it means: integers multiplied and added in 32
bits, and the sum scaled.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from trt_perception.build.quantization.graph import Graph, attribute, reads

_INTEGER = {'Conv': 'ConvInteger', 'Gemm': 'MatMulInteger', 'MatMul': 'MatMulInteger'}


def in_integers(model: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
    """A copy in which each layer between Q/DQ multiplies INT8 into INT32; how many those are.

    Transposed convolutions stay as they are: ONNX has no integer operator for them.
    """
    graph = Graph(model)
    nodes: list[onnx.NodeProto] = []
    changed = 0
    for node in graph.model.graph.node:
        factors = [graph.producers.get(name) for name in node.input[:2]]
        if node.op_type not in _INTEGER or not all(
            f is not None and f.op_type == 'DequantizeLinear' for f in factors
        ):
            nodes.append(node)
            continue
        nodes += _integer(graph, node, *factors)
        changed += 1
    del graph.model.graph.node[:]
    graph.model.graph.node.extend(nodes)
    return _without_unused(graph.finished()), changed


def _integer(
    graph: Graph, node: onnx.NodeProto, first: onnx.NodeProto, second: onnx.NodeProto
) -> list[onnx.NodeProto]:
    """The nodes that take a layer's place."""
    name = node.name
    second_input = second.input[0]
    if node.op_type == 'Gemm' and attribute(node, 'transB', 0):
        second_input = graph.add_weight(f'{name}/transposed', graph.weights[second_input].T)
    scale = graph.weights[first.input[1]] * graph.weights[second.input[1]]
    places = graph.weights[second.input[0]].ndim - 2 if node.op_type == 'Conv' else 0
    per_channel = (-1, *[1] * places)
    scale_name = graph.add_weight(f'{name}/scale', np.atleast_1d(scale).reshape(per_channel))
    steps: list[onnx.NodeProto] = []
    factors = [first.input[0], second_input]
    if node.op_type == 'Conv':
        factors = _unsigned(graph, name, first.input[0], second_input, steps)
    product = helper.make_node(
        _INTEGER[node.op_type], factors, [f'{name}/int32'], f'{name}/product'
    )
    if node.op_type == 'Conv':
        product.attribute.extend(node.attribute)
    biased = len(node.input) > 2 and bool(node.input[2])
    scaled = f'{name}/scaled' if biased else node.output[0]
    steps += [
        product,
        helper.make_node('Cast', [f'{name}/int32'], [f'{name}/float'], to=onnx.TensorProto.FLOAT),
        helper.make_node('Mul', [f'{name}/float', scale_name], [scaled], f'{name}/scaling'),
    ]
    if biased:
        bias = node.input[2]
        if node.op_type == 'Conv':
            bias = graph.add_weight(f'{name}/bias_spread', graph.weights[bias].reshape(per_channel))
        steps.append(helper.make_node('Add', [scaled, bias], [node.output[0]], f'{name}/adding'))
    return steps


def _unsigned(
    graph: Graph, name: str, values: str, weights: str, steps: list[onnx.NodeProto]
) -> list[str]:
    """Both factors of a convolution, and what is zero in them: the same numbers from 0 to 255.

    The convolution of integers that each ONNX Runtime has takes nothing else.
    """
    zero = graph.add_weight(f'{name}/zero', np.array(128, np.uint8))
    half = graph.add_weight(f'{name}/half', np.array(128, np.int32))
    wide, raised, bytes_ = (f'{name}/{step}' for step in ('wide', 'raised', 'bytes'))
    steps += [
        helper.make_node('Cast', [values], [wide], wide, to=onnx.TensorProto.INT32),
        helper.make_node('Add', [wide, half], [raised], raised),
        helper.make_node('Cast', [raised], [bytes_], bytes_, to=onnx.TensorProto.UINT8),
    ]
    shifted = (graph.weights[weights].astype(np.int16) + 128).astype(np.uint8)
    return [bytes_, graph.add_weight(f'{name}/weight_bytes', shifted), zero, zero]


def _without_unused(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without nodes whose outputs nobody takes."""
    graph = model.graph
    while True:
        used = {name for node in graph.node for name in reads(node)} | {
            o.name for o in graph.output
        }
        unused = [n for n in graph.node if not used.intersection(n.output)]
        if not unused:
            break
        for node in unused:
            graph.node.remove(node)
    return Graph(model).finished()
