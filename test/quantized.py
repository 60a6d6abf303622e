# SPDX-License-Identifier: Apache-2.0
"""Naive INT8 models, as a user without our quantizer would make them: plain static Q/DQ."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import version_converter

from trt_perception.core import Frame, ModelSpec
from trt_perception.core.detections import Region
from trt_perception.runtime.host.preprocess import HostPreprocessor


def frames(folder: Path, count: int) -> list[Frame]:
    """The first pictures of a folder."""
    paths = sorted(folder.glob('*.jpg'))[:count]
    return [Frame.from_array(cv2.imread(str(path))) for path in paths]


def quantize_naively(
    model: Path, spec: ModelSpec, pictures: list[Frame], out: Path, operators: tuple[str, ...]
) -> Path:
    """Per-channel symmetric weights, symmetric MinMax activations, zero points 0, opset 17."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._left = iter(pictures)
            self._preprocess = HostPreprocessor(spec)

        def get_next(self) -> dict[str, np.ndarray] | None:
            frame = next(self._left, None)
            if frame is None:
                return None
            return {spec.input_name: self._preprocess(frame, Region())[0]}

    raised = out.with_suffix('.17.onnx')
    given = onnx.load(str(model))
    if given.opset_import[0].version < 17:
        given = version_converter.convert_version(given, 17)
    onnx.save(given, str(raised))
    quantize_static(
        str(raised),
        str(out),
        Reader(),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=list(operators),
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        extra_options={
            'ActivationSymmetric': True, 'WeightSymmetric': True, 'QuantizeBias': False,
        },
    )  # fmt: skip
    return out
