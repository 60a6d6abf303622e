# SPDX-License-Identifier: Apache-2.0
"""The package's executables as real processes, for tests."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep
from typing import Any

#: Seconds that a process gets to start or to end; a loaded machine needs more of them.
TIMEOUT = 120.0
SHM = Path('/dev/shm')
SHARED_MEMORY = re.compile(rf'{SHM}/\S*fast(?:dds|rtps)\S*')


def start(executable: str, domain_id: int, *ros_args: str, **env: str) -> subprocess.Popen[str]:
    """Start ``detector``, ``player`` or ``recorder`` as `ros2 run` does."""
    code = f'import sys, trt_perception.nodes.main as main; sys.exit(main.{executable}())'
    command = [sys.executable, '-c', code, '--ros-args', *ros_args]
    return subprocess.Popen(
        command,
        env={**os.environ, 'ROS_DOMAIN_ID': str(domain_id), **env},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def parameters(**values: Any) -> list[str]:
    """``-p name:=value`` for each."""
    return [word for name, value in values.items() for word in ('-p', f'{name}:={value}')]


def shared_memory(process: Path) -> set[Path]:
    """Files of Fast DDS in shared memory that a process has mapped or open.

    Args:
        process: its folder in ``/proc``.
    """
    try:
        used = (process / 'maps').read_text(encoding='utf-8', errors='replace')
        used += '\n'.join(os.readlink(fd) for fd in (process / 'fd').iterdir())
    except OSError:
        return set()  # gone meanwhile, or not ours to look into
    return set(map(Path, SHARED_MEMORY.findall(used)))


def watch(process: subprocess.Popen[str], seconds: float) -> set[Path]:
    """Shared memory that a process uses, until it ends or so many seconds are over."""
    used: set[Path] = set()
    give_up = monotonic() + seconds
    while process.poll() is None and monotonic() < give_up:
        used |= shared_memory(Path(f'/proc/{process.pid}'))
        sleep(0.05)
    return used


def orphans(files: set[Path]) -> set[Path]:
    """Those that are still there and that no process has mapped or open."""
    processes = Path('/proc').glob('[0-9]*')
    return {f for f in files if f.exists()}.difference(*map(shared_memory, processes))


def read_terminal(descriptor: int) -> bytes:
    """All that is shown on a pseudo-terminal until the other end closes it; closes this one."""
    shown = b''
    # Linux says by an error that the other end is closed.
    with open(descriptor, 'rb', buffering=0) as terminal, contextlib.suppress(OSError):
        while part := terminal.read(4096):
            shown += part
    return shown
