# SPDX-License-Identifier: Apache-2.0
"""The GPU path where memory runs short, where it is closed early, and where it is forgotten."""

from __future__ import annotations

import gc
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from cuda_pipelines import WAREHOUSE, Open
from fake_cuda import OUT_OF_MEMORY, Driver

from trt_perception.core import Frame, Geometry, Selection, place
from trt_perception.runtime.cuda import device as device_module
from trt_perception.runtime.cuda import driver
from trt_perception.runtime.cuda.device import CudaDevice
from trt_perception.runtime.cuda.driver import CudaError
from trt_perception.runtime.cuda.images import Images
from trt_perception.runtime.cuda.pipeline import CudaPipeline
from trt_perception.runtime.engine import EngineError

pytest_plugins = ['cuda_pipelines']


def frame_of(height: int, width: int) -> Frame:
    random = np.random.default_rng(height)
    return Frame.from_array(random.integers(0, 255, (height, width, 3), np.uint8))


def geometry_of(frame: Frame) -> Geometry:
    return place(frame.width, frame.height, 64, 64, 'letterbox')


def fail_next(fake: Driver, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next call of this name fails for want of memory."""
    real, failed = fake._call, []

    def call(what: str, arguments: tuple) -> tuple:
        if what == name and not failed:
            failed.append(what)
            return (OUT_OF_MEMORY,)
        return real(what, arguments)

    monkeypatch.setattr(fake, '_call', call)


def test_decoding_that_finds_no_room_goes_on_as_before(
    opened: Open, fake: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda, frame = opened(WAREHOUSE), frame_of(300, 400)
    expected = cuda(frame, Selection()).detections
    fail_next(fake, 'cuMemAlloc', monkeypatch)
    with pytest.raises(CudaError, match='OUT'):
        cuda(frame, Selection(multi_label=True))
    # Kernels told of room that is not there would write beyond the end, which the stand-in checks.
    cuda(frame, Selection(0.0, multi_label=True))
    np.testing.assert_array_equal(cuda(frame, Selection()).detections.boxes, expected.boxes)


@pytest.mark.parametrize('name', ['cuMemHostAlloc', 'cuMemAlloc'])
def test_images_that_find_no_room_lie_in_none_that_is_freed(
    fake: Driver, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    device = CudaDevice()
    images = Images(device.scope(), uploads=True)
    small, large = frame_of(30, 40), frame_of(300, 400)
    images.reach(small, geometry_of(small), 1)
    fail_next(fake, name, monkeypatch)
    with pytest.raises(CudaError, match='OUT'):
        images.reach(large, geometry_of(large), 1)
    for frame in (small, large):
        assert images.reach(frame, geometry_of(frame), 1) in fake.alive
    device.close()
    assert not fake.alive


@pytest.mark.parametrize(
    'use',
    [
        lambda cuda, ticket: cuda(frame_of(300, 400), Selection()),
        lambda cuda, ticket: ticket.finish(),
        lambda cuda, ticket: cuda.frame_buffer(100),
        lambda cuda, ticket: cuda.warm_up(),
    ],
)
def test_what_is_closed_says_so(opened: Open, use: Callable) -> None:
    cuda = opened(WAREHOUSE, 2)
    ticket = cuda.begin(frame_of(300, 400), Selection())
    cuda.close()
    with pytest.raises(EngineError, match='the pipeline is closed'):
        use(cuda, ticket)


def captures(cuda: CudaPipeline, wishes: list[tuple[Frame, Selection]]) -> int:
    for frame, selection in wishes:
        cuda(frame, selection)
    before = driver.calls['cuStreamBeginCapture']
    for frame, selection in wishes * 3:
        cuda(frame, selection)
    return driver.calls['cuStreamBeginCapture'] - before


def test_cameras_that_take_turns_keep_their_graphs(opened: Open) -> None:
    cuda = opened(WAREHOUSE, 2)
    cuda.warm_up()
    one, other = frame_of(300, 400), frame_of(200, 320)
    low, high = Selection(0.3), Selection(0.5)
    assert captures(cuda, [(one, low), (other, low)]) == 0
    assert captures(cuda, [(one, low), (one, high), (one, high)]) == 0
    assert captures(cuda, [(one, low), (other, low), (one, high)]) > 0  # more kinds than lanes


def test_a_graph_that_cannot_be_made_costs_the_graph_only(
    opened: Open, fake: Driver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cuda, frame = opened(WAREHOUSE), frame_of(300, 400)
    expected = cuda(frame, Selection()).detections
    fail_next(fake, 'cuGraphInstantiate', monkeypatch)
    for _ in range(3):
        found = cuda(frame, Selection(0.2)).detections
        np.testing.assert_array_equal(found.boxes, expected.boxes)
    assert 'cannot be captured' in caplog.text


def test_a_device_that_is_forgotten_is_freed_at_the_end(fake: Driver) -> None:
    CudaDevice().scope().allocate(100)
    gc.collect()
    device_module._close_all()
    assert not fake.alive


def test_opening_that_fails_at_any_call_leaves_nothing(
    opened: Open, fake: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake._count = 0
    cuda = opened(WAREHOUSE, 2)
    calls = fake._count
    cuda.close()
    assert calls > 30
    for number in range(1, calls + 1):
        # The thread's context went with the device.
        monkeypatch.setattr(device_module, '_current', SimpleNamespace())
        fake._count, fake.fails = 0, (number, OUT_OF_MEMORY)
        with pytest.raises(CudaError, match='OUT'):
            opened(WAREHOUSE, 2)
        assert not fake.alive
