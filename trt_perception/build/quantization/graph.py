# SPDX-License-Identifier: Apache-2.0
"""An ONNX graph made ready for quantizing, and ways to walk and change it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from trt_perception.core import PerceptionError
from trt_perception.core.errors import one_line

#: The first opset whose QuantizeLinear takes a scale a channel is 13; 17 is what ONNX Runtime,
#: TensorRT 10.3 and everything since read alike.
OPSET = 17
#: The version of the file format that came with it.
IR_VERSION = 8


class QuantizationError(PerceptionError):
    """A model that cannot be quantized."""


def prepare(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network in the form that quantizing works on: opset 17 or later, constants folded,
    batch normalisation merged into the convolution before it, every node with a name.

    Raises:
        QuantizationError: it is quantized already, or cannot be brought to that form.
    """
    operators = {n.op_type for n in model.graph.node}
    if found := operators & {'QuantizeLinear', 'DynamicQuantizeLinear', 'QLinearConv'}:
        raise QuantizationError(
            f'the model is quantized already ({", ".join(sorted(found))}); give the float model'
        )
    metadata = list(model.metadata_props)
    model = _folded(_converted_up(model))
    del model.metadata_props[:]
    model.metadata_props.extend(metadata)
    used = {n.domain for n in model.graph.node}
    for entry in [e for e in model.opset_import if e.domain and e.domain not in used]:
        model.opset_import.remove(entry)
    _name_nodes(model)
    return model


def _converted_up(model: onnx.ModelProto) -> onnx.ModelProto:
    version = next((e.version for e in model.opset_import if e.domain in ('', 'ai.onnx')), 0)
    if version >= OPSET:
        return model
    # Files of IR version 3 list the weights among the inputs; the converter wants them apart.
    weights = {w.name for w in model.graph.initializer}
    for value in [v for v in model.graph.input if v.name in weights]:
        model.graph.input.remove(value)
    model.ir_version = max(model.ir_version, IR_VERSION)
    try:
        return onnx.version_converter.convert_version(model, OPSET)
    except Exception as error:  # RuntimeError or one of its own, by version
        raise QuantizationError(
            f'the model has opset {version} and cannot be converted to {OPSET}'
            f' ({one_line(error)}); export it with opset {OPSET} or later'
        ) from None


def _folded(model: onnx.ModelProto) -> onnx.ModelProto:
    """What ONNX Runtime's basic optimisations make of it: they keep to standard operators."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'folded.onnx'
        options.optimized_model_filepath = str(path)
        try:
            onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=['CPUExecutionProvider']
            )
        except Exception as error:  # ONNX Runtime's errors share no public base class
            raise QuantizationError(f'ONNX Runtime refuses the model: {one_line(error)}') from None
        return onnx.load(str(path))


def _name_nodes(model: onnx.ModelProto) -> None:
    taken: set[str] = set()
    for number, node in enumerate(model.graph.node):
        if not node.name or node.name in taken:
            node.name = f'{node.op_type}_{number}'
        taken.add(node.name)


class Graph:
    """A copy of a model that can be walked and changed.

    Attributes:
        model: the copy.
        weights: constant tensors by name, as arrays; change them by `set_weight`.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        graph = self.model.graph
        self._initializers = {w.name: w for w in graph.initializer}
        self.weights: dict[str, NDArray[Any]] = {
            name: numpy_helper.to_array(w) for name, w in self._initializers.items()
        }
        self.producers = {name: n for n in graph.node for name in n.output if name}
        self.consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in dict.fromkeys(node.input):
                self.consumers.setdefault(name, []).append(node)
        self.outputs = {o.name for o in graph.output}

    def set_weight(self, name: str, array: NDArray[Any]) -> str:
        """Set a constant tensor, or add it under a name that is still free; its name."""
        tensor = numpy_helper.from_array(np.ascontiguousarray(array), name)
        if name in self._initializers:
            self._initializers[name].CopyFrom(tensor)
        else:
            self.model.graph.initializer.append(tensor)
            self._initializers[name] = self.model.graph.initializer[-1]
        self.weights[name] = array
        return name

    def insert(self, nodes: dict[str, list[onnx.NodeProto]]) -> None:
        """Put nodes in front of those whose names are given; '' is the front of all."""
        ordered = list(nodes.pop('', []))
        for node in self.model.graph.node:
            ordered += [*nodes.pop(node.name, []), node]
        assert not nodes, sorted(nodes)
        del self.model.graph.node[:]
        self.model.graph.node.extend(ordered)

    def finished(self) -> onnx.ModelProto:
        """The model without the constants that nobody takes any more."""
        used = {name for node in self.model.graph.node for name in node.input} | self.outputs
        graph = self.model.graph
        kept = [w for w in graph.initializer if w.name in used]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        return self.model


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """A node's attribute as a Python value."""
    for a in node.attribute:
        if a.name == name:
            return onnx.helper.get_attribute_value(a)
    return default


def with_outputs(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """A copy that gives these tensors too, after its own outputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    own = {o.name for o in copy.graph.output}
    copy.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in own)
    return copy
