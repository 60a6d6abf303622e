# SPDX-License-Identifier: Apache-2.0
"""Build bond, vision_msgs and composition_interfaces beside the ROS wheels."""

import sys
from pathlib import Path

from setuptools import Extension, setup

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import interfaces  # noqa: E402


def shared_files() -> list:
    """Where ``ros2 interface show`` and the ament index look."""
    files = []
    for package in interfaces.PACKAGES:
        definitions = [str(p.relative_to(HERE)) for p in package.definitions(HERE)]
        kind = package.kind
        files.append((f'share/{package.name}', [f'{package.name}/package.xml']))
        files.append((f'share/{package.name}/{kind}', definitions))
        for index, text in package.index_entries(HERE).items():
            marker = HERE / 'build' / 'ament_index' / index / package.name
            marker.parent.mkdir(parents=True, exist_ok=True)
            marker.write_text(text)
            destination = f'share/ament_index/resource_index/{index}'
            files.append((destination, [str(marker.relative_to(HERE))]))
    return files


setup(
    name='trt-perception-ros-interfaces',
    version='0.1.0',
    description='bond, vision_msgs and composition_interfaces for the ROS 2 wheels on PyPI',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=[],
    # The extension's name only says that this wheel belongs to one Python version.
    ext_modules=[Extension('vision_msgs', [])],
    cmdclass={'build_ext': interfaces.BuildInterfaces},
    data_files=shared_files(),
)
