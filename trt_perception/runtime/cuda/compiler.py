# SPDX-License-Identifier: Apache-2.0
"""The kernels of this package made for the GPU that is there, once for each on this disk.

They are CUDA C++ files in the folder ``kernels``. NVRTC compiles them; what it gives is kept in the
user's cache under a hash of all that it was made from.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trt_perception.core.errors import one_line
from trt_perception.core.files import FileError, cache_folder, write_atomically
from trt_perception.runtime.engine import EngineError

_KERNELS = Path(__file__).parent / 'kernels'
#: No a * b + c in one rounding: the CPU has two, and the numbers must be the host's.
_OPTIONS = ('--std=c++17', '--fmad=false', '--ptxas-options=-v')
_DIGEST_BYTES = 32
_CURE = 'pip install "cuda-bindings>=12.9.1,<13" nvidia-cuda-nvrtc-cu12 (JetPack 6, CUDA 12),'
_CURE += ' else pip install cuda-bindings nvidia-cuda-nvrtc'


@dataclass(frozen=True)
class Resources:
    """What a kernel takes, as the compiler reports it.

    Attributes:
        registers: of each thread.
        stack_bytes: local memory of each thread.
        spill_bytes: of registers stored and loaded again for want of them.
        shared_bytes: of each block.
    """

    registers: int
    stack_bytes: int
    spill_bytes: int
    shared_bytes: int


@dataclass(frozen=True)
class Compiled:
    """A file of kernels for one architecture.

    Attributes:
        name: of the file.
        cubin: to be loaded by the driver.
        kernels: by name.
    """

    name: str
    cubin: bytes
    kernels: Mapping[str, Resources]


def default_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where compiled kernels are kept: in the user's cache."""
    return cache_folder('kernels', environment)


def why_absent() -> str:
    """Why no kernel can be compiled here, in one line; '' if they can."""
    try:
        _version()
    except EngineError as error:
        return str(error)
    return ''


def compile_kernels(arch: str, folder: Path | None = None) -> list[Compiled]:
    """All kernels of the package for a GPU.

    Args:
        arch: as NVIDIA names it, such as ``sm_87``.
        folder: of what was compiled before; where it cannot be used, all is compiled again.

    Raises:
        EngineError: NVRTC is absent or too old for the GPU; the text says which, and the cure.
    """
    headers = {path.name: path.read_text() for path in sorted(_KERNELS.glob('*.h'))}
    return [
        compile_file(path.name, path.read_text(), headers, arch, folder)
        for path in sorted(_KERNELS.glob('*.cu'))
    ]


def compile_file(
    name: str, source: str, headers: Mapping[str, str], arch: str, folder: Path | None = None
) -> Compiled:
    """One file of kernels; see `compile_kernels`.

    Args:
        name: for error messages.
        headers: by the name that they are included by.
    """
    made_from = [name, source, sorted(headers.items()), arch, _OPTIONS, _version()]
    key = hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:32]
    try:
        path = (default_folder() if folder is None else folder) / f'{key}.kernels'
    except FileError:  # nobody's home
        return _compile(name, source, headers, arch)
    cached = _read(path)
    if cached is not None:
        return cached
    compiled = _compile(name, source, headers, arch)
    _write(path, compiled)
    return compiled


