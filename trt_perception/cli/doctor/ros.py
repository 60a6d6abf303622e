# SPDX-License-Identifier: Apache-2.0
"""ROS 2: distribution, messages, and whether large images come through."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from trt_perception.cli.doctor.finding import Finding, Level
from trt_perception.cli.doctor.machine import Machine
from trt_perception.cli.doctor.python import why_broken

#: Each supported distribution and its Python.
_DISTROS = {'humble': (3, 10), 'jazzy': (3, 12), 'kilted': (3, 12)}
_MESSAGES = (
    'rclpy', 'sensor_msgs.msg', 'vision_msgs.msg', 'diagnostic_msgs.msg', 'lifecycle_msgs.srv',
    'composition_interfaces.srv',
)  # fmt: skip
_OPTIONAL = {
    'bond.msg': 'the parameter bond',
    'cv_bridge': 'images in unusual encodings',
}
MODULES = (*_MESSAGES, *_OPTIONAL)
_DEFAULT_RMW = 'rmw_fastrtps_cpp'
#: An rgb8 image of 1920x1080 takes 6 MiB, and several are under way.
_SEGMENT = 16 << 20
_SHM_TOTAL, _SHM_FREE = 256 << 20, 64 << 20
_RECEIVE_BUFFER = 10 << 20
_LAST_DOMAIN = 101


def distribution(machine: Machine) -> Iterator[Finding]:
    """A supported one, sourced, and one alone."""
    distro = machine.environment.get('ROS_DISTRO', '')
    if not distro:
        there = sorted(p.name for p in (machine.root / 'opt/ros').glob('*') if p.is_dir())
        if there:
            setup = f'source /opt/ros/{there[-1]}/setup.bash'
            yield Finding('warning', f'ROS 2 {there[-1]} is not set up in this shell', setup)
        else:
            yield Finding(
                'note', 'no ROS 2 here: the commands work, the nodes need Humble, Jazzy or Kilted'
            )
        return
    others = sorted(_sourced(machine) - {distro})
    if others:
        yield Finding(
            'problem',
            f'this shell mixes ROS 2 {distro} with {", ".join(others)}',
            f'open a new shell, and there: source /opt/ros/{distro}/setup.bash',
        )
    python = _DISTROS.get(distro)
    if python is None:
        yield Finding('note', f'ROS 2 {distro}: this package is tested with {", ".join(_DISTROS)}')
    elif machine.python != python and 'error' in machine.probed.get('rclpy', {}):
        yield Finding(
            'problem',
            f'ROS 2 {distro} is made for Python {python[0]}.{python[1]}, and this is'
            f' {machine.python[0]}.{machine.python[1]}',
            f'python{python[0]}.{python[1]} -m venv --system-site-packages ~/venv &&'
            ' source ~/venv/bin/activate',
        )
    elif not others:
        yield Finding('ok', f'ROS 2 {distro}')
    if not _in_index(machine, 'packages/trt_perception'):
        yield Finding(
            'warning',
            'this shell does not know the package trt_perception: ros2 run and ros2 launch do not'
            ' find it',
            'colcon build --packages-select trt_perception && source install/setup.bash',
        )


def messages(machine: Machine) -> Iterator[Finding]:
    """Whether rclpy and the message packages can be imported."""
    if not machine.environment.get('ROS_DISTRO'):
        return
    bad = False
    for name in MODULES:
        found = machine.probed.get(name, {})
        package = name.partition('.')[0]
        if 'error' not in found:
            continue
        install = _install(machine, package)
        if found.get('missing') and name in _OPTIONAL:
            text = f'{package} is not installed; it is for {_OPTIONAL[name]}'
            yield Finding('note', text, install if install.startswith('sudo apt') else '')
            continue
        bad = True
        if machine.lacks_numpy and not found.get('missing'):
            continue
        if found.get('missing'):
            yield Finding('problem', f'{package} is not installed', install)
        else:
            cure = why_broken(machine, found['error']) or install.replace(
                'install', 'install --reinstall', 1
            )
            level: Level = 'warning' if name in _OPTIONAL else 'problem'
            yield Finding(level, f'{package} cannot be imported: {found["error"]}', cure)
    if not bad:
        yield Finding('ok', 'rclpy and all messages can be imported')


def middleware(machine: Machine) -> Iterator[Finding]:
    """Which one, whether it is there, and which domain."""
    if not machine.environment.get('ROS_DISTRO'):
        return
    rmw = _rmw(machine)
    if not _in_index(machine, f'rmw_typesupport/{rmw}'):
        yield Finding('problem', f'middleware {rmw} is not installed', _install(machine, rmw))
    else:
        yield Finding('ok', f'middleware {rmw}')
    domain = machine.environment.get('ROS_DOMAIN_ID', '')
    if domain and not domain.isdecimal():
        yield Finding('problem', f"ROS_DOMAIN_ID '{domain}' is no number", 'unset ROS_DOMAIN_ID')
    elif domain and int(domain) > _LAST_DOMAIN:
        yield Finding(
            'warning',
            f'ROS_DOMAIN_ID {domain}: the system gives the ports of domains above {_LAST_DOMAIN} to'
            ' others, too',
            f'export ROS_DOMAIN_ID={int(domain) % (_LAST_DOMAIN + 1)}    # on all machines',
        )


def large_images(machine: Machine) -> Iterator[Finding]:
    """What the middleware needs to carry images of several megabytes."""
    if not machine.environment.get('ROS_DISTRO'):
        return
    rmw = _rmw(machine)
    if 'fastrtps' in rmw:
        yield from _fast_dds(machine)
    elif 'cyclonedds' in rmw:
        yield from _cyclone(machine)
    elif 'zenoh' in rmw:
        yield Finding(
            'note', 'Zenoh needs a router on this machine', 'ros2 run rmw_zenoh_cpp rmw_zenohd'
        )


def shared_memory(machine: Machine) -> Iterator[Finding]:
    """Room in /dev/shm, through which messages pass."""
    folder = machine.root / 'dev/shm'
    if not machine.environment.get('ROS_DISTRO') or 'fastrtps' not in _rmw(machine):
        return
    if not folder.is_dir() or not machine.may(folder, os.W_OK):
        yield Finding('problem', '/dev/shm cannot be written to', 'sudo chmod 1777 /dev/shm')
        return
    total, free = machine.space(folder)
    told = f'/dev/shm has {total >> 20} MiB, {free >> 20} MiB of them free'
    if total < _SHM_TOTAL:
        bigger = 'sudo mount -o remount,size=1G /dev/shm'
        yield Finding(
            'warning',
            f'{told}: each process of Fast DDS takes 64 MiB for large images',
            'docker run --shm-size 1g ...' if machine.in_container else bigger,
        )
    elif free < _SHM_FREE:
        yield Finding(
            'warning', f'{told}: no room for large images; processes that were killed leave theirs',
            'fastdds shm clean',
        )  # fmt: skip
    else:
        yield Finding('ok', told)


def _fast_dds(machine: Machine) -> Iterator[Finding]:
    """See `trt_perception.ros.fastdds`."""
    from trt_perception.ros.fastdds import VARIABLES, default_profile, variables_for

    distro = machine.environment['ROS_DISTRO']
    if distro != 'humble' and machine.environment.get('FASTDDS_BUILTIN_TRANSPORTS') == 'LARGE_DATA':
        yield Finding('ok', 'large images: FASTDDS_BUILTIN_TRANSPORTS is LARGE_DATA')
        return
    variable = variables_for(distro)[0]
    file = default_profile()
    name, given = next(
        ((v, machine.environment[v]) for v in VARIABLES if machine.environment.get(v)), ('', '')
    )
    cure = f'export {variable}={file}'
    if not given:
        yield Finding(
            'warning',
            'large images: a camera that is started from this shell loses most images of 1080p on'
            ' their way to other processes (no profile for Fast DDS; the launch files set it)',
            cure,
        )
    elif not Path(given).is_file():
        yield Finding('problem', f'{name} names {given}, and there is no such file', cure)
    elif name != variable and distro in _DISTROS and not machine.environment.get(variable):
        yield Finding('warning', f'Fast DDS of {distro} reads {variable}, not {name}', cure)
    else:
        sizes = re.findall(
            r'<segment_size>\s*(\d+)\s*<', Path(given).read_text(encoding='utf-8', errors='replace')
        )
        if max(map(int, sizes), default=0) < _SEGMENT:
            yield Finding(
                'warning',
                f'{given} gives shared memory no {_SEGMENT >> 20} MiB (segment_size): large images'
                ' go over UDP in pieces, and most are lost',
                cure,
            )
        else:
            yield Finding('ok', f'large images: {given}')


def _cyclone(machine: Machine) -> Iterator[Finding]:
    limit = machine.number('proc/sys/net/core/rmem_max')
    if limit is not None and limit < _RECEIVE_BUFFER:
        yield Finding(
            'warning',
            f'large images: net.core.rmem_max is {limit} bytes, less than two images of 1080p; most'
            ' are lost',
            "echo 'net.core.rmem_max=2147483647' | sudo tee /etc/sysctl.d/60-ros.conf &&"
            ' sudo sysctl --system',
        )
        return
    uri = machine.environment.get('CYCLONEDDS_URI', '')
    path = Path(uri.removeprefix('file://'))
    config = uri
    if uri and not uri.lstrip().startswith('<'):
        if not path.is_file():
            yield Finding(
                'problem', f'CYCLONEDDS_URI names {uri}, and there is no such file',
                'unset CYCLONEDDS_URI',
            )  # fmt: skip
            return
        config = path.read_text(encoding='utf-8', errors='replace')
    if 'SocketReceiveBufferSize' in config:
        yield Finding('ok', f'large images: net.core.rmem_max {limit}, SocketReceiveBufferSize set')
    else:
        yield Finding(
            'warning',
            'large images: Cyclone DDS asks for a receive buffer of 1 MiB only',
            "export CYCLONEDDS_URI='<CycloneDDS><Domain><Internal><SocketReceiveBufferSize"
            ' min="10MB"/></Internal></Domain></CycloneDDS>\'',
        )


def _install(machine: Machine, package: str) -> str:
    """The command that brings a package of ROS, also where it was not installed with apt."""
    distro = machine.environment['ROS_DISTRO']
    if (machine.root / 'opt/ros' / distro).is_dir():
        return f'sudo apt install ros-{distro}-{package.replace("_", "-")}'
    return 'rosdep install --from-paths src --ignore-src -y'


def _rmw(machine: Machine) -> str:
    return machine.environment.get('RMW_IMPLEMENTATION') or _DEFAULT_RMW


def _prefixes(machine: Machine) -> list[str]:
    return [p for p in machine.environment.get('AMENT_PREFIX_PATH', '').split(os.pathsep) if p]


def _in_index(machine: Machine, name: str) -> bool:
    """Whether a resource is in the ament index of this shell."""
    return any(
        (machine.root / prefix.lstrip('/') / 'share/ament_index/resource_index' / name).exists()
        for prefix in _prefixes(machine)
    )


def _sourced(machine: Machine) -> set[str]:
    """Distributions under /opt/ros that this shell has set up."""
    paths = [*_prefixes(machine), machine.environment.get('PYTHONPATH', '')]
    return set(re.findall(r'/opt/ros/(\w+)', os.pathsep.join(paths)))
