# SPDX-License-Identifier: Apache-2.0
"""The whole path on the GPU: agrees with the host, wastes nothing, gives everything back."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from free_batch import free_batch
from machine import WAREHOUSE
from pictures import stated_jpeg

from trt_perception.build.agreement import agreement
from trt_perception.build.engine.cache import EngineCache
from trt_perception.build.engine.make import Request, make_engine
from trt_perception.build.engine.source import read_source
from trt_perception.build.engine.tuning import Tuning
from trt_perception.core import Detections, Frame, Region, Selection
from trt_perception.core.decoders import decoders
from trt_perception.runtime.cuda import driver, lane
from trt_perception.runtime.cuda.device import CudaDevice
from trt_perception.runtime.cuda.driver import CudaError
from trt_perception.runtime.cuda.kernels import Kernels
from trt_perception.runtime.cuda.lane import Lane
from trt_perception.runtime.cuda.pipeline import CudaPipeline, open_engine
from trt_perception.runtime.engine import EngineError
from trt_perception.runtime.machine import process_memory
from trt_perception.runtime.model_file import engine_spec
from trt_perception.runtime.pipeline import open_pipeline
from trt_perception.runtime.tensorrt.engine import TensorRtEngine
from trt_perception.runtime.tensorrt.plan import load_plan

EngineOf = Callable[..., Path]

MODELS = (
    'yolov8n_coco_640', 'yolox_nano_416', 'deimv2_atto_coco_320_raw', 'deimv2_atto_coco_320_e2e',
    'fastestdet_352',
)  # fmt: skip


@pytest.fixture(scope='module')
def pipeline(engine_of: EngineOf) -> CudaPipeline:
    return open_engine(engine_of(WAREHOUSE, 'fp32'), lanes=2)


def same(a: Detections, b: Detections) -> bool:
    return all(
        np.array_equal(x, y)
        for x, y in zip(
            (a.boxes, a.scores, a.class_ids), (b.boxes, b.scores, b.class_ids), strict=True
        )
    )


def calls_of(action: Callable[[], object]) -> Counter[str]:
    before = driver.calls.copy()
    action()
    return driver.calls - before


#: TensorRT-RTX multiplies FP32 in TF32 on some GPUs, with no more digits than FP16.
@pytest.mark.parametrize(('precision', 'least'), [('fp32', 0.96), ('fp16', 0.95)])
@pytest.mark.parametrize('name', MODELS)
def test_shared_models_agree_with_the_host(
    name: str,
    precision: str,
    least: float,
    assets: Path,
    engine_of: EngineOf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = assets / 'models' / f'{name}.onnx'
    if name.startswith('fastestdet'):
        from fastestdet import FastestDet

        monkeypatch.setitem(decoders(), 'fastestdet', FastestDet())
    folder = assets / 'data' / 'coco_ccby_bysa' / 'images' / 'val2017'
    frames = [Frame.from_array(cv2.imread(str(p))) for p in sorted(folder.iterdir())[:20]]
    selection = Selection(score_threshold=0.3)
    host = open_pipeline(model, labels='coco')
    cuda = open_engine(engine_of(model, precision), labels='coco')
    try:
        expected = [host(frame, selection).detections for frame in frames]
        found = [cuda(frame, selection).detections for frame in frames]
    finally:
        cuda.close()
        host.close()
    assert sum(map(len, expected)) > 50
    share = agreement(expected, found)
    print(f'{name} {precision}: {share:.4f} in common')
    assert share >= least


def test_shipped_model_agrees_with_the_host(pipeline: CudaPipeline, pictures: list[Frame]) -> None:
    host = open_pipeline(WAREHOUSE)
    for frame in pictures:
        expected = host(frame, Selection()).detections
        found = pipeline(frame, Selection()).detections
        assert np.array_equal(found.class_ids, expected.class_ids)
        assert np.abs(found.boxes - expected.boxes).max(initial=0) < 0.5
        assert np.abs(found.scores - expected.scores).max(initial=0) < 5e-3


def test_a_frame_costs_three_driver_calls_and_no_allocation(
    pipeline: CudaPipeline, pictures: list[Frame]
) -> None:
    for frame in pictures[:2] * 2:  # both lanes
        pipeline(frame, Selection())
    calls = calls_of(lambda: [pipeline(frame, Selection()) for frame in pictures])
    assert calls.total() <= 3 * len(pictures)
    assert calls['cuGraphLaunch'] == calls['cuEventSynchronize'] == len(pictures)
    assert not [name for name in calls if 'Alloc' in name]


def test_a_frame_in_pinned_memory_is_not_copied_on_the_host(
    pipeline: CudaPipeline, pictures: list[Frame]
) -> None:
    frame = pictures[0]
    buffer = pipeline.frame_buffer(frame.data.size)
    buffer[:] = frame.data
    pinned = Frame.checked(buffer, frame.width, frame.height, frame.encoding, frame.step)
    # Filled with garbage, the room that other frames are copied to changes nothing.
    expected = pipeline(frame, Selection()).detections
    garbage = Frame.from_array(np.full_like(frame.pixels(), 77))
    for _ in range(2):
        pipeline(garbage, Selection())
        assert same(pipeline(pinned, Selection()).detections, expected)


def test_two_frames_in_flight_give_what_they_give_alone(
    pipeline: CudaPipeline, pictures: list[Frame]
) -> None:
    alone = [pipeline(frame, Selection()).detections for frame in pictures]
    together = []
    for one, other in zip(pictures[::2], pictures[1::2], strict=False):
        tickets = [pipeline.begin(one, Selection()), pipeline.begin(other, Selection())]
        with pytest.raises(EngineError, match='all 2 lanes are taken'):
            pipeline.begin(one, Selection())
        together += [ticket.finish().detections for ticket in tickets]
    assert all(same(a, b) for a, b in zip(alone, together, strict=False))


def test_threads_with_a_lane_each_do_not_disturb_each_other(
    pipeline: CudaPipeline, pictures: list[Frame]
) -> None:
    expected = [pipeline(frame, Selection()).detections for frame in pictures]
    wrong: list[int] = []

    def camera(offset: int) -> None:
        for turn in range(100):
            index = (offset + turn) % len(pictures)
            if not same(pipeline(pictures[index], Selection()).detections, expected[index]):
                wrong.append(index)

    threads = [threading.Thread(target=camera, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_sizes_regions_and_thresholds_change_from_frame_to_frame(
    pipeline: CudaPipeline, pictures: list[Frame]
) -> None:
    host = open_pipeline(WAREHOUSE)
    image = pictures[3].pixels()
    small = Frame.from_array(cv2.resize(image, (333, 211)))
    large = Frame.from_array(cv2.resize(image, (1921, 1081)))
    wishes = [
        (small, Selection()),
        (large, Selection()),
        (large, Selection(score_threshold=0.6)),
        (large, Selection(region=Region(400, 300, 900, 701))),
        (small, Selection(max_detections=1)),
        (pictures[3], Selection(class_ids=frozenset({0, 5}), multi_label=True)),
        (small, Selection()),
    ]
    for frame, selection in wishes * 2:
        expected = host(frame, selection).detections
        found = pipeline(frame, selection).detections
        assert agreement([expected], [found]) > 0.99


@pytest.mark.parametrize('encoding', ['jpeg', 'png', 'rgb8', 'mono8', 'nv12', 'bayer_rggb8'])
def test_other_encodings(pipeline: CudaPipeline, pictures: list[Frame], encoding: str) -> None:
    host = open_pipeline(WAREHOUSE)
    for picture in pictures[:4]:
        frame = encoded(picture.pixels(), encoding)
        expected = host(frame, Selection()).detections
        assert agreement([expected], [pipeline(frame, Selection()).detections]) > 0.98


def encoded(image: np.ndarray, encoding: str) -> Frame:
    height, width = image.shape[:2]
    if encoding in ('jpeg', 'png'):
        return Frame.from_compressed(cv2.imencode(f'.{encoding}', image)[1].reshape(-1))
    if encoding == 'rgb8':
        return Frame.from_array(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), encoding)
    if encoding == 'mono8':
        return Frame.from_array(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), encoding)
    if encoding == 'nv12':
        planar = cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420).reshape(-1)
        luma, chroma = planar[: width * height], planar[width * height :].reshape(2, -1)
        data = np.concatenate((luma, chroma.T.reshape(-1)))
        return Frame.checked(data, width, height, encoding, width)
    mosaic = np.zeros((height, width), np.uint8)
    for row, column, channel in ((0, 0, 2), (0, 1, 1), (1, 0, 1), (1, 1, 0)):
        mosaic[row::2, column::2] = image[row::2, column::2, channel]
    return Frame.from_array(mosaic, encoding)


def test_what_cannot_be_captured_is_launched_and_said_once(
    engine_of: EngineOf,
    pictures: list[Frame],
    pipeline: CudaPipeline,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(function: str, *arguments: object) -> object:
        if function == 'cuStreamEndCapture':
            driver.call(function, *arguments)
            raise CudaError(function, 901, 'CUDA_ERROR_STREAM_CAPTURE_INVALIDATED', 'as asked')
        return driver.call(function, *arguments)

    expected = [pipeline(frame, Selection()).detections for frame in pictures[:5]]
    monkeypatch.setattr(lane, 'call', refuse)
    other = open_engine(engine_of(WAREHOUSE, 'fp32'))
    found = [other(frame, Selection()).detections for frame in pictures[:5]]
    other.close()
    assert all(same(a, b) for a, b in zip(expected, found, strict=True))
    assert caplog.text.count('cannot be captured') == 1


def test_times_are_those_of_the_stages(pipeline: CudaPipeline, pictures: list[Frame]) -> None:
    times = pipeline(pictures[0], Selection()).times
    assert min(times) > 0
    assert max(times) < 1e9


def test_lanes_and_buffers_leave_nothing_behind(engine_of: EngineOf, device: CudaDevice) -> None:
    # 10,000 times what a lane is made of, and 8 times the whole, engine and context included.
    def cycle() -> None:
        scope = device.scope()
        scope.stream()
        scope.event()
        scope.allocate(1 << 20)
        scope.allocate_pinned(1 << 16)
        scope.close()

    for _ in range(100):
        cycle()
    device.bind()
    before = device.memory_use().free, process_memory()['resident']
    for _ in range(10_000):
        cycle()
    assert device.memory_use().free >= before[0] - (1 << 20)
    assert process_memory()['resident'] <= before[1] + (8 << 20)

    # The whole, in a process of its own. TensorRT-RTX leaves something with each context, without
    # anything of ours around it; how much varies by some MB.
    script = Path(__file__).with_name('open_and_close.py')
    command = [sys.executable, str(script), str(engine_of(WAREHOUSE, 'fp32'))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    device_alone, host_alone, device_ours, host_ours = (int(word) for word in done.stdout.split())
    assert device_ours <= device_alone + (1 << 20)
    assert host_ours <= host_alone + (16 << 20)


def test_a_batch_is_so_many_frames(
    device: CudaDevice, tmp_path: Path, pictures: list[Frame]
) -> None:
    request = Request(
        read_source(free_batch(WAREHOUSE, tmp_path / 'model.onnx')),
        'fp32',
        tuning=Tuning(batch=(1, 2, 2)),
    )
    path = make_engine(request, EngineCache(tmp_path)).path
    plan = load_plan(path)
    scope = device.scope()
    engine = TensorRtEngine(plan, path)
    scope.own(engine)
    spec, kernels = engine_spec(path, engine.signature, plan.manifest.spec, ''), Kernels(scope)
    one, two = (
        Lane(device, kernels, engine, spec, decoders()[spec.layout], batch=n) for n in (1, 2)
    )
    for pair in zip(pictures[:4], pictures[4:8], strict=True):
        two.begin([(frame, Selection()) for frame in pair])
        for frame, result in zip(pair, two.finish(), strict=True):
            one.begin([(frame, Selection())])
            (alone,) = one.finish()
            # A shape's own kernels: not the very same numbers.
            assert agreement([alone.detections], [result.detections]) > 0.95
    one.close()
    two.close()
    scope.close()

    together = open_engine(path, lanes=2, batch=4)  # the engine takes no more than two
    assert (together.lanes, together.batch) == (2, 2)
    for pair in zip(pictures[:4], pictures[4:8], strict=True):
        wishes = [(frame, Selection()) for frame in pair]
        found = [result.detections for result in together.many(wishes)]
        assert agreement([together(*wish).detections for wish in wishes], found) > 0.95
    together.close()


def test_a_frame_that_cannot_be_used_costs_its_own_turn_only(
    pipeline: CudaPipeline, pictures: list[Frame]
) -> None:
    expected = pipeline(pictures[0], Selection()).detections
    broken = Frame.from_compressed(stated_jpeg(64, 48))
    with pytest.raises(Exception, match='decoded'):
        pipeline(broken, Selection())
    with pytest.raises(Exception, match='region_of_interest'):
        pipeline(pictures[0], Selection(region=Region(9000, 9000, 10, 10)))
    for _ in range(pipeline.lanes):
        assert same(pipeline(pictures[0], Selection()).detections, expected)


def test_forgotten_pipeline_ends_with_the_interpreter(engine_of: EngineOf) -> None:
    code = (
        'from pathlib import Path; import sys;'
        'from trt_perception.runtime.cuda.pipeline import open_engine;'
        'forgotten = open_engine(Path(sys.argv[1])); print("loaded")'
    )
    ran = subprocess.run(
        [sys.executable, '-c', code, str(engine_of(WAREHOUSE, 'fp32'))],
        capture_output=True, text=True,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, 'loaded\n', '')


def test_lost_context_is_recognised_and_closing_still_works(engine_of: EngineOf) -> None:
    # In a process of its own: a context that is lost is lost for all that use it.
    ran = subprocess.run(
        [sys.executable, str(Path(__file__).with_name('lose_context.py')),
         str(engine_of(WAREHOUSE, 'fp32'))],
        capture_output=True, text=True,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, '')
    assert 'CUDA_ERROR_ILLEGAL_ADDRESS' in ran.stdout
    assert ran.stdout.endswith('closed\n')
