# SPDX-License-Identifier: Apache-2.0
"""In which numbers a network multiplies, read off its graph."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from trt_perception.runtime.onnx_file import load_graph

_MULTIPLY = ('Conv', 'ConvTranspose', 'Gemm', 'MatMul')
_INTEGER = ('QLinearConv', 'QLinearMatMul', 'ConvInteger', 'MatMulInteger')
_FLOATS = {1: 'float32', 10: 'float16', 11: 'float64', 16: 'bfloat16'}


def read_precision(model: Path, otherwise: str) -> str:
    """The precision of the layers that multiply, which are nearly all of a network's work.

    A layer is in INT8 if both of its factors are quantized.

    Args:
        model: an ONNX file.
        otherwise: of layers whose weights do not tell.

    Returns:
        ``float32``, ``float16``, ``int8``, or for a mixture the counts:
        ``int8 (57 of 63 layers, else float32)``.

    Raises:
        ModelFileError: no readable ONNX file.
    """
    return graph_precision(load_graph(model).graph, otherwise)


def graph_precision(graph: Any, otherwise: str = 'float32') -> str:
    """As `read_precision`, of an `onnx.GraphProto`."""
    quantized = {n.output[0] for n in graph.node if n.op_type == 'DequantizeLinear'}
    weights = {w.name: w.data_type for w in graph.initializer}
    int8 = 0
    floats: Counter[str] = Counter()
    for node in graph.node:
        factors = node.input[:2]
        if node.op_type in _INTEGER or (
            node.op_type in _MULTIPLY and all(name in quantized for name in factors)
        ):
            int8 += 1
        elif node.op_type in _MULTIPLY:
            kinds = [_FLOATS[weights[n]] for n in factors if weights.get(n) in _FLOATS]
            floats[kinds[0] if kinds else otherwise] += 1
    kind = floats.most_common(1)[0][0] if floats else otherwise
    if not int8:
        return kind
    layers = int8 + floats.total()
    return f'int8 ({int8} of {layers} layers, else {kind})' if floats else 'int8'


def has_integer_kernels(graph: Any) -> bool:
    """Whether most INT8 layers give INT8 too, as ONNX Runtime's integer kernels must.

    Models made for TensorRT do not: there the activation function follows in float. ONNX Runtime
    then multiplies floats all the same, and faster if the weights are constants.
    """
    quantized = {n.output[0] for n in graph.node if n.op_type == 'DequantizeLinear'}
    quantizers = {n.input[0] for n in graph.node if n.op_type == 'QuantizeLinear'}
    layers = [
        node.output[0] in quantizers
        for node in graph.node
        if node.op_type in _MULTIPLY and all(name in quantized for name in node.input[:2])
    ]
    return 2 * sum(layers) > len(layers)
