# SPDX-License-Identifier: Apache-2.0
"""What the tests on a GPU share: engines, built here once, and pictures."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import pytest

from trt_perception.build.engine.cache import EngineCache
from trt_perception.build.engine.make import Request, make_engine
from trt_perception.build.engine.source import read_source
from trt_perception.core import Frame
from trt_perception.runtime.cuda.device import CudaDevice

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / 'test'), str(ROOT / 'examples' / 'custom_decoder')]


@pytest.fixture(scope='session')
def device() -> Iterator[CudaDevice]:
    """Held for the whole session: making a context anew takes a fifth of a second."""
    device = CudaDevice()
    yield device
    device.close()


@pytest.fixture(scope='session')
def engine_of(tmp_path_factory: pytest.TempPathFactory, device: CudaDevice) -> Callable[..., Path]:
    """Builds the engine of a model, once for each precision."""
    cache = EngineCache(tmp_path_factory.mktemp('engines'))

    def build(model: Path, precision: str = 'fp16') -> Path:
        return make_engine(Request(read_source(model), precision), cache).path

    return build


@pytest.fixture(scope='session')
def pictures() -> list[Frame]:
    """The demo's drive, every twentieth frame."""
    video = cv2.VideoCapture(str(ROOT / 'resource' / 'demo' / 'drive.mp4'))
    frames = []
    while True:
        read, image = video.read()
        if not read:
            break
        frames.append(image)
    return [Frame.from_array(image) for image in frames[::20]]
