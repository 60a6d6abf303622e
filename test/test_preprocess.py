# SPDX-License-Identifier: Apache-2.0
"""From a camera's bytes to the network's input: the same colours, in the same places."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pictures import INSIDE, RAW, frame_of, grey, picture, refused_by_opencv, run, spec

from trt_perception.core import Frame, FrameError, Region, place
from trt_perception.runtime.host.color import to_bgr
from trt_perception.runtime.host.preprocess import HostPreprocessor

#: How far a colour may be off: only what the encoding itself rounds away.
TOLERANCE = {
    'rgb8': 0, 'bgr8': 0, 'rgba8': 0, 'bgra8': 0, 'mono8': 0, 'mono16': 1, 'yuv422': 4,
    'yuv422_yuy2': 4, 'nv12': 4, 'nv21': 4, 'bayer_rggb8': 4, 'bayer_bggr8': 4, 'bayer_gbrg8': 4,
    'bayer_grbg8': 4,
}  # fmt: skip


# Colours


@pytest.mark.parametrize('encoding', TOLERANCE)
@pytest.mark.parametrize('padding', [0, 1, 22])
@pytest.mark.parametrize('color', ['rgb', 'bgr'])
def test_colors(encoding, padding, color):
    rgb = picture()
    given = run(frame_of(rgb, encoding, padding), color=color, **RAW)
    expected = rgb.astype(np.float64) if color == 'rgb' else rgb[..., ::-1].astype(np.float64)
    if encoding.startswith('mono'):
        expected = np.repeat(np.round(grey(rgb))[..., None], 3, axis=-1)
    where = INSIDE if TOLERANCE[encoding] > 1 else np.ones_like(INSIDE)
    assert np.abs(given - expected)[where].max() <= TOLERANCE[encoding]


@pytest.mark.parametrize('encoding', TOLERANCE)
def test_to_bgr_is_a_new_image_of_the_same_colors(encoding):
    rgb = picture()
    frame = frame_of(rgb, encoding, 5)
    image = to_bgr(frame)
    assert (image.shape, image.dtype) == (rgb.shape, np.uint8)
    assert image.flags.c_contiguous and image.flags.writeable
    assert not np.shares_memory(image, frame.data)
    expected = rgb[..., ::-1].astype(int)
    if encoding.startswith('mono'):
        expected = np.repeat(np.round(grey(rgb))[..., None], 3, axis=-1)
    where = INSIDE if TOLERANCE[encoding] > 1 else np.ones_like(INSIDE)
    assert np.abs(image - expected)[where].max() <= TOLERANCE[encoding]


def test_every_level_of_mono16():
    levels = np.arange(65536, dtype='<u2')
    frame = Frame.checked(levels.view(np.uint8), 256, 256, 'mono16', 512)
    given = run(frame, width=256, height=256, **RAW)
    assert np.abs(given[..., 0].reshape(-1) - levels / 257).max() <= 0.51
    assert given[-1, -1].tolist() == [255] * 3


# Numbers


@pytest.mark.parametrize('dtype', ['float32', 'float16'])
@pytest.mark.parametrize('color', ['rgb', 'bgr'])
@pytest.mark.parametrize(
    'fields',
    [
        {},
        {'scale': 1.0},
        {'scale': 1 / 127.5, 'mean': (1.0, 1.0, 1.0)},
        {'mean': (0.485, 0.456, 0.406), 'std': (0.229, 0.224, 0.225)},
        {'scale': 1.0, 'mean': (123.675, 116.28, 103.53), 'std': (58.395, 57.12, 57.375)},
    ],
)
def test_scale_mean_and_std_are_exact_for_every_value(dtype, color, fields):
    levels = np.arange(256, dtype=np.uint8)
    rgb = np.stack((levels, levels[::-1], np.roll(levels, 7)), axis=-1)[None]
    given = run(
        frame_of(rgb), width=256, height=1, dtype=dtype, color=color, resize='stretch', **fields
    )
    assert given.dtype == dtype
    values = spec(**fields)
    seen = (rgb if color == 'rgb' else rgb[..., ::-1]).astype(np.float64)
    expected = (seen * values.scale - values.mean) / values.std
    assert (given == expected.astype(dtype)).all()


@pytest.mark.parametrize('dtype', ['float32', 'float16'])
@pytest.mark.parametrize('pad_value', [0, 114, 255])
def test_padding_is_scaled_like_a_pixel(dtype, pad_value):
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    rgb = np.full((10, 20, 3), 77, np.uint8)
    given = run(
        frame_of(rgb), width=40, height=40, dtype=dtype, pad_value=pad_value, mean=mean, std=std
    )

    def scaled(value):
        return ((value / 255 - np.array(mean)) / std).astype(dtype)

    assert (given[10:30] == scaled(77)).all()
    assert (given[:10] == scaled(pad_value)).all()
    assert (given[30:] == scaled(pad_value)).all()
    corner = run(frame_of(rgb), width=40, height=40, resize='letterbox_top_left', scale=1.0)
    assert (corner[:20] == 77).all()
    assert (corner[20:] == 114).all()


# Places


def bilinear(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Textbook bilinear resize: pixel centres at half coordinates, the border repeated."""

    def axis(size: int, wanted: int):
        at = np.clip((np.arange(wanted) + 0.5) * size / wanted - 0.5, 0, size - 1)
        low = np.floor(at).astype(int)
        return low, np.minimum(low + 1, size - 1), at - low

    top, bottom, v = axis(image.shape[0], height)
    left, right, u = axis(image.shape[1], width)
    image = image.astype(np.float64)
    u, v = u[None, :, None], v[:, None, None]
    upper = image[top][:, left] * (1 - u) + image[top][:, right] * u
    lower = image[bottom][:, left] * (1 - u) + image[bottom][:, right] * u
    return upper * (1 - v) + lower * v


