# SPDX-License-Identifier: Apache-2.0
"""The package's own kernels on this CPU: slow, exact, and the same everywhere."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from trt_perception.runtime.cuda.launch import Launch

HERE = Path(__file__).parent
KERNELS = HERE.parents[1] / 'trt_perception' / 'runtime' / 'cuda' / 'kernels'


def build(source: Path, folder: Path) -> dict[str, Any]:
    """Compile a .cu file with g++; its kernels by name."""
    compiler = os.environ.get('CXX') or shutil.which('g++')
    if compiler is None:
        pytest.skip('no g++; sudo apt install g++')
    names = re.findall(r'__global__ void (\w+)\(', source.read_text())
    main = folder / f'{source.stem}.cpp'
    lines = ['#include "launch.h"', f'#include "{source}"', *(f'KERNEL({n})' for n in names)]
    main.write_text('\n'.join(lines) + '\n')
    library = main.with_suffix('.so')
    command = [
        compiler, '-std=c++17', '-O1', '-ffp-contract=off', '-fno-strict-aliasing', '-Wall',
        '-Werror', '-Wno-unknown-pragmas', '-Wno-unused', '-U_FORTIFY_SOURCE', '-shared', '-fPIC',
        f'-I{HERE}', f'-I{KERNELS}', str(main), '-o', str(library),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = ctypes.CDLL(str(library))
    kernels = {name: loaded[f'launch_{name}'] for name in names}
    for kernel in kernels.values():
        kernel.restype = ctypes.c_char_p
    return kernels


class Cpu:
    """Memory and kernels.

    Attributes:
        seed: draws the order of blocks and threads; 0 is the rising one.
    """

    def __init__(self, kernels: dict[str, Any], seed: int = 0) -> None:
        self.seed = seed
        self._kernels = kernels
        self._memory: dict[int, NDArray[np.uint8]] = {}

    def upload(self, array: NDArray[Any]) -> int:
        """Copy an array into memory of its own; its address, a multiple of 64."""
        raw = np.empty(array.nbytes + 64, np.uint8)
        own = raw[-raw.ctypes.data % 64 :][: array.nbytes]
        own[:] = np.frombuffer(array.tobytes(), np.uint8)
        self._memory[own.ctypes.data] = own
        return own.ctypes.data

    def run(self, launches: Sequence[Launch]) -> None:
        for launch in launches:
            three = ctypes.c_uint * 3
            number = len(launch.arguments)
            wrong = self._kernels[launch.kernel](
                three(*launch.grid),
                three(*launch.block),
                (ctypes.c_void_p * number)(*map(ctypes.addressof, launch.arguments)),
                (ctypes.c_size_t * number)(*map(ctypes.sizeof, launch.arguments)),
                ctypes.c_size_t(number),
                ctypes.c_uint(self.seed),
            )
            assert not wrong, f'{launch.kernel}: {wrong.decode()}'

    def download(self, address: int, dtype: np.dtype) -> NDArray[Any]:
        return self._memory[address][: dtype.itemsize].copy().view(dtype).reshape(())
