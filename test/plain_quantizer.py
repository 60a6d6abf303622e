# SPDX-License-Identifier: Apache-2.0
"""A real quantizer of a few lines, ONNX Runtime's own: for tests of all that is around ours."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)

from trt_perception.build.quantization.result import CurvePoint, Histogram, Layer, Quantization
from trt_perception.core import Frame, ModelSpec
from trt_perception.runtime.host.preprocess import HostPreprocessor

Progress = Callable[[str, float], None]


class _Reader(CalibrationDataReader):
    def __init__(self, spec: ModelSpec, frames: Sequence[Frame], on_progress: Progress) -> None:
        self._preprocess = HostPreprocessor(spec)
        self._spec, self._frames, self._on_progress = spec, frames, on_progress
        self._given = 0

    def get_next(self) -> dict[str, np.ndarray] | None:
        if self._given == len(self._frames):
            return None
        tensor, _ = self._preprocess(self._frames[self._given])
        self._given += 1
        self._on_progress('observe', self._given / len(self._frames))
        return {self._spec.input_name: tensor.copy()}


def quantize(
    model: onnx.ModelProto,
    spec: ModelSpec,
    frames: Sequence[Frame],
    measured: Any,
    *,
    target: float = 0.98,
    method: str = 'auto',
    on_progress: Progress = lambda phase, share: None,
    score: Callable[[onnx.ModelProto], float] | None = None,
    accuracy: Any = None,
    threads: int = 0,
    floats: Callable[[list[str]], list[str]] = lambda names: [],
    ruin: bool = False,
) -> Quantization:
    """Convolutions to INT8, but for those that ``floats`` chooses from their names.

    Args:
        ruin: the weights of the first one become 0, so that the network sees nothing.
    """
    convolutions = [n for n in model.graph.node if n.op_type == 'Conv']
    names = [n.name for n in convolutions]
    kept = set(floats(names))
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder, 'before.onnx'), Path(folder, 'after.onnx')
        onnx.save(model, str(before))
        quantize_static(
            str(before),
            str(after),
            _Reader(spec, frames, on_progress),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=['Conv'],
            nodes_to_exclude=sorted(kept),
            extra_options={'ActivationSymmetric': True, 'WeightSymmetric': True},
        )
        quantized = onnx.load(str(after))
    if ruin:
        weights = quantized.graph.initializer
        first = next(w for w in weights if w.data_type == onnx.TensorProto.INT8 and w.dims[1:])
        first.raw_data = bytes(len(first.raw_data))
    del quantized.metadata_props[:]  # that of the float model is carried over by the command
    sizes = {w.name: int(np.prod(w.dims)) for w in model.graph.initializer}
    chance = np.random.default_rng(0)
    layers = tuple(
        Layer(
            node.name, 'Conv', sizes[node.input[1]], node.name not in kept,
            0.1 / (1 + number), 'measured: costs too much' if node.name in kept else '',
            Histogram(
                np.histogram(np.abs(chance.laplace(size=20000)), 256)[0], 9.5,
                None if node.name in kept else 6.0,
            ),
        )
        for number, node in enumerate(convolutions)
    )  # fmt: skip
    whole = Quantization(quantized, 'minmax', {'minmax': 0.9}, layers, ())
    curve = (
        CurvePoint(1.0, 0.9, ()),
        CurvePoint(whole.int8_share, 0.97, tuple(sorted(kept)), score and score(quantized)),
    )
    return Quantization(quantized, 'minmax', {'minmax': 0.9}, layers, curve)
