# SPDX-License-Identifier: Apache-2.0
"""What to run on the GPU, said without CUDA: a kernel's name, its grid, its arguments."""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple


class Launch(NamedTuple):
    """One launch of a kernel.

    Attributes:
        kernel: its ``extern "C"`` name.
        grid: blocks along x, y and z.
        block: threads along x, y and z.
        arguments: one ctypes value for each parameter, of exactly the parameter's type; a pointer
            is a ``ctypes.c_void_p`` that holds an address.
    """

    kernel: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    arguments: tuple[Any, ...]


def pointer(address: int) -> ctypes.c_void_p:
    """An address as an argument."""
    return ctypes.c_void_p(address)
