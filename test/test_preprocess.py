# SPDX-License-Identifier: Apache-2.0
"""From a camera's bytes to the network's input: the same colours, in the same places.

The images are encoded here, from the formats' definitions, with nothing of the package or OpenCV;
only JPEG and PNG are left to OpenCV's encoders.
"""

from __future__ import annotations

import dataclasses
import struct
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from trt_perception.core import Frame, FrameError, ModelSpec, Region, place
from trt_perception.runtime.host.color import to_bgr
from trt_perception.runtime.host.preprocess import HostPreprocessor

PATCH = 16
WIDTH, HEIGHT = 64, 48
CORNERS = {
    (0, 0): (200, 30, 40),
    (0, 1): (20, 180, 60),
    (1, 0): (30, 50, 210),
    (1, 1): (220, 200, 30),
}


def picture() -> np.ndarray:
    """(48, 64, 3) red, green, blue: a flat patch in each corner, a gradient elsewhere."""
    x, y = np.meshgrid(np.linspace(0, 1, WIDTH), np.linspace(0, 1, HEIGHT))
    rgb = np.stack((60 + 120 * x, 80 + 100 * y, 180 - 100 * x), axis=-1)
    for (bottom, right), color in CORNERS.items():
        rows = slice(HEIGHT - PATCH, None) if bottom else slice(PATCH)
        columns = slice(WIDTH - PATCH, None) if right else slice(PATCH)
        rgb[rows, columns] = color
    return np.round(rgb).astype(np.uint8)


# Well inside the patches and the gradient: chroma and Bayer colours are shared over edges.
INSIDE = np.zeros((HEIGHT, WIDTH), bool)
INSIDE[3:-3, PATCH + 3 : WIDTH - PATCH - 3] = True
for _rows in (slice(PATCH - 3), slice(HEIGHT - PATCH + 3, None)):
    for _columns in (slice(PATCH - 3), slice(WIDTH - PATCH + 3, None)):
        INSIDE[_rows, _columns] = True


def grey(rgb: np.ndarray) -> np.ndarray:
    return rgb.astype(np.float64) @ (0.299, 0.587, 0.114)


