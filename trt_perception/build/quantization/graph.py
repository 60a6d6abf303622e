# SPDX-License-Identifier: Apache-2.0
"""An ONNX graph made ready for quantizing, and ways to walk and change it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
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
_NO_ROOM = 'the folder for temporary files, which TMPDIR names, cannot be written to'
_QUANTIZED = {
    'QuantizeLinear', 'DequantizeLinear', 'DynamicQuantizeLinear', 'QLinearConv', 'QLinearMatMul',
    'ConvInteger', 'MatMulInteger',
}  # fmt: skip
_HALVES = {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}


class QuantizationError(PerceptionError):
    """A model that cannot be quantized."""


def prepare(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network in the form that quantizing works on: opset 17 or later, constants folded,
    batch normalisation merged into the convolution before it, every node with a name.

    Raises:
        QuantizationError: it is quantized already or in FP16, or cannot be brought to that form.
    """
    operators = {n.op_type for n in model.graph.node}
    if found := operators & _QUANTIZED:
        raise QuantizationError(
            f'the model is quantized already ({", ".join(sorted(found))}); give the float model'
        )
    if any(w.data_type in _HALVES for w in _constants(model.graph)):
        raise QuantizationError(
            'the model has weights in 16 bits; give it in FP32: what does not become INT8 becomes'
            ' FP16 in the engine'
        )
    metadata = list(model.metadata_props)
    given = onnx.ModelProto()
    given.CopyFrom(model)
    # Weights that are inputs too could be replaced by who runs the model; nobody does.
    weights = {w.name for w in given.graph.initializer}
    for value in [v for v in given.graph.input if v.name in weights]:
        given.graph.input.remove(value)
    given.ir_version = max(given.ir_version, IR_VERSION)
    model = _folded(_converted_up(given))
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
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / 'folded.onnx'
            options.optimized_model_filepath = str(path)
            onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=['CPUExecutionProvider']
            )
            return onnx.load(str(path))
    except OSError as error:
        raise QuantizationError(f'{_NO_ROOM}: {one_line(error)}') from None
    except Exception as error:  # ONNX Runtime's errors share no public base class
        if 'serialization failed' in str(error):  # all that it says of a disk that is full
            raise QuantizationError(f'{_NO_ROOM}; it may be full') from None
        raise QuantizationError(f'ONNX Runtime refuses the model: {one_line(error)}') from None


def _name_nodes(model: onnx.ModelProto) -> None:
    taken = {n.name for n in model.graph.node}
    seen: set[str] = set()
    for number, node in enumerate(model.graph.node):
        if not node.name or node.name in seen:
            node.name = _free(f'{node.op_type}_{number}', taken)
        seen.add(node.name)


def _free(name: str, taken: set[str]) -> str:
    """This name or one like it that is not taken; it is taken then."""
    while name in taken:
        name += '_'
    taken.add(name)
    return name


class Graph:
    """A copy of a model that can be walked and changed.

    Attributes:
        model: the copy.
        weights: constant tensors by name, as arrays.
        consumers: of each tensor, the nodes that take it, also those whose bodies do.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        graph = self.model.graph
        self.weights: dict[str, NDArray[Any]] = {
            w.name: numpy_helper.to_array(w) for w in graph.initializer
        }
        self.producers = {name: n for n in graph.node for name in n.output if name}
        self.consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in reads(node):
                self.consumers.setdefault(name, []).append(node)
        self.outputs = {o.name for o in graph.output}
        self._taken = {*self.weights, *self.producers, *self.consumers}
        self._taken.update(v.name for v in graph.input)
        self._taken.update(n.name for n in graph.node)

    def fresh(self, name: str) -> str:
        """This name, or one like it that no node and no tensor has."""
        return _free(name, self._taken)

    def add_weight(self, name: str, array: NDArray[Any]) -> str:
        """Add a constant tensor by this name or one like it; its name."""
        name = self.fresh(name)
        tensor = numpy_helper.from_array(np.asarray(array, order='C'), name)  # a scalar stays one
        self.model.graph.initializer.append(tensor)
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
        used = {name for node in self.model.graph.node for name in reads(node)} | self.outputs
        graph = self.model.graph
        kept = [w for w in graph.initializer if w.name in used]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        return self.model


def reads(node: onnx.NodeProto) -> list[str]:
    """What a node takes, itself and in its bodies (of If and Loop), each once."""
    names = dict.fromkeys(node.input)
    for body in bodies(node):
        names.update(dict.fromkeys(o.name for o in body.output))
        for inner in body.node:
            names.update(dict.fromkeys((*reads(inner), *inner.output)))
    return list(names)


def bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """What a node runs: the branches of an If, the body of a Loop."""
    for a in node.attribute:
        yield from ([a.g] if a.HasField('g') else a.graphs)


def _constants(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        if node.op_type == 'Constant':
            yield from (a.t for a in node.attribute if a.HasField('t'))
        for body in bodies(node):
            yield from _constants(body)


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
