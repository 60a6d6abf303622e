# SPDX-License-Identifier: Apache-2.0
"""From ONNX bytes to a plan. Importing this looks for TensorRT."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from trt_perception.build.engine import differences
from trt_perception.build.engine.layers import Layer, network_layers, sizes
from trt_perception.build.engine.progress import Monitor, OnProgress
from trt_perception.build.engine.tuning import Precision, Tuning, TuningError
from trt_perception.core import ModelSpec
from trt_perception.core.errors import one_line
from trt_perception.runtime.engine import EngineError
from trt_perception.runtime.tensorrt import api as trt
from trt_perception.runtime.tensorrt.library import library
from trt_perception.runtime.tensorrt.log import Log


class BuildError(EngineError):
    """TensorRT cannot build this network."""


class BuildCancelledError(EngineError):
    """Somebody stopped the build."""


@dataclass(frozen=True)
class Build:
    """What a build gave.

    Attributes:
        layers: of the parsed network.
        log_layers: the layers of the engine, as the builder's log tells them.
    """

    plan: bytes
    layers: list[Layer]
    log_layers: list[str]
    warnings: list[str]
    seconds: float


class Builder:
    """A network with all that was asked for it, ready to be built once.

    Args of the constructor:
        onnx: the network for TensorRT's parser.
        path: of the model, for weights beside it and for messages.
        spec: tells the size of an image input that leaves it free.
    """

    def __init__(
        self,
        onnx: bytes,
        path: Path,
        precision: Precision,
        dla_core: int | None = None,
        tuning: Tuning = Tuning(),
        spec: ModelSpec | None = None,
    ) -> None:
        """Parse and check.

        Raises:
            BuildError: the parser does not know the network, or TensorRT does not start.
            TuningError: a wish cannot be fulfilled here.
        """
        self._log = Log()
        try:
            self._builder = trt.Builder(self._log)
        except Exception as error:  # pybind11 raises TypeError for a builder that is None
            why = self._log.why() if self._log.errors else one_line(error)
            raise BuildError(f'{library()} does not start here: {why}') from None
        self._path = path
        self._network = self._builder.create_network(differences.network_flags())
        self._config = self._builder.create_builder_config()
        parser = trt.OnnxParser(self._network, self._log)
        if dla_core is not None:
            if precision == 'fp32':
                raise TuningError('a DLA computes in FP16 and INT8; take --precision fp16')
            int8 = precision == 'int8'
            differences.set_dla(self._builder, self._config, parser, dla_core, int8)
        if not parser.parse(onnx, str(path)):
            errors = [parser.get_error(i) for i in range(parser.num_errors)]
            told = '; '.join(_parser_error(e) for e in errors[:3]) or self._log.why()
            raise BuildError(f"{library()} cannot read model '{path}': {told}")
        self._parser = parser  # weights of the network live in it
        self.layers = network_layers(self._network)
        differences.set_target(self._config)
        differences.forbid_tf32(self._config)
        differences.set_wishes(self._config, tuning)
        self._set_shapes(tuning.batch, spec)
        self._timings: trt.ITimingCache | None = None

    def _set_shapes(self, batch: tuple[int, int, int], spec: ModelSpec | None) -> None:
        inputs = [self._network.get_input(i) for i in range(self._network.num_inputs)]
        free = [tensor for tensor in inputs if -1 in sizes(tensor)]
        if not free:
            if batch != (1, 1, 1):
                raise TuningError(
                    f"model '{self._path}' fixes its batch; export it with a free one, or leave out"
                    ' --batch'
                )
            return
        profile = self._builder.create_optimization_profile()
        for tensor in free:
            shape = sizes(tensor)
            if spec is not None and tensor.name == spec.input_name and len(shape) == 4:
                shape[1:] = 3, spec.height, spec.width
            if -1 in shape[1:]:
                raise TuningError(
                    f"model '{self._path}' leaves the size of its input '{tensor.name}' free; give"
                    ' it in the YAML beside the model (input_size: [width, height])'
                )
            least, usual, most = (trt.Dims([n, *shape[1:]]) for n in batch)
            profile.set_shape(tensor.name, least, usual, most)
        self._config.add_optimization_profile(profile)

    def build(
        self,
        timings: bytes = b'',
        on_progress: OnProgress = lambda phase, share: None,
        cancel: threading.Event | None = None,
    ) -> Build:
        """Build; takes seconds to many minutes.

        Args:
            timings: a timing cache of the same release and GPU.
            on_progress: called from TensorRT's thread.
            cancel: set it to stop the build.

        Raises:
            BuildError: it failed.
            BuildCancelledError: it was stopped.
        """
        cancel = cancel or threading.Event()
        monitor = Monitor(on_progress, cancel)
        self._config.progress_monitor = monitor
        if differences.keeps_timings():
            self._timings = self._config.create_timing_cache(timings)
            self._config.set_timing_cache(self._timings, ignore_mismatch=False)
            self._log.errors.clear()  # those of a cache that does not fit, which starts anew
        start = perf_counter()
        plan = self._builder.build_serialized_network(self._network, self._config)
        seconds = perf_counter() - start
        if cancel.is_set():
            raise BuildCancelledError(f"building '{self._path}' was stopped")
        if plan is None:
            raise BuildError(f"{library()} cannot build '{self._path}': {self._log.why()}")
        return Build(
            bytes(plan),
            self.layers,
            self._log.layers,
            list(self._log.warnings),
            seconds,
        )

    def timings(self, others: bytes) -> bytes:
        """The timing cache after a build, with what other builds have found meanwhile.

        Returns:
            b'' where the release keeps none.
        """
        if self._timings is None:
            return b''
        if others:
            self._timings.combine(self._config.create_timing_cache(others), ignore_mismatch=False)
        return bytes(self._timings.serialize())


def _parser_error(error: trt.ParserError) -> str:
    where = f'node {error.node()}'
    name: Callable[[], str] | None = getattr(error, 'node_name', None)
    operator: Callable[[], str] | None = getattr(error, 'node_operator', None)
    if name is not None and operator is not None:  # since 10.0
        where = f"{operator()} '{name()}'"
    return f'{where}: {one_line(Exception(error.desc()))}'
