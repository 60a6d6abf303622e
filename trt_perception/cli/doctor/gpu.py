# SPDX-License-Identifier: Apache-2.0
"""The GPU, and all that stands between it and a model: driver, cuda-python, NVRTC, TensorRT."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from trt_perception.cli.doctor.finding import Finding, Level
from trt_perception.cli.doctor.machine import Machine

#: Before it cuda-python keeps the interpreter to itself while it waits for the GPU.
_OLDEST_BINDINGS = (12, 9, 1)
_SM = {'Orin': (8, 7), 'Xavier': (7, 2), 'Thor': (11, 0)}
_GROUPS = 'sudo usermod -aG video,render $USER    # and log in again'


def gpu(machine: Machine) -> Iterator[Finding]:
    """Whether CUDA shows one."""
    found = machine.probed.get('cuda', {})
    for number, each in enumerate(machine.gpus):
        driver = found['driver']
        yield Finding(
            'ok',
            f'GPU {number}: {each["name"]}, SM {_dotted(each["sm"])}, driver for CUDA'
            f' {driver // 1000}.{driver % 1000 // 10}',
        )
    if machine.gpus:
        return
    if not machine.has_gpu:
        yield Finding('note', 'no NVIDIA GPU here: ONNX Runtime runs models on the CPU')
        return
    why = f'there is a GPU, but CUDA cannot use it: {found.get("error", "it shows none")}'
    if machine.in_container:
        option = '--runtime nvidia' if machine.is_jetson else '--gpus all'
        yield Finding(
            'problem', why, f'docker run {option} ...    # needs nvidia-container-toolkit'
        )
    elif machine.is_jetson:
        yield Finding('problem', why, 'sudo apt install --reinstall nvidia-l4t-cuda')
    elif not machine.text('proc/driver/nvidia/version'):
        yield Finding(
            'problem', f'{why}; its driver is not loaded', 'sudo ubuntu-drivers install && reboot'
        )
    else:
        yield Finding('problem', why, 'nvidia-smi    # tells more; after an update: sudo reboot')


def device_files(machine: Machine) -> Iterator[Finding]:
    """Whether this user may open what CUDA opens."""
    names = ('nvmap', 'nvhost-gpu', 'nvhost-ctrl-gpu', 'nvgpu/*/ctrl', 'nvidia[0-9]*', 'nvidiactl')
    devices = machine.devices(*names) if machine.has_gpu else []
    shut = [machine.shown(d) for d in devices if not machine.may(d, os.R_OK | os.W_OK)]
    if shut:
        yield Finding('problem', f'no permission for {", ".join(shut)}', _GROUPS)
    elif devices:
        yield Finding('ok', 'device files of the GPU can be opened')


def cuda_bindings(machine: Machine) -> Iterator[Finding]:
    """cuda-python, of the driver's CUDA or an older one."""
    if not machine.has_gpu:
        return
    found = machine.probed.get('cuda.bindings', {})
    driver = machine.probed.get('cuda', {}).get('driver', 0) // 1000
    cure = machine.pip(_bindings_for(machine, driver))
    if 'error' in found:
        yield Finding('problem', f'cuda-python is not usable: {found["error"]}', cure)
        return
    version = _numbers(found.get('version', ''))
    told = f'cuda-bindings {found.get("version")}'
    if driver and version[:1] > (driver,):
        yield Finding('problem', f'{told} is made for a newer driver than CUDA {driver}', cure)
    elif version < _OLDEST_BINDINGS:
        yield Finding(
            'warning', f'{told} stops all threads while one waits for the GPU; take 12.9.1', cure
        )
    else:
        yield Finding('ok', told)


def nvrtc(machine: Machine) -> Iterator[Finding]:
    """The compiler of the kernels, and whether it knows this GPU."""
    if not machine.has_gpu:
        return
    found = machine.probed.get('nvrtc', {})
    driver = machine.probed.get('cuda', {}).get('driver', 0) // 1000
    cure = machine.pip(_bindings_for(machine, driver))
    if 'error' in found:
        yield Finding('problem', _reason(found['error']), cure)
        return
    told = f'NVRTC {found.get("version")}'
    known = set(found.get('archs', ()))
    unknown = [_dotted(sm) for sm in _architectures(machine) if f'sm_{sm[0]}{sm[1]}' not in known]
    if unknown:
        yield Finding('problem', f'{told} makes no code for SM {", ".join(unknown)}', cure)
    elif driver and _numbers(str(found.get('version')))[:1] > (driver,):
        yield Finding('problem', f'{told} is made for a newer driver than CUDA {driver}', cure)
    else:
        yield Finding('ok', told)


