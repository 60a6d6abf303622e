# SPDX-License-Identifier: Apache-2.0
"""The preprocess kernel, run on the CPU, against the host: every encoding, size and placement."""

from __future__ import annotations

import ctypes
import ctypes.util
import dataclasses
import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from cuda_on_cpu import KERNELS, Cpu, build
from hypothesis import assume, given
from hypothesis import strategies as st
from pictures import refused_by_opencv
from preprocess_cases import (
    ENCODING_NAMES,
    RESIZE_MODES,
    SIZES,
    fitting,
    levels_apart,
    random_frame,
    run_kernel,
    spec_of,
    without_unread_rows,
)

from trt_perception.core import Frame, FrameError, Region, place
from trt_perception.runtime.cuda.preprocess import preprocess_launch, rows_read
from trt_perception.runtime.host.preprocess import HostPreprocessor
from trt_perception.runtime.levels import level_tables

#: On random bytes; rounding alone may tell them apart.
MOSTLY = 0.99


@pytest.fixture(scope='module')
def kernels(tmp_path_factory) -> dict[str, Any]:
    return build(KERNELS / 'preprocess.cu', tmp_path_factory.mktemp('preprocess'))


@pytest.fixture(scope='module')
def cpu(kernels) -> Cpu:
    return Cpu(kernels)


def check(cpu: Cpu, spec, frame, region=Region()) -> None:
    levels = levels_apart(cpu, spec, frame, region)
    assert levels.farthest <= 1
    assert levels.equal >= MOSTLY


@pytest.mark.parametrize('encoding', ENCODING_NAMES)
@pytest.mark.parametrize('size', SIZES, ids=str)
def test_agrees_with_the_host(cpu, encoding, size):
    modes = RESIZE_MODES if max(size) < 400 else RESIZE_MODES[:1]
    for padding, mode in enumerate(modes):
        frame = random_frame(size, encoding, padding)
        geometry = place(frame.width, frame.height, 96, 80, mode)
        if refused_by_opencv((frame.width, frame.height), (geometry.width, geometry.height)):
            continue
        check(cpu, spec_of(resize=mode), frame)


@pytest.mark.parametrize('encoding', ENCODING_NAMES)
@pytest.mark.parametrize('color', ['rgb', 'bgr'])
@pytest.mark.parametrize('dtype', ['float32', 'float16'])
def test_values_are_those_of_the_host(cpu, encoding, color, dtype):
    """Numbers too, with scales that differ by channel: all as the host has it."""
    spec = spec_of(
        color=color,
        dtype=dtype,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        pad_value=77,
    )
    frame = random_frame((150, 70), encoding, 5)
    host, geometry = HostPreprocessor(spec)(frame)
    found = run_kernel(cpu, spec, frame)
    assert found.dtype == host.dtype == dtype
    assert (found == host).mean() >= MOSTLY
    assert (found[0, :, : geometry.top] == host[0, :, : geometry.top]).all()
    check(cpu, spec, frame)


def test_entries_of_one_byte(cpu):
    """An INT8 network's input: its tables hold what the host's levels are quantized to."""
    spec = spec_of(dtype='int8', scale=0.5, mean=(2.0, 1.0, 0.0))
    frame = random_frame((99, 55), 'bgr8', 1)
    host, _ = HostPreprocessor(spec_of(scale=1.0))(frame)
    tables = level_tables(spec)
    assert tables.dtype == np.int8
    expected = np.stack([tables[k][host[0, k].astype(int)] for k in range(3)])[None]
    assert (run_kernel(cpu, spec, frame) == expected).mean() >= MOSTLY


@given(
    encoding=st.sampled_from(ENCODING_NAMES),
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    network=st.tuples(st.integers(1, 80), st.integers(1, 40)),
    resize=st.sampled_from(RESIZE_MODES),
    corner=st.tuples(st.integers(-3, 89), st.integers(-3, 89)),
    extent=st.tuples(st.integers(0, 90), st.integers(0, 90)),
    padding=st.integers(0, 3),
)
def test_agrees_with_the_host_for_any_region(
    cpu, encoding, size, network, resize, corner, extent, padding
):
    size = fitting(size, encoding)
    region = Region(*corner, *extent)
    try:
        geometry = place(*size, *network, resize, region)
    except FrameError:
        assume(False)
    used = geometry.region
    assume(
        not refused_by_opencv((used.width, used.height), (geometry.width, geometry.height), size)
    )
    spec = spec_of(*network, resize=resize)
    frame = random_frame(size, encoding, padding, seed=size[0])
    check(cpu, spec, frame, region)
    hidden = without_unread_rows(frame, spec, region)
    assert (run_kernel(cpu, spec, hidden, region) == run_kernel(cpu, spec, frame, region)).all()


