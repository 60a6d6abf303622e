# SPDX-License-Identifier: Apache-2.0
"""A model that is being quantized, and what is known of it."""

from __future__ import annotations

from collections.abc import Callable, Set

import numpy as np
import onnx
from numpy.typing import NDArray

from trt_perception.build.agreement import agreement
from trt_perception.build.quantization.bench import Bench
from trt_perception.build.quantization.folding import fold_divisions
from trt_perception.build.quantization.graph import Graph, QuantizationError
from trt_perception.build.quantization.insertion import Plan, insert
from trt_perception.build.quantization.layers import (
    OPERATORS,
    Multiplication,
    channel_axis,
    find,
    multiply_adds,
)
from trt_perception.build.quantization.local import LocalError
from trt_perception.build.quantization.observation import Activation, Place, look, observe


class Network:
    """A prepared model on its bench.

    Attributes:
        model: as `prepare` gives it.
        layers: those that can be quantized, by name; ``inputs``, ``outputs``, ``weights`` are
            theirs: names of tensors, constant weights.
        unfit: names of the others that multiply, and why they stay in float.
        macs: multiply-adds of one image, of all that multiply.
        seen: what flowed through inputs and outputs, by the axis of their channels.
        shapes: of these tensors.
        float_detections: what the model sees in the frames.
    """

    def __init__(self, model: onnx.ModelProto, bench: Bench, on_frame: Callable[[], None]) -> None:
        self.model = model
        self.bench = bench
        graph = Graph(model)
        found, self.unfit = find(graph)
        nodes = {n.name: n for n in model.graph.node if n.op_type in OPERATORS}
        tensors = dict.fromkeys(t for n in nodes.values() for t in (*n.input[:2], n.output[0]))
        first = look(bench, model, [t for t in tensors if t not in graph.weights])
        first |= {t: graph.weights[t] for t in tensors if t in graph.weights}
        self.shapes: dict[str, tuple[int, ...]] = {name: a.shape for name, a in first.items()}
        self.macs = {name: multiply_adds(node, self.shapes) for name, node in nodes.items()}

        def places(layer: Multiplication) -> list[Place]:
            node, axis = nodes[layer.name], channel_axis(layer)
            return [(t, axis) for t in (*(node.input[i] for i in layer.activations), *node.output)]

        wide = []
        for layer in found:
            if kinds := {str(first[t].dtype) for t, _ in places(layer)} - {'float32'}:
                self.unfit[layer.name] = f'it computes in {", ".join(sorted(kinds))}'
            else:
                wide.append(layer)
        seen, unseen = observe(bench, model, [p for layer in wide for p in places(layer)], on_frame)
        self.seen: dict[Place, Activation] = seen
        self.layers: dict[str, Multiplication] = {}
        for layer in wide:
            reasons = [unseen[t] for t, _ in places(layer) if t in unseen]
            if reasons:
                self.unfit[layer.name] = reasons[0]
            else:
                self.layers[layer.name] = layer
        if not self.layers:
            why = next((f': {why}' for why in self.unfit.values()), '')
            raise QuantizationError(
                f'the model has no convolution or matrix product to quantize{why}'
            )
        self.outputs = {name: nodes[name].output[0] for name in self.layers}
        self.inputs = {
            name: [nodes[name].input[place] for place in layer.activations]
            for name, layer in self.layers.items()
        }
        self.weights: dict[str, NDArray[np.float32]] = {
            name: graph.weights[layer.weight] for name, layer in self.layers.items() if layer.weight
        }
        self.float_detections = bench.detect(model, on_frame)

    def taken(self, name: str) -> Activation:
        """What flowed into a layer, by its first input."""
        return self.seen[self.inputs[name][0], channel_axis(self.layers[name])]

    def variance(self, name: str) -> float:
        """Of what flowed out of a layer."""
        return self.seen[self.outputs[name], channel_axis(self.layers[name])].variance

    def with_int8(self, plan: Plan, int8: Set[str]) -> onnx.ModelProto:
        return fold_divisions(insert(self.model, self.layers, plan, int8, self.shapes))

    def agreement(self, model: onnx.ModelProto) -> float:
        return agreement(self.float_detections, self.bench.detect(model))

    def noise(self, name: str, error: LocalError) -> float:
        return error.power / max(self.variance(name), 1e-12)
