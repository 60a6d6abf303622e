# SPDX-License-Identifier: Apache-2.0
"""Files in which the kernel tells one value each."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

_CHUNK = 4096


def text(path: Path) -> str:
    """What stands in a file, without blanks around it; '' where it cannot be read.

    A sensor that is switched off answers EAGAIN, as the GPU's on a Jetson while it sleeps. Python's
    buffered files make a TypeError of that, so these are read with the system's own calls.
    """
    content = b''
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            while chunk := os.read(file, _CHUNK):
                content += chunk
        finally:
            os.close(file)
    except OSError:
        return ''
    return content.decode(errors='replace').strip().strip('\0')


def number(path: Path, factor: float = 1.0) -> float | None:
    """The whole number in a file times a factor; None where there is none."""
    found = text(path)
    return float(found) * factor if re.fullmatch(r'-?\d{1,19}', found) else None


def numbered(root: Path, pattern: str) -> list[Path]:
    """The folders of a pattern that ends in ``<name>*``, by their number: 2 before 10."""

    def order(path: Path) -> tuple[int, str]:
        digits = re.search(r'\d+$', path.name)
        return int(digits[0]) if digits else 0, path.name

    return sorted(root.glob(pattern), key=order)


def chips(root: Path, *names: str) -> Iterator[tuple[str, Path]]:
    """Chips of the kernel's hardware monitoring that go by one of these names: name and folder.

    Their numbers change from boot to boot, their names do not.
    """
    for folder in numbered(root, 'sys/class/hwmon/hwmon*'):
        if (name := text(folder / 'name')) in names:
            yield name, folder
