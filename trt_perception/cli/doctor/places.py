# SPDX-License-Identifier: Apache-2.0
"""What is on the disk, and the cameras."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from trt_perception.cli.doctor.finding import Finding
from trt_perception.cli.doctor.machine import Machine

_LITTLE, _TOO_LITTLE = 1 << 30, 100 << 20


def caches(machine: Machine) -> Iterator[Finding]:
    """Whether engines and kernels can be kept."""
    from trt_perception.build.engine import cache
    from trt_perception.runtime.cuda import compiler

    engines = cache.default_folder(machine.environment)
    for what, folder in (
        ('engines', engines),
        ('kernels', compiler.default_folder(machine.environment)),
    ):
        there = folder
        while not there.exists() and there != there.parent:
            there = there.parent
        if not there.is_dir():
            yield Finding(
                'problem', f'{there} is no folder, and {what} are kept in {folder}', f'rm {there}'
            )
        elif not machine.may(there, os.W_OK | os.X_OK):
            yield Finding(
                'problem', f'{there} cannot be written to, and {what} are kept in {folder}',
                f'sudo chown -R $USER {there}',
            )  # fmt: skip
    there = engines
    while not there.exists() and there != there.parent:
        there = there.parent
    free = machine.space(there)[1]
    told = f'{free / 2**30:.1f} GiB free for engines in {engines}'
    prune = 'trt-perception engines prune'
    if free < _TOO_LITTLE:
        yield Finding('problem', f'{told}: an engine may not fit', prune)
    elif free < _LITTLE:
        yield Finding('warning', told, prune)
    else:
        yield Finding('ok', told)
    if engines.is_dir() and engines.stat().st_mode & 0o002:
        yield Finding(
            'warning', f'everybody may write to {engines}, and an engine is code',
            f'chmod o-w {engines}',
        )  # fmt: skip


def engines(machine: Machine) -> Iterator[Finding]:
    """The engines that are kept: broken ones, those of another TensorRT."""
    from trt_perception.build.engine.cache import EngineCache, default_folder

    library = machine.probed.get('tensorrt', {})
    here = f'{library["name"]} {library["version"]}' if 'version' in library else ''
    entries = list(EngineCache(default_folder(machine.environment)).entries())
    prune = 'trt-perception engines prune'
    for entry in entries:
        if entry.fault:
            yield Finding('warning', entry.fault, prune)
    whole = [e.manifest for e in entries if e.manifest is not None and not e.fault]
    foreign = [m for m in whole if here and m.library != here]
    if foreign:
        yield Finding(
            'note',
            f'{len(foreign)} of {len(whole)} engines are of another TensorRT than {here}, and of no'
            ' use here',
            prune,
        )
    elif whole:
        yield Finding('ok', f'{len(whole)} engines, all whole')


def cameras(machine: Machine) -> Iterator[Finding]:
    """V4L2 devices, and whether this user may open them."""
    found = machine.devices('video[0-9]*')
    shut = [d for d in found if not machine.may(d, os.R_OK | os.W_OK)]
    for device in found:
        name = machine.text(f'sys/class/video4linux/{device.name}/name')
        told = f'{machine.shown(device)}{f": {name}" if name else ""}'
        if device in shut:
            yield Finding(
                'problem',
                f'{told} may not be opened',
                'sudo usermod -aG video $USER    # and log in again',
            )
        else:
            yield Finding('ok', told)
    if not found:
        option = 'docker run --device /dev/video0 ...' if machine.in_container else ''
        yield Finding('note', 'no camera at /dev/video*; streams and files need none', option)


def package(machine: Machine) -> Iterator[Finding]:
    """This package itself."""
    import trt_perception

    where = Path(trt_perception.__file__).parent
    yield Finding('ok', f'trt_perception {trt_perception.__version__} in {where}')
