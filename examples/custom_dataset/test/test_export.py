# SPDX-License-Identifier: Apache-2.0
"""The exported network computes what PyTorch does, and says of itself what it is."""

from __future__ import annotations

from pathlib import Path

import export as exporting
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from checkpoint import Trained
from export import TOLERANCE, export
from network import Deployed, Detector
from torch import nn

from trt_perception.core import PerceptionError
from trt_perception.runtime.model_file import load_spec

NAMES = ('cone', 'barrel', 'pallet')


@pytest.fixture
def trained() -> Trained:
    """A network with nothing left at its first value, as after a training."""
    torch.manual_seed(0)
    detector = Detector(len(NAMES), 160, 96)
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.8, 1.6)
            nn.init.normal_(module.bias, std=0.2)
    for branch in (*detector.head.boxes, *detector.head.classes):
        nn.init.normal_(branch[-1].weight, std=0.3)
    with torch.inference_mode():
        for _ in range(20):  # the normalisations get to know what they normalise
            detector(torch.rand(4, 3, 96, 160))
    return Trained(detector.eval(), NAMES)


def test_it_computes_the_same(trained: Trained, tmp_path: Path) -> None:
    path = tmp_path / 'm.onnx'
    assert export(trained, path) <= TOLERANCE
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    random = torch.Generator().manual_seed(7)
    for _ in range(3):
        images = torch.rand(1, 3, 96, 160, generator=random)
        with torch.inference_mode():
            wanted = Deployed(trained.detector)(images).numpy()
        (found,) = session.run(['output0'], {'images': images.numpy()})
        assert found.shape == wanted.shape == (1, 4 + len(NAMES), 20 * 12 + 10 * 6 + 5 * 3)
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
        assert wanted[:, 4:].std() > 0.005


def test_it_is_recognised_without_a_yaml(trained: Trained, tmp_path: Path) -> None:
    export(trained, tmp_path / 'm.onnx')
    spec = load_spec(tmp_path / 'm.onnx')
    assert spec.layout == 'yolov8'
    assert (spec.width, spec.height, spec.class_names) == (160, 96, NAMES)
    assert spec.nms


def test_only_standard_operators_and_no_arithmetic_on_shapes(
    trained: Trained, tmp_path: Path
) -> None:
    export(trained, tmp_path / 'm.onnx')
    model = onnx.load(str(tmp_path / 'm.onnx'))
    assert [(o.domain, o.version) for o in model.opset_import] == [('', 17)]
    kinds = {node.op_type for node in model.graph.node}
    assert not kinds & {'Shape', 'Gather', 'BatchNormalization', 'If', 'Loop'}


def test_a_network_that_differs_is_not_written(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert = exporting._convert

    def wrong(network: Deployed) -> onnx.ModelProto:
        model = convert(network)
        weight = next(w for w in model.graph.initializer if len(w.dims) == 4)
        array = onnx.numpy_helper.to_array(weight) * np.float32(1.01)
        weight.CopyFrom(onnx.numpy_helper.from_array(array, weight.name))
        return model

    monkeypatch.setattr(exporting, '_convert', wrong)
    with pytest.raises(PerceptionError, match='nothing was written'):
        export(trained, tmp_path / 'm.onnx')
    assert not (tmp_path / 'm.onnx').exists()


def test_a_network_that_gives_no_numbers_is_not_written(trained: Trained, tmp_path: Path) -> None:
    nn.init.constant_(trained.detector.head.boxes[0][-1].bias, float('nan'))
    with pytest.raises(PerceptionError, match='nothing was written'):
        export(trained, tmp_path / 'm.onnx')
