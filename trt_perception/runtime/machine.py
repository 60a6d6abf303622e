# SPDX-License-Identifier: Apache-2.0
"""What the machine tells of itself: what it is, and its memory.

Whatever cannot be read is left out; nothing here is ever guessed.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from trt_perception.runtime.host.onnx_runtime import cpu_name
from trt_perception.runtime.sensors.files import text
from trt_perception.runtime.sensors.power_mode import PowerMode

_ROOT = Path('/')


def describe_machine(root: Path = _ROOT) -> dict[str, Any]:
    """Processor, cores, memory, kernel; on a Jetson its model, release and power mode, too."""
    found: dict[str, Any] = {
        'cpu': cpu_name(),
        'cores': os.cpu_count(),
        'memory_bytes': _kilobytes(root / 'proc/meminfo', 'MemTotal'),
        'system': ' '.join((os.uname().sysname, os.uname().release, os.uname().machine)),
    }
    found['model'] = board_model(root)
    found['jetson_linux'] = text(root / 'etc/nv_tegra_release').partition('\n')[0].lstrip('# ')
    found['power_mode'] = PowerMode(root).read()
    return {name: value for name, value in found.items() if value}


def board_model(root: Path = _ROOT) -> str:
    """Of a Jetson or another board with a device tree, or of a PC; '' if it does not tell."""
    model = text(root / 'proc/device-tree/model')
    if model:
        return model
    maker, product = (text(root / f'sys/class/dmi/id/{n}') for n in ('sys_vendor', 'product_name'))
    return f'{maker} {product}'.strip()


def process_memory(root: Path = _ROOT) -> dict[str, int]:
    """Bytes of this process in memory now, and at most so far."""
    status = root / 'proc/self/status'
    return {'resident': _kilobytes(status, 'VmRSS'), 'peak': _kilobytes(status, 'VmHWM')}


def _kilobytes(path: Path, key: str) -> int:
    found = re.search(rf'^{key}:\s+(\d+) kB$', text(path), re.MULTILINE)
    return 1024 * int(found[1]) if found else 0
