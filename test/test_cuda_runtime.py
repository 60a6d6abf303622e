# SPDX-License-Identifier: Apache-2.0
"""What stands around the kernels on a GPU: who owns what, what is counted, how long one sleeps.

The driver itself is a stand-in; test/gpu/ runs all of it on a real one.
"""

from __future__ import annotations

import ctypes
from types import SimpleNamespace

import numpy as np
import pytest
from fake_cuda import ILLEGAL_ADDRESS, OUT_OF_MEMORY, Driver
from hypothesis import given
from hypothesis import strategies as st

from trt_perception.core import Frame, ModelSpec, Region, place
from trt_perception.core.errors import PerceptionError
from trt_perception.runtime.cuda import driver, pause
from trt_perception.runtime.cuda.device import CudaDevice, why_absent
from trt_perception.runtime.cuda.driver import CudaError, call
from trt_perception.runtime.cuda.images import Images
from trt_perception.runtime.cuda.memory import ALIGNMENT, DeviceArena, PinnedArena
from trt_perception.runtime.cuda.pause import Pause
from trt_perception.runtime.cuda.preprocess import rows_read, strides_read
from trt_perception.runtime.engine import EngineError

pytest_plugins = ['cuda_pipelines']


@pytest.fixture
def gpu(fake: Driver) -> Driver:
    return fake


def everything(device: CudaDevice) -> None:
    """Some of all that there is."""
    scope = device.scope()
    scope.stream(-9)
    scope.event()
    scope.module(b'code')
    scope.graph('captured')
    DeviceArena(scope, {'a': 5, 'b': 300}).clear()
    part = scope.part()
    PinnedArena(part, {'a': 5})


def test_all_is_freed_and_the_context_last(gpu: Driver) -> None:
    device = CudaDevice()
    everything(device)
    assert len(gpu.alive) == 7
    device.close()
    device.close()
    assert not gpu.alive
    assert gpu.freed[-1] == 'cuDevicePrimaryCtxRelease'
    assert len(gpu.freed) == 7


def test_a_scope_leaves_nothing_with_its_device(gpu: Driver) -> None:
    device = CudaDevice()
    for _ in range(3):
        scope = device.scope()
        host, device_address = scope.allocate_pinned(100)
        assert device.reach(host + 10, 90) == device_address + 10
        assert device.reach(host + 10, 91) is None
        scope.close()
        scope.close()
        assert device.reach(host, 1) is None
        assert list(gpu.alive.values()) == ['cuDevicePrimaryCtxRetain']
    assert not device._scopes
    device.close()


def test_whatever_call_fails_nothing_is_left(gpu: Driver) -> None:
    number, failed = 0, True
    while failed:
        number += 1
        gpu.fails, gpu._count = (number, OUT_OF_MEMORY), 0
        device = None
        failed = False
        try:
            device = CudaDevice()
            everything(device)
        except CudaError as error:
            failed = True
            assert (error.code, error.sticky) == (OUT_OF_MEMORY, False)
            assert str(error).endswith('failed: OUT (OUT)')
        finally:
            gpu.fails = None
            if device is not None:
                device.close()
        assert not gpu.alive, number
    assert number > 15


def test_lost_context_is_told_and_closing_still_works(gpu: Driver) -> None:
    device = CudaDevice()
    everything(device)
    gpu.fails, gpu._count = (1, ILLEGAL_ADDRESS), 0
    with pytest.raises(CudaError, match=r'ILLEGAL.*the CUDA context is lost, and all'):
        call('cuEventSynchronize', 3)
    device.close()
    assert not gpu.alive


