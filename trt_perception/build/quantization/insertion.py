# SPDX-License-Identifier: Apache-2.0
"""Explicit Q/DQ put where TensorRT fuses it.

TensorRT multiplies in INT8 where a layer takes both its factors from DequantizeLinear, and merges
the bias, the activation function and the next QuantizeLinear into it. So Q/DQ stands in front of
each layer's activation and never between a layer and its activation function: the next layer's is
what quantizes its output. One pair serves all layers that take the tensor. It commutes with Concat,
Split, MaxPool and nearest Resize, and TensorRT moves it over them. A residual sum merges with the
convolution before it if the other summand is quantized too.
(NVIDIA TensorRT documentation, "Working with Quantized Types": Q/DQ layer placement.)
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from trt_perception.build.quantization.graph import Graph
from trt_perception.build.quantization.layers import Multiplication
from trt_perception.build.quantization.ranges import LEVELS

Nodes = dict[str, list[onnx.NodeProto]]


@dataclass
class Plan:
    """How a model is quantized.

    Attributes:
        thresholds: of each activation (once divided), what becomes 127.
        divisors: of some activations, (channels,) float32 what each channel is divided by first.
        axes: of each activation, the axis that numbers its channels.
        weights: of each layer with constant weights, these (times the divisor) and their scales.
        biases: of some layers, the bias to use instead of theirs.
    """

    thresholds: dict[str, float]
    divisors: dict[str, NDArray[np.float32]]
    axes: dict[str, int]
    weights: dict[str, tuple[NDArray[np.int8], NDArray[np.float32]]]
    biases: dict[str, NDArray[np.float32]] = field(default_factory=dict)


def insert(
    model: onnx.ModelProto,
    layers: Mapping[str, Multiplication],
    plan: Plan,
    int8: Set[str],
    shapes: Mapping[str, tuple[int, ...]],
) -> onnx.ModelProto:
    """A copy of a model in which some layers multiply in INT8.

    Args:
        layers: by name.
        int8: names of those to quantize.
        shapes: of the layers' inputs and outputs, of one image.
    """
    graph = Graph(model)
    front: Nodes = {}
    dequantized: dict[str, str] = {}
    zero = graph.add_weight('int8_zero', np.zeros((), np.int8))
    for node in graph.model.graph.node:
        if node.name not in int8:
            continue
        layer = layers[node.name]
        for place in layer.activations:
            tensor = node.input[place]
            if tensor not in dequantized:
                dequantized[tensor] = _quantize_activation(graph, front, tensor, zero, plan, shapes)
            node.input[place] = dequantized[tensor]
        if layer.weight:
            node.input[1] = _quantize_weights(graph, front, layer, *plan.weights[layer.name])
        if layer.name in plan.biases:
            bias = graph.add_weight(f'{layer.name}/bias', plan.biases[layer.name])
            del node.input[2:]
            node.input.append(bias)
    _quantize_residuals(graph, int8, dequantized, plan)
    graph.insert(front)
    return graph.finished()


def _quantize_activation(
    graph: Graph,
    front: Nodes,
    tensor: str,
    zero: str,
    plan: Plan,
    shapes: Mapping[str, tuple[int, ...]],
) -> str:
    """Q/DQ of a tensor, in front of the first node that takes it; the name behind it."""
    nodes = []
    source = tensor
    if tensor in plan.divisors:
        shape = [1] * len(shapes[tensor])
        shape[plan.axes[tensor]] = -1
        factor = graph.add_weight(f'{tensor}/factor', (1 / plan.divisors[tensor]).reshape(shape))
        source, name = graph.fresh(f'{tensor}/divided'), graph.fresh(f'{tensor}/divide')
        nodes.append(helper.make_node('Mul', [tensor, factor], [source], name))
    scale = np.array(plan.thresholds[tensor] / LEVELS, np.float32)
    parameters = [graph.add_weight(f'{tensor}/scale', scale), zero]
    quantized, behind = graph.fresh(f'{tensor}/quantized'), graph.fresh(f'{tensor}/dequantized')
    nodes += [
        helper.make_node(
            'QuantizeLinear', [source, *parameters], [quantized],
            graph.fresh(f'{tensor}/QuantizeLinear'),
        ),
        helper.make_node(
            'DequantizeLinear', [quantized, *parameters], [behind],
            graph.fresh(f'{tensor}/DequantizeLinear'),
        ),
    ]  # fmt: skip
    front.setdefault(graph.consumers[tensor][0].name, []).extend(nodes)
    return behind


def _quantize_weights(
    graph: Graph,
    front: Nodes,
    layer: Multiplication,
    values: NDArray[np.int8],
    scales: NDArray[np.float32],
) -> str:
    inputs = [
        graph.add_weight(f'{layer.name}/weight', values),
        graph.add_weight(f'{layer.name}/weight_scale', scales),
        graph.add_weight(f'{layer.name}/weight_zero', np.zeros(len(scales), np.int8)),
    ]
    behind = graph.fresh(f'{layer.name}/weight_dequantized')
    front.setdefault(layer.name, []).append(
        helper.make_node(
            'DequantizeLinear', inputs, [behind],
            graph.fresh(f'{layer.name}/weight_DequantizeLinear'), axis=layer.output_axis,
        )
    )  # fmt: skip
    return behind


def _quantize_residuals(
    graph: Graph, int8: Set[str], dequantized: Mapping[str, str], plan: Plan
) -> None:
    """Let a sum right behind an INT8 convolution take its other summand from Q/DQ, if it has one.

    Only where that is already there and undivided: it costs one rounding more and saves TensorRT a
    pass over the tensor.
    """
    for node in graph.model.graph.node:
        if node.op_type != 'Add':
            continue
        for place, other in ((0, 1), (1, 0)):
            producer = graph.producers.get(node.input[other])
            tensor = node.input[place]
            if (
                producer is not None
                and producer.op_type == 'Conv'
                and producer.name in int8
                and len(graph.consumers[node.input[other]]) == 1
                and tensor in dequantized
                and tensor not in plan.divisors
            ):
                node.input[place] = dequantized[tensor]
                break
