# SPDX-License-Identifier: Apache-2.0
"""Find TensorRT, or TensorRT-RTX where there is none, or say in one line why there is neither."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trt_perception.core.errors import one_line
from trt_perception.runtime.engine import EngineError

#: The libraries of the pip wheel, each after what it needs.
_RTX_LIBRARIES = ('libtensorrt_rtx.so.1', 'libtensorrt_onnxparser_rtx.so.1')
#: The first release that this package is made for: JetPack 6.
_OLDEST = (10, 3)


@dataclass(frozen=True)
class Library:
    """What was found.

    Attributes:
        name: ``TensorRT`` or ``TensorRT-RTX``.
        version: as it calls itself.
        module: the Python module.
    """

    name: str
    version: str
    module: Any

    @property
    def number(self) -> tuple[int, ...]:
        """The version, to be compared."""
        return tuple(int(part) for part in re.findall(r'\d+', self.version)[:4])

    @property
    def is_rtx(self) -> bool:
        """Whether it is TensorRT-RTX, which is numbered anew from 1."""
        return self.name == 'TensorRT-RTX'

    def __str__(self) -> str:
        return f'{self.name} {self.version}'


@functools.cache
def library() -> Library:
    """The TensorRT of this process, found once.

    Raises:
        EngineError: absent, broken or too old; the text says which, and the cure.
    """
    module = _import('tensorrt')
    if module is not None:
        found = Library('TensorRT', module.__version__, module)
        if found.number < _OLDEST:
            raise EngineError(f'{found} is too old; install 10.3 (JetPack 6) or later')
        return found
    _preload_rtx()
    module = _import('tensorrt_rtx') or _import('tensorrt_rtx_bindings')
    if module is not None:
        return Library('TensorRT-RTX', module.__version__, module)
    raise EngineError(
        'TensorRT is not installed; on a Jetson: sudo apt install python3-libnvinfer (and a venv'
        ' with --system-site-packages), elsewhere: pip install tensorrt'
    )


def _import(name: str) -> Any:
    """A module that can build or run engines, or None where it is not installed."""
    try:
        if importlib.util.find_spec(name) is None:
            return None
        module = importlib.import_module(name)
    except Exception as error:  # missing libraries come as ImportError, OSError, RuntimeError
        raise EngineError(f'TensorRT is installed but broken: {_why_broken(error)}') from None
    # Without it: the folder that type stubs leave.
    return module if hasattr(module, 'Runtime') else None


def _why_broken(error: Exception) -> str:
    text = one_line(error)
    missing = re.search(r'(lib[\w.+-]+\.so[\w.]*)', text)
    if missing and 'nvdla' in missing[1]:
        return (
            f'it needs {missing[1]}, which JetPack 7.2 no longer has; use the TensorRT of this'
            ' JetPack (10.16 or later) or a container made for it'
        )
    if missing:
        return (
            f'{missing[1]} cannot be loaded; install the package that holds it, or put its folder'
            f' into LD_LIBRARY_PATH ({text})'
        )
    return text


def _preload_rtx() -> None:
    """Load the pip wheel's libraries, which lie where no loader looks."""
    spec = importlib.util.find_spec('tensorrt_rtx_libs')
    if spec is None or not spec.submodule_search_locations:
        return
    for name in _RTX_LIBRARIES:
        # What cannot be loaded is told by the import that needs it.
        with contextlib.suppress(OSError):
            ctypes.CDLL(str(Path(spec.submodule_search_locations[0]) / name), ctypes.RTLD_GLOBAL)
