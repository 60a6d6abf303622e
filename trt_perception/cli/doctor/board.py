# SPDX-License-Identifier: Apache-2.0
"""The board: its JetPack, power mode and clocks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from trt_perception.cli.doctor.finding import Finding, Level
from trt_perception.cli.doctor.machine import Machine

#: Releases of Jetson Linux and the JetPack that each came with, newest first.
_JETPACK = (
    ((39, 0), '7.2'), ((38, 4), '7.1'), ((38, 2), '7.0'), ((36, 5), '6.2.2'), ((36, 4, 4), '6.2.1'),
    ((36, 4, 3), '6.2'), ((36, 4), '6.1'), ((36, 2), '6.0'), ((35,), '5'), ((32,), '4'),
)  # fmt: skip


def board(machine: Machine) -> Iterator[Finding]:
    """What it is."""
    processors = len(re.findall(r'^processor\s*:', machine.text('proc/cpuinfo'), re.MULTILINE))
    memory = re.search(r'MemTotal:\s+(\d+) kB', machine.text('proc/meminfo'))
    system = re.search(r'PRETTY_NAME="?([^"\n]+)', machine.text('etc/os-release'))
    told = [
        machine.model or 'a PC',
        f'{processors} cores' if processors else '',
        f'{int(memory[1]) / 2**20:.0f} GiB' if memory else '',
        system[1] if system else '',
        f'Linux {machine.text("proc/sys/kernel/osrelease")}',
        'in a container' if machine.in_container else '',
    ]
    yield Finding('ok', ', '.join(filter(None, told)))


def jetpack(machine: Machine) -> Iterator[Finding]:
    """JetPack 6 or later, and one that is for this board."""
    if not machine.is_jetson:
        return
    release = machine.release
    if not release:
        yield Finding(
            'note',
            'the release of Jetson Linux cannot be seen (/etc/nv_tegra_release)',
            'docker run -v /etc/nv_tegra_release:/etc/nv_tegra_release:ro ...'
            if machine.in_container
            else 'sudo apt install --reinstall nvidia-l4t-core',
        )
        return
    name = next((f'JetPack {n}' for oldest, n in _JETPACK if release >= oldest), 'an old JetPack')
    told = f'{name} (Jetson Linux {".".join(map(str, release))})'
    if release < (36,):
        yield Finding(
            'problem', f'{told} is too old: this package needs JetPack 6 or later',
            'flash JetPack 6.2 with the SDK Manager',
        )  # fmt: skip
    elif (38,) <= release < (39,) and 'Orin' in machine.model:
        yield Finding(
            'problem', f'{told} is for Thor only, and this is an Orin',
            'flash JetPack 7.2 or 6.2 with the SDK Manager',
        )  # fmt: skip
    else:
        yield Finding('ok', told)


def power_mode(machine: Machine) -> Iterator[Finding]:
    """Which one of nvpmodel's."""
    from trt_perception.runtime.sensors.power_mode import PowerMode

    nvpmodel = PowerMode(machine.root)
    name = nvpmodel.read()
    # Where there are both, MAXN_SUPER is the faster.
    fastest = max(
        ((n, number) for number, n in nvpmodel.modes.items() if n.startswith('MAXN')), default=None
    )
    if name and (fastest is None or name == fastest[0]):
        yield Finding('ok', f'power mode {name}')
    elif name and fastest is not None:
        yield Finding(
            'note',
            f'power mode {name} holds the clocks down; {fastest[0]} is the fastest, if power and'
            ' cooling allow it',
            f'sudo nvpmodel -m {fastest[1]}',
        )


def heat(machine: Machine) -> Iterator[Finding]:
    """How far the board is from slowing itself down."""
    from trt_perception.health.board import Judge
    from trt_perception.health.level import Level as Heat
    from trt_perception.health.observer import Observer
    from trt_perception.runtime.sensors import Sensors

    reading = Observer(Sensors((), machine.root)).read()  # no GPU's: its driver may hang
    if not reading.temperatures:
        return
    levels: dict[Heat, Level] = {Heat.OK: 'ok', Heat.WARN: 'warning', Heat.ERROR: 'problem'}
    level, text = Judge().judge(reading)
    yield Finding(levels[level], text)


def clocks(machine: Machine) -> Iterator[Finding]:
    """Whether jetson_clocks holds the GPU's clock up."""
    from trt_perception.runtime.sensors.clocks import GPU

    folders = sorted((machine.root / 'sys/class/devfreq').glob('*'))
    for folder in (f for f in folders if GPU.fullmatch(f.name)):
        low, high = _hertz(machine, folder, 'min_freq'), _hertz(machine, folder, 'max_freq')
        if not low or not high:
            continue
        if low == high:
            yield Finding('ok', f'clock of the GPU held at {high / 1e6:.0f} MHz ({folder.name})')
        else:
            yield Finding(
                'note',
                f'clock of the GPU follows the load, {low / 1e6:.0f} to {high / 1e6:.0f} MHz'
                f' ({folder.name}): the first images after a pause take longer',
                'sudo jetson_clocks',
            )


def time(machine: Machine) -> Iterator[Finding]:
    """Whether the clock is set by others: stamps of several machines are compared."""
    if not (machine.root / 'run/systemd/timesync').is_dir():
        return  # another service does it, or the container's host
    if (machine.root / 'run/systemd/timesync/synchronized').exists():
        yield Finding('ok', 'the clock is synchronised')
    else:
        yield Finding(
            'warning',
            'the clock is not synchronised yet: stamps from other machines will not fit',
            'sudo timedatectl set-ntp true',
        )


def _hertz(machine: Machine, folder: Path, name: str) -> int | None:
    return machine.number(str((folder / name).relative_to(machine.root)))
