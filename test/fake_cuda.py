# SPDX-License-Identifier: Apache-2.0
"""A stand-in for the CUDA driver: host memory, streams that run at once, graphs that replay."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from trt_perception.runtime.cuda.memory import ALIGNMENT

_MADE = {
    'cuMemAlloc': 'cuMemFree',
    'cuMemHostAlloc': 'cuMemFreeHost',
    'cuStreamCreateWithPriority': 'cuStreamDestroy',
    'cuEventCreate': 'cuEventDestroy',
    'cuModuleLoadData': 'cuModuleUnload',
    'cuGraphInstantiate': 'cuGraphExecDestroy',
    'cuDevicePrimaryCtxRetain': 'cuDevicePrimaryCtxRelease',
}
_FREED = {free: make for make, free in _MADE.items()}
OUT_OF_MEMORY, ILLEGAL_ADDRESS = 2, 700
#: What memory holds that nobody has written yet, or that is freed.
POISON = 0xA5
_ATTRIBUTES = {18: 0, 75: 8, 76: 7}  # integrated; the architecture of Orin


class _Memory:
    """Poisoned, with a margin behind it that must stay so, and seen at two addresses."""

    def __init__(self, size: int) -> None:
        self.size = size
        file = os.memfd_create('memory')
        os.ftruncate(file, size + ALIGNMENT)
        self._maps = [mmap.mmap(file, size + ALIGNMENT) for _ in range(2)]
        os.close(file)
        views = [ctypes.c_uint8.from_buffer(each) for each in self._maps]
        self.host, self.device = (ctypes.addressof(view) for view in views)
        ctypes.memset(self.host, POISON, size + ALIGNMENT)

    def free(self) -> None:
        """It stays readable, so that who reads it reads nonsense instead of dying."""
        margin = ctypes.string_at(self.host + self.size, ALIGNMENT)
        assert margin == bytes([POISON]) * ALIGNMENT, 'written beyond the end'
        ctypes.memset(self.host, POISON, self.size)


class Driver:
    """Hands out handles and real host memory; knows what was not given back. Streams run at once,
    but for the default one, which runs as late as it may.

    Attributes:
        alive: what was made and not freed, by handle, in the order of making.
        freed: names of the freeing calls, in their order.
        fails: the call number that fails from now on, and with what.
    """

    def __init__(self) -> None:
        self.alive: dict[int, str] = {}
        self.freed: list[str] = []
        self.fails: tuple[int, int] | None = None
        self.made = 0
        self.copies: list[str] = []
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.captured: list[Callable[[], None]] | None = None
        self._late: list[Callable[[], None]] = []
        self._memory: dict[int, _Memory] = {}
        self._freed: list[_Memory] = []
        self._count = 0

    def do(self, step: Callable[[], None]) -> None:
        """What a stream does: now, or whenever the graph is launched that is being captured."""
        if self.captured is None:
            step()
        else:
            self.captured.append(step)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name == 'CUDA_MEMCPY2D':
            return SimpleNamespace
        if name == 'CUmemorytype':
            return SimpleNamespace(CU_MEMORYTYPE_HOST=1, CU_MEMORYTYPE_DEVICE=2)
        if not name.startswith('cu'):
            return lambda value: value  # enumerations
        return lambda *arguments: self._call(name, arguments)

    def _move(self, name: str, arguments: tuple[Any, ...]) -> None:
        if name.startswith('cuMemset'):
            self._check(arguments[0], arguments[2])
            ctypes.memset(*arguments[:3])
        elif name.startswith('cuMemcpy2D'):
            wish = arguments[0]
            self._check(wish.dstDevice, (wish.Height - 1) * wish.dstPitch + wish.WidthInBytes)
            for row in range(wish.Height):
                ctypes.memmove(
                    wish.dstDevice + row * wish.dstPitch,
                    wish.srcHost + row * wish.srcPitch,
                    wish.WidthInBytes,
                )
        else:
            if 'HtoD' in name:
                self._check(arguments[0], arguments[2])
            ctypes.memmove(*arguments[:3])
        if 'HtoD' in name or '2D' in name:
            self.copies.append(name)

    def _finish(self) -> None:
        while self._late:
            self._late.pop(0)()

    def _check(self, address: int, size: int) -> None:
        assert any(
            m.device <= address and address + size <= m.device + m.size
            for m in self._memory.values()
        ), 'written to what is no memory of the device'

    def _call(self, name: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        if name in ('cuGetErrorName', 'cuGetErrorString'):
            return 0, {OUT_OF_MEMORY: b'OUT', ILLEGAL_ADDRESS: b'ILLEGAL'}.get(arguments[0])
        self._count += 1
        if self.fails is not None and self._count == self.fails[0]:
            return (self.fails[1],)
        if name == 'cuGraphInstantiate':
            self.graphs[self.made + 1] = arguments[0]
        if name in _MADE:
            if name in ('cuMemAlloc', 'cuMemHostAlloc'):
                memory = _Memory(arguments[0])
                handle = memory.device if name == 'cuMemAlloc' else memory.host
                self._memory[handle] = memory
            else:
                self.made += 1
                handle = self.made
            self.alive[handle] = name
            return 0, handle
        if name == 'cuMemFree':  # which waits for what is under way
            self._finish()
        if name in _FREED:
            if name != 'cuDevicePrimaryCtxRelease':  # that takes the device
                assert self.alive.pop(int(arguments[0])) == _FREED[name], 'freed twice'
                memory = self._memory.pop(int(arguments[0]), None)
                if memory is not None:
                    memory.free()
                    self._freed.append(memory)
            else:
                context = next(h for h, kind in self.alive.items() if _MADE[kind] == name)
                del self.alive[context]
                assert not self.alive, 'the context went first'
            self.freed.append(name)
        if name == 'cuStreamBeginCapture':
            self.captured = []
        elif name == 'cuStreamEndCapture':
            captured, self.captured = self.captured, None
            return 0, captured
        elif name == 'cuGraphLaunch':
            for step in self.graphs[arguments[0]]:
                step()
        elif name in ('cuMemsetD8', 'cuMemcpyHtoD'):
            # On the default stream: done when it is waited for, and not before.
            if name == 'cuMemcpyHtoD':
                content = ctypes.string_at(arguments[1], arguments[2])
                arguments = (arguments[0], content, arguments[2])
            self._late.append(lambda: self._move(name, arguments))
        elif name == 'cuStreamSynchronize' and arguments[0] == 0:
            self._finish()
        elif name.startswith(('cuMemcpy', 'cuMemset')):
            self.do(lambda: self._move(name, arguments))
        if name == 'cuMemHostGetDevicePointer':
            return 0, self._memory[int(arguments[0])].device
        if name == 'cuDeviceGetAttribute':
            return 0, _ATTRIBUTES.get(arguments[0], 1)
        values: dict[str, tuple[Any, ...]] = {
            'cuDeviceGetCount': (2,),
            'cuDeviceGet': arguments,
            'cuDeviceGetName': (b'A GPU\0' + bytes(250),),
            'cuCtxGetStreamPriorityRange': (0, -5),
        }
        return (0, *values.get(name, ()))
