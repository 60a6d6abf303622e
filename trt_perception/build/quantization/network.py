# SPDX-License-Identifier: Apache-2.0
"""A model that is being quantized, and what is known of it."""

from __future__ import annotations

from collections.abc import Callable, Set

import numpy as np
import onnx
from numpy.typing import NDArray

from trt_perception.build.agreement import agreement
from trt_perception.build.quantization.bench import Bench
from trt_perception.build.quantization.graph import Graph, QuantizationError
from trt_perception.build.quantization.insertion import Plan, insert
from trt_perception.build.quantization.layers import Multiplication, find, multiply_adds
from trt_perception.build.quantization.local import LocalError, channel_axis
from trt_perception.build.quantization.observation import Activation, observe


class Network:
    """A prepared model on its bench.

    Attributes:
        model: as `prepare` gives it.
        layers: those that multiply, by name; ``inputs``, ``outputs``, ``weights``, ``macs`` are
            theirs: names of tensors, constant weights, multiply-adds of one image.
        seen: what flowed through their inputs and outputs.
        shapes: of these tensors.
        float_detections: what the model sees in the frames.
    """

    def __init__(self, model: onnx.ModelProto, bench: Bench, on_frame: Callable[[], None]) -> None:
        self.model = model
        self.bench = bench
        graph = Graph(model)
        self.layers: dict[str, Multiplication] = {layer.name: layer for layer in find(graph)}
        if not self.layers:
            raise QuantizationError('the model has no convolution or matrix product to quantize')
        nodes = {n.name: n for n in model.graph.node}
        self.outputs = {name: nodes[name].output[0] for name in self.layers}
        self.inputs = {
            name: [nodes[name].input[place] for place in layer.activations]
            for name, layer in self.layers.items()
        }
        self.weights: dict[str, NDArray[np.float32]] = {
            name: graph.weights[layer.weight].astype(np.float32)
            for name, layer in self.layers.items()
            if layer.weight
        }
        axes: dict[str, int] = {}
        for name, layer in self.layers.items():
            for tensor in (*self.inputs[name], self.outputs[name]):
                axes.setdefault(tensor, channel_axis(layer))
        self.seen: dict[str, Activation] = observe(bench, model, axes, on_frame)
        self.shapes = {name: a.shape for name, a in self.seen.items()}
        self.macs = {
            name: multiply_adds(graph, layer, self.shapes) for name, layer in self.layers.items()
        }
        self.float_detections = bench.detect(model, on_frame)

    def with_int8(self, plan: Plan, int8: Set[str]) -> onnx.ModelProto:
        return insert(self.model, self.layers, plan, int8, self.shapes)

    def agreement(self, model: onnx.ModelProto) -> float:
        return agreement(self.float_detections, self.bench.detect(model))

    def noise(self, name: str, error: LocalError) -> float:
        return error.power / max(self.seen[self.outputs[name]].variance, 1e-12)
