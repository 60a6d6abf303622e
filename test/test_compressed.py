# SPDX-License-Identifier: Apache-2.0
"""From the bytes of a JPEG or PNG file, which OpenCV's encoders make, to the network's input."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest
from pictures import HEIGHT, INSIDE, RAW, WIDTH, encode, grey, picture, run, spec, stated_png

from trt_perception.core import Frame, FrameError
from trt_perception.runtime.host.preprocess import HostPreprocessor


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


def broken() -> dict[str, np.ndarray]:
    png = compressed(picture(), '.png')
    corrupt = png.copy()
    corrupt[len(png) // 2] ^= 0xFF
    jpeg = compressed(picture(), '.jpg').tobytes()
    return {
        'truncated png': png[: len(png) // 2],
        'png signature alone': png[:8],
        'corrupt png': corrupt,
        'huge png': stated_png(100_000, 100_000),
        'jpeg without frame': np.frombuffer(jpeg[:20] + b'\xff\xda\xff\xd9', np.uint8),
    }


@pytest.mark.parametrize('name', broken())
def test_what_cannot_be_decoded_is_refused_and_the_next_frame_works(name):
    preprocess = HostPreprocessor(spec())
    with pytest.raises(FrameError) as caught:
        preprocess(Frame.from_compressed(broken()[name]))
    cut = ('truncated png', 'png signature alone')
    kinds = {'huge png': 'too_large', **dict.fromkeys(cut, 'truncated')}
    assert caught.value.kind == kinds.get(name, 'decode')
    assert '\n' not in str(caught.value)
    good = Frame.from_compressed(compressed(picture(), '.png'))
    assert (preprocess(good)[0] == HostPreprocessor(spec())(good)[0]).all()
