# SPDX-License-Identifier: Apache-2.0
"""Say what this machine lacks for ``make demo`` and ``make test``, and how to get it.

Takes the name of a ROS distribution. Prints nothing and exits with 0 where all is there; else
prints a line for each thing in the way, the most basic first, and exits with 1.

Runs on Python 3.6 too, or it could not say that 3.6 is too old.
"""

import importlib.util
import os
import platform
import shutil
import sys
import sysconfig
from pathlib import Path

DESK = Path(__file__).resolve().parent
ROOT = DESK.parents[1]


def unknown_distro(distro: str) -> str:
    """Complain of a distribution that has no list of wheels beside this file."""
    known = sorted(p.stem[len('ros-') :] for p in DESK.glob('ros-*.txt'))
    if distro in known:
        return ''
    return (
        f"PyPI has no wheels of ROS_DISTRO='{distro}': choose {' or '.join(known)}, "
        'or build with colcon on a ROS 2 of your own (README.md)'
    )


def wrong_platform() -> str:
    """Complain of a machine that the ROS wheels are not made for."""
    system, machine = platform.system(), platform.machine()
    if (system, machine) != ('Linux', 'x86_64'):
        return (
            f"this is {machine} {system} and PyPI's ROS wheels are for x86-64 Linux only: "
            'on a Jetson or another robot install ROS 2 and build with colcon (README.md)'
        )
    try:
        libc = os.confstr('CS_GNU_LIBC_VERSION') or ''
    except (ValueError, OSError):
        libc = ''
    name, _, version = libc.partition(' ')
    # The manylinux tag of the ROS wheels.
    if name == 'glibc' and tuple(int(n) for n in version.split('.')[:2]) >= (2, 28):
        return ''
    return (
        f"this system has {libc or 'no glibc'} and PyPI's ROS wheels need glibc 2.28 or newer: "
        'use Debian 12 or Ubuntu 22.04 or 24.04, or a container of one'
    )


def sourced_ros() -> str:
    """Complain of a shell where another ROS is set up: its libraries would mix with the wheels'."""
    ours = str(ROOT / '.venv') + os.sep
    for name in ('AMENT_PREFIX_PATH', 'PYTHONPATH'):
        for entry in filter(None, os.environ.get(name, '').split(os.pathsep)):
            if entry.startswith(ours):
                continue
            if name == 'AMENT_PREFIX_PATH' or '/opt/ros/' in entry or Path(entry, 'rclpy').exists():
                return (
                    f'this shell has another ROS 2 set up ({name} has {entry}): open a new shell '
                    'that does not source it, or build with colcon and use that ROS 2 (README.md)'
                )
    return ''


def wrong_python() -> str:
    """Complain of a Python that is too old or too new."""
    major, minor = sys.version_info[:2]
    if (3, 10) <= (major, minor) <= (3, 12):
        return ''
    return (
        f'{sys.executable} is Python {major}.{minor} and 3.10 to 3.12 is needed: '
        'name another one, as in PYTHON=python3.12'
    )


def missing_packages() -> str:
    """Complain of what the system's package manager has and this machine has not."""
    python = 'python{}.{}'.format(*sys.version_info)
    header = Path(sysconfig.get_paths()['include'], 'Python.h')
    there = {
        'g++': shutil.which('g++') is not None,
        f'{python}-dev': header.is_file(),
        f'{python}-venv': importlib.util.find_spec('ensurepip') is not None,
    }
    missing = ' '.join(package for package, found in there.items() if not found)
    return missing and f'{missing} missing on this machine: sudo apt install {missing}'


def main(distro: str) -> int:
    """Print what is in the way; the exit code."""
    found = [unknown_distro(distro), wrong_platform(), sourced_ros(), wrong_python()]
    # What an unfit machine lacks besides does not matter.
    lines = list(filter(None, found)) or list(filter(None, [missing_packages()]))
    for line in lines:
        print(line, file=sys.stderr)
    return 1 if lines else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1]))
