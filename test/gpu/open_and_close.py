# SPDX-License-Identifier: Apache-2.0
"""Open and close an engine again and again, first with TensorRT alone and then with all of ours
around it; print what a cycle of each leaves on the device and on the host, in bytes.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable
from pathlib import Path

from trt_perception.runtime.cuda.device import CudaDevice
from trt_perception.runtime.cuda.pipeline import open_engine
from trt_perception.runtime.machine import process_memory
from trt_perception.runtime.tensorrt import api as trt
from trt_perception.runtime.tensorrt.log import Log
from trt_perception.runtime.tensorrt.plan import load_plan

CYCLES = 5
path = Path(sys.argv[1])
device = CudaDevice()  # keeps the context


def alone() -> None:
    """What TensorRT itself takes: TensorRT-RTX compiles kernels with every context."""
    plan = load_plan(path)
    runtime = trt.Runtime(Log())
    engine = runtime.deserialize_cuda_engine(plan.data)
    context = engine.create_execution_context()
    del context
    del engine
    del runtime


def ours() -> None:
    open_engine(path).close()


def use() -> tuple[int, int]:
    """Bytes in use, but for what malloc only keeps."""
    gc.collect()
    ctypes.CDLL('libc.so.6').malloc_trim(0)
    device.bind()
    memory = device.memory_use()
    return memory.total - memory.free, process_memory()['resident']


def left(cycle: Callable[[], None]) -> list[int]:
    cycle()
    before = use()
    for _ in range(CYCLES):
        cycle()
    return [(after - earlier) // CYCLES for after, earlier in zip(use(), before, strict=True)]


print(*left(alone), *left(ours))