@pytest.mark.parametrize('told', [KeyError(226), ValueError('226 is not a valid CUresult')])
def test_a_status_that_the_bindings_do_not_know(
    told: Exception, gpu: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a driver that is newer: it is an error as any other, and what can be freed is freed."""
    device = CudaDevice()
    everything(device)
    real = gpu._call

    def call(name: str, arguments: tuple) -> tuple:
        answer = real(name, arguments)
        if name in ('cuEventSynchronize', 'cuEventDestroy'):
            raise told
        return answer

    monkeypatch.setattr(gpu, '_call', call)
    with pytest.raises(CudaError, match='cuEventSynchronize failed: CUresult 226') as raised:
        driver.call('cuEventSynchronize', 3)
    assert (raised.value.code, raised.value.sticky) == (226, True)
    device.close()
    assert not gpu.alive


def test_calls_are_counted(gpu: Driver) -> None:
    before = driver.calls.copy()
    CudaDevice(1).close()
    assert (driver.calls - before)['cuDevicePrimaryCtxRetain'] == 1
    with pytest.raises(EngineError, match='there is no GPU 2 here, CUDA shows 2'):
        CudaDevice(2)
    assert not gpu.alive


def test_no_gpu_no_driver_no_cuda_python_are_one_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> object:
        raise RuntimeError('Failed to dlopen\n libcuda.so.1')

    monkeypatch.setattr(driver, 'bindings', lambda: SimpleNamespace(cuInit=broken))
    cause = 'Failed to dlopen libcuda.so.1'
    assert why_absent() == f'there is no NVIDIA GPU here, or its driver is not installed ({cause})'
    none = SimpleNamespace(cuInit=lambda flags: (0,), cuDeviceGetCount=lambda: (0, 0))
    monkeypatch.setattr(driver, 'bindings', lambda: none)
    assert why_absent() == 'there is no NVIDIA GPU here'
    monkeypatch.undo()
    driver.bindings.cache_clear()
    monkeypatch.setitem(__import__('sys').modules, 'cuda.bindings', None)
    assert 'pip install cuda-bindings' in why_absent()
    monkeypatch.undo()
    driver.bindings.cache_clear()


def test_arenas_keep_their_buffers_apart(gpu: Driver) -> None:
    device = CudaDevice()
    sizes = {'a': 1, 'b': ALIGNMENT, 'c': ALIGNMENT + 1, 'd': 0}
    arena = PinnedArena(device.scope(), sizes)
    for value, (name, size) in enumerate(sizes.items()):
        assert arena.addresses[name] % ALIGNMENT == 0
        arena.view(name, np.uint8, size)[:] = value + 1
    for value, (name, size) in enumerate(sizes.items()):
        assert (arena.view(name, np.uint8, size) == value + 1).all()
    device.close()


@pytest.mark.parametrize('uploads', [False, True])
def test_images_of_changing_sizes_reach_the_device(gpu: Driver, uploads: bool) -> None:
    device = CudaDevice()
    images = Images(device.scope(), uploads)
    random = np.random.default_rng(0)
    for width, height in ((64, 48), (640, 360), (65, 47), (641, 361), (64, 48)):
        frame = Frame.from_array(random.integers(0, 256, (height, width, 3), dtype=np.uint8))
        geometry = place(width, height, 96, 96, 'letterbox')
        at = images.reach(frame, geometry, 'stream')
        seen = np.ctypeslib.as_array((ctypes.c_uint8 * frame.data.size).from_address(at))
        for row in rows_read(geometry, 'bgr8'):
            part = slice(row * frame.step, (row + 1) * frame.step)
            assert (seen[part] == frame.data[part]).all()
    assert bool(gpu.copies) == uploads
    pinned = PinnedArena(device.scope(), {'image': 64 * 48 * 3})
    data = pinned.view('image', np.uint8, 64 * 48 * 3)
    frame = Frame.checked(data, 64, 48, 'bgr8', 64 * 3)
    at = images.reach(frame, place(64, 48, 96, 96, 'letterbox'), 'stream')
    assert (at == pinned.addresses['image']) != uploads
    device.close()
    assert not gpu.alive


@given(
    size=st.tuples(st.integers(3, 300), st.integers(3, 300)),
    scale=st.integers(1, 7),
    encoding=st.sampled_from(['bgr8', 'mono16', 'bayer_rggb8', 'nv12']),
    region=st.booleans(),
)
def test_strides_hold_every_row_that_is_read(
    size: tuple[int, int], scale: int, encoding: str, region: bool
) -> None:
    width, height = size[0] * 2, size[1] * 2
    spec = ModelSpec(
        'yolov8', 'x', max(width // scale, 1), max(height // scale, 1), 'float32', (), 1
    )
    part = Region(1, 1, width - 2, height - 2) if region else Region()
    geometry = place(width, height, spec.width, spec.height, 'letterbox', part)
    slices = strides_read(geometry, encoding)
    rows = rows_read(geometry, encoding)
    assert rows.min() >= 0
    if slices is not None:
        held = {row for each in slices for row in range(each.start, each.stop, each.step)}
        assert set(rows.tolist()) <= held
        assert len(held) <= height / 2 + len(slices)


def test_an_image_three_times_the_input_is_read_at_every_third_row() -> None:
    geometry = place(1920, 1080, 640, 640, 'letterbox')
    assert strides_read(geometry, 'bgr8') == [slice(1, 1079, 3)]


def test_pause_sleeps_through_what_no_frame_was_faster_than(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, slept = [0], []
    monkeypatch.setattr(pause, 'perf_counter_ns', lambda: now[0])
    monkeypatch.setattr(pause, 'sleep', slept.append)
    waiting = Pause()

    def frame(took: float) -> None:
        waiting.begin()
        waiting.sleep()
        waiting.learn(took)

    frame(1e9)
    frame(3e6)
    assert slept == []  # the first says nothing: kernels were compiled
    frame(2e6)
    assert slept.pop() == pytest.approx((3e6 - pause._AWAKE) / 1e9)
    frame(9e6)
    assert slept.pop() == pytest.approx((2e6 - pause._AWAKE) / 1e9)  # a shorter one counts at once
    frame(1e9)
    slept.pop()
    frame(2e6)
    assert slept.pop() < 2.2e-3  # one that was held up hardly counts
    for _ in range(200):
        frame(9e6)
    assert slept[-1] == pytest.approx((9e6 - pause._AWAKE) / 1e9, rel=1e-2)
    slept.clear()
    waiting.learn(pause._AWAKE)
    frame(1.0)
    assert slept == []  # too short to sleep


def test_errors_are_for_users(gpu: Driver) -> None:
    assert issubclass(CudaError, PerceptionError)
