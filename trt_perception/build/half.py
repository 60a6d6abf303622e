# SPDX-License-Identifier: Apache-2.0
"""The float part of a network in FP16, as a strongly typed TensorRT network needs it.

Inputs and outputs keep their types, by casts at the borders. FP32 stays what FP16 would harm:

* what follows the last convolution or matrix product: it makes pixels, and FP16 knows only every
  half pixel beyond 512;
* operators that have no FP16, and those whose results leave its range from ordinary inputs;
* constants beyond its range, or all below it; values that come from integers (shapes, indices).

Quantized networks keep their integers. Scales become FP16 with what they scale, rounded once for
quantizing and dequantizing alike; weights whose scale FP16 cannot hold closely are rounded anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, inliner, numpy_helper, version_converter

from trt_perception.build.half_scales import round_scales
from trt_perception.core import PerceptionError
from trt_perception.core.errors import one_line

_DQ = 'DequantizeLinear'
_FLOAT, _HALF = TensorProto.FLOAT, TensorProto.FLOAT16
_LARGEST = float(np.finfo(np.float16).max)
_SMALLEST = float(np.finfo(np.float16).tiny)
#: FP16 scales of QuantizeLinear and DequantizeLinear exist from here on.
_QDQ_OPSET = 19
_FOREIGN = 'trt_perception.foreign'
_HEAVY = {
    'Conv', 'ConvTranspose', 'DeformConv', 'Einsum', 'GRU', 'Gemm', 'LSTM', 'MatMul', 'RNN',
    'QuantizeLinear',
}  # fmt: skip
_RANGE = {
    'CumSum', 'Exp', 'Log', 'Pow', 'Reciprocal', 'ReduceL1', 'ReduceL2', 'ReduceLogSum',
    'ReduceLogSumExp', 'ReduceMean', 'ReduceProd', 'ReduceSum', 'ReduceSumSquare', 'Sqrt',
}  # fmt: skip
#: Inputs that say how, not what: their precision is cheap and matters.
_SETTINGS = {'Resize': (1, 2), 'Upsample': (1,), 'Range': (0, 1, 2), 'OneHot': (2,)}
#: Attributes that set the type of a result, whatever comes in.
_TYPE_ATTRIBUTES = {'dtype', 'output_dtype'}
_INTEGERS = {
    TensorProto.INT32, TensorProto.INT64, TensorProto.UINT32, TensorProto.UINT64,
    TensorProto.INT16, TensorProto.UINT16,
}  # fmt: skip


class HalfError(PerceptionError):
    """A network that cannot be converted."""


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a network whose float part is FP16.

    Args:
        model: float, or quantized explicitly with QuantizeLinear and DequantizeLinear.

    Raises:
        HalfError: the network's types cannot be worked out.
    """
    half = onnx.ModelProto()
    half.CopyFrom(model)
    try:
        if half.functions:
            half = inliner.inline_local_functions(half)
        if any(n.op_type == 'QuantizeLinear' for n in half.graph.node):
            half = _raised(half, _QDQ_OPSET)
        _constants_to_weights(half.graph)
        types = _types(half)
    except Exception as error:  # onnx raises many, of no common base
        raise HalfError(f'the network cannot be converted to FP16: {one_line(error)}') from None
    round_scales(half.graph)
    _Conversion(half, types).run()
    return half


