# SPDX-License-Identifier: Apache-2.0
"""The model that an engine is made from, checked, and the network that TensorRT's parser gets."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from trt_perception.build.calibration import CALIBRATION_KEY
from trt_perception.build.engine.tuning import Precision
from trt_perception.build.half import to_half
from trt_perception.core import ModelSpec, PerceptionError, SpecError
from trt_perception.core.errors import one_line
from trt_perception.core.files import is_file, sha256
from trt_perception.runtime.gate_result import METADATA_KEY
from trt_perception.runtime.model_file import load_spec


class SourceError(PerceptionError):
    """A model that no engine can be made from, or none as asked."""


@dataclass(frozen=True)
class Source:
    """A model as read.

    Attributes:
        sha256: of the file; digest: of the whole network, weights in other files included.
        quantized: explicitly, with QuantizeLinear and DequantizeLinear.
        spec: what it wants and gives; None where this package cannot read its outputs.
        unread: why not.
    """

    path: Path
    model: onnx.ModelProto
    sha256: str
    digest: str
    quantized: bool
    gate: dict[str, Any] | None
    calibration: dict[str, Any] | None
    spec: ModelSpec | None
    unread: str

    @property
    def free_batch(self) -> bool:
        """Whether the network takes any number of images at a time."""
        name = self.spec.input_name if self.spec is not None else ''
        inputs = {i.name: i.type.tensor_type.shape.dim for i in self.model.graph.input}
        return bool(inputs.get(name)) and not inputs[name][0].HasField('dim_value')


def read_source(path: Path, labels: str = '') -> Source:
    """Read a model.

    Args:
        labels: class names, see `trt_perception.runtime.model_file.read_labels`.

    Raises:
        PerceptionError: not there, not an ONNX file, or with notes that cannot be read.
    """
    if not is_file(path):
        raise SourceError(f"model '{path}' is not a file; give the path of an ONNX model")
    file_hash = sha256(path)
    try:
        model = onnx.load(str(path))
        apart = any(w.data_location == TensorProto.EXTERNAL for w in _stored(path))
    except Exception as error:  # protobuf's own errors share no base class
        raise SourceError(
            f"model '{path}' is not a readable ONNX file: {one_line(error)}"
        ) from None
    notes = {p.key: p.value for p in model.metadata_props}
    spec, unread = None, ''
    try:
        spec = load_spec(path, labels)
    except SpecError as error:
        unread = one_line(error)
    return Source(
        path,
        model,
        file_hash,
        hashlib.sha256(model.SerializeToString()).hexdigest() if apart else file_hash,
        any(n.op_type == 'QuantizeLinear' for n in model.graph.node),
        _note(notes, METADATA_KEY, path),
        _note(notes, CALIBRATION_KEY, path),
        spec,
        unread,
    )


def _stored(path: Path) -> Any:
    return onnx.load(str(path), load_external_data=False).graph.initializer


def _note(notes: dict[str, str], key: str, path: Path) -> dict[str, Any] | None:
    if key not in notes:
        return None
    try:
        note = json.loads(notes[key])
        if not isinstance(note, dict):
            raise ValueError('not an object')
    except (ValueError, RecursionError) as error:
        raise SourceError(
            f"model '{path}': its note '{key}' cannot be read ({one_line(error)}); quantize it anew"
        ) from None
    return note


def check_precision(source: Source, precision: Precision | None) -> Precision:
    """The precision to build in: as asked, else INT8 for a quantized model and FP16 for another.

    Raises:
        SourceError: the model is not the one for it.
    """
    if precision is None:
        return 'int8' if source.quantized else 'fp16'
    if precision == 'int8' and not source.quantized:
        raise SourceError(
            f"model '{source.path}' is not quantized; quantize it first: trt-perception quantize"
            f" '{source.path}' --calibration DIR -o '{source.path.stem}_int8.onnx'"
        )
    if precision != 'int8' and source.quantized:
        raise SourceError(
            f"model '{source.path}' is quantized, so it cannot be built in {precision}; take"
            ' --precision int8, or the float model that it was made from'
        )
    return precision


def check_gate(source: Source, accept: bool) -> None:
    """Let no model pass whose accuracy gate failed, unless the user takes it all the same.

    Raises:
        SourceError: it failed.
    """
    if source.gate is None or source.gate.get('passed') is True or accept:
        return
    raise SourceError(
        f"model '{source.path}' did not pass its accuracy gate: INT8 costs more than was allowed;"
        ' quantize it anew, take the float model, or give --accept'
    )


def network_for(source: Source, precision: Precision) -> bytes:
    """The ONNX bytes that TensorRT's parser gets.

    Raises:
        HalfError: the float part cannot be converted to FP16.
    """
    model = onnx.ModelProto()
    model.CopyFrom(source.model)
    _dequantize_biases(model.graph)
    if precision != 'fp32':
        model = to_half(model)
    return bytes(model.SerializeToString())


def _dequantize_biases(graph: onnx.GraphProto) -> None:
    """Turn INT32 biases, which ONNX Runtime's quantizer makes and TensorRT refuses, into floats."""
    weights = {w.name: w for w in graph.initializer}
    kept = []
    for node in graph.node:
        stored = [weights[name] for name in node.input if name in weights]
        if (
            node.op_type != 'DequantizeLinear'
            or len(stored) < len(node.input)
            or stored[0].data_type != TensorProto.INT32
        ):
            kept.append(node)
            continue
        arrays = [numpy_helper.to_array(w) for w in stored]
        zero = arrays[2] if len(arrays) > 2 else 0
        value = ((arrays[0] - zero) * arrays[1]).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
    if len(kept) < len(graph.node):
        kept = [onnx.NodeProto.FromString(n.SerializeToString()) for n in kept]
        del graph.node[:]
        graph.node.extend(kept)
