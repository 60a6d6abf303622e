# SPDX-License-Identifier: Apache-2.0
"""One allocation for many buffers: made once, cut up by name."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from trt_perception.runtime.cuda.device import Scope
from trt_perception.runtime.cuda.driver import call

#: What CUDA's own allocations are aligned to, so that no kernel sees a difference.
ALIGNMENT = 256


def _cut(sizes: Mapping[str, int]) -> tuple[dict[str, int], int]:
    """Where each buffer begins, and how long they are together."""
    offsets, end = {}, 0
    for name, size in sizes.items():
        offsets[name] = end
        end += -(-size // ALIGNMENT) * ALIGNMENT
    return offsets, max(end, ALIGNMENT)


def _settle() -> None:
    """Wait for the default stream, which ours do not wait for; its calls may return before."""
    call('cuStreamSynchronize', 0)


class DeviceArena:
    """Device memory.

    Attributes:
        addresses: of each buffer.
    """

    def __init__(self, scope: Scope, sizes: Mapping[str, int]) -> None:
        """Allocate.

        Args:
            sizes: bytes of each buffer.

        Raises:
            CudaError: the device's memory is full.
        """
        offsets, self.size = _cut(sizes)
        self._base = scope.allocate(self.size)
        self.addresses = {name: self._base + offset for name, offset in offsets.items()}

    def clear(self) -> None:
        """Make all of it zero; waits."""
        call('cuMemsetD8', self._base, 0, self.size)
        _settle()

    def fill(self, name: str, content: NDArray[Any]) -> None:
        """Write a buffer; waits."""
        content = np.ascontiguousarray(content)
        call('cuMemcpyHtoD', self.addresses[name], content.ctypes.data, content.nbytes)
        _settle()


class PinnedArena:
    """Host memory that the GPU reads and writes in place.

    Attributes:
        addresses: of each buffer, as the device sees it.
    """

    def __init__(self, scope: Scope, sizes: Mapping[str, int]) -> None:
        """Allocate; the arguments and errors are those of `DeviceArena`."""
        self._offsets, self.size = _cut(sizes)
        self.host, device = scope.allocate_pinned(self.size)
        self.addresses = {name: device + offset for name, offset in self._offsets.items()}
        self._bytes = memoryview((ctypes.c_uint8 * self.size).from_address(self.host)).cast('B')

    def view(self, name: str, dtype: DTypeLike, count: int) -> NDArray[Any]:
        """A buffer as an array, valid until its scope is closed."""
        return np.frombuffer(self._bytes, dtype, count, self._offsets[name])
