# SPDX-License-Identifier: Apache-2.0
"""`sensor_msgs` images as frames: every encoding, every way to be wrong, and no copy."""

from __future__ import annotations

import array
import sys
from types import ModuleType

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip('sensor_msgs.msg')

from builtin_interfaces.msg import Time
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from trt_perception.core import FrameError, Stamp
from trt_perception.core.frame import ENCODINGS
from trt_perception.ros.images import (
    compressed_msg,
    frame_from_compressed,
    frame_from_image,
    header_msg,
    image_msg,
)

WIDTH, HEIGHT = 6, 4
HEADER = Header(stamp=Time(sec=-5, nanosec=4_000_000_000), frame_id='caméra/前')


def image(encoding: str, *, padding: int = 0, width: int = WIDTH, height: int = HEIGHT) -> Image:
    """An image of counted bytes, as it comes out of the middleware."""
    layout = ENCODINGS[encoding]
    step = width * layout.pixel_bytes + padding
    size = step * height * (3 if layout.half_planes else 2) // 2
    data = array.array('B', (k % 251 for k in range(size)))
    message = Image(
        header=HEADER, width=width, height=height, encoding=encoding, step=step, data=data
    )
    return deserialize_message(serialize_message(message), Image)


def picture(extension: str = '.png', form: str = '') -> CompressedImage:
    pixels = np.random.default_rng(1).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    data = array.array('B', cv2.imencode(extension, pixels)[1].tobytes())
    message = CompressedImage(header=HEADER, format=form, data=data)
    return deserialize_message(serialize_message(message), CompressedImage)


def refusal(message: Image | CompressedImage) -> FrameError:
    read = frame_from_image if isinstance(message, Image) else frame_from_compressed
    with pytest.raises(FrameError) as caught:
        read(message)
    assert '\n' not in str(caught.value)
    return caught.value


def address(data: np.ndarray) -> int:
    return data.__array_interface__['data'][0]


# Raw


@pytest.mark.parametrize('encoding', ENCODINGS)
@pytest.mark.parametrize('padding', [0, 1, 32])
def test_pixels_are_those_of_the_message(encoding, padding):
    message = image(encoding, padding=padding)
    frame = frame_from_image(message, '/camera')
    assert (frame.width, frame.height, frame.step) == (WIDTH, HEIGHT, message.step)
    assert ENCODINGS[frame.encoding] is ENCODINGS[encoding]
    row = WIDTH * ENCODINGS[encoding].pixel_bytes
    for y, pixels in enumerate(frame.pixels()):
        start = y * message.step
        assert pixels.tobytes() == message.data[start : start + row].tobytes()


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_pixels_are_not_copied(encoding):
    message = image(encoding, padding=3)
    frame = frame_from_image(message)
    assert address(frame.data) == address(frame.pixels()) == message.data.buffer_info()[0]
    message.data[0] ^= 0xFF
    assert frame.pixels().tobytes()[0] == message.data[0]


def test_pixels_outlive_the_message():
    message = image('mono8')
    frame = frame_from_image(message)
    expected = message.data.tobytes()
    del message
    assert frame.data.tobytes() == expected


@given(
    encoding=st.sampled_from(sorted(ENCODINGS)),
    width=st.integers(1, 9),
    height=st.integers(1, 9),
    padding=st.integers(0, 5),
)
def test_odd_sizes(encoding, width, height, padding):
    layout = ENCODINGS[encoding]
    message = image(encoding, width=width, height=height, padding=padding)
    if (layout.even_width and width % 2) or (layout.half_planes and height % 2):
        assert refusal(message).kind == 'odd_size'
    else:
        assert frame_from_image(message).pixels().shape[1] == width


@pytest.mark.parametrize(
    ('kind', 'fields'),
    [
        ('empty', {'width': 0}),
        ('empty', {'height': 0}),
        ('empty', {'width': 0, 'height': 0, 'step': 0, 'data': array.array('B')}),
        ('truncated', {'data': array.array('B')}),
        ('truncated', {'height': HEIGHT + 2}),
        ('truncated', {'step': 2**32 - 1}),
        ('truncated', {'width': 2**32 - 2, 'height': 2**32 - 2, 'step': 2**32 - 1}),
        ('step', {'step': WIDTH - 1}),
        ('step', {'step': 0}),
        ('big_endian', {'is_bigendian': 1}),
        ('big_endian', {'is_bigendian': 255}),
    ],
)
@pytest.mark.parametrize('encoding', ['mono8', 'nv12'])
def test_what_is_refused(encoding, kind, fields):
    message = image(encoding)
    for name, value in fields.items():
        setattr(message, name, value)
    assert refusal(message).kind == kind
    frame_from_image(image(encoding))  # and the next one works


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_one_byte_less_is_truncated(encoding):
    message = image(encoding)
    message.data = message.data[:-1]
    error = refusal(message)
    assert error.kind == 'truncated'
    assert f'got {len(message.data)}' in str(error)


# Compressed


@pytest.mark.parametrize(('extension', 'encoding'), [('.jpg', 'jpeg'), ('.png', 'png')])
# What drivers and image_transport write; none of it is relied on.
@pytest.mark.parametrize('form', ['', 'jpeg', 'png', 'rgb8; jpeg compressed bgr8', 'H.264'])
def test_compressed_bytes_are_not_copied(extension, encoding, form):
    message = picture(extension, form)
    frame = frame_from_compressed(message, '/camera')
    assert (frame.encoding, frame.compressed, frame.source) == (encoding, True, '/camera')
    assert address(frame.data) == message.data.buffer_info()[0]
    assert frame.data.size == len(message.data)


