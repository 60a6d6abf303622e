# SPDX-License-Identifier: Apache-2.0
"""A plan, loaded and run. Importing this looks for TensorRT."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from trt_perception.core import ModelSpec, Signature, TensorInfo
from trt_perception.core.errors import one_line
from trt_perception.runtime.engine import EngineError
from trt_perception.runtime.tensorrt import api as trt
from trt_perception.runtime.tensorrt.library import library
from trt_perception.runtime.tensorrt.log import Log
from trt_perception.runtime.tensorrt.plan import Plan, made_by

T = TypeVar('T')

#: By the name that a manifest has for it.
_DLA_CORES = {'dla0': 0, 'dla1': 1}


class TensorRtEngine:
    """A network on the GPU; its weights are there once, however many contexts run it.

    The CUDA context must be current in the thread that makes it, runs it and closes it.
    """

    def __init__(self, plan: Plan, path: Path) -> None:
        """Load a plan, which must have come from `load_plan`: it is code.

        Raises:
            EngineError: it is of another release, for another GPU, or TensorRT does not start.
        """
        self._path = path
        self._log = Log()
        try:
            self._runtime: Any = trt.Runtime(self._log)
        except Exception as error:  # pybind11 raises TypeError for a runtime that is None
            why = self._log.why() if self._log.errors else one_line(error)
            raise EngineError(f'{library()} does not start here: {why}') from None
        self._contexts: list[ExecutionContext] = []
        self._config = self._kernels = None
        core = _DLA_CORES.get(plan.manifest.device)
        if core is not None:  # it is no part of the plan
            self._runtime.DLA_core = core
        self._engine: Any = self._runtime.deserialize_cuda_engine(plan.data)
        if self._engine is None:
            self.close()
            raise EngineError(
                f"engine '{path}', made by {made_by(plan.data)}, does not run with {library()}"
                f' here: {self._log.why()}; build it on this machine'
            )
        try:
            self._config, self._kernels = _shared_kernels(self._engine)
            self.signature = self._read_signature(plan.metadata)
        except BaseException:
            self.close()  # in order, and not when the error is forgotten
            raise

    def context(self, batch: int = 1, spec: ModelSpec | None = None) -> ExecutionContext:
        """Something that runs the network, once at a time; closed with the engine.

        Args:
            batch: frames of one run.
            spec: size of an image input that the engine leaves free.

        Raises:
            EngineError: no memory for its activations, or no such batch.
        """
        made = [] if self._config is None else [self._config]
        context = ExecutionContext(self._engine, made, self._log, self._path, batch, spec)
        self._contexts.append(context)
        return context

    def largest_batch(self, name: str) -> int:
        """How many frames the engine takes at a time through an input, at the most."""
        if self._engine.get_tensor_shape(name)[0] != -1:
            return int(self._engine.get_tensor_shape(name)[0])
        return int(self._engine.get_tensor_profile_shape(name, 0)[2][0])

    def close(self) -> None:
        """Free the network and its contexts. Safe to call twice."""
        while self._contexts:
            self._contexts.pop().close()
        # In this order: an engine must not outlive its runtime.
        self._config = self._kernels = None
        self._engine = None
        self._runtime = None

    def _read_signature(self, metadata: Mapping[str, Any]) -> Signature:
        sides: tuple[list[TensorInfo], list[TensorInfo]] = ([], [])
        for index in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(index)
            shape = tuple(n if n > 0 else None for n in self._engine.get_tensor_shape(name))
            dtype = _numpy_name(self._engine.get_tensor_dtype(name), name, self._path)
            output = self._engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT
            sides[output].append(TensorInfo(name, dtype, shape))
        return Signature(tuple(sides[0]), tuple(sides[1]), _as_onnx_metadata(metadata))


class ExecutionContext:
    """One run at a time of a network, on buffers that others own."""

    def __init__(
        self,
        engine: Any,
        made_with: list[Any],
        log: Log,
        path: Path,
        batch: int,
        spec: ModelSpec | None,
    ) -> None:
        self._log = log
        self._path = path
        self._context: Any = self._checked(
            'create_execution_context', lambda: engine.create_execution_context(*made_with)
        )
        try:
            self._shape(engine, batch, spec)
        except BaseException:
            self.close()  # the error outlives the engine, which this must not
            raise

    def bind(self, name: str, address: int) -> None:
        """Say where on the device a tensor lies.

        Raises:
            EngineError: TensorRT refuses the address.
        """
        self._checked('set_tensor_address', lambda: self._context.set_tensor_address(name, address))

    def enqueue(self, stream: Any) -> None:
        """Launch the network.

        Raises:
            EngineError: it could not be launched; the text says why.
        """
        self._checked('execute_async_v3', lambda: self._context.execute_async_v3(int(stream)))

    def close(self) -> None:
        """Free the activations. Safe to call twice."""
        self._context = None

    def _checked(self, what: str, function: Callable[[], T]) -> T:
        """TensorRT returns False or None, and the reason is in its log alone."""
        if what != 'create_execution_context' and self._context is None:
            raise EngineError('the engine is closed')
        self._log.errors.clear()
        here = self._log.here
        here.clear()
        try:
            result = function()
        except Exception as error:  # pybind11's, of several kinds
            raise EngineError(
                f"{library()}, engine '{self._path}': {what}: {one_line(error)}"
            ) from None
        if result is None or result is False or here:  # what others log is theirs
            raise EngineError(
                f"{library()}, engine '{self._path}': {what} failed: {self._log.why(here)}"
            )
        return result

    def _shape(self, engine: Any, batch: int, spec: ModelSpec | None) -> None:
        inputs: list[str] = []
        outputs: list[str] = []
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            output = engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT
            (outputs if output else inputs).append(name)
        for name in inputs:
            shape = list(engine.get_tensor_shape(name))
            if -1 in shape:
                self._set_shape(name, shape, batch, spec)
            elif batch != 1 and shape[0] != batch:
                raise EngineError(
                    f"engine '{self._path}' takes {shape[0]} frames at a time, not {batch};"
                    ' build it with --batch from a model that leaves its batch free'
                )
        self.outputs = [self._tensor(engine, name) for name in outputs]
        self.inputs = [self._tensor(engine, name) for name in inputs]

    def _set_shape(self, name: str, shape: list[int], batch: int, spec: ModelSpec | None) -> None:
        if spec is not None and name == spec.input_name:
            wanted = [batch, 3, spec.height, spec.width]
        else:
            wanted = [batch if n == -1 else n for n in shape]
        self._checked(
            f'set_input_shape({name}, {wanted})',
            lambda: self._context.set_input_shape(name, tuple(wanted)),
        )

    def _tensor(self, engine: Any, name: str) -> TensorInfo:
        shape = tuple(self._context.get_tensor_shape(name))
        if any(n < 0 for n in shape):
            raise EngineError(
                f"engine '{self._path}' does not tell the size of its output '{name}' beforehand;"
                ' export the model with a fixed number of boxes'
            )
        return TensorInfo(name, _numpy_name(engine.get_tensor_dtype(name), name, self._path), shape)


def _shared_kernels(engine: Any) -> tuple[Any, Any]:
    """What makes TensorRT-RTX compile kernels once and not for each context; None for TensorRT.

    TensorRT-RTX compiles on the device, for seconds, with the first context.

    Returns:
        The settings of a context and what they share, which they do not keep alive.
    """
    if not library().is_rtx:
        return None, None
    config = engine.create_runtime_config()
    kernels = None if config is None else config.create_runtime_cache()
    if kernels is None:  # then each context compiles its own
        return None, None
    config.set_runtime_cache(kernels)
    return config, kernels


def _numpy_name(dtype: Any, name: str, path: Path) -> str:
    in_numpy: Callable[[Any], Any] = trt.nptype  # without types of its own
    try:
        return np.dtype(in_numpy(dtype)).name
    except (TypeError, KeyError):  # BF16, FP8 and the like
        raise EngineError(
            f"engine '{path}': tensor '{name}' is of type {dtype}; build it with float32 or float16"
            ' inputs and outputs'
        ) from None


def _as_onnx_metadata(header: Mapping[str, Any]) -> dict[str, str]:
    """Ultralytics' notes in the form that the same exporter gives them in an ONNX file."""
    notes = dict(header)
    names = notes.get('names')
    if isinstance(names, dict):  # JSON made texts of its numbers
        notes['names'] = {int(k) if k.isdecimal() else k: v for k, v in names.items()}
    return {str(k): v if isinstance(v, str) else str(v) for k, v in notes.items()}