def _raised(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    given = _opset(model)
    if given >= opset:
        return model
    # The converter stops at operators that it does not know, TensorRT's plugins: they go unseen.
    foreign = [n for n in model.graph.node if not n.domain and not onnx.defs.has(n.op_type)]
    for node in foreign:
        node.domain = _FOREIGN
    if foreign:
        model.opset_import.append(helper.make_opsetid(_FOREIGN, 1))
    raised = version_converter.convert_version(model, opset)
    for node in raised.graph.node:
        if node.domain == _FOREIGN:
            node.domain = ''
    _replace(raised.opset_import, [o for o in raised.opset_import if o.domain != _FOREIGN])
    # What is no part of the graph's meaning does not survive the conversion.
    del raised.metadata_props[:]
    raised.metadata_props.extend(model.metadata_props)
    return raised


def _opset(model: onnx.ModelProto) -> int:
    return next((int(o.version) for o in model.opset_import if o.domain in ('', 'ai.onnx')), 1)


def _types(model: onnx.ModelProto) -> dict[str, int]:
    """Element type of each tensor of the main graph, where it can be told."""
    inferred = onnx.shape_inference.infer_shapes(model, check_type=False, data_prop=True).graph
    values = (*inferred.input, *inferred.value_info, *inferred.output)
    types = {v.name: v.type.tensor_type.elem_type for v in values}
    return types | {w.name: w.data_type for w in inferred.initializer}


def _constants_to_weights(graph: onnx.GraphProto) -> None:
    kept = []
    for node in graph.node:
        if node.op_type == 'Constant' and node.attribute[0].name.startswith('value'):
            array = _constant(node.attribute[0])
            if array is not None:
                graph.initializer.append(numpy_helper.from_array(array, node.output[0]))
                continue
        kept.append(node)
    _replace(graph.node, kept)


def _constant(attribute: onnx.AttributeProto) -> NDArray[Any] | None:
    value = helper.get_attribute_value(attribute)
    if attribute.name == 'value':
        return numpy_helper.to_array(value)
    kinds: dict[str, Any] = {'value_float': np.float32, 'value_floats': np.float32}
    kinds |= {'value_int': np.int64, 'value_ints': np.int64}
    kind = kinds.get(attribute.name)
    return None if kind is None else np.array(value, kind)


class _Conversion:
    """One run over the nodes of a graph, in their order."""

    def __init__(self, model: onnx.ModelProto, types: dict[str, int]) -> None:
        self._graph = model.graph
        self._opset = _opset(model)
        self._types = types  # as they were
        self._halves: set[str] = set()  # tensors that were FP32 and are FP16 now
        self._weights = {w.name: w for w in model.graph.initializer}
        self._outputs = {o.name for o in model.graph.output}
        self._from_integers: set[str] = set()
        self._casts: dict[tuple[str, int], str] = {}
        self._nodes: list[onnx.NodeProto] = []

    def run(self) -> None:
        tail = _tail(self._graph.node)
        for index, node in enumerate(list(self._graph.node)):
            schema = _schema(node, self._opset)
            half = set() if index in tail or self._stays(node, schema) else _half_types(schema)
            self._convert(node, schema, half)
        _replace(self._graph.node, self._nodes)
        used = {name for node in self._nodes for name in _reads(node)} | self._outputs
        _replace(self._graph.initializer, [w for w in self._weights.values() if w.name in used])
        del self._graph.value_info[:]

    def _convert(self, node: onnx.NodeProto, schema: Any, half: set[str]) -> None:
        results = [_formal(schema.outputs, i) if schema else '' for i in range(len(node.output))]
        if schema and not any(self._types.get(o) == _FLOAT for o in node.output):
            half = self._as_they_come(node)  # quantizers, Shape, comparisons, casts to integers
        for index, name in enumerate(node.input):
            if self._types.get(name) == _FLOAT:
                kind = _formal(schema.inputs, index) if schema else ''
                is_half = kind in half and index not in _SETTINGS.get(node.op_type, ())
                node.input[index] = self._as(name, _HALF if is_half else _FLOAT)
        for body in _bodies(node):
            _rename(body, {n: self._as(n, _FLOAT) for n in sorted(_outer(body) & self._halves)})
        for name, kind in zip(node.output, results, strict=True):
            if self._types.get(name) == _FLOAT and kind in half:
                self._halves.add(name)
        self._nodes.append(node)
        if node.op_type == 'Cast' and node.output[0] in self._halves:
            node.attribute[0].i = _HALF
        for index, name in enumerate(node.output):
            if name in self._outputs and name in self._halves:
                self._keep_output(node, index)

    def _keep_output(self, node: onnx.NodeProto, index: int) -> None:
        """Let a cast make the network's output, of the type and name that it had."""
        name = node.output[index]
        node.output[index] = inner = self._fresh(name, _HALF)
        self._halves.discard(name)
        self._casts[name, _HALF] = inner
        self._nodes.append(helper.make_node('Cast', [inner], [name], f'{name}_cast', to=_FLOAT))

    def _as(self, name: str, wanted: int) -> str:
        """The tensor in FP16 or FP32."""
        if wanted == (_HALF if name in self._halves else _FLOAT):
            return name
        if (name, wanted) not in self._casts:
            cast = self._casts[name, wanted] = self._fresh(name, wanted)
            if name in self._weights:
                with np.errstate(over='ignore'):
                    values = numpy_helper.to_array(self._weights[name]).astype(np.float16)
                self._weights[cast] = numpy_helper.from_array(values, cast)
            else:
                node = helper.make_node('Cast', [name], [cast], f'{cast}_cast', to=wanted)
                self._nodes.append(node)
        return self._casts[name, wanted]

    def _fresh(self, name: str, wanted: int) -> str:
        name += '_half' if wanted == _HALF else '_float'
        while name in self._types or name in self._weights:
            name += '_'
        return name

    def _as_they_come(self, node: onnx.NodeProto) -> set[str]:
        schema = _schema(node, self._opset)
        floats = [n for n in node.input if self._types.get(n) == _FLOAT and n not in self._weights]
        return _half_types(schema) if floats and all(n in self._halves for n in floats) else set()

    def _stays(self, node: onnx.NodeProto, schema: Any) -> bool:
        named = [*(n for n in node.input if n), *(n for n in node.output if n)]
        if not schema or not all(self._types.get(name) for name in named) or _bodies(node):
            return True
        if node.op_type in _RANGE or any(a.name in _TYPE_ATTRIBUTES for a in node.attribute):
            return True
        counted = node.op_type == 'Cast' and self._types[node.input[0]] in _INTEGERS
        if counted or node.op_type == 'Range':
            self._from_integers.update(node.output)
            return True
        floats = [n for n in node.input if self._types.get(n) == _FLOAT]
        made_of = self._from_integers.union(self._weights)
        if self._from_integers.intersection(floats) and made_of.issuperset(floats):
            self._from_integers.update(node.output)
            return True
        return any(self._harmed(node, index) for index in range(len(node.input)))

    def _harmed(self, node: onnx.NodeProto, index: int) -> bool:
        """Whether a constant would become infinite, or nothing."""
        weight = self._weights.get(node.input[index])
        if weight is None or weight.data_type != _FLOAT:
            return False
        if index in _SETTINGS.get(node.op_type, ()):
            return False
        size = np.abs(numpy_helper.to_array(weight))
        size = size[(size > 0) & np.isfinite(size)]
        if not size.size:
            return False
        if node.op_type in ('QuantizeLinear', _DQ):
            return bool(size.max() > _LARGEST)
        if node.op_type in _HEAVY and index > 1:  # a bias may well become 0
            return bool(size.max() > _LARGEST)
        smallest = size.min() if node.op_type == 'Div' and index == 1 else size.max()
        return bool(size.max() > _LARGEST or smallest < _SMALLEST)


def _tail(nodes: Iterable[onnx.NodeProto]) -> set[int]:
    """Numbers of the nodes that no convolution, matrix product or quantizer comes after."""
    order = list(nodes)
    feeds: set[str] = set()  # what such a node is made from
    tail = set()
    for index, node in reversed(list(enumerate(order))):
        if node.op_type in _HEAVY or feeds.intersection(node.output):
            feeds.update(_reads(node))
        else:
            tail.add(index)
    return tail


def _schema(node: onnx.NodeProto, opset: int) -> Any:
    if node.domain not in ('', 'ai.onnx'):
        return None
    try:
        return onnx.defs.get_schema(node.op_type, opset, '')
    except onnx.defs.SchemaError:
        return None


def _half_types(schema: Any) -> set[str]:
    """The type parameters of an operator that may be FP16."""
    allowed = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
    return {name for name, types in allowed.items() if 'tensor(float16)' in types}


def _formal(parameters: Any, index: int) -> str:
    """The type parameter of an input or output; the last may stand for many."""
    return str(parameters[min(index, len(parameters) - 1)].type_str)


def _bodies(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    return [g for a in node.attribute for g in ([a.g] if a.HasField('g') else a.graphs)]


def _walk(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for body in _bodies(node):
            yield from _walk(body)


def _outer(body: onnx.GraphProto) -> set[str]:
    """Names that a body takes from around it."""
    own = {v.name for v in (*body.input, *body.initializer)}
    own.update(name for node in _walk(body) for name in node.output)
    read = {name for node in _walk(body) for name in node.input} | {o.name for o in body.output}
    return read - own


def _rename(body: onnx.GraphProto, names: dict[str, str]) -> None:
    for node in _walk(body):
        for index, name in enumerate(node.input):
            node.input[index] = names.get(name, name)
    for output in body.output:
        output.name = names.get(output.name, output.name)


def _reads(node: onnx.NodeProto) -> set[str]:
    return set(node.input).union(*(_outer(body) for body in _bodies(node)))


def _replace(field: Any, items: Iterable[Any]) -> None:
    kept = [type(item).FromString(item.SerializeToString()) for item in items]
    del field[:]
    field.extend(kept)
