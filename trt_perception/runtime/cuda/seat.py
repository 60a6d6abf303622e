# SPDX-License-Identifier: Apache-2.0
"""One image's place in a lane: how its pixels come in, and where its detections come out."""

from __future__ import annotations

from time import perf_counter_ns
from typing import Any, NamedTuple

import numpy as np

from trt_perception.core import Frame, Geometry, ModelSpec, Region, Selection, place
from trt_perception.runtime.cuda.decoding import Decoding
from trt_perception.runtime.cuda.device import Scope
from trt_perception.runtime.cuda.images import Images
from trt_perception.runtime.cuda.kernels import Kernels
from trt_perception.runtime.cuda.memory import DeviceArena, PinnedArena
from trt_perception.runtime.cuda.preprocess import preprocess_launch
from trt_perception.runtime.host.color import to_bgr
from trt_perception.runtime.pipeline import Result, StageTimes


class Look(NamedTuple):
    """What a captured graph holds of an image: another needs another graph."""

    geometry: Geometry
    encoding: str
    step: int
    selection: Selection


class _PinnedSlot:
    """Holds the address of the image, which is another one with every frame."""

    def __init__(self, scope: Scope) -> None:
        arena = PinnedArena(scope, {'source': 8})
        self._source = arena.view('source', np.uint64, 1)
        self.address = arena.addresses['source']

    def set(self, image: int) -> None:
        """Before the kernel is launched that reads it."""
        self._source[0] = image


class _DeviceSlot:
    """Holds the address of the copy on the device, which hardly ever changes.

    Every block of the kernel reads it: across the bus that would keep the others' work waiting.
    """

    def __init__(self, scope: Scope) -> None:
        self._arena = DeviceArena(scope, {'source': 8})
        self._image = 0
        self.address = self._arena.addresses['source']

    def set(self, image: int) -> None:
        """Before the kernel is launched that reads it; waits where it is another one."""
        if image != self._image:
            self._arena.fill('source', np.array([image], np.uint64))
            self._image = image


class Seat:
    """The buffers of one image, and the launches on either side of the network that use them.

    Attributes:
        took: nanoseconds that the last image was on the GPU.
    """

    def __init__(
        self,
        scope: Scope,
        spec: ModelSpec,
        decoding: Decoding,
        *,
        tables: int,
        tensor: int,
        uploads: bool,
    ) -> None:
        """Allocate what depends on the network.

        Args:
            decoding: of this image's outputs.
            tables: device address of the level tables.
            tensor: device address of this image's part of the network's input.
            uploads: see `Images`.
        """
        self._device = scope.device
        self._spec = spec
        self._decoding = decoding
        self._tables = tables
        self._tensor = tensor
        self._slot = _DeviceSlot(scope) if uploads else _PinnedSlot(scope)
        self._images = Images(scope, uploads)
        self._placed: tuple[tuple[int, int, Region], Geometry] | None = None
        self._frame: Frame | None = None
        self._look: Look | None = None
        self._arrival = 0
        self.took = 0

    def accept(self, frame: Frame, selection: Selection, stream: Any) -> Look:
        """Bring an image to where the GPU reads it.

        Returns:
            What the graph must have been captured for.

        Raises:
            FrameError: it cannot be decoded, or the region lies outside of it.
        """
        begun = perf_counter_ns()
        if frame.compressed:
            frame = Frame.from_array(to_bgr(frame), 'bgr8')
        geometry = self._place(frame, selection.region)
        self._frame = frame  # its pixels must stay until the GPU has read them
        self._slot.set(self._images.reach(frame, geometry, stream))
        self._look = Look(geometry, frame.encoding, frame.step, selection)
        self._arrival = perf_counter_ns() - begun
        return self._look

    def enqueue_before(self, kernels: Kernels, stream: Any) -> None:
        """Launch what makes the network's input."""
        look = self._look
        assert look is not None
        launch = preprocess_launch(
            self._spec,
            look.geometry,
            look.encoding,
            look.step,
            source=self._slot.address,
            tables=self._tables,
            output=self._tensor,
            stamps=self._decoding.stamps,
        )
        kernels.launch(launch, stream)

    def enqueue_after(self, kernels: Kernels, stream: Any) -> None:
        """Launch what makes detections of the network's outputs."""
        assert self._look is not None
        self._decoding.enqueue(self._look.geometry, self._look.selection, kernels, stream)

    def result(self) -> Result:
        """What came out, once the stream is through.

        Raises:
            DecodeError: a decoder from outside is wrong.
        """
        look = self._look
        assert look is not None
        begun = perf_counter_ns()
        decoded = self._decoding.read(look.geometry, look.selection)
        self._frame = None
        self.took = decoded.preprocess + decoded.infer + decoded.decode
        times = StageTimes(
            self._arrival + decoded.preprocess,
            decoded.infer,
            decoded.decode + perf_counter_ns() - begun,
        )
        return Result(decoded.detections, times, decoded.dropped)

    def _place(self, frame: Frame, region: Region) -> Geometry:
        wanted = (frame.width, frame.height, region)
        if self._placed is None or self._placed[0] != wanted:
            spec = self._spec
            placed = place(frame.width, frame.height, spec.width, spec.height, spec.resize, region)
            self._placed = wanted, placed
        return self._placed[1]
