# SPDX-License-Identifier: Apache-2.0
"""The kernels of this package, loaded and launched."""

from __future__ import annotations

import ctypes
from typing import Any

from trt_perception.runtime.cuda.compiler import compile_kernels
from trt_perception.runtime.cuda.device import Scope
from trt_perception.runtime.cuda.driver import call
from trt_perception.runtime.cuda.launch import Launch


class Kernels:
    """All kernels, for the GPU of a scope; compiled once for each architecture, on this disk."""

    def __init__(self, scope: Scope) -> None:
        """Compile, or take what is cached, and load.

        Raises:
            EngineError: NVRTC is absent, or knows no such GPU.
            CudaError: the device refuses.
        """
        compiled = compile_kernels(scope.device.arch)
        self._modules = [(scope.module(c.cubin), c.kernels) for c in compiled]
        self._functions = {
            name: call('cuModuleGetFunction', module, name.encode())
            for module, names in self._modules
            for name in names
        }

    def launch(self, what: Launch, stream: Any) -> None:
        """Launch one.

        Raises:
            CudaError: the driver refuses.
        """
        addresses = [ctypes.addressof(argument) for argument in what.arguments]
        arguments = (ctypes.c_void_p * len(addresses))(*addresses)
        call(
            'cuLaunchKernel', self._functions[what.kernel], *what.grid, *what.block, 0, stream,
            ctypes.addressof(arguments), 0,
        )  # fmt: skip
