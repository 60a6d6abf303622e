# SPDX-License-Identifier: Apache-2.0
"""Small real networks to quantize, and a look at what flows through them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from trt_perception.build.quantization.bench import Bench, open_model
from trt_perception.build.quantization.graph import prepare
from trt_perception.build.quantization.insertion import Plan
from trt_perception.build.quantization.network import Network
from trt_perception.core import Frame, ModelSpec

SIZE = 16
SPEC = ModelSpec('yolov8', 'x', SIZE, SIZE, 'float32', ('y',), 2)


def network(
    nodes: Sequence[onnx.NodeProto], *, opset: int = 17, **weights: NDArray[np.float32]
) -> onnx.ModelProto:
    """A network from ``x`` (1, 3, 16, 16) to ``y``."""
    graph = helper.make_graph(
        list(nodes),
        'test',
        [helper.make_tensor_value_info('x', TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info('y', TensorProto.FLOAT, None)],
        [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()],
    )
    opsets = [helper.make_opsetid('', opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def frames(count: int = 6) -> list[Frame]:
    """Noise with structure: neighbours are alike, as in a picture."""
    generator = np.random.default_rng(3)
    pictures = []
    for _ in range(count):
        coarse = generator.integers(0, 256, (4, 4, 3))
        picture = np.kron(coarse, np.ones((4, 4, 1))) + generator.normal(0, 8, (SIZE, SIZE, 3))
        pictures.append(Frame.from_array(np.clip(picture, 0, 255).astype(np.uint8)))
    return pictures


def conv(name: str, source: str, weight: str, *rest: str, out: str = '', **kw: object) -> object:
    return helper.make_node('Conv', [source, weight, *rest], [out or f'{name}_out'], name, **kw)


def depthwise_network(generator: np.random.Generator) -> onnx.ModelProto:
    """Pointwise, SiLU, depthwise, pointwise: channels whose ranges differ a thousandfold."""
    spans = np.geomspace(0.01, 10, 8)
    return network(
        [
            conv('expand', 'x', 'w0', 'b0'),
            helper.make_node('Sigmoid', ['expand_out'], ['s'], 'sigmoid'),
            helper.make_node('Mul', ['expand_out', 's'], ['silu'], 'silu'),
            conv('depthwise', 'silu', 'w1', group=8, pads=[1, 1, 1, 1]),
            conv('project', 'depthwise_out', 'w2', out='y'),
        ],
        w0=generator.normal(size=(8, 3, 1, 1)) * spans[:, None, None, None],
        b0=generator.normal(size=8) * spans,
        w1=generator.normal(size=(8, 1, 3, 3)) / spans[:, None, None, None],
        w2=generator.normal(size=(4, 8, 1, 1)),
    )


def run(model: onnx.ModelProto) -> NDArray[np.float32]:
    session = open_model(model)
    return np.concatenate([session.run(['y'], f)[0] for f in Bench(SPEC, frames()).inputs()])


def signal_to_noise(model: onnx.ModelProto, other: onnx.ModelProto) -> float:
    a, b = run(model), run(other)
    return float(a.var() / ((a - b) ** 2).mean())


class Seen(Network):
    """A small network whose output is no detector's."""

    def __init__(self, model: onnx.ModelProto) -> None:
        bench = Bench(SPEC, frames())
        bench.detect = lambda *_: []  # type: ignore[method-assign]
        super().__init__(prepare(model), bench, lambda: None)


def all_int8(seen: Seen, plan: Plan) -> onnx.ModelProto:
    return seen.with_int8(plan, set(seen.layers))