def laid_out(rgb: np.ndarray, width: int, height: int, resize: str) -> np.ndarray:
    geometry = place(rgb.shape[1], rgb.shape[0], width, height, resize)
    whole = np.full((height, width, 3), 114.0)
    rows = slice(geometry.top, geometry.top + geometry.height)
    columns = slice(geometry.left, geometry.left + geometry.width)
    whole[rows, columns] = bilinear(rgb, geometry.width, geometry.height)
    return whole


#: Width, height: even, odd, tall, wide, tiny, as large as the input, larger and smaller.
SHAPES = [
    (64, 48), (63, 47), (20, 200), (200, 20), (33, 64), (1, 1), (1, 64), (1, 300), (300, 1),
    (1, 5000), (5000, 1), (2, 2), (3, 1), (640, 480), (641, 479), (1280, 720), (7, 5),
]  # fmt: skip


@pytest.mark.parametrize('size', SHAPES, ids=str)
@pytest.mark.parametrize('resize', ['letterbox', 'letterbox_top_left', 'stretch'])
def test_agrees_with_textbook_bilinear(size, resize):
    """A pillarboxed image also proves that OpenCV writes into the columns of the canvas."""
    rgb = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    if refused_by_opencv(size):
        with pytest.raises(FrameError, match='cannot be resized'):
            run(frame_of(rgb), resize=resize)
        return
    for width, height in ((64, 48), (31, 57)):
        given = run(frame_of(rgb), width=width, height=height, resize=resize)
        expected = laid_out(rgb, width, height, resize) / 255
        assert np.abs(given - expected).max() <= 1.01 / 255


@given(
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    network=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    resize=st.sampled_from(['letterbox', 'letterbox_top_left', 'stretch']),
    encoding=st.sampled_from(['rgb8', 'bgr8', 'rgba8', 'bgra8', 'mono8']),
    padding=st.integers(0, 3),
)
def test_agrees_with_textbook_bilinear_for_any_size(size, network, resize, encoding, padding):
    geometry = place(*size[::-1], *network, resize)
    assume(not refused_by_opencv(size, (geometry.width, geometry.height)))
    rgb = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    if encoding == 'mono8':
        rgb[:] = rgb[..., :1]
    given = run(
        frame_of(rgb, encoding, padding), width=network[0], height=network[1], resize=resize
    )
    assert np.abs(given * 255 - laid_out(rgb, *network, resize)).max() <= 1.01


@pytest.mark.parametrize('encoding', TOLERANCE)
@pytest.mark.parametrize(
    'region', [Region(8, 6, 40, 30), Region(40, 30, 400, 300), Region(-8, -6, 40, 30)]
)
def test_a_region_is_the_image_cut_out(encoding, region):
    rgb = picture()
    given = run(frame_of(rgb, encoding, 3), region, width=32, height=32, scale=1.0)
    whole = to_bgr(frame_of(rgb, encoding))[..., ::-1]
    x1, y1 = max(region.x, 0), max(region.y, 0)
    cut = np.ascontiguousarray(whole[y1 : region.y + region.height, x1 : region.x + region.width])
    assert (given == run(frame_of(cut), width=32, height=32, scale=1.0)).all()


def test_a_region_outside_is_refused_and_the_next_frame_works():
    preprocess = HostPreprocessor(spec())
    frame = frame_of(picture())
    before = preprocess(frame)[0].copy()
    with pytest.raises(FrameError, match='lies outside'):
        preprocess(frame, Region(64, 0, 10, 10))
    assert (preprocess(frame)[0] == before).all()


FRAMES = st.lists(
    st.tuples(
        st.sampled_from([(30, 60), (60, 30), (30, 30), (1, 60), (64, 2)]),
        st.sampled_from(['rgb8', 'bgr8', 'bgra8', 'mono8', 'nv12', 'bayer_rggb8']),
        st.sampled_from([Region(), Region(0, 0, 20, 2), Region(0, 0, 1, 30)]),
        st.integers(0, 255),
    ),
    min_size=2,
    max_size=6,
)


@given(FRAMES)
def test_nothing_of_the_last_frame_is_left(frames):
    """A camera may change its size, and a user the region, from one frame to the next."""
    preprocess = HostPreprocessor(spec(width=32, height=32))
    for (width, height), encoding, region, level in frames:
        if encoding == 'nv12':
            width += width % 2
        frame = frame_of(np.full((height, width, 3), level, np.uint8), encoding)
        tensor, geometry = preprocess(frame, region)
        fresh, expected = HostPreprocessor(spec(width=32, height=32))(frame, region)
        assert geometry == expected
        assert (tensor == fresh).all()


# Memory


@pytest.mark.parametrize('encoding', ['bgr8', 'rgb8', 'rgba8', 'bgra8', 'mono8'])
@pytest.mark.parametrize('dtype', ['float32', 'float16'])
@pytest.mark.parametrize(
    ('size', 'region'),
    [((960, 540), Region()), ((540, 960), Region()), ((960, 540), Region(101, 33, 333, 444))],
)
def test_a_frame_costs_no_memory(encoding, dtype, size, region):
    """After the first frame: no copy of the image, no new buffer; the result stays in its place."""
    rgb = np.zeros((size[1], size[0], 3), np.uint8)
    frame = frame_of(rgb, encoding, 4)
    preprocess = HostPreprocessor(spec(width=320, height=320, dtype=dtype))
    address = preprocess(frame, region)[0].ctypes.data
    tracemalloc.start()
    try:
        for _ in range(3):
            tensor, _ = preprocess(frame, region)
            assert tensor.ctypes.data == address
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20_000  # one plane of the input is 102400 bytes
