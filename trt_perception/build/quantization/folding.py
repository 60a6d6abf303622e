# SPDX-License-Identifier: Apache-2.0
"""Divisions of channels that cost nothing at run time.

Between a convolution and the next quantization, a division of the channels is the convolution's
own: its weights and its bias take it, if what stands between lets a positive factor through. ReLU
does, SiLU does not. In INT8 only the scales of the weights change.
(Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019.)
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray

from trt_perception.build.quantization.graph import Graph

_HOMOGENEOUS = {'Relu', 'LeakyRelu', 'MaxPool'}


def fold_divisions(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that gives the same, in which convolutions do what multiplications behind them did.

    Only where nobody else takes what would change.
    """
    graph = Graph(model)
    folded: set[str] = set()
    for node in graph.model.graph.node:
        if node.op_type != 'Mul' or node.input[1] not in graph.weights:
            continue
        factor = graph.weights[node.input[1]]
        users = graph.consumers.get(node.output[0], [])
        if [u.op_type for u in users] != ['QuantizeLinear'] or factor.min() <= 0:
            continue
        convolution = _behind_what_lets_through(graph, node.input[0])
        if convolution is None or not _is_per_channel(factor, graph, convolution):
            continue
        _scale(graph, convolution, factor.reshape(-1))
        users[0].input[0] = node.input[0]
        folded.add(node.name)
    kept = [n for n in graph.model.graph.node if n.name not in folded]
    del graph.model.graph.node[:]
    graph.model.graph.node.extend(kept)
    return graph.finished()


def _behind_what_lets_through(graph: Graph, tensor: str) -> onnx.NodeProto | None:
    """The convolution that a tensor comes from, if nobody takes it, or it on its way, besides."""
    while tensor not in graph.outputs and len(graph.consumers[tensor]) == 1:
        producer = graph.producers.get(tensor)
        if producer is not None and producer.op_type == 'Conv':
            return producer
        if producer is None or producer.op_type not in _HOMOGENEOUS:
            return None
        tensor = producer.input[0]
    return None


def _is_per_channel(
    factor: NDArray[np.float32],
    graph: Graph,
    convolution: onnx.NodeProto,
) -> bool:
    weight, bias = _constants(graph, convolution)
    if weight not in graph.weights or (bias and bias not in graph.weights):
        return False
    channels = len(graph.weights[weight])
    return factor.size == channels and factor.shape[1:2] == (channels,)


def _constants(graph: Graph, convolution: onnx.NodeProto) -> tuple[str, str]:
    """Names of what the weights of each output channel are scaled by, and of the bias."""
    weight = convolution.input[1]
    producer = graph.producers.get(weight)
    if producer is not None and producer.op_type == 'DequantizeLinear':
        weight = producer.input[1]
    return weight, convolution.input[2] if len(convolution.input) > 2 else ''


def _scale(
    graph: Graph,
    convolution: onnx.NodeProto,
    factor: NDArray[np.float32],
) -> None:
    weight, bias = _constants(graph, convolution)
    old = graph.weights[weight]
    new = graph.add_weight(weight, old * factor.reshape(-1, *[1] * (old.ndim - 1)))
    if weight == convolution.input[1]:
        convolution.input[1] = new
    else:
        graph.producers[convolution.input[1]].input[1] = new
    if bias:
        convolution.input[2] = graph.add_weight(bias, graph.weights[bias] * factor)
