# SPDX-License-Identifier: Apache-2.0
"""The layers that multiply: which inputs are activations, which weights, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from trt_perception.build.quantization.graph import Graph, attribute

OPERATORS = ('Conv', 'ConvTranspose', 'Gemm', 'MatMul')


@dataclass(frozen=True)
class Multiplication:
    """A layer that can be quantized.

    Attributes:
        name, op_type: of the node.
        activations: places of its inputs that are activations: the first, or both of a MatMul.
        weight: name of its constant weights; '' where both factors are activations.
        output_axis: axis of the weights that numbers the output channels.
        input_axis: axis that numbers the input channels (those of its group).
        groups: of a convolution, else 1.
    """

    name: str
    op_type: str
    activations: tuple[int, ...]
    weight: str
    output_axis: int = 0
    input_axis: int = 1
    groups: int = 1

    @property
    def depthwise(self) -> bool:
        """Each output channel sees one input channel (the weights' axis of inputs has length 1)."""
        return self.groups > 1


def find(graph: Graph) -> list[Multiplication]:
    """All of them, in graph order."""
    found = (_multiplication(graph, n) for n in graph.model.graph.node if n.op_type in OPERATORS)
    return [layer for layer in found if layer]


def _multiplication(graph: Graph, node: onnx.NodeProto) -> Multiplication | None:
    first, second = node.input[0], node.input[1]
    if node.op_type == 'MatMul':
        if first in graph.weights:
            return None  # a constant times an activation: rare, and TensorRT quantizes it neither
        if second not in graph.weights:
            return Multiplication(node.name, node.op_type, (0, 1), '')
        rank = graph.weights[second].ndim
        if rank != 2:
            return None
        return Multiplication(node.name, node.op_type, (0,), second, 1, 0)
    if second not in graph.weights or first in graph.weights:
        return None
    groups = attribute(node, 'group', 1)
    if node.op_type == 'Conv':
        return Multiplication(node.name, node.op_type, (0,), second, 0, 1, groups)
    if node.op_type == 'ConvTranspose':
        # Its output channels repeat from group to group: one scale an axis fits only one group.
        return Multiplication(node.name, node.op_type, (0,), second, 1, 0) if groups == 1 else None
    if attribute(node, 'transA', 0) or attribute(node, 'alpha', 1.0) != 1.0:
        return None
    transposed = attribute(node, 'transB', 0)
    return Multiplication(
        node.name, node.op_type, (0,), second, 0 if transposed else 1, 1 if transposed else 0
    )


def multiply_adds(
    graph: Graph, layer: Multiplication, shapes: Mapping[str, tuple[int, ...]]
) -> int:
    """Multiply-adds of one image.

    Args:
        shapes: of the layer's inputs and outputs, as one run gave them.
    """
    node = next(n for n in graph.model.graph.node if n.name == layer.name)
    out, first = math.prod(shapes[node.output[0]]), shapes[node.input[0]]
    if layer.op_type == 'MatMul':
        return out * first[-1]
    weight = graph.weights[layer.weight].shape
    if layer.op_type == 'ConvTranspose':
        return math.prod(first) * math.prod(weight[1:])
    return out * math.prod(weight) // weight[layer.output_axis]


def spread(
    channels: NDArray[np.floating], weight: NDArray[Any], layer: Multiplication
) -> NDArray[np.floating]:
    """A value for each input channel, laid out so that it multiplies the weights."""
    shape = [1] * weight.ndim
    if layer.groups == 1:
        shape[layer.input_axis] = -1
        return channels.reshape(shape)
    # Weights of a group see the channels of their group only.
    rows = np.repeat(channels.reshape(layer.groups, -1), weight.shape[0] // layer.groups, axis=0)
    return rows.reshape(*weight.shape[:2], *shape[2:])
