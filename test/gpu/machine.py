# SPDX-License-Identifier: Apache-2.0
"""The kernels on a real GPU, for the cases that also run on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_perception.runtime.cuda.device import CudaDevice
from trt_perception.runtime.cuda.driver import call
from trt_perception.runtime.cuda.kernels import Kernels
from trt_perception.runtime.cuda.launch import Launch

ROOT = Path(__file__).resolve().parents[2]
WAREHOUSE = ROOT / 'resource' / 'models' / 'warehouse.onnx'


class Gpu:
    """Memory and kernels; `decode_cases.Machine`."""

    def __init__(self, device: CudaDevice) -> None:
        self._scope = device.scope()
        self._stream = self._scope.stream()
        self._kernels = Kernels(self._scope)

    def upload(self, array: NDArray[Any]) -> int:
        content = np.ascontiguousarray(array)
        address = self._scope.allocate(max(content.nbytes, 1))
        call('cuMemcpyHtoD', address, content.ctypes.data, content.nbytes)
        return address

    def run(self, launches: Sequence[Launch]) -> None:
        for launch in launches:
            self._kernels.launch(launch, self._stream)
        call('cuStreamSynchronize', self._stream)

    def download(self, address: int, dtype: np.dtype) -> NDArray[Any]:
        content = np.empty((), dtype)
        call('cuMemcpyDtoH', content.ctypes.data, address, dtype.itemsize)
        return content

    def close(self) -> None:
        self._scope.close()
