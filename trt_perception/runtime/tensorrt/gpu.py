# SPDX-License-Identifier: Apache-2.0
"""The GPU that engines are made for."""

from __future__ import annotations

import contextlib
import ctypes
import functools
from typing import NamedTuple

_MULTIPROCESSORS, _MAJOR, _MINOR = 16, 75, 76  # CUdevice_attribute


class Gpu(NamedTuple):
    """Name, architecture and size: an engine made for one is slow, or nothing, on another."""

    name: str
    sm: tuple[int, int]
    multiprocessors: int

    def __str__(self) -> str:
        major, minor = self.sm
        return f'{self.name}, SM {major}.{minor}, {self.multiprocessors} multiprocessors'


@functools.cache
def find_gpu() -> Gpu | None:
    """The first GPU that CUDA shows, or None where there is no GPU or no driver."""
    with contextlib.suppress(OSError):
        cuda = ctypes.CDLL('libcuda.so.1')
        device = ctypes.c_int()
        name = ctypes.create_string_buffer(256)
        if cuda.cuInit(0) or cuda.cuDeviceGet(ctypes.byref(device), 0):
            return None
        cuda.cuDeviceGetName(name, len(name), device)
        values = []
        for attribute in (_MAJOR, _MINOR, _MULTIPROCESSORS):
            value = ctypes.c_int()
            cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
            values.append(value.value)
        return Gpu(name.value.decode(errors='replace'), (values[0], values[1]), values[2])
    return None
