# SPDX-License-Identifier: Apache-2.0
"""The kernels on the GPU against the host, with the cases that also run on the CPU."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from decode_cases import (
    LAYOUTS,
    compare,
    garbage,
    placements,
    random_outputs,
    spec_of,
    with_scores,
)
from machine import Gpu
from pictures import refused_by_opencv
from preprocess_cases import (
    ENCODING_NAMES,
    RESIZE_MODES,
    SIZES,
    levels_apart,
    random_frame,
    without_unread_rows,
)
from preprocess_cases import spec_of as preprocess_spec

from trt_perception.core import Region, Selection
from trt_perception.runtime.cuda.decode import CAPACITY
from trt_perception.runtime.cuda.device import CudaDevice

LARGE = [(1920, 1080), (1918, 1082), (3840, 2160)]


@pytest.fixture
def gpu(device: CudaDevice) -> Iterator[Gpu]:
    gpu = Gpu(device)
    yield gpu
    gpu.close()


@pytest.mark.parametrize('encoding', ENCODING_NAMES)
def test_preprocess(gpu: Gpu, encoding: str) -> None:
    for padding, size in enumerate(SIZES + LARGE):
        for number, mode in enumerate(RESIZE_MODES):
            dtype = ('float32', 'float16')[(number + padding) % 2]
            spec = preprocess_spec(640 if size in LARGE else 96, resize=mode, dtype=dtype)
            frame = random_frame(size, encoding, padding, seed=number)
            if refused_by_opencv(size):
                continue
            levels = levels_apart(gpu, spec, frame)
            assert levels.farthest <= 1, (size, mode)
            assert levels.equal >= 0.99, (size, mode)


@pytest.mark.parametrize('encoding', ENCODING_NAMES)
def test_preprocess_of_a_region_reads_no_more_than_it_says(gpu: Gpu, encoding: str) -> None:
    spec = preprocess_spec()
    frame = random_frame((640, 480), encoding, 5)
    for region in (Region(10, 20, 301, 203), Region(1, 1, 639, 479), Region(631, 471, 9, 9)):
        levels = levels_apart(gpu, spec, without_unread_rows(frame, spec, region), region)
        assert levels.farthest <= 1
        levels = levels_apart(gpu, spec, frame, region)
        assert levels.farthest <= 1


@pytest.mark.parametrize('layout', LAYOUTS)
def test_decode(gpu: Gpu, layout: str) -> None:
    for seed in range(60):
        random = np.random.default_rng(seed)
        classes = (1, 3, 80, 600)[seed % 4]
        size = (64, 64) if classes == 600 else ((640, 640), (96, 64), (640, 384))[seed % 3]
        spec = spec_of(layout, classes, *size)
        dtype = ('float32', 'float16')[seed // 4 % 2]
        frames = [random_outputs(spec, random, dtype) for _ in range(2)]
        if seed % 5 == 0:
            garbage(frames[1], random, 0.05)
        selection = Selection(
            (0.0, 0.001, 0.25, 0.5, 1.0)[seed % 5],
            (0.0, 0.3, 0.7, 1.0)[seed // 2 % 4],
            (1, 300, 10_000)[seed // 3 % 3],
            multi_label=seed % 2 == 1,
            class_ids=frozenset(range(0, classes, 2)) if seed % 7 == 3 else None,
        )
        compare(gpu, spec, frames, placements(spec)[seed % 5], selection)


@pytest.mark.parametrize('layout', LAYOUTS)
def test_equal_scores_of_more_than_the_capacity(gpu: Gpu, layout: str) -> None:
    spec = spec_of(layout, 80, 640, 640)
    outputs = random_outputs(spec, np.random.default_rng(4), 'float32', busy=1)
    with_scores(outputs, layout, 0.5)
    selection = Selection(0.1, 0.9, CAPACITY, multi_label=True)
    compare(gpu, spec, [outputs, outputs], placements(spec)[1], selection)