@pytest.mark.parametrize('encoding', ENCODING_NAMES)
def test_rows_that_are_not_read_are_left_out(cpu, encoding):
    """From far larger images most rows are not read, and those that are named are all needed."""
    spec = spec_of(32, 24)
    frame = random_frame((640, 480), encoding)
    geometry = place(640, 480, 32, 24, spec.resize)
    read = rows_read(geometry, encoding)
    most = 4 if encoding.startswith(('bayer', 'nv')) else 2
    assert len(read) <= most * geometry.height
    hidden = without_unread_rows(frame, spec, Region())
    assert (hidden.data != frame.data).mean() > 0.5
    whole = run_kernel(cpu, spec, frame)
    assert (run_kernel(cpu, spec, hidden) == whole).all()
    data = frame.data.copy()
    middle = read[len(read) // 2]
    data[middle * frame.step : (middle + 1) * frame.step] ^= 0xFF
    changed = dataclasses.replace(frame, data=data)
    assert (run_kernel(cpu, spec, changed) != whole).any()


@pytest.mark.parametrize('encoding', ENCODING_NAMES)
@pytest.mark.parametrize('seed', [1, 2])
def test_nothing_depends_on_the_order_of_threads(kernels, cpu, encoding, seed):
    spec, frame = spec_of(), random_frame((130, 70), encoding)
    assert (run_kernel(Cpu(kernels, seed), spec, frame) == run_kernel(cpu, spec, frame)).all()


@pytest.fixture
def fenced() -> Iterator[Any]:
    """Puts bytes into memory of which neither the byte before nor the one behind can be read."""
    page = mmap.PAGESIZE
    libc = ctypes.CDLL(ctypes.util.find_library('c'), use_errno=True)
    kept: list[Any] = []

    def put(data: np.ndarray, *, at_end: bool) -> int:
        pages = -(-data.size // page)
        memory = mmap.mmap(-1, (pages + 2) * page)
        first = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        kept.append(memory)
        for fence in (first, first + (pages + 1) * page):
            assert libc.mprotect(ctypes.c_void_p(fence), page, 0) == 0
        address = first + page + (pages * page - data.size if at_end else 0)
        ctypes.memmove(address, data.ctypes.data, data.size)
        return address

    return put


@pytest.mark.parametrize('encoding', ENCODING_NAMES)
@pytest.mark.parametrize('size', [(64, 48), (63, 47), (1, 1), (2, 2), (5, 3), (200, 20)], ids=str)
def test_reads_nothing_outside_of_the_image(cpu, fenced, encoding, size):
    """A read outside ends the process."""
    frame = random_frame(size, encoding, 3)
    for at_end in (False, True):
        for resize in RESIZE_MODES:
            spec = spec_of(resize=resize)
            address = fenced(frame.data, at_end=at_end)
            found = run_kernel(cpu, spec, frame, source=address)
            assert (found == run_kernel(cpu, spec, frame)).all()


def test_an_image_too_large_is_refused():
    frame = Frame(np.zeros(0, np.uint8), 70000, 1, 'mono8', 70000)
    spec = spec_of()
    geometry = place(frame.width, frame.height, spec.width, spec.height, spec.resize)
    with pytest.raises(FrameError, match='70000 pixels a side; 65535 is the most'):
        preprocess_launch(spec, geometry, 'mono8', 70000, source=0, tables=0, output=0, stamps=0)


def test_an_image_whose_bytes_need_more_than_32_bits_to_count(cpu):
    """16384 x 65535 pixels of 4 bytes, of which only the last rows are there."""
    width, height, rows = 16384, 65535, 8
    spec = spec_of(64, 8, resize='stretch')
    small = random_frame((width, rows), 'rgba8')
    region = Region(0, height - rows, width, rows)
    geometry = place(width, height, spec.width, spec.height, spec.resize, region)
    before = (height - rows) * small.step
    assert before > 2**32 - 2**23
    output = cpu.upload(np.zeros(3 * 64 * 8, np.float32))
    launch = preprocess_launch(
        spec,
        geometry,
        'rgba8',
        small.step,
        source=cpu.upload(np.array([(cpu.upload(small.data) - before) % 2**64], np.uint64)),
        tables=cpu.upload(level_tables(spec)),
        output=output,
        stamps=cpu.upload(np.zeros(4, np.uint64)),
    )
    cpu.run([launch])
    found = cpu.download(output, np.dtype([('input', np.float32, (1, 3, 8, 64))]))['input']
    assert (found == run_kernel(cpu, spec, small)).all()
