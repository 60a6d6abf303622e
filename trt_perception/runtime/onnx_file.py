# SPDX-License-Identifier: Apache-2.0
"""Read from an ONNX file what it says of itself."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from trt_perception.core import PerceptionError, Signature, TensorInfo
from trt_perception.core.errors import one_line
from trt_perception.core.files import is_file
from trt_perception.core.model_spec import MAX_INPUT_PIXELS
from trt_perception.core.recognise import check_input_size, input_size


class ModelFileError(PerceptionError):
    """A model, labels or YAML file that is missing or cannot be read."""


def read_signature(path: Path, size: tuple[int, int] | None = None) -> Signature:
    """Inputs, outputs, notes and operators of a model.

    Args:
        path: an ONNX file.
        size: width and height to take for an image input that leaves its size free.

    Raises:
        ModelFileError: not there, or not an ONNX file.
    """
    model = load_graph(path)
    try:
        onnx_graph = model.graph
        # Files of IR version 3 list the weights among the inputs.
        weights = {w.name for w in onnx_graph.initializer}
        signature = Signature(
            inputs=tuple(_tensor(v) for v in onnx_graph.input if v.name not in weights),
            outputs=tuple(_tensor(v) for v in onnx_graph.output),
            metadata={p.key: p.value for p in model.metadata_props},
            operators=frozenset(n.op_type for n in onnx_graph.node),
        )
    except Exception as error:  # of types and names that no text can hold
        raise _unreadable(path, error) from None
    if not signature.inputs or not signature.outputs:
        raise ModelFileError(f"model '{path}' is not an ONNX network: it has no input or output")
    return _with_output_sizes(path, signature, size)


def load_graph(path: Path) -> Any:
    """The file as an `onnx.ModelProto`, without weights that lie in files of their own.

    Raises:
        ModelFileError: not there, or not an ONNX file.
    """
    if not is_file(path):
        raise ModelFileError(f"model '{path}' is not a file; give the path of an ONNX model")
    try:
        import onnx
    except ImportError as error:
        raise ModelFileError(f"model '{path}' needs onnx ({error}); pip install onnx") from None
    try:
        model = onnx.load(str(path), load_external_data=False)
        outside = [where for where in _external(model.graph) if not _stays_within(where)]
    except Exception as error:  # protobuf's own errors share no base class
        raise _unreadable(path, error) from None
    if outside:
        raise ModelFileError(
            f"model '{path}' has weights in '{outside[0]}', which is not in its own folder; such a"
            ' file is never read'
        )
    return model


def _external(graph: Any) -> Iterator[str]:
    """Where weights are said to lie that are not in the file, in the graph and those within."""
    tensors = [*graph.initializer, *(sparse.values for sparse in graph.sparse_initializer)]
    graphs = []
    for node in graph.node:
        for attribute in node.attribute:
            tensors += [attribute.t, *attribute.tensors]
            graphs += [attribute.g, *attribute.graphs]
    for tensor in tensors:
        for entry in tensor.external_data:
            if entry.key == 'location':
                yield entry.value
    for inner in graphs:
        yield from _external(inner)


def _stays_within(location: str) -> bool:
    path = PurePath(location)
    return not path.is_absolute() and '..' not in path.parts


def _unreadable(path: Path, error: Exception) -> ModelFileError:
    return ModelFileError(f"model '{path}' is not a readable ONNX file: {one_line(error)}")


def _tensor(value: Any) -> TensorInfo:
    import onnx

    kind = value.type.tensor_type
    if not kind.elem_type:
        return TensorInfo(value.name, value.type.WhichOneof('value') or 'untyped', ())
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)).name
    # A size is positive; what is absent, named or not positive is free.
    shape = tuple(d.dim_value if d.dim_value > 0 else None for d in kind.shape.dim)
    return TensorInfo(value.name, dtype, shape)


def _with_output_sizes(path: Path, signature: Signature, size: tuple[int, int] | None) -> Signature:
    """Output sizes that the file leaves free, read off one run: no guess can be wrong then."""
    if all(o.shape and None not in o.shape[1:] for o in signature.outputs):
        return signature
    size = size or input_size(signature)
    if size is None:
        return signature
    check_input_size(*size)
    from trt_perception.runtime.host.onnx_runtime import open_session

    feeds = {}
    for tensor in signature.inputs:
        shape = [1 if n is None else n for n in tensor.shape]
        if len(shape) == 4:
            shape[1:] = tensor.shape[1] or 3, size[1], size[0]
        if math.prod(shape) > 4 * MAX_INPUT_PIXELS:
            raise ModelFileError(f"model '{path}': input {tensor} is too large to run")
        feeds[tensor.name] = np.ones(shape, tensor.dtype)
    try:
        arrays = open_session(path).run(None, feeds)
    except PerceptionError:
        raise
    except Exception as error:
        raise ModelFileError(
            f"model '{path}' does not run with a {size[0]}x{size[1]} input: {one_line(error)}"
        ) from None
    outputs = tuple(
        dataclasses.replace(tensor, shape=np.shape(array))
        for tensor, array in zip(signature.outputs, arrays, strict=True)
    )
    return dataclasses.replace(signature, outputs=outputs)
