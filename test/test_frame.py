# SPDX-License-Identifier: Apache-2.0
"""`Frame`: every encoding, every way an image can be wrong, and never a copy."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trt_perception.core import Frame, FrameError, Stamp
from trt_perception.core.frame import ENCODINGS

#: Bytes a pixel, and whether a second plane of half the height follows.
SIZES = {
    'rgb8': 3, 'bgr8': 3, 'rgba8': 4, 'bgra8': 4, 'mono8': 1, 'mono16': 2, 'yuv422': 2,
    'yuv422_yuy2': 2, 'nv12': 1, 'nv21': 1, 'bayer_rggb8': 1, 'bayer_bggr8': 1, 'bayer_gbrg8': 1,
    'bayer_grbg8': 1, 'uyvy': 2, 'yuyv': 2,
}  # fmt: skip
PLANAR = ('nv12', 'nv21')
SHARED_CHROMA = ('yuv422', 'yuv422_yuy2', 'uyvy', 'yuyv', *PLANAR)


def kind_of(*arguments, **keywords) -> str:
    with pytest.raises(FrameError) as caught:
        Frame.checked(*arguments, **keywords)
    assert '\n' not in str(caught.value)
    return caught.value.kind


def test_every_encoding_is_tested():
    assert set(SIZES) == set(ENCODINGS)


@pytest.mark.parametrize('encoding', SIZES)
@pytest.mark.parametrize('padding', [0, 1, 7, 32])
def test_pixels_are_the_message_s_own_bytes(encoding, padding):
    width, height = 6, 4
    row = width * SIZES[encoding]
    rows = height * 3 // 2 if encoding in PLANAR else height
    # One byte before, so that 16-bit pixels start at an odd address; no padding after the last.
    memory = np.arange(1 + (row + padding) * rows, dtype=np.uint32).astype(np.uint8)
    data = memory[1 : len(memory) - padding]

    frame = Frame.checked(data, width, height, encoding, row + padding)
    pixels = frame.pixels()

    for y in range(rows):
        start = y * (row + padding)
        assert pixels[y].tobytes() == data[start : start + row].tobytes()
    assert pixels.shape[:2] == (rows, width)
    assert np.shares_memory(pixels, memory)
    data[0] ^= 0xFF
    assert pixels[0].tobytes()[0] == data[0]


def test_shapes_and_types():
    data = np.zeros(1000, np.uint8)

    def pixels(encoding):
        return Frame.checked(data, 4, 2, encoding, 20).pixels()

    assert pixels('rgb8').shape == (2, 4, 3)
    assert pixels('bgra8').shape == (2, 4, 4)
    assert pixels('yuv422').shape == (2, 4, 2)
    assert pixels('mono8').shape == pixels('bayer_rggb8').shape == (2, 4)
    assert pixels('nv12').shape == (3, 4)
    assert pixels('mono16').shape == (2, 4)
    assert pixels('mono16').dtype == np.dtype('<u2')


def test_a_read_only_message_stays_one():
    data = np.frombuffer(bytes(range(12)), np.uint8)
    pixels = Frame.checked(data, 2, 2, 'rgb8', 6).pixels()
    assert pixels.tolist()[1][1] == [9, 10, 11]
    assert not pixels.flags.writeable


def test_new_names_of_yuv422_are_the_old_ones():
    data = np.zeros(8, np.uint8)
    assert Frame.checked(data, 2, 2, 'uyvy', 4).encoding == 'yuv422'
    assert Frame.checked(data, 2, 2, 'yuyv', 4).encoding == 'yuv422_yuy2'


@pytest.mark.parametrize('encoding', SIZES)
def test_the_last_row_needs_no_padding_but_all_its_pixels(encoding):
    width, height, padding = 4, 2, 5
    row = width * SIZES[encoding]
    rows = 3 if encoding in PLANAR else height
    needed = (row + padding) * (rows - 1) + row
    Frame.checked(np.zeros(needed, np.uint8), width, height, encoding, row + padding).pixels()
    short = np.zeros(needed - 1, np.uint8)
    assert kind_of(short, width, height, encoding, row + padding) == 'truncated'


@pytest.mark.parametrize('encoding', SIZES)
def test_what_is_refused(encoding):
    data = np.zeros(10_000, np.uint8)
    row = 4 * SIZES[encoding]
    assert kind_of(data, 0, 2, encoding, row) == 'empty'
    assert kind_of(data, 4, 0, encoding, row) == 'empty'
    assert kind_of(data, 0, 0, encoding, 0) == 'empty'
    assert kind_of(data[:0], 4, 2, encoding, row) == 'truncated'
    assert kind_of(data, 4, 2, encoding, row - 1) == 'step'
    assert kind_of(data, 4, 2, encoding, 0) == 'step'
    assert kind_of(data, 4, 2, encoding, row, big_endian=True) == 'big_endian'
    assert kind_of(data, 2**32 - 2, 2**32 - 2, encoding, 2**32 - 1) in ('step', 'truncated')


@pytest.mark.parametrize('encoding', SHARED_CHROMA)
def test_shared_chroma_needs_an_even_width(encoding):
    data = np.zeros(1000, np.uint8)
    assert kind_of(data, 5, 4, encoding, 20) == 'odd_size'
    if encoding in PLANAR:
        assert kind_of(data, 4, 5, encoding, 20) == 'odd_size'
    else:
        Frame.checked(data, 4, 5, encoding, 20)


@pytest.mark.parametrize('encoding', ['', 'RGB8', '8UC3', 'rgb16', 'bayer_rggb16', 'jpeg', 'mono'])
def test_an_unknown_encoding_is_named(encoding):
    with pytest.raises(FrameError, match=f"'{encoding}' is not one of rgb8, ") as caught:
        Frame.checked(np.zeros(100, np.uint8), 2, 2, encoding, 6)
    assert caught.value.kind == 'encoding'


def test_reasons_carry_the_numbers():
    data = np.zeros(10, np.uint8)
    with pytest.raises(FrameError, match=r'4x3 rgb8 image with step 16 needs 44 bytes, got 10'):
        Frame.checked(data, 4, 3, 'rgb8', 16)
    with pytest.raises(FrameError, match=r'step 11 is shorter than a row of 4 rgb8 pixels \(12\)'):
        Frame.checked(data, 4, 3, 'rgb8', 11)


def test_a_single_row_may_claim_any_step():
    frame = Frame.checked(np.arange(12, dtype=np.uint8), 4, 1, 'rgb8', 2**32 - 1)
    assert frame.pixels().tobytes() == bytes(range(12))


@given(
    encoding=st.sampled_from(sorted(SIZES)),
    width=st.integers(-1, 9),
    height=st.integers(-1, 9),
    step=st.integers(0, 40),
    size=st.integers(0, 400),
)
def test_what_passes_the_door_can_be_read(encoding, width, height, step, size):
    try:
        frame = Frame.checked(np.zeros(size, np.uint8), width, height, encoding, step)
    except FrameError as error:
        assert error.kind in ('empty', 'odd_size', 'step', 'truncated')
        return
    pixels = frame.pixels()
    rows = height * 3 // 2 if encoding in PLANAR else height
    assert pixels.nbytes == rows * width * SIZES[encoding]
    pixels.sum()


def test_the_header_is_kept():
    stamp = Stamp(-5, 4_000_000_000)
    data = np.zeros(3, np.uint8)
    keywords = {'stamp': stamp, 'frame_id': 'caméra', 'source': '/a'}
    frame = Frame.checked(data, 1, 1, 'rgb8', 3, **keywords)
    assert (frame.stamp, frame.frame_id, frame.source) == (stamp, 'caméra', '/a')
    assert stamp.nanoseconds == -1_000_000_000
    array = Frame.from_array(data.reshape(1, 1, 3), **keywords)
    assert (array.stamp, array.frame_id, array.source) == (stamp, 'caméra', '/a')


# From an array


def test_from_array_is_a_view_of_a_contiguous_array():
    image = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    frame = Frame.from_array(image)
    assert (frame.width, frame.height, frame.encoding) == (5, 4, 'bgr8')
    assert np.shares_memory(frame.pixels(), image)
    assert (frame.pixels() == image).all()


def test_from_array_of_a_crop():
    image = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    crop = image[1:3, 2:4]
    assert (Frame.from_array(crop).pixels() == crop).all()
    assert (Frame.from_array(image[..., ::-1], 'rgb8').pixels() == image[..., ::-1]).all()


def test_from_array_grey():
    image = np.arange(20, dtype=np.uint8).reshape(4, 5)
    for array in (image, image[..., None]):
        assert (Frame.from_array(array, 'mono8').pixels() == image).all()


@pytest.mark.parametrize(
    ('shape', 'dtype', 'encoding', 'kind'),
    [
        ((4, 5, 4), np.uint8, 'bgr8', 'shape'),
        ((4, 6, 3), np.uint8, 'mono8', 'shape'),
        ((4, 5, 3), np.float32, 'bgr8', 'shape'),
        ((4, 5), np.uint16, 'mono8', 'shape'),
        ((4, 5), np.uint8, 'bgr8', 'step'),
        ((0, 5, 3), np.uint8, 'bgr8', 'empty'),
        ((4, 0, 3), np.uint8, 'bgr8', 'empty'),
        ((4, 5, 3), np.uint8, 'xyz8', 'encoding'),
    ],
)
def test_from_array_refuses_other_pixels(shape, dtype, encoding, kind):
    with pytest.raises(FrameError) as caught:
        Frame.from_array(np.zeros(shape, dtype), encoding)
    assert caught.value.kind == kind


# Compressed


def encoded(extension: str) -> np.ndarray:
    image = np.random.default_rng(1).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    return cv2.imencode(extension, image)[1].reshape(-1)


def test_compressed_formats_are_told_by_their_bytes():
    for extension, encoding in (('.jpg', 'jpeg'), ('.png', 'png')):
        data = encoded(extension)
        frame = Frame.from_compressed(data, frame_id='f', stamp=Stamp(1, 2))
        assert frame.encoding == encoding
        assert frame.compressed
        assert frame.data is data
        assert (frame.frame_id, frame.stamp) == ('f', Stamp(1, 2))


@pytest.mark.parametrize(
    ('data', 'kind'),
    [
        (b'', 'empty'),
        (b'\x00', 'encoding'),
        (b'\xff\xd8', 'encoding'),
        (b'GIF89a' + b'0' * 50, 'encoding'),
        (b'BM' + b'0' * 50, 'encoding'),
        (b'\x89PNG', 'encoding'),
        (b'\xff\xd8\xff', 'truncated'),
    ],
)
def test_what_is_no_picture_is_refused(data, kind):
    with pytest.raises(FrameError) as caught:
        Frame.from_compressed(np.frombuffer(data, np.uint8))
    assert caught.value.kind == kind


def test_a_jpeg_must_end():
    data = encoded('.jpg')
    padded = np.concatenate((data, np.zeros(100, np.uint8)))  # as some USB cameras do
    assert Frame.from_compressed(padded).data is padded
    for cut in (1, 2, len(data) // 2):
        with pytest.raises(FrameError, match='ends before its end marker') as caught:
            Frame.from_compressed(data[:-cut])
        assert caught.value.kind == 'truncated'


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_jpeg():
    data, thumbnail = encoded('.jpg').tobytes(), encoded('.jpg').tobytes()
    # An application segment right after the start marker, as EXIF is.
    segment = b'\xff\xe1' + struct.pack('>H', len(thumbnail) + 2) + thumbnail
    whole = data[:2] + segment + data[2:]
    Frame.from_compressed(np.frombuffer(whole, np.uint8))
    with pytest.raises(FrameError, match='ends before'):
        Frame.from_compressed(np.frombuffer(whole[:-20], np.uint8))
