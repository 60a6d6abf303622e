# SPDX-License-Identifier: Apache-2.0
"""What every test shares: the optional assets, a ROS domain of its own, checked message fields."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from trt_perception.ros.domain import free_domain

if TYPE_CHECKING:
    from fake_gpu import FakeGpu
    from world import World

    from trt_perception.build.engine.cache import EngineCache

# Humble checks the types of message fields always, later distributions only when told to; the C
# code behind them aborts the process instead. Set before any message is imported.
os.environ['ROS_PYTHON_CHECK_FIELDS'] = '1'

pytest.register_assert_rewrite('cuda_pipelines')

ROOT = Path(__file__).resolve().parents[1]

# Whoever starts the tests in the background leaves SIGINT ignored, for all that they start too.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A loaded machine takes its time over an example, and what fails must fail again.
settings.register_profile(
    'steady', deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile('steady')


@pytest.fixture(scope='session')
def assets() -> Path:
    """Folder of real models and pictures, where there is one."""
    path = Path(os.environ.get('TRT_PERCEPTION_ASSETS', ROOT.parent / 'shared' / 'assets'))
    if not (path / 'models').is_dir():
        pytest.skip(f'no models and pictures at {path}; set TRT_PERCEPTION_ASSETS')
    return path


@pytest.fixture
def domain_id() -> Iterator[int]:
    """A ROS domain that nobody else on this machine is in, nor another test run."""
    with free_domain() as domain:
        yield domain


@pytest.fixture
def other_domain_id() -> Iterator[int]:
    """Another one."""
    with free_domain() as domain:
        yield domain


@pytest.fixture
def world(domain_id: int) -> Iterator[World]:
    """Nodes over DDS in a domain of their own, gone after the test."""
    from world import World

    world = World(domain_id)
    yield world
    world.close()


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A detector that sees a car and, less sure, a person in every image; 64x64."""
    from models import constant_detector

    return constant_detector(
        tmp_path / 'two.onnx', [[8, 16, 40, 32], [4, 4, 12, 60]], [0.9, 0.6], [0, 1]
    )


@pytest.fixture(scope='session')
def int8(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the naive INT8 model of a detector, made once."""
    from quantized import feeds, model_path, quantize_naively

    folder = tmp_path_factory.mktemp('int8')

    def make(name: str) -> Path:
        path = folder / f'{name}.onnx'
        if not path.exists():
            quantize_naively(model_path(assets, name), feeds(assets, name, 1), path)
        return path

    return make


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    """An empty folder of engines."""
    from trt_perception.build.engine.cache import EngineCache

    return EngineCache(tmp_path / 'engines')


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeGpu:
    """A GPU where there is none, and an empty folder of engines."""
    from fake_gpu import FakeGpu

    monkeypatch.setenv('TRT_PERCEPTION_ENGINES', str(tmp_path / 'engines'))
    return FakeGpu(monkeypatch)
