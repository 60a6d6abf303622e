# SPDX-License-Identifier: Apache-2.0
"""Python and its libraries, outside ROS."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from trt_perception.cli.doctor.finding import Finding, Level
from trt_perception.cli.doctor.machine import Machine


class _Library(NamedTuple):
    """What it is for, how bad it is without, and what brings it: a command of apt's, else pip's."""

    purpose: str
    without: Level
    pip: str
    apt: str = ''


_LIBRARIES = {
    'numpy': _Library('everything', 'problem', 'numpy', 'python3-numpy'),
    'cv2': _Library('images', 'problem', 'opencv-python-headless', 'python3-opencv'),
    'yaml': _Library('all YAML files', 'problem', 'PyYAML', 'python3-yaml'),
    'rich': _Library('tables', 'problem', 'rich', 'python3-rich'),
    'onnx': _Library('reading models', 'problem', 'onnx'),
    'onnxruntime': _Library('running models on the CPU', 'warning', 'onnxruntime'),
    'av': _Library('cameras, streams and videos', 'note', 'av'),
    'rosbags': _Library('recordings', 'note', 'rosbags'),
    'pycocotools': _Library('trt-perception evaluate', 'note', 'pycocotools'),
}
MODULES = tuple(_LIBRARIES)


def python(machine: Machine) -> Iterator[Finding]:
    """3.10 to 3.12."""
    told = f'Python {machine.python[0]}.{machine.python[1]}'
    if (3, 10) <= machine.python <= (3, 12):
        yield Finding('ok', told)
    else:
        yield Finding(
            'problem',
            f'{told}, and 3.10 to 3.12 is needed: the one that ROS is made for, 3.10 on Ubuntu'
            ' 22.04, 3.12 on 24.04',
            'sudo apt install python3',
        )


def libraries(machine: Machine) -> Iterator[Finding]:
    """All that is imported, with its version."""
    probed = {name: machine.probed.get(name, {}) for name in _LIBRARIES}
    good = [f'{n} {f.get("version", "")}'.strip() for n, f in probed.items() if 'error' not in f]
    if good:
        yield Finding('ok', ', '.join(good))
    for name, library in _LIBRARIES.items():
        found = probed[name]
        if 'error' not in found:
            continue
        level = library.without
        if name == 'onnxruntime' and not machine.gpus:
            level = 'problem'  # nothing else runs a model
        install = f'sudo apt install {library.apt}' if library.apt else machine.pip(library.pip)
        if found.get('missing'):
            yield Finding(level, f'{name} is not installed; it is for {library.purpose}', install)
        elif name == 'numpy' or not machine.lacks_numpy:
            cure = why_broken(machine, found['error']) or machine.pip(
                f'--force-reinstall {library.pip}'
            )
            yield Finding('problem', f'{name} is installed but broken: {found["error"]}', cure)


def why_broken(machine: Machine, error: str) -> str:
    """The cure of an import that fails, where the error is a known one."""
    if re.search(r'_ARRAY_API|numpy\.core\.multiarray|dtype size changed|NumPy 1\.x', error):
        return machine.pip('"numpy<2"')
    if 'libGL.so' in error:
        return 'sudo apt install libgl1'
    return ''
