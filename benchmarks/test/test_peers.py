# SPDX-License-Identifier: Apache-2.0
"""The peers compute what ONNX Runtime and our own pipeline do, or they are no measure of either."""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from trt_perception.core import Frame, Selection
from trt_perception.replay.benchmark.frames import random_picture
from trt_perception.runtime.host.onnx_runtime import open_session
from trt_perception.runtime.pipeline import open_pipeline

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'benchmarks'))
ASSETS = Path(os.environ.get('TRT_PERCEPTION_ASSETS', ROOT.parent / 'shared' / 'assets'))
MODELS = (ROOT / 'resource/models/warehouse.onnx', ASSETS / 'models/yolov8n_coco_640.onnx')

torch.set_num_threads(1)


def needs(model: Path) -> Path:
    if not model.is_file():
        pytest.skip(f'no {model}; set TRT_PERCEPTION_ASSETS')
    return model


@pytest.mark.parametrize('model', MODELS, ids=lambda path: path.stem)
def test_modules_compute_what_the_file_says(model):
    from onnx_torch import OnnxModule

    session = open_session(needs(model))
    (image,) = session.get_inputs()
    noise = np.random.default_rng(0).random(image.shape, dtype=np.float32)
    (expected,) = session.run(None, {image.name: noise})
    with torch.inference_mode():
        module = OnnxModule(model).eval()
        found = module(torch.from_numpy(noise)).numpy()
        # Weights that are moved after a first run are taken from where they are now.
        again = module.double()(torch.from_numpy(noise).double())
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    assert again.dtype == torch.float64


def test_unknown_operators_are_refused(tmp_path):
    sys.path.append(str(ROOT / 'test'))
    from models import color_detector
    from onnx_torch import OnnxModule

    with pytest.raises(NotImplementedError, match='ReduceMean'):
        OnnxModule(color_detector(tmp_path / 'm.onnx'))


@pytest.mark.parametrize('model', MODELS, ids=lambda path: path.stem)
def test_letterbox_is_ours(model):
    pytest.importorskip('cv2')
    from peers import letterbox

    from trt_perception.runtime.host.preprocess import HostPreprocessor
    from trt_perception.runtime.model_file import load_spec

    spec = load_spec(needs(model))
    image = random_picture(1280, 720)
    canvas = np.empty((spec.height, spec.width, 3), np.uint8)
    _, left, top = letterbox(image, spec.width, spec.height, canvas)
    tensor, geometry = HostPreprocessor(spec)(Frame.from_array(image))
    ours = np.rint(tensor[0].transpose(1, 2, 0)[..., ::-1] * 255)
    assert (geometry.left, geometry.top) == (left, top)
    assert np.abs(ours - canvas).max() <= 1


def batched_nms(
    boxes: torch.Tensor, scores: torch.Tensor, classes: torch.Tensor, overlap: float
) -> torch.Tensor:
    """What torchvision's does, which comes for GPUs only where PyTorch does."""
    kept: list[int] = []
    for i in scores.argsort(descending=True).tolist():
        rivals = [k for k in kept if classes[k] == classes[i]]
        shared = torch.minimum(boxes[rivals, 2:], boxes[i, 2:])
        shared = (shared - torch.maximum(boxes[rivals, :2], boxes[i, :2])).clamp(0).prod(1)
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        if not (shared > overlap * (areas[rivals] + areas[i] - shared)).any():
            kept.append(i)
    return torch.tensor(kept, dtype=torch.long)


def test_boxes_are_ours(monkeypatch):
    ops = types.SimpleNamespace(batched_nms=batched_nms)
    monkeypatch.setitem(sys.modules, 'torchvision', types.SimpleNamespace(ops=ops))
    monkeypatch.setitem(sys.modules, 'torchvision.ops', ops)
    from peers import UsualPeer

    model = needs(MODELS[1])
    import cv2

    (picture, *_) = sorted((ASSETS / 'data').rglob('*.jpg'))
    image = cv2.imread(str(picture))
    pipeline = open_pipeline(model)
    found = pipeline(Frame.from_array(image), Selection()).detections
    peer = UsualPeer(model, pipeline.spec.width, pipeline.spec.height, 'cpu')
    boxes, scores, classes = peer(image)
    assert len(found) > 0
    np.testing.assert_array_equal(classes, found.class_ids)
    np.testing.assert_allclose(scores, found.scores, atol=1e-3)
    np.testing.assert_allclose(boxes.clip(0), found.boxes, atol=2)
