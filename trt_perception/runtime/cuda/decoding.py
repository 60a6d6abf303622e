# SPDX-License-Identifier: Apache-2.0
"""From a network's outputs on the device to detections on the host."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from trt_perception.core import Detections, Geometry, ModelSpec, Selection, TensorInfo
from trt_perception.core.decoders import Decoder
from trt_perception.runtime.cuda.decode import (
    RESULT,
    DecodePlan,
    Output,
    read_result,
    stamp_launch,
    supported,
)
from trt_perception.runtime.cuda.device import Scope
from trt_perception.runtime.cuda.driver import call
from trt_perception.runtime.cuda.kernels import Kernels
from trt_perception.runtime.cuda.memory import DeviceArena, PinnedArena
from trt_perception.runtime.select import detections_of

#: Times on the GPU's clock, ns: preprocessing begins and ends, decoding begins and ends.
_STAMPS = 4


class Decoded(NamedTuple):
    """What one image gave.

    Attributes:
        dropped: candidates beyond those that the device can hold.
        preprocess, infer, decode: nanoseconds on the GPU.
    """

    detections: Detections
    dropped: int
    preprocess: int
    infer: int
    decode: int


class Decoding(Protocol):
    """A way to decode one image's outputs.

    Attributes:
        stamps: device address where the kernels leave the time.
    """

    stamps: int

    def enqueue(
        self, geometry: Geometry, selection: Selection, kernels: Kernels, stream: Any
    ) -> None:
        """Launch what brings the outcome to the host."""

    def read(self, geometry: Geometry, selection: Selection) -> Decoded:
        """The outcome, once the stream is through."""


def decoding_for(
    scope: Scope,
    spec: ModelSpec,
    decoder: Decoder,
    outputs: Sequence[TensorInfo],
    places: Sequence[int],
) -> Decoding:
    """The fastest way that there is for a layout.

    Args:
        outputs: in the order of ``spec.outputs``, with the whole batch in their shapes.
        places: device address of this image's part of each.
    """
    images = [Output((1, *(n or 0 for n in o.shape[1:])), o.dtype) for o in outputs]
    if supported(spec.layout, images):
        return _OnDevice(scope, spec, images, places)
    return _OnHost(scope, spec, decoder, images, places)


class _OnDevice:
    """Brings back the boxes that were asked for, and nothing else."""

    def __init__(
        self, scope: Scope, spec: ModelSpec, outputs: Sequence[Output], places: Sequence[int]
    ) -> None:
        self._scope = scope
        self._spec = spec
        self._outputs = outputs
        self._places = places
        pinned = PinnedArena(scope, {'result': RESULT.itemsize})
        self._result = pinned.addresses['result']
        self._record = pinned.view('result', RESULT, 1).reshape(())
        times = DeviceArena(scope, {'stamps': 8 * _STAMPS})
        times.clear()
        self.stamps = times.addresses['stamps']
        self._multi_label = False
        self._allocate(multi_label=False)

    def enqueue(
        self, geometry: Geometry, selection: Selection, kernels: Kernels, stream: Any
    ) -> None:
        if selection.multi_label and not self._multi_label:
            # Many times the room, for what only accuracy figures ask for.
            self._allocate(multi_label=True)
        for launch in self._plan.launches(
            selection, geometry, self._addresses, self._places, self._result
        ):
            kernels.launch(launch, stream)

    def read(self, geometry: Geometry, selection: Selection) -> Decoded:
        detections, dropped, stamps = read_result(self._record)
        begin, prepared, inferred, end = (int(t) for t in stamps)
        return Decoded(detections, dropped, prepared - begin, inferred - prepared, end - inferred)

    def _allocate(self, *, multi_label: bool) -> None:
        plan = DecodePlan(self._spec, self._outputs, multi_label=multi_label)
        sizes = {k: v for k, v in plan.buffers.items() if k != 'stamps'}
        arena = DeviceArena(self._scope, sizes)
        arena.clear()
        # All or nothing: where memory is short, the kernels must not be told of room that is not.
        self._plan, self._multi_label = plan, multi_label
        self._addresses = arena.addresses | {'stamps': self.stamps}


class _OnHost:
    """Copies the outputs back, for layouts without kernels: they are small, or foreign."""

    def __init__(
        self,
        scope: Scope,
        spec: ModelSpec,
        decoder: Decoder,
        outputs: Sequence[Output],
        places: Sequence[int],
    ) -> None:
        self._spec = spec
        self._decoder = decoder
        device = DeviceArena(scope, {'stamps': 8 * _STAMPS})
        device.clear()
        self.stamps = device.addresses['stamps']
        counts = [math.prod(o.shape) for o in outputs]
        sizes = [n * np.dtype(o.dtype).itemsize for n, o in zip(counts, outputs, strict=True)]
        names = [str(index) for index in range(len(outputs))]
        pinned = PinnedArena(scope, dict(zip(names, sizes, strict=True)) | {'stamps': 8 * _STAMPS})
        self._times = pinned.view('stamps', np.uint64, _STAMPS)
        self._outputs: list[NDArray[Any]] = [
            pinned.view(name, o.dtype, count).reshape(o.shape)
            for name, o, count in zip(names, outputs, counts, strict=True)
        ]
        self._copies = list(zip(self._outputs, places, strict=True))

    def enqueue(
        self, geometry: Geometry, selection: Selection, kernels: Kernels, stream: Any
    ) -> None:
        kernels.launch(stamp_launch(self.stamps, 2), stream)
        for view, place in self._copies:
            call('cuMemcpyDtoHAsync', view.ctypes.data, place, view.nbytes, stream)
        kernels.launch(stamp_launch(self.stamps, 3), stream)
        call('cuMemcpyDtoHAsync', self._times.ctypes.data, self.stamps, 8 * _STAMPS, stream)
        call('cuMemsetD8Async', self.stamps, 0, 8 * _STAMPS, stream)

    def read(self, geometry: Geometry, selection: Selection) -> Decoded:
        detections = detections_of(self._decoder, self._outputs, self._spec, geometry, selection)
        begin, prepared, inferred, end = (int(t) for t in self._times)
        return Decoded(detections, 0, prepared - begin, inferred - prepared, end - inferred)
