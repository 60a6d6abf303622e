# SPDX-License-Identifier: Apache-2.0
"""A lane: everything for one run of the network, from pixels to detections, in one CUDA graph."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from trt_perception.core import Frame, ModelSpec, PerceptionError, Selection, TensorInfo
from trt_perception.core.decoders import Decoder
from trt_perception.runtime.cuda import driver
from trt_perception.runtime.cuda.decoding import decoding_for
from trt_perception.runtime.cuda.device import CudaDevice
from trt_perception.runtime.cuda.driver import CudaError, call
from trt_perception.runtime.cuda.kernels import Kernels
from trt_perception.runtime.cuda.memory import DeviceArena
from trt_perception.runtime.cuda.pause import Pause
from trt_perception.runtime.cuda.preprocess import level_tables
from trt_perception.runtime.cuda.seat import Look, Seat
from trt_perception.runtime.engine import EngineError
from trt_perception.runtime.nvtx import stage
from trt_perception.runtime.pipeline import Result

if TYPE_CHECKING:
    from trt_perception.runtime.tensorrt.engine import TensorRtEngine

_THREAD_LOCAL = 1  # CUstreamCaptureMode: what other threads do meanwhile is theirs
_EXTERNAL = 1  # CUevent_record_flags: a node of the graph that the outside can wait for


class Lane:
    """One batch in flight. Used by one thread at a time; `begin` does not wait, `finish` does.

    The first batch of its kind (sizes, encodings, thresholds) is launched piece by piece and
    captured; those that follow are one launch.

    Attributes:
        look: what its graph is made for.
    """

    def __init__(
        self,
        device: CudaDevice,
        kernels: Kernels,
        engine: TensorRtEngine,
        spec: ModelSpec,
        decoder: Decoder,
        *,
        batch: int = 1,
        priority: int = 0,
        uploads: bool = False,
    ) -> None:
        """Allocate.

        Args:
            batch: images that the network takes at a time.
            uploads: see `Images`.
            priority: of its stream, lower is more urgent.

        Raises:
            EngineError: the engine and the spec do not fit, or memory is short.
        """
        self.look: tuple[Look, ...] = ()
        self._device = device
        self._kernels = kernels
        self._scope = device.scope()
        self._graph_scope = device.scope()
        self._graph: Any = None
        self._capturable = True
        self._pause = Pause()
        try:
            self._stream = self._scope.stream(priority)
            self._done = self._scope.event()
            self._context = engine.context(batch, spec)
            self._scope.own(self._context)
            self._bind(spec, decoder, batch, uploads)
        except BaseException:
            self.close()
            raise

    def knows(self, frame: Frame, selection: Selection) -> bool:
        """Whether its graph is for frames such as this, as far as can be told undecoded."""
        if frame.compressed:
            return any(look.selection == selection for look in self.look)
        wanted = (frame.width, frame.height, frame.encoding, frame.step, selection)
        return any(
            (look.geometry.source_width, look.geometry.source_height, *look[1:]) == wanted
            for look in self.look
        )

    def begin(self, frames: Sequence[Frame], selection: Selection) -> None:
        """Start on as many frames as the network takes at a time.

        Raises:
            FrameError: a frame cannot be used; another one may work.
            EngineError: the network could not be launched.
        """
        self._device.bind()
        with stage('upload'):
            look = tuple(
                seat.accept(frame, selection, self._stream)
                for seat, frame in zip(self._seats, frames, strict=True)
            )
        with stage('launch'):
            try:
                self._launch(look)
            except BaseException:
                # The buffers are the next frame's; what was launched must be done with them.
                with suppress(PerceptionError):
                    call('cuStreamSynchronize', self._stream)
                raise
        self._pause.begin()

    def finish(self) -> list[Result]:
        """Wait for the detections of each frame.

        Raises:
            CudaError: the GPU failed.
            DecodeError: a decoder from outside is wrong.
        """
        self._device.bind()
        with stage('wait'):
            self._pause.sleep()
            call('cuEventSynchronize', self._done)
        with stage('read'):
            results = [seat.result() for seat in self._seats]
        self._pause.learn(max(seat.took for seat in self._seats))
        return results

    def close(self) -> None:
        """Free everything, after what is under way. Safe to call twice."""
        self._graph_scope.close()
        self._scope.close()

    def _bind(self, spec: ModelSpec, decoder: Decoder, batch: int, uploads: bool) -> None:
        tensors = {t.name: t for t in (*self._context.inputs, *self._context.outputs)}
        image = tensors.get(spec.input_name)
        wanted = (batch, 3, spec.height, spec.width)
        if image is None or image.shape != wanted:
            raise EngineError(f"the engine's input is {image}, the model wants {wanted}")
        missing = [name for name in spec.outputs if name not in tensors]
        if missing:
            raise EngineError(f'the engine has no output {", ".join(missing)}')
        tables = level_tables(spec)
        sizes = {name: _bytes(tensor) for name, tensor in tensors.items()}
        arena = DeviceArena(self._scope, sizes | {' tables': tables.nbytes})
        arena.fill(' tables', tables)
        if spec.size_input:
            size = np.tile(np.array([spec.width, spec.height], np.int64), (batch, 1))
            arena.fill(spec.size_input, size)
        for name in tensors:
            self._context.bind(name, arena.addresses[name])
        outputs = [tensors[name] for name in spec.outputs]
        self._seats = []
        for index in range(batch):
            places = [arena.addresses[t.name] + index * _bytes(t) // batch for t in outputs]
            self._seats.append(
                Seat(
                    self._scope,
                    spec,
                    decoding_for(self._scope, spec, decoder, outputs, places),
                    tables=arena.addresses[' tables'],
                    tensor=arena.addresses[image.name] + index * _bytes(image) // batch,
                    uploads=uploads,
                )
            )

    def _launch(self, look: tuple[Look, ...]) -> None:
        if look == self.look and self._graph is not None:
            call('cuGraphLaunch', self._graph, self._stream)
            return
        # TensorRT allocates with the first run of a context, which no graph may hold.
        self._enqueue(0)
        if look != self.look:
            self.look = ()
            self._capture()
            self.look = look

    def _enqueue(self, event_flags: int) -> None:
        for seat in self._seats:
            seat.enqueue_before(self._kernels, self._stream)
        self._context.enqueue(self._stream)
        for seat in self._seats:
            seat.enqueue_after(self._kernels, self._stream)
        call('cuEventRecordWithFlags', self._done, self._stream, event_flags)

    def _capture(self) -> None:
        self._graph = None
        self._graph_scope.close()
        self._graph_scope = self._device.scope()
        if not self._capturable:
            return
        mode = driver.bindings().CUstreamCaptureMode(_THREAD_LOCAL)
        call('cuStreamBeginCapture', self._stream, mode)
        try:
            try:
                self._enqueue(_EXTERNAL)
            except BaseException:
                self._end_failed_capture()
                raise
            graph = call('cuStreamEndCapture', self._stream)
            try:
                self._graph = self._graph_scope.graph(graph)
            finally:
                call('cuGraphDestroy', graph)
        except PerceptionError as error:
            if isinstance(error, CudaError) and error.sticky:
                raise
            self._capturable = False
            logging.getLogger(__name__).warning(
                'this engine cannot be captured into a CUDA graph and is launched layer by layer,'
                ' which takes longer: %s', error,
            )  # fmt: skip

    def _end_failed_capture(self) -> None:
        """Free the stream from a capture that failed; the error stays the one that failed it."""
        try:
            graph = call('cuStreamEndCapture', self._stream)
        except CudaError as error:
            if error.sticky:
                raise
            return  # what has no place in a graph has made all of it void
        call('cuGraphDestroy', graph)

    @property
    def captured(self) -> bool:
        """Whether the frames of the last kind are launched as one graph."""
        return self._graph is not None


def _bytes(tensor: TensorInfo) -> int:
    return math.prod(n or 0 for n in tensor.shape) * np.dtype(tensor.dtype).itemsize
