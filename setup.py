# SPDX-License-Identifier: Apache-2.0
"""What setup.cfg cannot say: where the files that are not Python go; the oldest Python."""

from __future__ import annotations

from pathlib import Path

from setuptools import setup

PACKAGE = 'trt_perception'


def share(folder: str) -> list[tuple[str, list[str]]]:
    """Put each file under a folder into the same place under the package's share."""
    files = [f for f in sorted(Path(folder).rglob('*')) if f.is_file() and f.suffix != '.pyc']
    return [(f'share/{PACKAGE}/{f.parent}', [str(f)]) for f in files]


setup(
    # From setup.cfg this becomes an object that colcon fails to read back.
    python_requires='>=3.10',
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{PACKAGE}']),
        (f'share/{PACKAGE}', ['package.xml']),
        *share('launch'),
        *share('config'),
        *share('resource/demo'),
        *share('resource/models'),
    ],
)
