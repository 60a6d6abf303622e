# SPDX-License-Identifier: Apache-2.0
"""What quantizing a model gave, to be reported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Histogram:
    """Magnitudes of an activation over the calibration set.

    Attributes:
        counts: (bins,) how often a magnitude fell into each of equal bins from 0 to ``largest``.
        largest: the largest magnitude.
        threshold: what becomes 127; larger magnitudes are clipped. None where it stays in float.
    """

    counts: NDArray[np.int64]
    largest: float
    threshold: float | None


@dataclass(frozen=True)
class Layer:
    """One layer that multiplies: Conv, ConvTranspose, Gemm or MatMul.

    Attributes:
        name: of the node.
        op_type: ONNX operator.
        macs: multiply-adds of one image.
        int8: whether it multiplies in INT8.
        sensitivity: agreement (0..1) that is lost if this layer alone is in INT8; None where it
            was not measured.
        reason: why it stays in float; '' in INT8.
        input: of its activation input; None where it was not observed.
    """

    name: str
    op_type: str
    macs: int
    int8: bool
    sensitivity: float | None
    reason: str
    input: Histogram | None


@dataclass(frozen=True)
class CurvePoint:
    """One mixture of precisions that was measured: what share in INT8 costs.

    Attributes:
        int8_share: of the multiply-adds, 0..1.
        agreement: with the float model on the calibration frames, 0..1.
        floats: names of the layers in float.
        score: what the gate found, as a share of the float model's; None where it was not asked.
        map: mAP50-95 on the labelled pictures, 0..1; None where it was not measured.
    """

    int8_share: float
    agreement: float
    floats: tuple[str, ...]
    score: float | None = None
    map: float | None = None


@dataclass(frozen=True)
class Quantization:
    """A quantized model (an `onnx.ModelProto`) and how it came about.

    Attributes:
        model: explicit Q/DQ; what is not between them is FP32 here and FP16 in an engine.
        method: the one of the ranges' methods that was taken.
        methods: agreement that each method gave with all layers in INT8.
        layers: in graph order.
        curve: what was measured, from all in INT8 on.
        float_map: of the float model, on the pictures of the curve's ``map``.
        uncounted: names of what multiplies within If and Loop; it stays in float.
    """

    model: Any
    method: str
    methods: dict[str, float]
    layers: tuple[Layer, ...]
    curve: tuple[CurvePoint, ...]
    float_map: float | None = None
    uncounted: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What weakens the share, a line each."""
        if not self.uncounted:
            return ()
        return (
            'in float, and not counted in the share in INT8, is what multiplies within If and Loop:'
            f' {", ".join(self.uncounted[:3])}{", ..." if self.uncounted[3:] else ""}',
        )

    @property
    def int8_share(self) -> float:
        """Of the multiply-adds in INT8, 0..1."""
        macs = sum(layer.macs for layer in self.layers)
        return sum(layer.macs for layer in self.layers if layer.int8) / macs if macs else 0.0
