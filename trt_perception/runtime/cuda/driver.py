# SPDX-License-Identifier: Apache-2.0
"""The CUDA driver, every call checked and counted."""

from __future__ import annotations

import functools
import re
from collections import Counter
from typing import Any

from trt_perception.core.errors import one_line
from trt_perception.runtime.engine import EngineError

#: How often each driver function was called since the process began.
calls: Counter[str] = Counter()

#: After these (CUresult) nothing in the context works any more; it has to be made anew.
_STICKY = frozenset(
    (46, 214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 911, 999)
)
_UNKNOWN = 'which this cuda-python is too old to know'


class CudaError(EngineError):
    """A driver call that failed.

    Attributes:
        code: CUresult.
        sticky: the context is lost, and everything in it.
    """

    def __init__(self, function: str, code: int, name: str, meaning: str) -> None:
        self.code = code
        self.sticky = code in _STICKY
        lost = '; the CUDA context is lost, and all that is in it' if self.sticky else ''
        super().__init__(f'{function} failed: {name} ({meaning}){lost}')


@functools.cache
def bindings() -> Any:
    """The module ``cuda.bindings.driver``.

    Raises:
        EngineError: it is not installed, or does not load.
    """
    try:
        from cuda.bindings import driver
    except ImportError as error:
        raise EngineError(
            f'cuda-python is not usable ({one_line(error)}); pip install cuda-bindings of the CUDA'
            ' release of your driver (JetPack 6: "cuda-bindings>=12.9.1,<13")'
        ) from None
    return driver


def call(function: str, *arguments: Any) -> Any:
    """Call a function of the driver.

    Returns:
        What it gives beside its status: nothing, one value, or a tuple of several.

    Raises:
        CudaError: it failed, or one that was under way has.
        EngineError: there is no cuda-python, or no driver.
    """
    calls[function] += 1
    try:
        status, *results = getattr(bindings(), function)(*arguments)
    except RuntimeError as error:  # it loads the driver with the first call
        raise EngineError(
            f'there is no NVIDIA GPU here, or its driver is not installed ({one_line(error)})'
        ) from None
    except (KeyError, ValueError) as error:  # as cuda-python's releases tell of a status
        unknown = re.fullmatch(r'(\d+)(?: is not a valid CUresult)?', str(error))
        if unknown is None:
            raise
        raise CudaError(function, int(unknown[1]), f'CUresult {unknown[1]}', _UNKNOWN) from None
    if status:
        raise _error(function, status)
    return results[0] if len(results) == 1 else tuple(results)


def _error(function: str, status: Any) -> CudaError:
    texts = []
    for describe in (bindings().cuGetErrorName, bindings().cuGetErrorString):
        failed, text = describe(status)
        texts.append('unknown' if failed or text is None else text.decode(errors='replace'))
    return CudaError(function, int(status), *texts)