def tensorrt(machine: Machine) -> Iterator[Finding]:
    """TensorRT, whether it can be imported and has code for this GPU."""
    found = machine.probed.get('tensorrt', {})
    if 'version' not in found:
        why = _reason(found.get('error', 'TensorRT was not found'))
        if not why.startswith('TensorRT'):
            why = f'TensorRT cannot be imported: {why}'
        if machine.has_gpu:
            yield _no_tensorrt(machine, why)
        elif 'not installed' not in why and not machine.lacks_numpy:
            yield Finding('note', f'{why}: no engine is built here')
        return
    told, is_rtx = f'{found["name"]} {found["version"]}', found['name'] != 'TensorRT'
    if not machine.has_gpu:
        use = 'builds engines here, and runs none' if is_rtx else 'is of no use without a GPU'
        yield Finding('note', f'{told} {use}')
        return
    number = _numbers(found['version'])
    orin = (8, 7) in _architectures(machine)
    if orin and is_rtx:
        yield Finding('problem', f'{told} has no code for Orin (SM 8.7)', _system_tensorrt(machine))
    elif orin and (10, 13) <= number < (10, 16, 1):
        yield Finding(
            'problem',
            f'{told} has no code for Orin (SM 8.7): take 10.3 of JetPack 6, or 10.16.2 of JetPack'
            ' 7.2',
            _system_tensorrt(machine),
        )
    elif 'error' in (builder := machine.probed.get('builder', {})) and machine.gpus:
        yield Finding('problem', f'{told} does not start: {builder["error"]}')
    else:
        yield Finding('ok', told)


def dla(machine: Machine) -> Iterator[Finding]:
    """The accelerators beside the GPU, where the board has them."""
    found = machine.probed.get('tensorrt', {})
    if not re.search('AGX Orin|Orin NX|Xavier', machine.model) or 'version' not in found:
        return
    told = f'{found["name"]} {found["version"]}'
    if (10, 8) <= _numbers(found['version']) < (11, 4, 1) or found['name'] != 'TensorRT':
        yield Finding(
            'note',
            f'{told} has no DLA (10.7 was the last with it, 11.4.1 has it again on AGX Orin):'
            ' device gpu only',
        )
    elif cores := machine.probed.get('builder', {}).get('dla_cores', 0):
        yield Finding('ok', f'{cores} DLA cores: device dla0 to dla{cores - 1}')
    else:
        yield Finding('note', f'{told} shows no DLA core')


def _no_tensorrt(machine: Machine, why: str) -> Finding:
    level: Level = 'problem' if machine.is_jetson else 'warning'
    text = f'{why}; ONNX Runtime runs models on the CPU'
    seen = sorted(machine.root.glob('usr/lib/python3*/dist-packages/tensorrt'))
    if machine.is_jetson and 'not installed' in why and seen:
        return Finding(
            level,
            "TensorRT is installed for the system's Python, and this one does not see it",
            'python3 -m venv --system-site-packages ~/venv && source ~/venv/bin/activate',
        )
    if 'nvdla' in why:
        return Finding(level, why, 'sudo apt update && sudo apt install --reinstall tensorrt')
    if machine.is_jetson:
        return Finding(level, text, _system_tensorrt(machine))
    again = '' if 'not installed' in why else '--force-reinstall '
    return Finding(level, text, machine.pip(f'{again}tensorrt'))


def _system_tensorrt(machine: Machine) -> str:
    if machine.in_container:
        return "use a container of this JetPack's release, such as NVIDIA's l4t-tensorrt"
    return 'sudo apt update && sudo apt install tensorrt python3-libnvinfer'


def _architectures(machine: Machine) -> list[tuple[int, int]]:
    """Of the GPUs, also of a Jetson's that CUDA does not show."""
    if machine.gpus:
        return [(int(g['sm'][0]), int(g['sm'][1])) for g in machine.gpus]
    return [sm for name, sm in _SM.items() if name in machine.model]


def _bindings_for(machine: Machine, driver: int) -> str:
    old = driver == 12 or (not driver and (36,) <= machine.release < (38,))
    if old:
        return '"cuda-bindings>=12.9.1,<13" nvidia-cuda-nvrtc-cu12'
    return 'cuda-bindings nvidia-cuda-nvrtc'


def _reason(error: str) -> str:
    """What is wrong, without the type of the error and the advice for all machines after it."""
    return re.sub(r'^\w+Error: ', '', error).partition('; ')[0]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r'\d+', version)[:4])


def _dotted(sm: object) -> str:
    return '.'.join(map(str, sm)) if isinstance(sm, (list, tuple)) else str(sm)
