# SPDX-License-Identifier: Apache-2.0
"""The calibration frames, ready to be run through any variant of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from trt_perception.build.quantization.graph import with_outputs
from trt_perception.core import Detections, Frame, ModelSpec, Region, Selection
from trt_perception.core.decoders import decoders
from trt_perception.runtime.engine import EngineInfo
from trt_perception.runtime.host.onnx_runtime import cpu_name, open_session
from trt_perception.runtime.host.preprocess import HostPreprocessor
from trt_perception.runtime.pipeline import Pipeline

#: The tail of weak detections counts little in the agreement and makes most of an mAP.
_SELECTION = Selection(score_threshold=0.02, iou_threshold=0.65, max_detections=100)

Tensors = dict[str, NDArray[Any]]


class Bench:
    """Runs variants of one model on the same frames, preprocessed as at run time."""

    def __init__(
        self, spec: ModelSpec, frames: Sequence[Frame], threads: int = 0, mirrored: bool = False
    ) -> None:
        """Take the frames; what is seen on them is seen on their mirror images too if wanted."""
        self.spec = spec
        self.threads = threads
        self._frames = frames
        self._mirrored = mirrored
        self._preprocess = HostPreprocessor(spec)

    def __len__(self) -> int:
        return len(self._frames) * (2 if self._mirrored else 1)

    def first(self, count: int) -> Bench:
        """The first frames, as they are."""
        return Bench(self.spec, self._frames[:count], self.threads)

    def inputs(self) -> Iterator[Tensors]:
        """What the network takes, frame by frame."""
        for frame in self._frames:
            tensor, _ = self._preprocess(frame, Region())
            yield self._feeds(tensor)
            if self._mirrored:
                yield self._feeds(np.ascontiguousarray(tensor[..., ::-1]))

    def observe(
        self,
        model: onnx.ModelProto,
        names: Sequence[str],
        see: Callable[[Tensors], None],
        on_frame: Callable[[], None] = lambda: None,
    ) -> None:
        """Show tensors of each frame."""
        given = list(dict.fromkeys(names))
        if not given:
            return  # ONNX Runtime takes none for all
        session = open_model(with_outputs(model, given), self.threads)
        for feeds in self.inputs():
            see(dict(zip(given, session.run(given, feeds), strict=True)) | feeds)
            on_frame()

    def detect(
        self, model: onnx.ModelProto, on_frame: Callable[[], None] = lambda: None
    ) -> list[Detections]:
        """What a variant sees in each frame, as it is."""
        engine = _Engine(model, self.spec, self.threads)
        pipeline = Pipeline(self.spec, self._preprocess, engine, decoders()[self.spec.layout])
        found = []
        for frame in self._frames:
            found.append(pipeline(frame, _SELECTION).detections)
            on_frame()
        return found

    def _feeds(self, tensor: NDArray[Any]) -> Tensors:
        feeds: Tensors = {self.spec.input_name: tensor}
        if self.spec.size_input:
            feeds[self.spec.size_input] = np.array([[self.spec.width, self.spec.height]], np.int64)
        return feeds


class _Engine:
    """A model that is in memory, in ONNX Runtime."""

    def __init__(self, model: onnx.ModelProto, spec: ModelSpec, threads: int) -> None:
        self.info = EngineInfo('ONNX Runtime CPU', cpu_name(), spec.dtype)
        self._session = open_model(model, threads)
        self._outputs = list(spec.outputs)

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        outputs: list[NDArray[Any]] = self._session.run(self._outputs, dict(inputs))
        return outputs

    def close(self) -> None:
        pass


def open_model(model: onnx.ModelProto, threads: int = 0) -> Any:
    """A session of ONNX Runtime with a model that is in memory."""
    return open_session(model.SerializeToString(), threads, fold_weights=True)
