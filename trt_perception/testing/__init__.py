# SPDX-License-Identifier: Apache-2.0
"""A plugin for pytest: a bag through a detector of given parameters, in the tests of a robot.

It is there for every test once this package is installed. ::

    def test_people_are_seen(replay_bag):
        replay = replay_bag('drive.mcap', params='config/detector.yaml')
        assert replay.count('person') >= 10
        replay.assert_latency(p95_ms=50)

pytest loads this at each start, whatever it tests: nothing but the standard library is imported
before a bag is replayed.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trt_perception.testing.replays import Replay, ReplayBag

__all__ = ['Replay', 'ReplayBag', 'replay_bag']


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where the results are kept, if they are."""
    parser.getgroup('trt_perception').addoption(
        '--replay-output',
        type=Path,
        metavar='DIR',
        help='keep the results of replay_bag there, with a page for each; else they are in'
        " pytest's temporary folder, without one",
    )


@pytest.fixture(scope='session')
def replay_bag(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> ReplayBag:
    """Replays bags; the same bag with the same parameters only once. See `ReplayBag`."""
    output: Path | None = pytestconfig.getoption('--replay-output')
    # Started elsewhere than in the root directory, it is still meant from there; and each of
    # several processes (pytest-xdist) has a folder of its own.
    worker = os.environ.get('PYTEST_XDIST_WORKER', '')
    folder = (
        tmp_path_factory.mktemp('replay_bag')
        if output is None
        else Path(pytestconfig.invocation_params.dir, output, worker)
    )
    return ReplayBag(pytestconfig.rootpath, folder, page=output is not None)
