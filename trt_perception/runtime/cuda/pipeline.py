# SPDX-License-Identifier: Apache-2.0
"""Frame in, Detections out, on the GPU."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trt_perception.core import Frame, ModelSpec, Selection
from trt_perception.core.decoders import decoders
from trt_perception.runtime.cuda.device import CudaDevice, why_absent
from trt_perception.runtime.cuda.kernels import Kernels
from trt_perception.runtime.cuda.lane import Lane
from trt_perception.runtime.cuda.memory import PinnedArena
from trt_perception.runtime.engine import EngineError, EngineInfo
from trt_perception.runtime.gate_result import GateError
from trt_perception.runtime.model_file import engine_spec
from trt_perception.runtime.nvtx import stage
from trt_perception.runtime.pipeline import Result
from trt_perception.runtime.tensorrt.library import library
from trt_perception.runtime.tensorrt.plan import load_plan

_PRECISIONS = {'fp32': 'float32', 'fp16': 'float16'}


class Ticket:
    """A frame in flight."""

    def __init__(self, pipeline: CudaPipeline, lane: Lane) -> None:
        self._pipeline = pipeline
        self._lane: Lane | None = lane

    def finish(self) -> Result:
        """Wait for the detections; once.

        Raises:
            CudaError: the GPU failed.
            DecodeError: a decoder from outside is wrong.
        """
        lane, self._lane = self._lane, None
        if lane is None:
            raise EngineError('this frame is finished already')
        self._pipeline._check_open()
        try:
            return lane.finish()[0]
        finally:
            self._pipeline._give_back(lane)


class CudaPipeline:
    """A network on the GPU and all that stands around it.

    Each lane takes one frame at a time: with two of them the next frame is on its way to the GPU
    while this one is looked at, and several cameras share one network. Calls may come from several
    threads, as many at a time as there are lanes.

    Attributes:
        batch: frames that `many` looks at together.
    """

    def __init__(
        self,
        device: CudaDevice,
        spec: ModelSpec,
        lanes: Sequence[Lane],
        info: EngineInfo,
        together: Lane | None = None,
    ) -> None:
        """Put together.

        Args:
            lanes: for a frame each.
            together: a lane for several.
        """
        self.spec = spec
        self.info = info
        self.device = device
        self._lanes = list(lanes)
        self._free = list(lanes)
        self._lock = threading.Lock()
        self._together = together
        self._together_taken = threading.Lock()
        self.batch = 1 if together is None else together.batch
        self._buffers = device.scope()

    @property
    def lanes(self) -> int:
        """How many frames can be in flight."""
        return len(self._lanes)

    def __call__(self, frame: Frame, selection: Selection) -> Result:
        """Detect; the arguments and errors are those of `trt_perception.runtime.Pipeline`."""
        return self.begin(frame, selection).finish()

    def begin(self, frame: Frame, selection: Selection) -> Ticket:
        """Start on a frame without waiting for it; its pixels must stay until it is finished.

        Raises:
            FrameError: the frame cannot be used; another one may work.
            EngineError: all lanes are taken, the pipeline is closed, or the network could not be
                launched.
        """
        lane = self._take(frame, selection)
        try:
            with stage(frame.source or 'frame'):
                lane.begin([(frame, selection)])
        except BaseException:
            self._give_back(lane)
            raise
        return Ticket(self, lane)

    def many(self, wishes: Sequence[tuple[Frame, Selection]]) -> list[Result]:
        """Look at several frames together, `batch` of them at the most.

        Where another thread does so already they are looked at one after the other.

        Raises:
            FrameError: one of them cannot be used, and nothing came of the others.
            EngineError: the pipeline is closed, or the network could not be run.
        """
        lane = self._together
        if lane is None or len(wishes) == 1 or not self._together_taken.acquire(blocking=False):
            return [self(frame, selection) for frame, selection in wishes]
        try:
            self._check_open()
            # Cameras in one order, so that the same ones need one graph; what is missing in the
            # batch is made up for with what is there.
            order = sorted(range(len(wishes)), key=lambda k: wishes[k][0].source)
            lane.begin([wishes[order[k % len(order)]] for k in range(lane.batch)])
            results = dict(zip(order, lane.finish(), strict=False))
            return [results[k] for k in range(len(wishes))]
        finally:
            self._together_taken.release()

    def frame_buffer(self, size: int) -> NDArray[np.uint8]:
        """Memory that the GPU reads in place; a frame that lies in it is copied by nobody.

        Returns:
            (size,) uint8, valid until the pipeline is closed.

        Raises:
            CudaError: memory is short.
        """
        self._check_open()
        self.device.bind()
        return PinnedArena(self._buffers, {'frame': size}).view('frame', np.uint8, size)

    def warm_up(self) -> None:
        """Run every lane once, so that the first frame does not pay for lazy allocations."""
        black = np.zeros((self.spec.height, self.spec.width, 3), np.uint8)
        frame = Frame.from_array(black)
        tickets = [self.begin(frame, Selection()) for _ in self._lanes]
        for ticket in tickets:
            ticket.finish()
        self.many([(frame, Selection())] * self.batch)

    def give_up(self) -> None:
        """A call of it hangs, and the end of the process must not wait for that."""
        self.device.give_up()

    def close(self) -> None:
        """Free all of it, in order. Safe to call twice."""
        self.device.close()

    def _check_open(self) -> None:
        if self.device.closed:  # its buffers are no one's memory any more
            raise EngineError('the pipeline is closed')

    def _take(self, frame: Frame, selection: Selection) -> Lane:
        self._check_open()
        with self._lock:
            if not self._free:
                raise EngineError(
                    f'all {len(self._lanes)} lanes are taken; open the pipeline with more, or'
                    ' finish a frame first'
                )
            # Cameras of several sizes: a lane that has seen this one needs no new graph. Of the
            # others the one that was used longest ago gives up its own.
            known = (lane for lane in self._free if lane.knows(frame, selection))
            lane = next(known, self._free[0])
            self._free.remove(lane)
            return lane

    def _give_back(self, lane: Lane) -> None:
        with self._lock:
            self._free.append(lane)


def open_engine(
    engine: Path,
    *,
    labels: str = '',
    accept_failed_gate: bool = False,
    device: int = 0,
    lanes: int = 1,
    batch: int = 1,
    priority: int = 0,
) -> CudaPipeline:
    """Load an engine and all that stands around it.

    Args:
        engine: its file, with its manifest beside it.
        labels: class names, see `trt_perception.runtime.model_file.read_labels`.
        accept_failed_gate: run an INT8 engine although it lost too much of its accuracy.
        device: the GPU, as CUDA counts them.
        lanes: frames in flight at a time.
        batch: frames that may be looked at together; fewer where the engine takes fewer.
        priority: of the CUDA streams; lower is more urgent, 0 the least.

    Raises:
        EngineError: no GPU, no TensorRT, not an engine, or one of another machine.
        GateError: the model failed its gate.
        SpecError: its inputs and outputs are not understood.
    """
    if why := why_absent():
        raise EngineError(f"engine '{engine}' cannot run here: {why}")
    plan = load_plan(engine)
    if plan.manifest.gate_passed is False and not accept_failed_gate:
        raise GateError(
            f"engine '{engine}' is of an INT8 model that failed its gate; quantize it anew, use the"
            ' float model, or set accept_failed_gate to run it all the same'
        )
    # TensorRT must find the context of this device when it is loaded.
    gpu = CudaDevice(device)
    with ExitStack() as undo:
        undo.callback(gpu.close)
        from trt_perception.runtime.tensorrt.engine import TensorRtEngine

        scope = gpu.scope()
        loaded = TensorRtEngine(plan, engine)
        scope.own(loaded)
        spec = engine_spec(engine, loaded.signature, plan.manifest.spec, labels)
        kernels = Kernels(scope)
        decoder = decoders()[spec.layout]
        # A frame alone is soonest where its pixels are read in place. Beside other frames a copy is
        # better: the threads that wait for the bus would keep others from the GPU.
        uploads = lanes > 1 and not gpu.integrated

        def lane(batch: int) -> Lane:
            return Lane(
                gpu, kernels, loaded, spec, decoder,
                batch=batch, priority=priority, uploads=uploads,
            )  # fmt: skip

        made = [lane(1) for _ in range(lanes)]
        batch = min(batch, loaded.largest_batch(spec.input_name))
        together = lane(batch) if batch > 1 else None
        precision = plan.manifest.precision or 'unknown precision'
        info = EngineInfo(str(library()), gpu.name, _PRECISIONS.get(precision, precision))
        pipeline = CudaPipeline(gpu, spec, made, info, together)
        pipeline.warm_up()
        undo.pop_all()
    return pipeline
