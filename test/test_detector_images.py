# SPDX-License-Identifier: Apache-2.0
"""The detector node over real DDS: images of every kind, whole and broken."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from models import color_detector

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import CompressedImage
from world import Camera, Robot, World, all_is_well, classes, jpeg, picture

from trt_perception.core import Frame
from trt_perception.ros.images import image_msg

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def encoded(encoding: str, color: tuple[int, int, int], width: int, height: int) -> np.ndarray:
    """Rows of bytes of an image of one colour."""
    rgb = np.full((height, width, 3), color, np.uint8)
    yuv = cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV)
    y, u, v = (int(yuv[0, 0, k]) for k in range(3))
    luma = 16 + round(y * 219 / 255)  # what OpenCV reads is limited range
    u, v = (128 + round((c - 128) * 224 / 255) for c in (u, v))
    pixel = {
        'rgb8': color,
        'bgr8': color[::-1],
        'rgba8': (*color, 9),
        'bgra8': (*color[::-1], 9),
    }.get(encoding)
    if pixel:
        return np.tile(np.array(pixel, np.uint8), (height, width))
    if encoding.startswith('bayer'):
        rows = np.zeros((height, width), np.uint8)
        for k, letter in enumerate(encoding[6:10]):
            rows[k // 2 :: 2, k % 2 :: 2] = color['rgb'.index(letter)]
        return rows
    pairs = {'yuv422': (u, luma, v, luma), 'yuv422_yuy2': (luma, u, luma, v)}.get(encoding)
    if pairs:
        return np.tile(np.array(pairs, np.uint8), (height, width // 2))
    chroma = (u, v) if encoding == 'nv12' else (v, u)
    below = np.tile(np.array(chroma, np.uint8), (height // 2, width // 2))
    return np.vstack((np.full((height, width), luma, np.uint8), below))


COLORED = [
    'rgb8', 'bgr8', 'rgba8', 'bgra8', 'yuv422', 'yuv422_yuy2', 'nv12', 'nv21',
    'bayer_rggb8', 'bayer_bggr8', 'bayer_gbrg8', 'bayer_grbg8',
]  # fmt: skip


def test_every_encoding_with_padded_rows(world: World, tmp_path: Path) -> None:
    robot = Robot(world, color_detector(tmp_path / 'm.onnx'), score_threshold=0.5)
    camera = Camera(world).until_heard()
    for encoding in COLORED:
        for name, color in (('red', RED), ('green', GREEN), ('blue', BLUE)):
            rows = encoded(encoding, color, 64, 48)
            padded = np.hstack((rows, np.full((len(rows), 5), 200, np.uint8)))
            frame = Frame.checked(padded.reshape(-1), 64, 48, encoding, padded.shape[1])
            assert classes(robot.answer(camera, image_msg(frame))) == [name], encoding
    for encoding, white in (('mono8', np.uint8(255)), ('mono16', np.uint16(65535))):
        rows = np.full((48, 64), white).view(np.uint8)
        frame = Frame.checked(rows.reshape(-1), 64, 48, encoding, rows.shape[1])
        found = robot.answer(camera, image_msg(frame))
        assert sorted(classes(found)) == ['blue', 'green', 'red']


@pytest.mark.parametrize('topic', ['image', 'image/compressed'])
@pytest.mark.parametrize('transport', ['auto', 'compressed'])
def test_compressed_images(world: World, tmp_path: Path, topic: str, transport: str) -> None:
    model = color_detector(tmp_path / 'm.onnx')
    robot = Robot(world, model, score_threshold=0.5, image_transport=transport)
    camera = Camera(world, topic, CompressedImage).until_heard()
    for name, color in (('red', RED), ('green', GREEN), ('blue', BLUE)):
        for extension in ('.jpg', '.png'):
            answer = robot.answer(camera, jpeg(color, extension))
            assert classes(answer) == [name]
            assert answer.header.stamp.sec == 5


def test_bad_images_are_counted_and_the_next_good_one_works(world: World, two: Path) -> None:
    robot = Robot(world, two, image_depth=100)
    robot.node._monitors['']._errors._period = float('inf')  # seconds; a busy machine takes some
    log = world.log()
    camera = Camera(world).until_heard()
    bad = []
    for change in (
        {'width': 0},
        {'height': 0, 'step': 0},
        {'step': 100},
        {'data': picture().data[:100]},
        {'encoding': '8UC7'},
        {'is_bigendian': 1},
        {'encoding': 'nv12', 'width': 63},
    ):
        image = picture()
        for field, value in change.items():
            setattr(image, field, value)
        bad.append(image)
    for image in bad * 3:
        camera.send(image)
    assert len(robot.answer(camera, picture(1)).detections) == 2
    counts = robot.until_counted(received=22)
    assert (counts['rejected'], counts['published']) == (21, 1)
    causes = {k.removeprefix('rejected '): v for k, v in counts.items() if 'rejected ' in k}
    assert causes == {
        'empty': 6, 'step': 3, 'truncated': 3, 'encoding': 3, 'big_endian': 3, 'odd_size': 3,
    }  # fmt: skip
    # Said once for each reason, not 21 times. What comes last shows that all has come.
    robot.node.get_logger().info('that was all')
    world.until(lambda: any(m.msg == 'that was all' for m in log))
    said = [m.msg for m in log if m.level == 40]
    assert len(said) == len(causes)
    assert any("encoding '8UC7' is not one of rgb8" in text for text in said)


def test_a_bad_picture_in_diagnostics(world: World, two: Path) -> None:
    robot = Robot(world, two)
    camera = Camera(world, 'image/compressed', CompressedImage).until_heard()
    broken = jpeg()
    broken.data = broken.data[:-200]
    camera.send(broken)
    status = robot.until_says(lambda s: s.level == DiagnosticStatus.ERROR)
    assert status.message.startswith('image not used: JPEG of')
    # And is forgotten once it is over.
    robot.answer(camera, jpeg())
    all_is_well(robot)
