# SPDX-License-Identifier: Apache-2.0
"""Open and close an engine eight times; print the bytes left on the device and on the host."""

from __future__ import annotations

import ctypes
import gc
import sys
from pathlib import Path

from trt_perception.runtime.cuda.device import CudaDevice
from trt_perception.runtime.cuda.pipeline import open_engine
from trt_perception.runtime.machine import process_memory


def use() -> tuple[int, int]:
    """Bytes in use, but for what malloc keeps: TensorRT-RTX's compiler leaves it much."""
    gc.collect()
    ctypes.CDLL('libc.so.6').malloc_trim(0)
    device.bind()
    memory = device.memory_use()
    return memory.total - memory.free, process_memory()['resident']


device = CudaDevice()  # keeps the context
for _ in range(2):
    open_engine(Path(sys.argv[1])).close()
before = use()
for _ in range(8):
    open_engine(Path(sys.argv[1])).close()
print(*(after - earlier for after, earlier in zip(use(), before, strict=True)))
