# SPDX-License-Identifier: Apache-2.0
"""What the machine tells of itself: its memory, and the GPU's clock, power and temperature.

Whatever cannot be read is left out; nothing here is ever guessed.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trt_perception.runtime.host.onnx_runtime import cpu_name

_ROOT = Path('/')
#: Names of Jetson GPUs among the devices with a clock: Orin, Xavier, TX2, Thor.
_JETSON_GPU = re.compile(r'\d+\.(gpu|ga10b|gv11b|gp10b)|gpu-gpc-\d')


def describe_machine(root: Path = _ROOT) -> dict[str, Any]:
    """Processor, cores, memory, kernel; on a Jetson its model, release and power mode, too."""
    found: dict[str, Any] = {
        'cpu': cpu_name(),
        'cores': os.cpu_count(),
        'memory_bytes': _kilobytes(root / 'proc/meminfo', 'MemTotal'),
        'system': ' '.join((os.uname().sysname, os.uname().release, os.uname().machine)),
    }
    found['model'] = _text(root / 'proc/device-tree/model').rstrip('\0')
    found['jetson_linux'] = _text(root / 'etc/nv_tegra_release').partition('\n')[0].lstrip('# ')
    found['power_mode'] = _text(root / 'var/lib/nvpmodel/status').partition('pmode:')[2]
    return {name: value for name, value in found.items() if value}


def process_memory(root: Path = _ROOT) -> dict[str, int]:
    """Bytes of this process in memory now, and at most so far."""
    status = root / 'proc/self/status'
    return {'resident': _kilobytes(status, 'VmRSS'), 'peak': _kilobytes(status, 'VmHWM')}


class Sensors:
    """Readings of one GPU and its board, by NVML or from a Jetson's files."""

    def __init__(self, index: int = 0, root: Path = _ROOT) -> None:
        """Find out what can be read.

        Args:
            index: of the GPU, as CUDA counts them.
            root: where the system's files lie.
        """
        self.driver = ''
        self._nvml: Any = None
        self._handle: Any = None
        self._clocks = sorted(
            folder / 'cur_freq'
            for folder in root.glob('sys/class/devfreq/*')
            if _JETSON_GPU.fullmatch(folder.name)
        )
        self._loads = [f.parent / 'device/load' for f in self._clocks]
        self._zones = {
            _text(zone / 'type').removesuffix('-thermal').removesuffix('-therm').lower(): zone
            for zone in sorted(root.glob('sys/class/thermal/thermal_zone*'))
        }
        self._rails = _power_rails(root)
        if not self._clocks:
            self._open_nvml(index)

    def read(self) -> dict[str, float]:
        """All there is now: MHz, W, degrees Celsius, shares of 0..1, bytes."""
        found = self._read_nvml() if self._nvml else {}
        for number, (clock, load) in enumerate(zip(self._clocks, self._loads, strict=True)):
            suffix = f'_{number}' if len(self._clocks) > 1 else ''
            _put(found, f'gpu_clock{suffix}_mhz', _number(clock), 1e-6)
            _put(found, f'gpu_load{suffix}', _number(load), 1e-3)
        if self._clocks and (zone := self._zones.get('gpu')):
            _put(found, 'gpu_temperature_c', _number(zone / 'temp'), 1e-3)
        for rail, (volts, amperes) in self._rails.items():
            millivolts, milliamperes = _number(volts), _number(amperes)
            if millivolts is not None and milliamperes is not None:
                found[f'power_{rail}_w'] = millivolts * milliamperes / 1e6
        return found

    def _open_nvml(self, index: int) -> None:
        try:
            import pynvml
        except ImportError:
            return
        visible = os.environ.get('CUDA_VISIBLE_DEVICES', '').split(',')
        name = visible[index].strip() if index < len(visible) else ''
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlInit()
            if name and not name.isdecimal():
                self._handle = pynvml.nvmlDeviceGetHandleByUUID(name)
            else:
                self._handle = pynvml.nvmlDeviceGetHandleByIndex(int(name or index))
            self.driver = str(pynvml.nvmlSystemGetDriverVersion())
            self._nvml = pynvml

    def _read_nvml(self) -> dict[str, float]:
        nvml, handle = self._nvml, self._handle
        readings: dict[str, Callable[[], Any]] = {
            'gpu_clock_mhz': lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
            'memory_clock_mhz': lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM),
            'gpu_load': lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100,
            'gpu_memory_used_bytes': lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used,
            'gpu_temperature_c': lambda: nvml.nvmlDeviceGetTemperature(
                handle, nvml.NVML_TEMPERATURE_GPU
            ),
            'power_gpu_w': lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1e3,
        }
        found = {}
        for name, read in readings.items():
            with contextlib.suppress(nvml.NVMLError):  # not every GPU has every sensor
                found[name] = float(read())
        return found


def _power_rails(root: Path) -> dict[str, tuple[Path, Path]]:
    """Files of volts and amperes (both in thousandths) of each rail that a Jetson measures."""
    rails = {}
    for monitor in sorted(root.glob('sys/class/hwmon/hwmon*')):
        if _text(monitor / 'name') != 'ina3221':
            continue
        for label in sorted(monitor.glob('in*_label')):
            volts = monitor / label.name.replace('_label', '_input')
            amperes = monitor / volts.name.replace('in', 'curr', 1)
            rail = _text(label).lower()
            if amperes.exists() and rail and not rail.startswith('sum of'):
                rails[rail] = volts, amperes
    return rails


def _put(found: dict[str, float], name: str, value: float | None, factor: float) -> None:
    if value is not None:
        found[name] = value * factor


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding='utf-8', errors='replace').strip()
    except OSError:
        return ''


def _number(path: Path) -> float | None:
    text = _text(path)
    return float(text) if re.fullmatch(r'-?\d+', text) else None


def _kilobytes(path: Path, key: str) -> int:
    found = re.search(rf'^{key}:\s+(\d+) kB$', _text(path), re.MULTILINE)
    return 1024 * int(found[1]) if found else 0
