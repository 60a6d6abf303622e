# SPDX-License-Identifier: Apache-2.0
"""Frame in, Detections out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from trt_perception.core import (
    Candidates,
    Detections,
    Frame,
    Geometry,
    ModelSpec,
    Region,
    Selection,
)
from trt_perception.core.decoders import Decoder, checked, decoders
from trt_perception.core.nms import best_first, suppress
from trt_perception.runtime.engine import Engine, EngineInfo
from trt_perception.runtime.gate_result import check_gate
from trt_perception.runtime.model_file import load_spec
from trt_perception.runtime.tensorrt.plan import is_engine

Preprocessor = Callable[[Frame, Region], tuple[NDArray[np.floating], Geometry]]


class StageTimes(NamedTuple):
    """Nanoseconds that each stage of one frame took."""

    preprocess: int
    infer: int
    decode: int


class Result(NamedTuple):
    """What one frame gave."""

    detections: Detections
    times: StageTimes


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
        start = perf_counter_ns()
        tensor, geometry = self._preprocess(frame, selection.region)
        prepared = perf_counter_ns()
        outputs = self.engine.infer(self._inputs(tensor))
        inferred = perf_counter_ns()
        # A network's garbage (inf, NaN) is dropped, not warned about on every frame.
        with np.errstate(all='ignore'):
            detections = self._select(outputs, geometry, selection)
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

    def _select(
        self, outputs: list[NDArray[Any]], geometry: Geometry, selection: Selection
    ) -> Detections:
        floats = [o.astype(np.float32) if o.dtype == np.float16 else o for o in outputs]
        found = checked(self._decoder.decode(floats, self.spec, selection), self.spec.layout)
        found = found.take(_usable(found, selection.class_ids))
        found = found.take(geometry.shows(found.boxes))
        limit = selection.max_detections
        if self.spec.nms:
            found = suppress(found, selection.iou_threshold, limit)
        else:
            found = best_first(found, limit)
        return Detections(
            geometry.to_source(found.boxes),
            np.clip(found.scores, 0, 1).astype(np.float32),
            found.class_ids,
        )


def _usable(found: Candidates, class_ids: frozenset[int] | None) -> NDArray[np.bool_]:
    # Rows that a network leaves unused carry a class of -1, or one made of NaN.
    usable = np.isfinite(found.boxes).all(axis=1) & np.isfinite(found.scores)
    usable &= found.class_ids >= 0
    if class_ids is not None:
        usable &= np.isin(found.class_ids, list(class_ids))
    return usable


def open_pipeline(
    model: Path,
    *,
    labels: str = '',
    threads: int = 0,
    accept_failed_gate: bool = False,
) -> AnyPipeline:
    """Load a model and all that stands around it.

    Args:
        model: an ONNX file, which ONNX Runtime runs on the CPU, or an engine of TensorRT, which
            runs on the GPU; either with an optional YAML beside it.
        labels: class names, see `read_labels`.
        threads: of one inference on the CPU; 0 takes one a core.
        accept_failed_gate: run a model in INT8 although it lost too much of its accuracy.

    Raises:
        PerceptionError: a file is missing, the model is not understood, what runs it is absent.
        GateError: the model failed its gate.
    """
    if is_engine(model):
        from trt_perception.runtime.cuda.pipeline import open_engine

        return open_engine(model, labels=labels, accept_failed_gate=accept_failed_gate)
    from trt_perception.runtime.host.onnx_runtime import OnnxRuntimeEngine
    from trt_perception.runtime.host.preprocess import HostPreprocessor

    spec = load_spec(model, labels)
    if not accept_failed_gate:
        check_gate(model)
    engine = OnnxRuntimeEngine(model, spec, threads)
    pipeline = Pipeline(spec, HostPreprocessor(spec), engine, decoders()[spec.layout])
    pipeline.warm_up()
    return pipeline
