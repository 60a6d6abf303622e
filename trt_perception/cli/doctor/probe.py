# SPDX-License-Identifier: Apache-2.0
"""Try what can only be tried: imports, and the calls of CUDA and TensorRT.

This runs in a process of its own, since a library that does not fit the machine may end the process
or hang. It prints JSON, two lines for each name that it is given: ``{"begin": name}`` and
``{"end": name, ...what was found}``, with ``error`` (and ``missing``, if it is not installed) where
it does not work.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import json
import os
import sys
from collections.abc import Callable
from typing import Any

_MAJOR, _MINOR, _INTEGRATED = 75, 76, 18  # CUdevice_attribute
_DISTRIBUTIONS = {'cuda.bindings': 'cuda-bindings', 'pynvml': 'nvidia-ml-py'}


def module(name: str) -> dict[str, Any]:
    """Import it: ``version``, '' where it tells none."""
    try:
        found = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f'{name}.'.startswith(f'{error.name}.'):
            raise  # it is there, and lacks another one
        return {'error': str(error), 'missing': True}
    version = getattr(found, '__version__', '')
    if not version:
        try:
            version = importlib.metadata.version(_DISTRIBUTIONS.get(name, name))
        except importlib.metadata.PackageNotFoundError:
            version = ''
    return {'version': str(version)}


def cuda() -> dict[str, Any]:
    """The driver, without any Python package: ``driver`` (12060 is CUDA 12.6) and ``gpus``."""
    try:
        library = ctypes.CDLL('libcuda.so.1')
    except OSError as error:
        return {'error': str(error), 'missing': True}
    version, count = ctypes.c_int(), ctypes.c_int()
    library.cuDriverGetVersion(ctypes.byref(version))
    found: dict[str, Any] = {'driver': version.value, 'gpus': []}
    status = library.cuInit(0) or library.cuDeviceGetCount(ctypes.byref(count))
    if status:
        name = ctypes.c_char_p()
        library.cuGetErrorName(status, ctypes.byref(name))
        return {**found, 'error': (name.value or b'unknown error').decode()}
    for index in range(count.value):
        device, text = ctypes.c_int(), ctypes.create_string_buffer(256)
        library.cuDeviceGet(ctypes.byref(device), index)
        library.cuDeviceGetName(text, len(text), device)
        values = []
        for attribute in (_MAJOR, _MINOR, _INTEGRATED):
            value = ctypes.c_int()
            library.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
            values.append(value.value)
        name_ = text.value.decode(errors='replace')
        found['gpus'].append({'name': name_, 'sm': values[:2], 'integrated': bool(values[2])})
    return found


def tensorrt() -> dict[str, Any]:
    """The library that this package would take: ``name``, ``version``."""
    from trt_perception.runtime.tensorrt.library import library

    found = library()
    return {'name': found.name, 'version': found.version}


def builder() -> dict[str, Any]:
    """Start TensorRT's builder, which knows whether it has code for this GPU: ``dla_cores``."""
    from trt_perception.runtime.tensorrt import api as trt
    from trt_perception.runtime.tensorrt.log import Log

    log = Log()
    try:
        made = trt.Builder(log)
    except Exception as error:
        return {'error': log.why() if log.errors else str(error)}
    return {'dla_cores': getattr(made, 'num_DLA_cores', 0)}


def nvrtc() -> dict[str, Any]:
    """The compiler of this package's kernels: ``version``, ``archs``."""
    from trt_perception.runtime.cuda import compiler

    return {'version': compiler.version(), 'archs': compiler.architectures()}


_PROBES: dict[str, Callable[[], dict[str, Any]]] = {
    'builder': builder,
    'cuda': cuda,
    'nvrtc': nvrtc,
    'tensorrt': tensorrt,
}


def main(names: list[str]) -> None:
    """Probe each of ``builder``, ``cuda``, ``nvrtc``, ``tensorrt``, or the name of a module."""
    said = os.fdopen(os.dup(1), 'w', buffering=1)
    os.dup2(2, 1)  # libraries print what they like
    for name in names:
        said.write(json.dumps({'begin': name}) + '\n')
        try:
            found = _PROBES[name]() if name in _PROBES else module(name)
        except BaseException as error:  # SystemExit, too
            found = {'error': f'{type(error).__name__}: {" ".join(str(error).split())}'}
        said.write(json.dumps({'end': name, **found}) + '\n')
    said.flush()
    os._exit(0)  # what they do at the end is of no interest either


if __name__ == '__main__':
    main(sys.argv[1:])
