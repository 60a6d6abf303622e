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

from trt_perception.build.quantization.graph import Graph, attribute, bodies

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


def find(graph: Graph) -> tuple[list[Multiplication], dict[str, str]]:
    """All that can be quantized, in graph order; names of the others, and why they cannot."""
    layers: list[Multiplication] = []
    unfit: dict[str, str] = {}
    for node in graph.model.graph.node:
        if node.op_type not in OPERATORS:
            continue
        found = _multiplication(graph, node)
        if isinstance(found, str):
            unfit[node.name] = found
        else:
            layers.append(found)
    return layers, unfit


def inside_bodies(graph: onnx.GraphProto) -> list[str]:
    """Names of what multiplies within If and Loop: how often it runs, and on what, is not known."""
    names = []
    for node in graph.node:
        for body in bodies(node):
            names += [n.name or n.op_type for n in body.node if n.op_type in OPERATORS]
            names += inside_bodies(body)
    return names


def _multiplication(graph: Graph, node: onnx.NodeProto) -> Multiplication | str:
    first, second = node.input[0], node.input[1]
    if first in graph.weights:
        return 'its first factor is constant'  # TensorRT does not quantize that either
    if node.op_type == 'MatMul':
        if second not in graph.weights:
            return Multiplication(node.name, node.op_type, (0, 1), '')
        rank = graph.weights[second].ndim
        if rank != 2:
            return f'its weights have rank {rank}: a scale a channel needs 2'
        return Multiplication(node.name, node.op_type, (0,), second, 1, 0)
    if second not in graph.weights:
        return 'its weights are computed'
    groups = attribute(node, 'group', 1)
    if node.op_type == 'Conv':
        return Multiplication(node.name, node.op_type, (0,), second, 0, 1, groups)
    if node.op_type == 'ConvTranspose':
        if groups != 1:
            # Its output channels repeat from group to group: one scale an axis fits only one.
            return 'it is transposed and has groups'
        return Multiplication(node.name, node.op_type, (0,), second, 1, 0)
    if attribute(node, 'transA', 0):
        return 'it transposes its input'
    if attribute(node, 'alpha', 1.0) != 1.0 or attribute(node, 'beta', 1.0) != 1.0:
        return 'it scales its product or its bias'
    transposed = attribute(node, 'transB', 0)
    return Multiplication(
        node.name, node.op_type, (0,), second, 0 if transposed else 1, 1 if transposed else 0
    )


def channel_axis(layer: Multiplication) -> int:
    """The axis of its activations that numbers the channels."""
    return 1 if layer.op_type in ('Conv', 'ConvTranspose') else -1


def multiply_adds(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Multiply-adds of one image.

    Args:
        node: one of `OPERATORS`.
        shapes: of its inputs and outputs, as one run gave them.
    """
    first, second = shapes[node.input[0]], shapes[node.input[1]]
    if node.op_type == 'ConvTranspose':
        return math.prod(first) * math.prod(second[1:])
    out = math.prod(shapes[node.output[0]])
    if node.op_type == 'Conv':
        return out * math.prod(second[1:])
    return out * first[0 if attribute(node, 'transA', 0) else -1]


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
