# SPDX-License-Identifier: Apache-2.0
"""Frame in, Detections out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from trt_perception.core import Detections, Frame, Geometry, ModelSpec, Region, Selection
from trt_perception.core.decoders import Decoder, decoders
from trt_perception.runtime.engine import Engine, EngineInfo
from trt_perception.runtime.gate_result import check_gate
from trt_perception.runtime.model_file import load_spec
from trt_perception.runtime.nvtx import stage
from trt_perception.runtime.select import detections_of
from trt_perception.runtime.tensorrt.plan import is_engine

Preprocessor = Callable[[Frame, Region], tuple[NDArray[np.floating], Geometry]]


class StageTimes(NamedTuple):
    """Nanoseconds that each stage of one frame took."""

    preprocess: int
    infer: int
    decode: int


class Result(NamedTuple):
    """What one frame gave.

    Attributes:
        dropped: candidates beyond those that the device takes; the host takes all.
    """

    detections: Detections
    times: StageTimes
    dropped: int = 0


class AnyPipeline(Protocol):
    """A model and all that stands around it, on whatever it runs. Used by one thread at a time."""

    @property
    def spec(self) -> ModelSpec:
        """What the model wants and gives."""

    @property
    def info(self) -> EngineInfo:
        """What runs it."""

    def __call__(self, frame: Frame, selection: Selection) -> Result:
        """Detect.

        Raises:
            FrameError: the frame cannot be used; another one may work.
            EngineError: the network could not be run.
            DecodeError: the decoder, one from outside, is wrong.
        """

    def warm_up(self) -> None:
        """Run once, so that the first frame does not pay for lazy allocations."""

    def close(self) -> None:
        """Free it all. Safe to call twice, and from any thread that does not run it."""


class Pipeline:
    """The reference: OpenCV and NumPy around an engine."""

    def __init__(
        self, spec: ModelSpec, preprocess: Preprocessor, engine: Engine, decoder: Decoder
    ) -> None:
        self.spec = spec
        self.engine = engine
        self._preprocess = preprocess
        self._decoder = decoder

    @property
    def info(self) -> EngineInfo:
        return self.engine.info

    def __call__(self, frame: Frame, selection: Selection) -> Result:
        with stage(frame.source or 'frame'):
            start = perf_counter_ns()
            with stage('preprocess'):
                tensor, geometry = self._preprocess(frame, selection.region)
            prepared = perf_counter_ns()
            with stage('infer'):
                outputs = self.engine.infer(self._inputs(tensor))
            inferred = perf_counter_ns()
            with stage('decode'):
                detections = detections_of(self._decoder, outputs, self.spec, geometry, selection)
            times = StageTimes(prepared - start, inferred - prepared, perf_counter_ns() - inferred)
        return Result(detections, times)

    def warm_up(self) -> None:
        shape = (1, 3, self.spec.height, self.spec.width)
        self.engine.infer(self._inputs(np.zeros(shape, self.spec.dtype)))

    def close(self) -> None:
        self.engine.close()

    def _inputs(self, tensor: NDArray[Any]) -> dict[str, NDArray[Any]]:
        inputs: dict[str, NDArray[Any]] = {self.spec.input_name: tensor}
        if self.spec.size_input:
            inputs[self.spec.size_input] = np.array([[self.spec.width, self.spec.height]], np.int64)
        return inputs


def open_pipeline(
    model: Path,
    *,
    labels: str = '',
    threads: int = 0,
    priority: int = 0,
    accept_failed_gate: bool = False,
    device: int = 0,
    lanes: int = 1,
    batch: int = 1,
) -> AnyPipeline:
    """Load a model and all that stands around it.

    Args:
        model: an ONNX file, which ONNX Runtime runs on the CPU, or an engine of TensorRT, which
            runs on the GPU; either with an optional YAML beside it.
        labels: class names, see `read_labels`.
        threads: of one inference on the CPU; 0 takes one a core.
        priority: of the CUDA streams; lower is more urgent, 0 the least.
        accept_failed_gate: run a model in INT8 although it lost too much of its accuracy.
        device: the GPU, as CUDA counts them.
        lanes: frames in flight on it at a time.
        batch: frames that may be looked at together, where the engine takes so many.

    Raises:
        PerceptionError: a file is missing, the model is not understood, what runs it is absent.
        GateError: the model failed its gate.
    """
    if is_engine(model):
        from trt_perception.runtime.cuda.pipeline import open_engine

        return open_engine(
            model,
            labels=labels,
            accept_failed_gate=accept_failed_gate,
            priority=priority,
            device=device,
            lanes=lanes,
            batch=batch,
        )
    from trt_perception.runtime.host.onnx_runtime import OnnxRuntimeEngine
    from trt_perception.runtime.host.preprocess import HostPreprocessor

    spec = load_spec(model, labels)
    if not accept_failed_gate:
        check_gate(model)
    engine = OnnxRuntimeEngine(model, spec, threads)
    pipeline = Pipeline(spec, HostPreprocessor(spec), engine, decoders()[spec.layout])
    pipeline.warm_up()
    return pipeline
