# SPDX-License-Identifier: Apache-2.0
"""The machine as the checks see it: its files, its environment, and what the probe has found."""

from __future__ import annotations

import os
import re
import shutil
import sys
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: What the probe found of a thing; see `trt_perception.cli.doctor.probe`.
Probed = Mapping[str, Any]


def _managed() -> bool:
    """Whether pip refuses to install here: a system's own Python, outside a venv (PEP 668)."""
    marker = Path(sysconfig.get_path('stdlib'), 'EXTERNALLY-MANAGED')
    return sys.prefix == sys.base_prefix and marker.exists()


@dataclass(frozen=True)
class Machine:
    """Everything that a check may look at, so that any machine can be told of in a test.

    Attributes:
        root: where the system's files lie.
        environment: variables.
        probed: what the probe found, by the name of the probe.
        python: version.
        managed: pip refuses to install into this Python.
        may: as ``os.access``.
        space: total and free bytes of the disk that a path is on.
    """

    root: Path = Path('/')
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    probed: Mapping[str, Probed] = field(default_factory=dict)
    python: tuple[int, int] = sys.version_info[:2]
    managed: bool = field(default_factory=_managed)
    may: Callable[[Path, int], bool] = os.access
    space: Callable[[Path], tuple[int, int]] = lambda path: shutil.disk_usage(path)[::2]

    def text(self, name: str) -> str:
        """A file's content; '' where it cannot be read."""
        try:
            return (self.root / name).read_text(encoding='utf-8', errors='replace').strip('\0\n ')
        except OSError:
            return ''

    def number(self, name: str) -> int | None:
        """The whole number that a file holds."""
        text = self.text(name)
        return int(text) if re.fullmatch(r'-?\d+', text) else None

    def devices(self, *patterns: str) -> list[Path]:
        """Device files under ``dev/``."""
        return sorted(path for p in patterns for path in (self.root / 'dev').glob(p))

    def shown(self, path: Path) -> str:
        """A path under the root as the user knows it."""
        return f'/{path.relative_to(self.root)}' if path.is_relative_to(self.root) else str(path)

    @property
    def model(self) -> str:
        """Of the board; '' for a PC."""
        return self.text('proc/device-tree/model')

    @property
    def is_jetson(self) -> bool:
        """Whether it is one of NVIDIA's boards."""
        return bool(re.search('Jetson|NVIDIA.*(Orin|Xavier|Thor)', self.model) or self.release)

    @property
    def release(self) -> tuple[int, ...]:
        """Jetson Linux: (36, 4, 3); empty where it is not told."""
        found = re.search(r'# R(\d+).*?REVISION: ([\d.]+)', self.text('etc/nv_tegra_release'))
        return (int(found[1]), *map(int, found[2].strip('.').split('.'))) if found else ()

    @property
    def in_container(self) -> bool:
        """Whether this is Docker's or Podman's."""
        return any((self.root / name).exists() for name in ('.dockerenv', 'run/.containerenv'))

    @property
    def lacks_numpy(self) -> bool:
        """Whether nothing can be said of what needs NumPy."""
        return 'error' in self.probed.get('numpy', {})

    @property
    def gpus(self) -> list[dict[str, Any]]:
        """Those that CUDA shows: ``name``, ``sm`` (major, minor), ``integrated``."""
        return list(self.probed.get('cuda', {}).get('gpus', ()))

    @property
    def has_gpu(self) -> bool:
        """Whether there is a GPU of NVIDIA's, usable or not."""
        return bool(self.gpus) or self.is_jetson or self._on_the_bus

    @property
    def _on_the_bus(self) -> bool:
        for vendor in (self.root / 'sys/bus/pci/devices').glob('*/vendor'):
            folder = vendor.parent.relative_to(self.root)
            display = self.text(f'{folder}/class').startswith('0x03')
            if display and self.text(f'{folder}/vendor') == '0x10de':
                return True
        return False

    def pip(self, packages: str) -> str:
        """The command that installs packages of PyPI."""
        if not self.managed:
            return f'pip install {packages}'
        return (
            'python3 -m venv --system-site-packages ~/venv && source ~/venv/bin/activate &&'
            f' pip install {packages}'
        )
