# SPDX-License-Identifier: Apache-2.0
"""Scales of quantizers in FP16: which values they may take, and the weights that go with them."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

_DQ = 'DequantizeLinear'
#: A scale may move by this before its weights are rounded anew: a quarter of their last step.
_SCALE_TOLERANCE = 1 / 512


def round_scales(graph: onnx.GraphProto) -> None:
    """Give each scale a value that FP16 holds, and its weights the integers that fit it."""
    weights = {w.name: w for w in graph.initializer}
    users = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            users[name].append(node)
    for name in {n.input[1] for n in graph.node if n.op_type in ('QuantizeLinear', _DQ)}:
        if name not in weights or weights[name].data_type != TensorProto.FLOAT:
            continue
        scale = numpy_helper.to_array(weights[name])
        rounded = half_scale(scale)
        nodes = users[name]
        if all(n.op_type == _DQ and n.input[0] in weights for n in nodes):
            for node in nodes:
                if len(users[node.input[0]]) == 1:
                    _rescale(weights[node.input[0]], scale, rounded, _axis(node))
        weights[name].CopyFrom(numpy_helper.from_array(rounded, name))


def half_scale(scale: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scales that FP16 holds exactly: the nearest, or the next larger where that is far off.

    Rounded down that far, the largest values would not fit into eight bits any more.
    """
    with np.errstate(over='ignore'):
        near = scale.astype(np.float16)
    above = np.where(near < scale, np.nextafter(near, np.float16(np.inf)), near)
    far = np.abs(near.astype(np.float32) - scale) > _SCALE_TOLERANCE * scale
    return np.where(near < np.inf, np.where(far, above, near), scale).astype(np.float32)


def _rescale(
    weight: TensorProto, scale: NDArray[np.float32], rounded: NDArray[np.float32], axis: int
) -> None:
    if weight.data_type != TensorProto.INT8:  # TensorRT takes no other, and only around zero
        return
    ratio = np.divide(scale, rounded, out=np.ones_like(scale), where=rounded > 0)
    if np.all(np.abs(ratio - 1) <= _SCALE_TOLERANCE):
        return
    values = numpy_helper.to_array(weight)
    if ratio.ndim == 1 and values.ndim:
        ratio = ratio.reshape([-1 if i == axis % values.ndim else 1 for i in range(values.ndim)])
    anew = np.clip(np.rint(values * ratio), -128, 127).astype(np.int8)
    weight.CopyFrom(numpy_helper.from_array(anew, weight.name))


def _axis(node: onnx.NodeProto) -> int:
    return next((int(a.i) for a in node.attribute if a.name == 'axis'), 1)
