# SPDX-License-Identifier: Apache-2.0
"""The package's executables as real processes, for tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

SHM = Path('/dev/shm')


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


def shared_memory() -> set[Path]:
    """Files that Fast DDS has in shared memory now."""
    return set(SHM.glob('*fastdds*')) | set(SHM.glob('*fastrtps*'))


def orphans(before: set[Path]) -> set[Path]:
    """Shared memory that came since and that no process has mapped or open."""
    left = shared_memory() - before
    for process in Path('/proc').glob('[0-9]*'):
        try:
            used = (process / 'maps').read_text(encoding='utf-8', errors='replace')
            used += ' '.join(os.readlink(fd) for fd in (process / 'fd').iterdir())
        except OSError:
            continue
        left -= {file for file in left if str(file) in used}
    return left
