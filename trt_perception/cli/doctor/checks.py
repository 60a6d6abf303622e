# SPDX-License-Identifier: Apache-2.0
"""All checks, in the order in which they are told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from trt_perception.cli.doctor import board, gpu, places, python, ros
from trt_perception.cli.doctor.finding import Check, Finding
from trt_perception.cli.doctor.machine import Machine

CHECKS: dict[str, tuple[Check, ...]] = {
    'Machine': (board.board, board.jetpack, board.power_mode, board.clocks, board.heat, board.time),
    'GPU': (
        gpu.gpu, gpu.device_files, gpu.tensorrt, gpu.cuda_bindings, gpu.nvrtc, gpu.dla,
    ),
    'Python': (places.package, python.python, python.libraries),
    'ROS 2': (
        ros.distribution, ros.messages, ros.middleware, ros.large_images, ros.shared_memory,
    ),
    'Files and cameras': (places.caches, places.engines, places.cameras),
}  # fmt: skip
#: What they want to be probed: CUDA first, for one library may bring another's CUDA with it.
PROBES: tuple[str, ...] = (
    'cuda', *python.MODULES, *ros.MODULES, 'cuda.bindings', 'nvrtc', 'tensorrt', 'builder',
)  # fmt: skip


class Told(NamedTuple):
    """A finding, and whose it is."""

    section: str
    check: str
    finding: Finding


def examine(machine: Machine, checks: dict[str, tuple[Check, ...]] | None = None) -> Iterator[Told]:
    """Make all checks; one that breaks is a finding as well."""
    for section, of_section in (CHECKS if checks is None else checks).items():
        for check in of_section:
            for finding in _findings(check, machine):
                yield Told(section, check.__name__, finding)


def _findings(check: Check, machine: Machine) -> Sequence[Finding]:
    try:
        return list(check(machine))
    except Exception as error:
        if isinstance(error, ImportError) and machine.lacks_numpy:
            return []  # which is told of
        name = check.__name__.replace('_', ' ')
        why = f'{type(error).__name__}: {" ".join(str(error).split())}'
        return [Finding('warning', f'{name} could not be checked: {why}')]