def _read(path: Path) -> Compiled | None:
    """What was kept, or None where there is none or it is not what was written."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    digest, content = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        return None
    head, _, cubin = content.partition(b'\n')
    fields = json.loads(head)
    kernels = {name: Resources(**resources) for name, resources in fields['kernels'].items()}
    return Compiled(fields['name'], cubin, kernels)


def _write(path: Path, compiled: Compiled) -> None:
    kernels = {name: asdict(resources) for name, resources in compiled.kernels.items()}
    head = json.dumps({'name': compiled.name, 'kernels': kernels})
    content = head.encode() + b'\n' + compiled.cubin
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, hashlib.sha256(content).digest() + content)
    except (OSError, FileError):
        pass  # a full or read-only disk costs a second at the next start


@functools.cache
def _nvrtc() -> Any:
    """The module of NVRTC, imported when a kernel is wanted.

    Raises:
        EngineError: it is not installed, or broken.
    """
    try:
        from cuda.bindings import nvrtc
    except Exception as error:  # missing libraries come as ImportError, OSError, RuntimeError
        raise EngineError(f'NVRTC is not usable ({one_line(error)}); {_CURE}') from None
    return nvrtc


def _call(function: str, *arguments: Any) -> Any:
    """Call a function of NVRTC; what it gives beside its status: nothing, or one value."""
    try:
        status, *results = getattr(_nvrtc(), function)(*arguments)
    except RuntimeError as error:  # the library is loaded with the first call
        raise EngineError(f'NVRTC is not usable ({one_line(error)}); {_CURE}') from None
    if int(status):
        reason = _nvrtc().nvrtcGetErrorString(status)[1].decode(errors='replace')
        raise EngineError(f'{function} failed: {reason}')
    return results[0] if len(results) == 1 else tuple(results)


def _version() -> list[int]:
    return list(_call('nvrtcVersion'))


def version() -> str:
    """Of NVRTC.

    Raises:
        EngineError: it is absent or broken; the text says which, and the cure.
    """
    return '.'.join(map(str, _version()))


def architectures() -> list[str]:
    """Those that it can compile for, such as ``sm_87``.

    Raises:
        EngineError: see `version`.
    """
    return [f'sm_{number}' for number in _call('nvrtcGetSupportedArchs')]


def _compile(name: str, source: str, headers: Mapping[str, str], arch: str) -> Compiled:
    known = architectures()
    if arch.rstrip('af') not in known:
        raise EngineError(
            f'NVRTC {version()} makes no code for {arch} (it knows {", ".join(known)});'
            ' install the nvidia-cuda-nvrtc and cuda-bindings of another CUDA release'
        )
    program = _call(
        'nvrtcCreateProgram',
        source.encode(),
        name.encode(),
        len(headers),
        [text.encode() for text in headers.values()],
        [header.encode() for header in headers],
    )
    try:
        options = [o.encode() for o in (f'--gpu-architecture={arch}', *_OPTIONS)]
        try:
            _call('nvrtcCompileProgram', program, len(options), options)
        except EngineError as error:
            reason = _first_error(_bytes_of('ProgramLog', program).decode(errors='replace'))
            raise EngineError(f'{name} does not compile for {arch}: {reason or error}') from None
        log = _bytes_of('ProgramLog', program).decode(errors='replace')
        return Compiled(name, _bytes_of('CUBIN', program), read_report(log))
    finally:
        _call('nvrtcDestroyProgram', program)


def _bytes_of(what: str, program: Any) -> bytes:
    content = bytearray(_call(f'nvrtcGet{what}Size', program))
    _call(f'nvrtcGet{what}', program, content)
    return bytes(content)


def _first_error(log: str) -> str:
    lines: Sequence[str] = [line.strip() for line in log.splitlines() if 'error' in line]
    return lines[0] if lines else ''


def read_report(log: str) -> dict[str, Resources]:
    """Each kernel's resources, from what ptxas tells with ``-v``."""
    kernels = {}
    for part in re.split(r"Compiling entry function '", log)[1:]:
        name = part.partition("'")[0]
        # A function that is called and not inlined has properties of its own, which count too.
        stack = [int(n) for n in re.findall(r'(\d+) bytes stack frame', part)]
        spills = [int(n) for n in re.findall(r'(\d+) bytes spill', part)]
        registers = re.search(r'Used (\d+) registers', part)
        shared = re.search(r'(\d+) bytes smem', part)
        if not stack or not registers:
            raise EngineError(f"NVRTC's report of {name} is not understood: {part[:200]!r}")
        kernels[name] = Resources(
            int(registers[1]), sum(stack), sum(spills), int(shared[1]) if shared else 0
        )
    return kernels
