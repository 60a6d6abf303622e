# SPDX-License-Identifier: Apache-2.0
"""How good a network is while it still learns: through the pipeline that it will run in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from network import Deployed, Detector
from numpy.typing import NDArray

from trt_perception.core import ModelSpec
from trt_perception.core.decoders import decoders
from trt_perception.replay.coco import Accuracy, CocoDataset
from trt_perception.replay.evaluation import evaluate
from trt_perception.runtime.engine import EngineInfo
from trt_perception.runtime.host.preprocess import HostPreprocessor
from trt_perception.runtime.pipeline import Pipeline


class TorchEngine:
    """A PyTorch network where a pipeline expects an engine."""

    def __init__(self, detector: Detector, device: torch.device) -> None:
        self._network = Deployed(detector).eval()
        self._device = device
        self.info = EngineInfo(f'PyTorch {torch.__version__}', device_name(device), 'float32')

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        with torch.inference_mode():
            images = torch.from_numpy(inputs['images']).to(self._device)
            return [self._network(images).cpu().numpy()]

    def close(self) -> None:
        """Nothing to free: the network goes on learning."""


def measure(
    detector: Detector, names: Sequence[str], dataset: CocoDataset, device: torch.device
) -> Accuracy:
    """Accuracy of a network on a data set."""
    wanted = spec(names, detector.width, detector.height)
    engine = TorchEngine(detector, device)
    pipeline = Pipeline(wanted, HostPreprocessor(wanted), engine, decoders()[wanted.layout])
    return evaluate(pipeline, dataset).accuracy


def spec(names: Sequence[str], width: int, height: int) -> ModelSpec:
    """What a network of these classes and this input will say of itself when it is exported."""
    return ModelSpec(
        layout='yolov8',
        input_name='images',
        width=width,
        height=height,
        dtype='float32',
        outputs=('output0',),
        num_classes=len(names),
        class_names=tuple(names),
    )


def device_name(device: torch.device) -> str:
    """What the vendor calls it."""
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    from trt_perception.runtime.host.onnx_runtime import cpu_name

    return cpu_name()
