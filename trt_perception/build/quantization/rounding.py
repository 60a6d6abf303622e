# SPDX-License-Identifier: Apache-2.0
"""Weights rounded so that their errors cancel in what the layer really sees.

Rounding each weight to the nearest step makes each error small. What counts is the layer's output,
and the inputs that weights are multiplied with go up and down together: an error in one weight can
be made good by the next. So weights are rounded one input after the other, and after each the ones
still to come take up what its error did to the output, by the second moments of the inputs.
(Frantar et al., "GPTQ", 2023, after Hassibi and Stork, "Optimal Brain Surgeon", 1993.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from trt_perception.build.quantization.bench import Bench, Tensors
from trt_perception.build.quantization.graph import attribute
from trt_perception.build.quantization.layers import Multiplication
from trt_perception.build.quantization.ranges import LEVELS

#: Places of an activation that are looked at in each frame.
_PLACES = 400
#: Added to the diagonal, as a share of its mean: inputs that were never seen keep plain rounding.
_DAMPING = 0.01
#: A layer with more weights an output than this is rounded to nearest: its moments would take
#: hundreds of megabytes.
MAX_INPUTS = 4608

Moments = NDArray[np.float32]


def observe_moments(
    bench: Bench,
    model: onnx.ModelProto,
    layers: Mapping[str, Multiplication],
    weights: Mapping[str, NDArray[np.float32]],
    on_frame: Callable[[], None] = lambda: None,
) -> dict[str, Moments]:
    """Second moments of what the weights of each layer are multiplied with.

    Returns:
        For each layer (groups, inputs, inputs), the inputs in the order of the weights of one
        output; transposed convolutions and layers with too many inputs are left out.
    """
    nodes = {n.name: n for n in model.graph.node}
    chosen = {
        name: nodes[name]
        for name, layer in layers.items()
        if layer.weight
        and layer.op_type != 'ConvTranspose'
        and weights[name].size // weights[name].shape[layer.output_axis] <= MAX_INPUTS
    }
    moments: dict[str, Moments] = {}
    generator = np.random.default_rng(0)

    def see(tensors: Tensors) -> None:
        for name, node in chosen.items():
            if not tensors[node.input[0]].size:
                continue
            kernel = weights[name].shape[2:]
            rows = _rows(tensors[node.input[0]], node, layers[name], kernel, generator)
            product = np.einsum('gni,gnj->gij', rows, rows, optimize=True)
            if name in moments:
                moments[name] += product
            else:
                moments[name] = product

    bench.observe(model, list({n.input[0] for n in chosen.values()}), see, on_frame)
    return moments


def _rows(
    array: NDArray[np.float32],
    node: onnx.NodeProto,
    layer: Multiplication,
    kernel: Sequence[int],
    generator: np.random.Generator,
) -> NDArray[np.float32]:
    """(groups, places, inputs): what the weights meet at some places of the output."""
    if layer.op_type != 'Conv':
        flat = np.asarray(array, np.float32).reshape(-1, array.shape[-1])
        return flat[generator.integers(0, len(flat), min(len(flat), _PLACES))][None]
    spatial = array.ndim - 2
    strides = attribute(node, 'strides', [1] * spatial)
    dilations = attribute(node, 'dilations', [1] * spatial)
    reach = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
    pads = _pads(node, array.shape[2:], strides, reach)
    padded = np.pad(array[0], [(0, 0), *zip(pads[:spatial], pads[spatial:], strict=True)])
    counts = [
        (size - r - 1) // stride + 1
        for size, r, stride in zip(padded.shape[1:], reach, strides, strict=True)
    ]
    places = min(_PLACES, int(np.prod(counts)))
    index: list[NDArray[np.intp]] = []
    for axis, (count, stride, k, d) in enumerate(
        zip(counts, strides, kernel, dilations, strict=True)
    ):
        start = generator.integers(0, count, places) * stride
        shape = [places] + [k if a == axis else 1 for a in range(spatial)]
        offsets = (np.arange(k) * d).reshape(shape[1:])
        index.append(start.reshape(-1, *[1] * spatial) + offsets)
    where: tuple[Any, ...] = (slice(None), *np.broadcast_arrays(*index))
    patches = padded[where]  # (channels, places, *kernel)
    patches = patches.reshape(layer.groups, -1, places, *kernel)
    return np.moveaxis(patches, 2, 1).reshape(layer.groups, places, -1).astype(np.float32)


def _pads(
    node: onnx.NodeProto, sizes: Sequence[int], strides: Sequence[int], reach: Sequence[int]
) -> list[int]:
    """What is added before each axis, then what is added behind each."""
    how = attribute(node, 'auto_pad', b'NOTSET').decode()
    if not how.startswith('SAME'):
        return list(attribute(node, 'pads', [0] * 2 * len(sizes)))
    # So many that the output has a place for each stride that begins within the input.
    missing = [
        max((size - 1) // stride * stride + r + 1 - size, 0)
        for size, stride, r in zip(sizes, strides, reach, strict=True)
    ]
    less, more = [m // 2 for m in missing], [m - m // 2 for m in missing]
    return less + more if how == 'SAME_UPPER' else more + less


def rounded(
    weight: NDArray[np.float32],
    layer: Multiplication,
    scale: NDArray[np.float32],
    moments: Moments,
    divisor: NDArray[np.float32] | None,
) -> NDArray[np.int8]:
    """Weights in steps of their output channel's scale, each making good for those before.

    Args:
        weight: already multiplied by the divisor of its activation.
        scale: (output channels,).
        moments: (groups, inputs, inputs) of the undivided activation.
        divisor: (input channels,) of the activation.
    """
    rows = np.moveaxis(weight, layer.output_axis, 0)
    outputs = len(rows)
    groups, inputs, _ = moments.shape
    left = rows.reshape(groups, outputs // groups, inputs).astype(np.float64)
    steps = scale.reshape(groups, outputs // groups).astype(np.float64)
    h = moments.astype(np.float64)
    if divisor is not None:
        factors = 1 / divisor.reshape(groups, -1).astype(np.float64)
        factors = np.repeat(factors, inputs // factors.shape[1], axis=1)
        h = h * factors[:, :, None] * factors[:, None, :]
    diagonal = np.einsum('gii->gi', h)
    damping = _DAMPING * diagonal.mean(axis=1) + 1e-12
    h = h + damping[:, None, None] * np.eye(inputs)
    # Where most is at stake comes first, while there are many left to make good for it.
    order = np.argsort(-np.einsum('gii->gi', h), axis=1, kind='stable')
    group = np.arange(groups)[:, None]
    h = h[group[:, :, None], order[:, :, None], order[:, None, :]]
    left = np.take_along_axis(left, order[:, None, :], axis=2)
    # The upper factor of the inverse: its rows say how an error spreads over those still to come.
    upper = _inverse_of_factor(h[:, ::-1, ::-1])[:, ::-1, ::-1]
    result = np.empty_like(left)
    for i in range(inputs):
        result[:, :, i] = np.clip(np.round(left[:, :, i] / steps), -LEVELS, LEVELS)
        error = (left[:, :, i] - result[:, :, i] * steps) / upper[:, i, i][:, None]
        left[:, :, i + 1 :] -= error[:, :, None] * upper[:, i, None, i + 1 :]
    back = np.empty_like(result)
    np.put_along_axis(back, np.broadcast_to(order[:, None, :], result.shape), result, axis=2)
    shaped = back.reshape(rows.shape).astype(np.int8)
    return np.ascontiguousarray(np.moveaxis(shaped, 0, layer.output_axis))


def _inverse_of_factor(h: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of the lower Cholesky factor of each matrix, block by block.

    OpenBLAS factors a large matrix by several threads many times slower than by one; products it
    does well.
    """
    half = h.shape[-1] // 2
    if half < 128:
        return np.linalg.inv(np.linalg.cholesky(h))
    first = _inverse_of_factor(h[:, :half, :half])
    below = h[:, half:, :half] @ first.transpose(0, 2, 1)
    second = _inverse_of_factor(h[:, half:, half:] - below @ below.transpose(0, 2, 1))
    whole = np.zeros_like(h)
    whole[:, :half, :half] = first
    whole[:, half:, half:] = second
    whole[:, half:, :half] = -second @ below @ first
    return whole
