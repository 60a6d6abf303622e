# SPDX-License-Identifier: Apache-2.0
"""Naive INT8 models, as a user without our quantizer makes them, and how two networks differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from onnx import version_converter

from trt_perception.core import Frame, ModelSpec, Region
from trt_perception.runtime.host.preprocess import HostPreprocessor
from trt_perception.runtime.model_file import load_spec

ROOT = Path(__file__).resolve().parents[1]
#: Name, and path under the assets or in the checkout.
DETECTORS = {
    'yolov8n': 'models/yolov8n_coco_640.onnx',
    'yolox_nano': 'models/yolox_nano_416.onnx',
    'deimv2_raw': 'models/deimv2_atto_coco_320_raw.onnx',
    'deimv2_e2e': 'models/deimv2_atto_coco_320_e2e.onnx',
    'fastestdet': 'models/fastestdet_352.onnx',
    'warehouse': ROOT / 'resource' / 'models' / 'warehouse.onnx',
}
#: Its outputs take a decoder of the user's own; what it takes in is told here.
_FASTESTDET = ModelSpec(
    'fastestdet', 'input.1', 352, 352, 'float32', ('758',), 80, color='bgr', resize='stretch'
)


def model_path(assets: Path, name: str) -> Path:
    return assets / DETECTORS[name]


def feeds(assets: Path, name: str, count: int) -> list[dict[str, np.ndarray]]:
    """What the run time would give a detector for the first pictures."""
    spec = _FASTESTDET if name == 'fastestdet' else load_spec(model_path(assets, name))
    preprocess = HostPreprocessor(spec)
    found = []
    for path in sorted((assets / 'data' / 'carnd_images').glob('*.jpg'))[:count]:
        tensor, _ = preprocess(Frame.from_array(cv2.imread(str(path))), Region())
        found.append({spec.input_name: tensor})
        if spec.size_input:
            found[-1][spec.size_input] = np.array([[spec.width, spec.height]], np.int64)
    assert found
    return found


def quantize_naively(model: Path, calibration: list[dict[str, np.ndarray]], out: Path) -> Path:
    """Every Conv: per-channel symmetric weights, symmetric MinMax activations, zero points 0."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left = iter(calibration)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self._left, None)

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
        op_types_to_quantize=['Conv'],
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        extra_options={'ActivationSymmetric': True, 'WeightSymmetric': True},
    )
    return out


def run(model: onnx.ModelProto, given: list[dict[str, np.ndarray]]) -> list[list[Any]]:
    """Outputs for each input, of the network as it is written."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=['CPUExecutionProvider']
    )
    return [session.run(None, feed) for feed in given]


def widened(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network with the same values, computed in FP32.

    ONNX Runtime's FP16 quantizers differ from release to release, and some are wrong.
    """
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    for weight in wide.graph.initializer:
        if weight.data_type == onnx.TensorProto.FLOAT16:
            values = onnx.numpy_helper.to_array(weight).astype(np.float32)
            weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    for node in wide.graph.node:
        if node.op_type == 'Cast' and node.attribute[0].i == onnx.TensorProto.FLOAT16:
            node.attribute[0].i = onnx.TensorProto.FLOAT
    return wide


def difference(true: list[list[Any]], other: list[list[Any]]) -> float:
    """Mean distance of the float outputs, as a share of their mean size."""
    shares = [
        np.abs(a.astype(np.float64) - b).mean() / np.abs(a).mean()
        for one, two in zip(true, other, strict=True)
        for a, b in zip(one, two, strict=True)
        if a.dtype.kind == 'f'
    ]
    return float(np.mean(shares))
