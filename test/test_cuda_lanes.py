# SPDX-License-Identifier: Apache-2.0
"""The whole GPU path without a GPU, as `cuda_pipelines` puts it together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from cuda_on_cpu import Cpu
from cuda_pipelines import ROOT, WAREHOUSE, Kernels, Network, Open
from fake_cuda import ILLEGAL_ADDRESS, Driver
from models import color_detector
from pictures import stated_jpeg

from trt_perception.core import Detections, Frame, FrameError, Region, Selection
from trt_perception.core.decoders import decoders
from trt_perception.runtime.cuda import driver
from trt_perception.runtime.cuda.device import CudaDevice
from trt_perception.runtime.cuda.driver import CudaError
from trt_perception.runtime.cuda.lane import Lane
from trt_perception.runtime.engine import EngineError
from trt_perception.runtime.model_file import load_spec
from trt_perception.runtime.pipeline import open_pipeline

pytest_plugins = ['cuda_pipelines']


def assert_same(found: Detections, expected: Detections) -> None:
    assert found.class_ids.tolist() == expected.class_ids.tolist()
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=0.01)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)


@pytest.fixture(scope='module')
def pictures() -> list[np.ndarray]:
    video = cv2.VideoCapture(str(ROOT / 'resource' / 'demo' / 'drive.mp4'))
    images = [video.read()[1] for _ in range(60)][20::20]
    return [np.ascontiguousarray(image) for image in images]


@pytest.mark.parametrize('lanes', [1, 2])
def test_agrees_with_the_host_whatever_changes_between_frames(
    opened: Open, fake: Driver, pictures: list[np.ndarray], lanes: int
) -> None:
    """Every change of the first column asks for another graph; stale addresses would show."""
    host, cuda = open_pipeline(WAREHOUSE, threads=1), opened(WAREHOUSE, lanes)
    image = pictures[0]
    height, width = image.shape[:2]
    triple = cv2.resize(image, (640 * 3, 360 * 3))
    wishes = [
        (Frame.from_array(image), Selection()),
        (Frame.from_array(pictures[1]), Selection()),
        (Frame.from_array(triple), Selection()),  # every third row, and more memory
        (Frame.from_array(triple[::-1].copy()), Selection()),
        (Frame.from_array(image), Selection(0.05, multi_label=True)),  # larger buffers
        (Frame.from_array(image), Selection(region=Region(10, 20, width - 31, height - 21))),
        (Frame.from_array(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), 'mono8'), Selection()),
        (Frame.from_array(image), Selection()),
    ]
    seen = 0
    for frame, selection in wishes:
        expected = host(frame, selection).detections
        for _ in range(lanes + 1):  # the first run of a kind, its capture and its replay
            assert_same(cuda(frame, selection).detections, expected)
        seen += len(expected)
    assert seen > 10
    assert bool(fake.copies) and any('2D' in name for name in fake.copies) == (lanes > 1)


def test_a_frame_costs_at_most_three_calls_and_no_memory(
    opened: Open, pictures: list[np.ndarray]
) -> None:
    for lanes, most in ((1, 2), (2, 3)):
        cuda = opened(WAREHOUSE, lanes)
        frame = Frame.from_array(pictures[0])
        for _ in range(lanes):
            cuda(frame, Selection())
        before = driver.calls.copy()
        for _ in range(lanes * 2):
            cuda(frame, Selection())
        calls = driver.calls - before
        assert calls.total() == most * lanes * 2
        assert not [name for name in calls if 'Alloc' in name]
        cuda.close()


def test_frames_in_flight_and_pinned_ones(opened: Open, pictures: list[np.ndarray]) -> None:
    cuda = opened(WAREHOUSE, 2)
    frames = []
    for image in pictures[:2]:
        data = cuda.frame_buffer(image.size)
        data[:] = image.reshape(-1)
        frames.append(Frame.checked(data, image.shape[1], image.shape[0], 'bgr8', image.strides[0]))
    alone = [cuda(Frame.from_array(image), Selection()).detections for image in pictures[:2]]
    tickets = [cuda.begin(frame, Selection()) for frame in frames]
    with pytest.raises(EngineError, match='all 2 lanes are taken'):
        cuda.begin(frames[0], Selection())
    for ticket, expected in zip(reversed(tickets), reversed(alone), strict=True):
        assert_same(ticket.finish().detections, expected)
    with pytest.raises(EngineError, match='finished already'):
        tickets[0].finish()


def test_a_layout_without_kernels_is_decoded_on_the_host(opened: Open, tmp_path: Path) -> None:
    model = color_detector(tmp_path / 'color.onnx')
    host, cuda = open_pipeline(model, threads=1), opened(model)
    for color in ((250, 10, 20), (10, 250, 20), (20, 10, 250)):
        frame = Frame.from_array(np.full((50, 70, 3), color, np.uint8))
        expected = host(frame, Selection()).detections
        for _ in range(2):
            result = cuda(frame, Selection())
            assert_same(result.detections, expected)
            assert min(result.times) > 0


def test_a_batch_is_so_many_frames(fake: Driver, cpu: Cpu, pictures: list[np.ndarray]) -> None:
    host, device, spec = open_pipeline(WAREHOUSE, threads=1), CudaDevice(), load_spec(WAREHOUSE)
    lane = Lane(
        device, Kernels(fake, cpu), Network(fake, WAREHOUSE), spec, decoders()[spec.layout], batch=2
    )
    frames = [Frame.from_array(pictures[0]), Frame.from_array(cv2.resize(pictures[1], (333, 222)))]
    for _ in range(2):
        lane.begin([(frame, Selection()) for frame in frames])
        for frame, result in zip(frames, lane.finish(), strict=True):
            assert_same(result.detections, host(frame, Selection()).detections)
    device.close()
    assert not fake.alive


def test_what_goes_wrong_costs_one_frame(opened: Open, pictures: list[np.ndarray]) -> None:
    cuda = opened(WAREHOUSE)
    frame = Frame.from_array(pictures[0])
    expected = cuda(frame, Selection()).detections
    with pytest.raises(FrameError, match='region_of_interest'):
        cuda(frame, Selection(region=Region(9999, 9999, 5, 5)))
    cuda.network.refuses = True
    with pytest.raises(EngineError, match='execute_async_v3 failed: as asked'):
        cuda(frame, Selection(0.5))
    cuda.network.refuses = False
    assert_same(cuda(frame, Selection()).detections, expected)


def test_what_cannot_be_captured_is_launched_piece_by_piece(
    opened: Open, fake: Driver, pictures: list[np.ndarray], caplog: pytest.LogCaptureFixture
) -> None:
    cuda = opened(WAREHOUSE)
    frame, lane = Frame.from_array(pictures[0]), cuda._lanes[0]
    network = cuda.network
    enqueue = lane._context.enqueue

    def refusing(stream: Any) -> None:
        network.refuses = fake.captured is not None
        enqueue(stream)

    lane._context.enqueue = refusing
    expected = open_pipeline(WAREHOUSE, threads=1)(frame, Selection()).detections
    for _ in range(3):
        assert_same(cuda(frame, Selection()).detections, expected)
    assert not lane.captured
    assert caplog.text.count('cannot be captured') == 1


@pytest.mark.parametrize('void', [True, False])
def test_a_capture_that_fails_tells_why_and_leaves_no_graph(
    opened: Open,
    fake: Driver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    void: bool,
) -> None:
    """Whether or not the driver gives a graph of what came before the failure."""
    cuda = opened(WAREHOUSE)
    enqueue, real = cuda._lanes[0]._context.enqueue, fake._call

    def refusing(stream: Any) -> None:
        cuda.network.refuses = fake.captured is not None
        enqueue(stream)

    def call(name: str, arguments: tuple) -> tuple:
        answer = real(name, arguments)
        return (901, None) if void and name == 'cuStreamEndCapture' else answer

    monkeypatch.setattr(cuda._lanes[0]._context, 'enqueue', refusing)
    monkeypatch.setattr(fake, '_call', call)
    before = driver.calls.copy()
    cuda(Frame.from_array(np.zeros((300, 400, 3), np.uint8)), Selection())
    calls = driver.calls - before
    assert calls['cuStreamEndCapture'] == 1
    assert calls['cuGraphDestroy'] == (0 if void else 1)
    assert 'longer: execute_async_v3 failed: as asked' in caplog.text


def test_lost_context_is_said_and_all_is_given_back(
    opened: Open, fake: Driver, pictures: list[np.ndarray]
) -> None:
    cuda = opened(WAREHOUSE)
    frame = Frame.from_array(pictures[0])
    cuda(frame, Selection())
    fake.fails, fake._count = (2, ILLEGAL_ADDRESS), 0  # the wait
    with pytest.raises(CudaError) as raised:
        cuda(frame, Selection())
    assert raised.value.sticky


def test_closing_with_a_frame_in_flight(opened: Open, pictures: list[np.ndarray]) -> None:
    cuda = opened(WAREHOUSE)
    cuda.begin(Frame.from_array(pictures[0]), Selection())
    cuda.close()
    cuda.close()


def test_cameras_are_looked_at_together(
    opened: Open, fake: Driver, pictures: list[np.ndarray]
) -> None:
    host, cuda = open_pipeline(WAREHOUSE, threads=1), opened(WAREHOUSE, 1, batch=3)
    wishes = [
        (Frame.from_array(pictures[0], source='rear'), Selection(0.4)),
        (Frame.from_array(cv2.resize(pictures[1], (333, 222)), source='front'), Selection(0.2)),
    ]
    expected = [host(*wish).detections for wish in wishes]
    assert cuda.batch == 3
    for order in ([0, 1], [1, 0], [0, 1]):  # each camera's own answer, whichever order they come in
        for number, result in zip(order, cuda.many([wishes[k] for k in order]), strict=True):
            assert_same(result.detections, expected[number])
    before = driver.calls.copy()
    cuda.many(wishes)
    assert (driver.calls - before)['cuGraphLaunch'] == 1
    broken = Frame.from_compressed(stated_jpeg(64, 48))
    with pytest.raises(FrameError):
        cuda.many([wishes[0], (broken, Selection())])
    assert_same(cuda.many(wishes)[0].detections, expected[0])
    # While another thread does so they are looked at one after the other.
    with cuda._together_taken:
        assert_same(cuda.many(wishes)[1].detections, expected[1])
