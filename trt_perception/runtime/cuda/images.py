# SPDX-License-Identifier: Apache-2.0
"""Where the GPU finds an image, and the cheapest way to bring it there."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trt_perception.core import Frame, Geometry
from trt_perception.core.frame import ENCODINGS
from trt_perception.runtime.cuda import driver
from trt_perception.runtime.cuda.device import Scope
from trt_perception.runtime.cuda.driver import call
from trt_perception.runtime.cuda.memory import DeviceArena, PinnedArena
from trt_perception.runtime.cuda.preprocess import strides_read


class _Kind(NamedTuple):
    """What images are alike in, as far as their bytes are concerned."""

    geometry: Geometry
    encoding: str
    step: int
    size: int


class Images:
    """One image at a time; memory is had anew only for one that is larger than all before.

    Only the rows that the preprocessing reads are moved, where they lie evenly. The GPU reads
    pinned memory in place, across the bus where it has a memory of its own, or from a copy there;
    other memory is copied to pinned memory first, as the driver would do too, and wait for it.
    """

    def __init__(self, scope: Scope, uploads: bool) -> None:
        """Nothing is allocated yet.

        Args:
            uploads: copy into the device's memory instead of reading across the bus.
        """
        self._scope = scope
        self._uploads = uploads
        self._memory: Scope | None = None
        self._view: NDArray[np.uint8] = np.zeros(0, np.uint8)
        self._staging: PinnedArena | None = None
        self._copy: DeviceArena | None = None
        self._kind: _Kind | None = None
        self._rows: list[slice] = []
        self._even: Any = None  # the one copy that brings every row, where it can

    def reach(self, frame: Frame, geometry: Geometry, stream: Any) -> int:
        """The device address of an image's first byte; before it is read, by the stream."""
        data = frame.data
        host = int(data.__array_interface__['data'][0])
        kind = _Kind(geometry, frame.encoding, frame.step, data.nbytes)
        if kind != self._kind:
            self._settle(kind, frame)
        reached = self._scope.device.reach(host, data.nbytes)
        if reached is None:
            assert self._staging is not None
            self._stage(frame)
            host, reached = self._staging.host, self._staging.addresses['image']
        if self._copy is None:
            return reached
        copy = self._copy.addresses['image']
        if self._even is None:
            call('cuMemcpyHtoDAsync', copy, host, data.nbytes, stream)
        else:
            self._even.srcHost = host + self._rows[0].start * frame.step
            call('cuMemcpy2DAsync', self._even, stream)
        return copy

    def _settle(self, kind: _Kind, frame: Frame) -> None:
        if kind.size > self._view.size:
            self._grow(kind.size)
        self._rows = strides_read(kind.geometry, kind.encoding) or []
        if kind.size // kind.step < frame.height:  # the last row may end without its padding
            self._rows = []
        self._even = None
        if self._copy is not None and len(self._rows) == 1:
            (rows,) = self._rows
            cuda = driver.bindings()
            even = cuda.CUDA_MEMCPY2D()
            even.srcMemoryType = cuda.CUmemorytype.CU_MEMORYTYPE_HOST
            even.dstMemoryType = cuda.CUmemorytype.CU_MEMORYTYPE_DEVICE
            even.dstDevice = self._copy.addresses['image'] + rows.start * kind.step
            even.srcPitch = even.dstPitch = rows.step * kind.step
            even.WidthInBytes = frame.width * ENCODINGS[kind.encoding].pixel_bytes
            even.Height = len(range(rows.start, rows.stop, rows.step))
            self._even = even
        self._kind = kind

    def _stage(self, frame: Frame) -> None:
        data = frame.data
        if not self._rows:
            np.copyto(self._view[: data.nbytes], data)
            return
        whole = data.nbytes // frame.step
        size = whole * frame.step
        source = data[:size].reshape(whole, frame.step)
        target = self._view[:size].reshape(whole, frame.step)
        for rows in self._rows:
            target[rows] = source[rows]

    def _grow(self, size: int) -> None:
        # Where memory is short, the next image must find none rather than what is freed here.
        self._kind, self._view = None, np.zeros(0, np.uint8)
        self._staging = self._copy = None
        if self._memory is not None:
            self._memory.close()
        self._memory = self._scope.part()
        staging = PinnedArena(self._memory, {'image': size})
        if self._uploads:
            self._copy = DeviceArena(self._memory, {'image': size})
        self._staging = staging
        self._view = staging.view('image', np.uint8, size)
