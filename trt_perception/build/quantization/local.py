# SPDX-License-Identifier: Apache-2.0
"""The error that each layer makes by itself, and the part of it that a bias takes away.

Every quantized layer is run beside its float self on the float network's own activations. Errors of
other layers do not mix in, so all layers are measured, and corrected, in one pass; to correct what
has mixed makes each layer mend what the ones before it have mended already.
(Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019; the
means are measured here.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from trt_perception.build.quantization.bench import Bench, Tensors
from trt_perception.build.quantization.graph import Graph
from trt_perception.build.quantization.insertion import Plan, insert
from trt_perception.build.quantization.layers import Multiplication, channel_axis

_TWIN = '/int8'


@dataclass
class LocalError:
    """Of one layer's output.

    Attributes:
        mean: (channels,) of the error.
        power: mean square of the error, the sum over channels.
    """

    mean: NDArray[np.float64]
    power: float


def local_errors(
    bench: Bench,
    model: onnx.ModelProto,
    layers: Mapping[str, Multiplication],
    plan: Plan,
    shapes: Mapping[str, tuple[int, ...]],
    on_frame: Callable[[], None] = lambda: None,
) -> dict[str, LocalError]:
    """Of all layers, over all frames."""
    twins, outputs = _with_twins(model, layers, plan, shapes)
    frames: dict[str, int] = {}
    errors: dict[str, LocalError] = {}

    def see(tensors: Tensors) -> None:
        for name, (output, twin) in outputs.items():
            error = tensors[twin].astype(np.float64) - tensors[output]
            if not error.size:
                continue
            axis = channel_axis(layers[name])
            flat = np.moveaxis(error, axis, 0).reshape(error.shape[axis], -1)
            known = errors.setdefault(name, LocalError(np.zeros(len(flat)), 0.0))
            known.mean += flat.mean(axis=1)
            known.power += float((flat**2).mean(axis=1).sum())
            frames[name] = frames.get(name, 0) + 1

    bench.observe(twins, [name for pair in outputs.values() for name in pair], see, on_frame)
    for name, known in errors.items():
        known.mean /= frames[name]
        known.power /= frames[name]
    return errors


def correct_biases(model: onnx.ModelProto, errors: Mapping[str, LocalError], plan: Plan) -> None:
    """Take the mean errors out of the biases of convolutions and of Gemm, which have a bias."""
    graph = Graph(model)
    for node in model.graph.node:
        if node.name not in errors or node.op_type == 'MatMul':
            continue
        named = node.input[2] if len(node.input) > 2 else ''
        if named and named not in graph.weights:
            continue
        bias = graph.weights[named] if named else 0.0
        if np.ndim(bias) > 1:
            continue  # a Gemm may add a whole matrix
        plan.biases[node.name] = (bias - errors[node.name].mean).astype(np.float32)


def _with_twins(
    model: onnx.ModelProto,
    layers: Mapping[str, Multiplication],
    plan: Plan,
    shapes: Mapping[str, tuple[int, ...]],
) -> tuple[onnx.ModelProto, dict[str, tuple[str, str]]]:
    """Each layer beside itself in INT8; the outputs of both, by the name of the layer."""
    floats = {n.name: n for n in model.graph.node}
    graph = Graph(insert(model, layers, plan, set(layers), shapes))
    outputs: dict[str, tuple[str, str]] = {}
    twins = graph.model
    nodes = list(twins.graph.node)
    del twins.graph.node[:]
    for node in nodes:
        if node.name in layers:
            twin = twins.graph.node.add()
            twin.CopyFrom(node)
            twin.name = graph.fresh(node.name + _TWIN)
            twin.output[0] = graph.fresh(node.output[0] + _TWIN)
            outputs[node.name] = node.output[0], twin.output[0]
        twins.graph.node.add().CopyFrom(floats.get(node.name, node))
    there = {w.name for w in twins.graph.initializer}
    twins.graph.initializer.extend(w for w in model.graph.initializer if w.name not in there)
    return twins, outputs
