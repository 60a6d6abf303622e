# SPDX-License-Identifier: Apache-2.0
"""A GPU and all that CUDA hands out on it, freed in order."""

from __future__ import annotations

import atexit
import threading
from contextlib import ExitStack, suppress
from typing import Any, NamedTuple, Protocol

from trt_perception.core import PerceptionError
from trt_perception.runtime.cuda import driver
from trt_perception.runtime.cuda.driver import call
from trt_perception.runtime.engine import EngineError

_MULTIPROCESSORS, _INTEGRATED, _MAJOR, _MINOR = 16, 18, 75, 76  # CUdevice_attribute
_NON_BLOCKING = 1  # CUstream_flags: it does not wait for the default stream
_DISABLE_TIMING = 2  # CUevent_flags
_PORTABLE, _MAPPED = 1, 2  # CU_MEMHOSTALLOC_*

_current = threading.local()  # the context that this module has made current in a thread


class Closable(Protocol):
    """What a device frees."""

    def close(self) -> None: ...


class MemoryUse(NamedTuple):
    """Bytes of the device's memory, of all processes together."""

    free: int
    total: int


class CudaDevice:
    """A share in a GPU's primary context, and the owner of everything that is made through it.

    Whatever is not closed before is closed with the device, the youngest first; a device that
    nobody has closed is closed when the interpreter ends.

    Attributes:
        name: the GPU's own.
        sm: compute capability.
        integrated: it shares the memory of the CPU (Jetson).
        multiprocessors: how many.
    """

    def __init__(self, index: int = 0) -> None:
        """Take a share in the primary context of a GPU and make it current.

        Args:
            index: as CUDA counts them.

        Raises:
            EngineError: no cuda-python, no driver, no such GPU.
        """
        self._scopes: dict[Scope, None] = {}  # in the order of their making
        self._pinned: dict[int, tuple[int, int]] = {}  # host address: size, device address
        self._closed = True
        call('cuInit', 0)
        count = call('cuDeviceGetCount')
        if not 0 <= index < count:
            raise EngineError(f'there is no GPU {index} here, CUDA shows {count}')
        self._device = call('cuDeviceGet', index)
        self.index = index
        self.name = call('cuDeviceGetName', 256, self._device).partition(b'\0')[0].decode()
        self.sm = (self._attribute(_MAJOR), self._attribute(_MINOR))
        self.integrated = bool(self._attribute(_INTEGRATED))
        self.multiprocessors = self._attribute(_MULTIPROCESSORS)
        self._context = call('cuDevicePrimaryCtxRetain', self._device)
        self._closed = False
        _open.add(self)
        try:
            self.bind()
        except BaseException:
            self.close()
            raise

    @property
    def closed(self) -> bool:
        """Whether all of it is freed."""
        return self._closed

    @property
    def arch(self) -> str:
        """As compilers name it: ``sm_87``."""
        return f'sm_{self.sm[0]}{self.sm[1]}'

    def bind(self) -> None:
        """Make the context current in this thread, as everything else here needs."""
        if getattr(_current, 'context', None) is not self._context:
            call('cuCtxSetCurrent', self._context)
            _current.context = self._context

    def memory_use(self) -> MemoryUse:
        """What is free of the device's memory."""
        return MemoryUse(*(int(n) for n in call('cuMemGetInfo')))

    def scope(self) -> Scope:
        """A part of what the device owns, which can be freed before the rest."""
        scope = Scope(self)
        self._scopes[scope] = None
        return scope

    def forget(self, scope: Scope) -> None:
        """A scope has been closed."""
        self._scopes.pop(scope, None)

    def reach(self, address: int, size: int) -> int | None:
        """Where the device sees host memory, or None where that is not pinned by this device."""
        for host, (length, device) in tuple(self._pinned.items()):
            if host <= address and address + size <= host + length:
                return device + address - host
        return None

    def give_up(self) -> None:
        """It hangs: the end of the process does not wait for it, and the driver tidies up."""
        _open.discard(self)

    def close(self) -> None:
        """Free everything. Safe to call twice; after an error of the GPU, too."""
        if self._closed:
            return
        self._closed = True
        _open.discard(self)
        with suppress(PerceptionError):  # what is lost with the context cannot be freed
            self.bind()
            call('cuCtxSynchronize')  # nothing is freed under a frame that nobody has finished
        for scope in reversed(list(self._scopes)):
            scope.close()
        _free('cuDevicePrimaryCtxRelease', self._device)
        _current.context = None

    def _attribute(self, number: int) -> int:
        attribute = driver.bindings().CUdevice_attribute(number)
        return int(call('cuDeviceGetAttribute', attribute, self._device))


