# SPDX-License-Identifier: Apache-2.0
"""What every test shares: the optional assets, a ROS domain of its own, checked message fields."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from world import World

# Humble checks the types of message fields always, later distributions only when told to; the C
# code behind them aborts the process instead. Set before any message is imported.
os.environ['ROS_PYTHON_CHECK_FIELDS'] = '1'

ROOT = Path(__file__).resolve().parents[1]

# Domains 1..101 are free of the operating system's own ports; each xdist worker has its share.
_WORKER = int(os.environ.get('PYTEST_XDIST_WORKER', 'gw0')[2:])
# Another run on this machine, or network, begins elsewhere.
_domains = (1 + 25 * (_WORKER % 4) + n % 25 for n in itertools.count(os.getpid()))


@pytest.fixture(scope='session')
def assets() -> Path:
    """Folder of real models and pictures, where there is one."""
    path = Path(os.environ.get('TRT_PERCEPTION_ASSETS', ROOT.parent / 'shared' / 'assets'))
    if not (path / 'models').is_dir():
        pytest.skip(f'no models and pictures at {path}; set TRT_PERCEPTION_ASSETS')
    return path


@pytest.fixture
def domain_id() -> int:
    """A ROS domain that no other running test uses."""
    return next(_domains)


@pytest.fixture
def world(domain_id: int) -> Iterator[World]:
    """Nodes over DDS in a domain of their own, gone after the test."""
    from world import World

    world = World(domain_id)
    yield world
    world.close()
