# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime on the CPU."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from trt_perception.core import ModelSpec
from trt_perception.core.errors import one_line
from trt_perception.runtime.engine import EngineError, EngineInfo
from trt_perception.runtime.onnx_file import load_graph
from trt_perception.runtime.precision import graph_precision, has_integer_kernels

if TYPE_CHECKING:
    import onnxruntime


class OnnxRuntimeEngine:
    """A model in ONNX Runtime's CPU provider, and in no other: what was asked for is what runs."""

    def __init__(self, model: Path, spec: ModelSpec, threads: int = 0) -> None:
        """Load a model.

        Args:
            threads: of one inference; 0 lets ONNX Runtime take one a core.

        Raises:
            EngineError: ONNX Runtime is absent or refuses the model.
        """
        graph = load_graph(model).graph
        self._session: onnxruntime.InferenceSession | None = open_session(
            model, threads, fold_weights=not has_integer_kernels(graph)
        )
        self._outputs = list(spec.outputs)
        import onnxruntime

        self.info = EngineInfo(
            f'ONNX Runtime {onnxruntime.__version__} CPU',
            cpu_name(),
            graph_precision(graph, spec.dtype),
        )

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        if self._session is None:
            raise EngineError('the engine is closed')
        try:
            outputs: list[NDArray[Any]] = self._session.run(self._outputs, dict(inputs))
        except Exception as error:  # ONNX Runtime's errors share no public base class
            raise EngineError(f'ONNX Runtime failed: {one_line(error)}') from error
        return outputs

    def close(self) -> None:
        self._session = None


def open_session(
    model: Path | bytes, threads: int = 0, *, fold_weights: bool = False
) -> onnxruntime.InferenceSession:
    """A session on the CPU.

    Args:
        model: an ONNX file, or what one holds.
        fold_weights: dequantize the weights now instead of in every run. The numbers are the same
            and nothing runs in ONNX Runtime's integer kernels.

    Raises:
        EngineError: ONNX Runtime is absent or refuses the model.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError(
            f"backend 'onnxruntime' is not usable ({error}); pip install onnxruntime"
        ) from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors come as exceptions; warnings are about its own graph
    options.intra_op_num_threads = threads
    # Threads that spin between two frames take a core from everything else on the robot.
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    if fold_weights:
        options.add_session_config_entry('session.disable_quant_qdq', '1')
    source = model if isinstance(model, bytes) else str(model)
    try:
        return onnxruntime.InferenceSession(source, options, providers=['CPUExecutionProvider'])
    except Exception as error:  # as above
        name = 'the model' if isinstance(model, bytes) else f"model '{model}'"
        raise EngineError(f'ONNX Runtime refuses {name}: {one_line(error)}') from None


def cpu_name() -> str:
    """The processor's name as its vendor gives it, else its architecture."""
    try:
        for line in Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines():
            key, _, value = line.partition(':')
            if key.strip() in ('model name', 'Model') and value.strip():
                return value.strip()
    except OSError:
        pass
    return platform.machine()
