# SPDX-License-Identifier: Apache-2.0
"""An ONNX detector as a PyTorch module: the few operators that the peers' models have.

For benchmarks alone. Shapes are those of the file: one image, sizes fixed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor
from torch.nn import functional


class OnnxModule(torch.nn.Module):
    """Runs an ONNX graph operator by operator; ``half`` and ``to`` work as for any module."""

    def __init__(self, path: Path) -> None:
        """Read a file.

        Raises:
            NotImplementedError: it has an operator that is not one of `_OPERATORS`.
        """
        super().__init__()
        graph = onnx.load(str(path)).graph
        #: Integers that say shapes and places stay what they are; floats are the module's weights.
        self._fixed: dict[str, np.ndarray] = {}
        self._weights: dict[str, str] = {}
        for tensor in graph.initializer:
            self._hold(tensor.name, onnx.numpy_helper.to_array(tensor))
        self._nodes: list[tuple[Any, list[str], list[str], dict[str, Any]]] = []
        self._values: dict[str, Any] | None = None
        for node in graph.node:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            if node.op_type == 'Constant':
                self._hold(node.output[0], onnx.numpy_helper.to_array(attributes['value']))
                continue
            if node.op_type not in _OPERATORS:
                raise NotImplementedError(f'{path}: operator {node.op_type} is not known here')
            self._nodes.append(
                (_OPERATORS[node.op_type], list(node.input), list(node.output), attributes)
            )
        known = {tensor.name for tensor in graph.initializer}
        (self._input,) = (i.name for i in graph.input if i.name not in known)
        (self._output,) = (o.name for o in graph.output)

    def forward(self, image: Tensor) -> Tensor:
        """(1, 3, height, width) in, the file's one output out."""
        if self._values is None:
            held = {name: getattr(self, buffer) for name, buffer in self._weights.items()}
            self._values = self._fixed | held
        values = {**self._values, self._input: image}
        for operator, inputs, outputs, attributes in self._nodes:
            made = operator([values.get(name) for name in inputs], attributes)
            many = made if isinstance(made, (tuple, list)) else (made,)
            # What nobody uses may be left unnamed.
            values.update(zip(outputs, many))  # noqa: B905
        return values[self._output]

    def _apply(self, *args: Any, **kwargs: Any) -> OnnxModule:
        self._values = None  # the buffers are about to be others
        return super()._apply(*args, **kwargs)

    def _hold(self, name: str, array: np.ndarray) -> None:
        if array.dtype.kind != 'f':
            self._fixed[name] = array
        elif array.ndim == 1 and array.size == 4 and (array[:2] == 1).all():
            self._fixed[name] = array  # the scales of a Resize
        else:
            self._weights[name] = f'weight_{len(self._weights)}'
            tensor = torch.from_numpy(np.array(array))
            self.register_buffer(self._weights[name], tensor)


def _conv(given: list[Any], attributes: dict[str, Any]) -> Tensor:
    image, weight, bias = (*given, None)[:3]
    return functional.conv2d(
        image, weight, bias, attributes.get('strides', [1, 1]),
        _symmetric(attributes.get('pads', [0] * 4)), attributes.get('dilations', [1, 1]),
        attributes.get('group', 1),
    )  # fmt: skip


def _max_pool(given: list[Any], attributes: dict[str, Any]) -> Tensor:
    return functional.max_pool2d(
        given[0], attributes['kernel_shape'], attributes.get('strides'),
        _symmetric(attributes.get('pads', [0] * 4)), ceil_mode=bool(attributes.get('ceil_mode')),
    )  # fmt: skip


def _symmetric(pads: Sequence[int]) -> list[int]:
    half = len(pads) // 2
    if list(pads[:half]) != list(pads[half:]):
        raise NotImplementedError(f'padding {list(pads)} differs from side to side')
    return list(pads[:half])


def _resize(given: list[Any], attributes: dict[str, Any]) -> Tensor:
    if attributes.get('mode') != b'nearest':
        raise NotImplementedError(f'Resize {attributes.get("mode")!r}')
    return functional.interpolate(given[0], scale_factor=[float(s) for s in given[2][2:]])


def _reshape(given: list[Any], attributes: dict[str, Any]) -> Tensor:
    sizes = [given[0].shape[k] if n == 0 else int(n) for k, n in enumerate(given[1])]
    return given[0].reshape(sizes)


def _slice(given: list[Any], attributes: dict[str, Any]) -> Tensor:
    tensor, starts, ends = given[:3]
    axes = given[3] if len(given) > 3 and given[3] is not None else range(len(starts))
    steps = given[4] if len(given) > 4 and given[4] is not None else [1] * len(starts)
    places = [slice(None)] * tensor.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = tensor.shape[int(axis)]
        places[int(axis)] = slice(int(start), min(int(end), size), int(step))
    return tensor[tuple(places)]


def _split(given: list[Any], attributes: dict[str, Any]) -> Sequence[Tensor]:
    axis = attributes.get('axis', 0)
    if len(given) > 1:
        return torch.split(given[0], [int(n) for n in given[1]], axis)
    return torch.chunk(given[0], attributes.get('num_outputs', 2), axis)


def _reduce_sum(given: list[Any], attributes: dict[str, Any]) -> Tensor:
    return given[0].sum([int(a) for a in given[1]], keepdim=bool(attributes.get('keepdims', 1)))


_OPERATORS: dict[str, Callable[[list[Any], dict[str, Any]], Any]] = {
    'Add': lambda given, a: given[0] + given[1],
    'Concat': lambda given, a: torch.cat(given, a['axis']),
    'Conv': _conv,
    'Div': lambda given, a: given[0] / given[1],
    'MaxPool': _max_pool,
    'Mul': lambda given, a: given[0] * given[1],
    'ReduceSum': _reduce_sum,
    'Reshape': _reshape,
    'Resize': _resize,
    'Sigmoid': lambda given, a: torch.sigmoid(given[0]),
    'Slice': _slice,
    'Softmax': lambda given, a: torch.softmax(given[0], a.get('axis', -1)),
    'Split': _split,
    'Sub': lambda given, a: given[0] - given[1],
    'Transpose': lambda given, a: given[0].permute(a['perm']),
}