@pytest.mark.parametrize(
    ('kind', 'data'),
    [
        ('empty', b''),
        ('encoding', b'\x00'),
        ('encoding', b'RIFF0000WEBPVP8 '),
        ('encoding', b'\x00\x00\x00\x01\x67\x42\x00\x1f'),  # H.264
        ('truncated', picture('.jpg').data[:-9].tobytes()),
    ],
)
def test_compressed_garbage_is_refused(kind, data):
    message = CompressedImage(header=HEADER, format='jpeg', data=array.array('B', data))
    assert refusal(message).kind == kind


# And back


@given(
    sec=st.integers(-(2**31), 2**31 - 1),
    nanosec=st.integers(0, 2**32 - 1),
    frame_id=st.text(max_size=20),
)
def test_the_header_is_copied_bit_for_bit(sec, nanosec, frame_id):
    raw, compressed = image('rgb8'), picture()
    for message in (raw, compressed):
        message.header = Header(stamp=Time(sec=sec, nanosec=nanosec), frame_id=frame_id)
    for frame in (frame_from_image(raw, '/a'), frame_from_compressed(compressed, '/a')):
        assert (frame.stamp, frame.frame_id) == (Stamp(sec, nanosec), frame_id)
        assert frame.source == '/a'
        assert header_msg(frame) == raw.header


@pytest.mark.parametrize('encoding', ENCODINGS)
@pytest.mark.parametrize('padding', [0, 5])
def test_an_image_is_the_same_there_and_back(encoding, padding):
    message = image(encoding, padding=padding)
    back = image_msg(frame_from_image(message))
    message.encoding = ENCODINGS[encoding].name
    assert back == message
    assert serialize_message(back)
    assert back.data.buffer_info()[0] != message.data.buffer_info()[0]


@pytest.mark.parametrize(('extension', 'form'), [('.jpg', 'jpeg'), ('.png', 'png')])
def test_a_compressed_image_is_the_same_there_and_back(extension, form):
    message = picture(extension, form)
    back = compressed_msg(frame_from_compressed(message))
    assert back == message
    assert serialize_message(back)


# Through cv_bridge


class FakeBridge:
    """What cv_bridge does with 16 bits a channel."""

    def imgmsg_to_cv2(self, message: Image, desired_encoding: str) -> np.ndarray:
        assert desired_encoding == 'bgr8'
        if message.encoding != 'rgb16':
            cv2.cvtColor(np.zeros(3, np.float64), cv2.COLOR_BGR2GRAY)  # fails
        pixels = np.frombuffer(message.data, '<u2').reshape(message.height, message.width, 3)
        return (pixels[..., ::-1] // 257).astype(np.uint8)


@pytest.fixture
def cv_bridge(monkeypatch):
    module = ModuleType('cv_bridge')
    module.CvBridge = FakeBridge
    monkeypatch.setitem(sys.modules, 'cv_bridge', module)
    return module


def wide_image(encoding: str = 'rgb16') -> Image:
    """All red, 16 bits a channel."""
    pixels = np.full((HEIGHT, WIDTH, 3), (65535, 0, 257), '<u2')
    data = array.array('B', pixels.tobytes())
    return Image(
        header=HEADER, width=WIDTH, height=HEIGHT, encoding=encoding, step=WIDTH * 6, data=data
    )


def check_wide(frame) -> None:
    assert (frame.encoding, frame.width, frame.height) == ('bgr8', WIDTH, HEIGHT)
    assert (frame.pixels() == [1, 0, 255]).all()
    assert header_msg(frame) == HEADER
    assert frame.source == '/camera'


def test_other_encodings_go_through_cv_bridge(cv_bridge):
    check_wide(frame_from_image(wide_image(), '/camera'))


def test_real_cv_bridge():
    pytest.importorskip('cv_bridge', reason='cv_bridge comes with ROS 2 only')
    check_wide(frame_from_image(wide_image(), '/camera'))


def test_own_encodings_do_not_go_through_cv_bridge(cv_bridge, monkeypatch):
    monkeypatch.delattr(cv_bridge, 'CvBridge')
    for encoding in ENCODINGS:
        frame_from_image(image(encoding))


def test_what_cv_bridge_does_not_know_is_refused(cv_bridge):
    error = refusal(wide_image('bayer_rggb16'))
    assert error.kind == 'encoding'
    assert str(error).startswith("encoding 'bayer_rggb16': cv_bridge gives no bgr8: OpenCV")


def test_without_cv_bridge_the_known_encodings_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'cv_bridge', None)
    for encoding in ('rgb16', '8UC3', 'RGB8', ''):
        error = refusal(wide_image(encoding))
        assert error.kind == 'encoding'
        assert str(error).startswith(f"encoding '{encoding}' is not one of rgb8, bgr8, ")
        assert 'install cv_bridge for others' in str(error)


def test_a_broken_cv_bridge_says_why(cv_bridge, monkeypatch):
    """Such as one that was compiled for another NumPy."""
    monkeypatch.delattr(cv_bridge, 'CvBridge')
    error = refusal(wide_image())
    assert error.kind == 'encoding'
    assert "cannot import name 'CvBridge'" in str(error)