def yuv(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ITU-R BT.601, luma 16..235 and chroma 16..240, as cameras give it."""
    r, g, b = np.moveaxis(rgb.astype(np.float64) / 255, -1, 0)
    luma = 16 + 65.481 * r + 128.553 * g + 24.966 * b
    blue = 128 - 37.797 * r - 74.203 * g + 112 * b
    red = 128 + 112 * r - 93.786 * g - 18.214 * b
    return luma, blue, red


def shared(chroma: np.ndarray, lines: int) -> np.ndarray:
    """The mean of two neighbours, or of two by two."""
    height, width = chroma.shape
    return chroma.reshape(height // lines, lines, width // 2, 2).mean(axis=(1, 3))


def encode(rgb: np.ndarray, encoding: str) -> np.ndarray:
    """(rows, bytes) uint8 in one of the encodings of sensor_msgs."""
    height, width = rgb.shape[:2]
    alpha = np.random.default_rng(0).integers(0, 256, (height, width, 1), dtype=np.uint8)
    if encoding == 'mono16':
        return np.round(grey(rgb) * 257).astype('<u2').view(np.uint8)
    if encoding.startswith('bayer'):
        mosaic = np.zeros((height, width), np.uint8)
        for i, color in enumerate(encoding[6:10]):
            row, column = divmod(i, 2)
            mosaic[row::2, column::2] = rgb[row::2, column::2, 'rgb'.index(color)]
        return mosaic
    if encoding in ('yuv422', 'yuv422_yuy2', 'nv12', 'nv21'):
        lines = 2 if encoding.startswith('nv') else 1  # that share their chroma
        luma, blue, red = yuv(rgb)
        luma, blue, red = (
            np.round(plane).astype(np.uint8)
            for plane in (luma, shared(blue, lines), shared(red, lines))
        )
        if lines == 2:
            pair = (blue, red) if encoding == 'nv12' else (red, blue)
            return np.vstack((luma, np.stack(pair, axis=-1).reshape(height // 2, width)))
        even, odd = luma[:, ::2], luma[:, 1::2]
        order = (blue, even, red, odd) if encoding == 'yuv422' else (even, blue, odd, red)
        return np.stack(order, axis=-1).reshape(height, 2 * width)
    bgr = rgb[..., ::-1]
    channels = {
        'rgb8': [rgb],
        'bgr8': [bgr],
        'rgba8': [rgb, alpha],
        'bgra8': [bgr, alpha],
        'mono8': [np.round(grey(rgb)).astype(np.uint8)[..., None]],
    }[encoding]
    return np.concatenate(channels, axis=-1).reshape(height, -1)


#: How far a colour may be off: only what the encoding itself rounds away.
TOLERANCE = {
    'rgb8': 0, 'bgr8': 0, 'rgba8': 0, 'bgra8': 0, 'mono8': 0, 'mono16': 1, 'yuv422': 4,
    'yuv422_yuy2': 4, 'nv12': 4, 'nv21': 4, 'bayer_rggb8': 4, 'bayer_bggr8': 4, 'bayer_gbrg8': 4,
    'bayer_grbg8': 4,
}  # fmt: skip


def frame_of(rgb: np.ndarray, encoding: str = 'rgb8', padding: int = 0) -> Frame:
    """A frame whose rows are padded with what must not be seen."""
    rows = encode(rgb, encoding)
    junk = np.random.default_rng(1).integers(0, 256, (len(rows), padding), dtype=np.uint8)
    data = np.hstack((rows, junk)).reshape(-1)[: rows.size + (len(rows) - 1) * padding]
    data.flags.writeable = False  # as the bytes of a message may be
    return Frame.checked(data, rgb.shape[1], rgb.shape[0], encoding, rows.shape[1] + padding)


def spec(width: int = WIDTH, height: int = HEIGHT, **fields) -> ModelSpec:
    base = ModelSpec('yolov8', 'images', width, height, 'float32', ('output0',), 1)
    return dataclasses.replace(base, **fields)


RAW = {'scale': 1.0, 'resize': 'stretch'}


def run(frame: Frame, region: Region = Region(), **fields) -> np.ndarray:
    """What the network is given, as (height, width, 3)."""
    tensor, _ = HostPreprocessor(spec(**fields))(frame, region)
    assert tensor.flags.c_contiguous
    return tensor[0].transpose(1, 2, 0).copy()


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


def refused_by_opencv(*sizes: tuple[int, int]) -> bool:
    """OpenCV 4.5.4, of Ubuntu 22.04, takes and gives no colour image of one pixel."""
    return cv2.__version__ == '4.5.4' and (1, 1) in sizes


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


# Compressed


def compressed(image: np.ndarray, extension: str, *options: int) -> np.ndarray:
    return cv2.imencode(extension, image, options)[1].reshape(-1)


def with_orientation(jpeg: np.ndarray, orientation: int) -> np.ndarray:
    """The JPEG with an EXIF note that it is to be turned."""
    tag = struct.pack('<HHIHH', 0x0112, 3, 1, orientation, 0)
    exif = b'Exif\0\0II*\0' + struct.pack('<I', 8) + struct.pack('<H', 1) + tag + bytes(4)
    data = jpeg.tobytes()
    segment = b'\xff\xe1' + struct.pack('>H', len(exif) + 2) + exif
    return np.frombuffer(data[:2] + segment + data[2:], np.uint8)


def test_png_is_exact():
    rgb = picture()
    frame = Frame.from_compressed(compressed(rgb[..., ::-1], '.png'))
    assert (run(frame, **RAW) == rgb).all()


def test_png_with_alpha_loses_it():
    rgb = picture()
    frame = Frame.from_compressed(compressed(encode(rgb, 'bgra8').reshape(48, 64, 4), '.png'))
    assert (run(frame, **RAW) == rgb).all()


def test_png_of_16_bits():
    bgr = picture()[..., ::-1]
    frame = Frame.from_compressed(compressed(bgr.astype(np.uint16) * 257, '.png'))
    assert np.abs(run(frame, **RAW) - picture()).max() <= 1
    deep = Frame.from_compressed(compressed(bgr[..., 0].astype(np.uint16) * 257, '.png'))
    assert np.abs(run(deep, **RAW) - bgr[..., :1].astype(int)).max() <= 1


def test_jpeg():
    rgb = picture()
    options = (cv2.IMWRITE_JPEG_QUALITY, 100)
    given = run(Frame.from_compressed(compressed(rgb[..., ::-1], '.jpg', *options)), **RAW)
    assert np.abs(given - rgb)[INSIDE].max() <= 4


def test_jpeg_in_grey():
    level = np.round(grey(picture())).astype(np.uint8)
    options = (cv2.IMWRITE_JPEG_QUALITY, 100)
    given = run(Frame.from_compressed(compressed(level, '.jpg', *options)), **RAW)
    assert np.abs(given - level[..., None].astype(int)).max() <= 3
    assert (given[..., 0] == given[..., 1]).all() and (given[..., 0] == given[..., 2]).all()


@pytest.mark.parametrize('orientation', range(1, 9))
def test_orientation_turns_nothing(orientation):
    """Boxes are in the pixels as the camera published them."""
    jpeg = compressed(picture()[..., ::-1], '.jpg')
    turned = with_orientation(jpeg, orientation)
    if orientation == 6:  # the note is one that OpenCV would follow
        assert cv2.imdecode(turned, cv2.IMREAD_COLOR).shape[:2] == (WIDTH, HEIGHT)
    plain, expected = HostPreprocessor(spec())(Frame.from_compressed(jpeg))
    tensor, geometry = HostPreprocessor(spec())(Frame.from_compressed(turned))
    assert geometry == expected
    assert (geometry.source_width, geometry.source_height) == (WIDTH, HEIGHT)
    assert (tensor == plain).all()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))


def huge_png() -> np.ndarray:
    """A file of a few bytes that claims 10 000 million pixels."""
    header = struct.pack('>IIBBBBB', 100_000, 100_000, 8, 2, 0, 0, 0)
    chunks = (b'IHDR', header), (b'IDAT', zlib.compress(b'0')), (b'IEND', b'')
    return np.frombuffer(b'\x89PNG\r\n\x1a\n' + b''.join(png_chunk(*c) for c in chunks), np.uint8)


def broken() -> dict[str, np.ndarray]:
    png = compressed(picture(), '.png')
    corrupt = png.copy()
    corrupt[len(png) // 2] ^= 0xFF
    jpeg = compressed(picture(), '.jpg').tobytes()
    return {
        'truncated png': png[: len(png) // 2],
        'png signature alone': png[:8],
        'corrupt png': corrupt,
        'huge png': huge_png(),
        'jpeg without frame': np.frombuffer(jpeg[:20] + b'\xff\xda\xff\xd9', np.uint8),
    }


@pytest.mark.parametrize('name', broken())
def test_what_cannot_be_decoded_is_refused_and_the_next_frame_works(name):
    preprocess = HostPreprocessor(spec())
    with pytest.raises(FrameError) as caught:
        preprocess(Frame.from_compressed(broken()[name]))
    assert caught.value.kind == 'decode'
    assert '\n' not in str(caught.value)
    good = Frame.from_compressed(compressed(picture(), '.png'))
    assert (preprocess(good)[0] == HostPreprocessor(spec())(good)[0]).all()