class Scope:
    """Streams, events and memory that go together."""

    def __init__(self, device: CudaDevice) -> None:
        self.device = device
        self._owned = ExitStack()

    def stream(self, priority: int = 0) -> Any:
        """A stream that waits for no other.

        Args:
            priority: lower is more urgent, 0 the least; cut to what the GPU has.
        """
        _, most_urgent = call('cuCtxGetStreamPriorityRange')
        stream = call('cuStreamCreateWithPriority', _NON_BLOCKING, max(priority, most_urgent))
        self._frees('cuStreamDestroy', stream)
        return stream

    def event(self) -> Any:
        """An event to wait for; waiting spins, since being woken takes a tenth of a frame."""
        event = call('cuEventCreate', _DISABLE_TIMING)
        self._frees('cuEventDestroy', event)
        return event

    def allocate(self, size: int) -> int:
        """Device memory; its address."""
        address = call('cuMemAlloc', size)
        self._frees('cuMemFree', address)
        return int(address)

    def allocate_pinned(self, size: int) -> tuple[int, int]:
        """Host memory that the GPU can reach; its address on the host and on the device."""
        host = int(call('cuMemHostAlloc', size, _PORTABLE | _MAPPED))
        self._frees('cuMemFreeHost', host)
        device = int(call('cuMemHostGetDevicePointer', host, 0))
        pinned = self.device._pinned
        pinned[host] = size, device
        self._owned.callback(pinned.pop, host, None)
        return host, device

    def module(self, cubin: bytes) -> Any:
        """Loaded machine code."""
        module = call('cuModuleLoadData', cubin)
        self._frees('cuModuleUnload', module)
        return module

    def graph(self, captured: Any) -> Any:
        """An executable graph of what was captured."""
        executable = call('cuGraphInstantiate', captured, 0)
        self._frees('cuGraphExecDestroy', executable)
        return executable

    def part(self) -> Scope:
        """A scope that is closed with this one, or before."""
        part = self.device.scope()
        self._owned.callback(part.close)
        return part

    def own(self, thing: Closable) -> None:
        """Close something with the scope; being closed before must do it no harm."""
        self._owned.callback(thing.close)

    def close(self) -> None:
        """Free it all, the youngest first. Safe to call twice."""
        self.device.forget(self)
        self._owned.close()

    def _frees(self, function: str, handle: Any) -> None:
        self._owned.callback(_free, function, handle)


def _free(function: str, handle: Any) -> None:
    with suppress(PerceptionError):  # as above
        call(function, handle)


def pci_bus_id(index: int) -> str:
    """Where a GPU is plugged in, as ``0000:1b:00.0``.

    Args:
        index: as CUDA counts them.

    Raises:
        EngineError: no cuda-python, no driver, no such GPU.
    """
    call('cuInit', 0)
    found = call('cuDeviceGetPCIBusId', 16, call('cuDeviceGet', index))
    return str(found.partition(b'\0')[0].decode())


def why_absent() -> str:
    """Why no GPU can be used from here, in one line; '' if one can."""
    try:
        call('cuInit', 0)
        if not call('cuDeviceGetCount'):
            return 'there is no NVIDIA GPU here'
    except PerceptionError as error:
        return str(error)
    return ''


#: Kept alive: the garbage collector would end an engine's parts in any order, in any thread.
_open: set[CudaDevice] = set()


@atexit.register
def _close_all() -> None:
    for device in list(_open):
        device.close()
