# SPDX-License-Identifier: Apache-2.0
"""The player over real DDS: every image of a recording, in order, on the right topic."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('av')

from processes import TIMEOUT, parameters, start
from rclpy.parameter import Parameter
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from videos import level, number_of, write_video
from world import BEST_EFFORT, World

from trt_perception.core import Frame, PerceptionError, Stamp
from trt_perception.nodes.player import PlayerNode
from trt_perception.replay.bag_writer import write_bag
from trt_perception.replay.sources import open_source
from trt_perception.ros.images import frame_from_compressed, frame_from_image
from trt_perception.runtime.host.color import to_bgr

FAST = 50.0  # images a second: most tests do not wait for the recorded times


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / 'drive.mp4')


def play(world: World, path: Path, *ros_args: str, **parameters: Any) -> PlayerNode:
    values = {'input': str(path), 'rate': FAST, 'wait_for_subscribers': 1, **parameters}
    node = PlayerNode(
        context=world.context,
        cli_args=['--ros-args', *ros_args],
        parameter_overrides=[Parameter(name, value=value) for name, value in values.items()],
    )
    world.add(node)
    return node


def numbers(messages: list[Image] | list[CompressedImage]) -> list[int]:
    """Which frames of the video these are."""
    convert = frame_from_image if isinstance(messages[0], Image) else frame_from_compressed
    return [number_of(to_bgr(convert(message))) for message in messages]


def stamps(messages: list[Image]) -> list[int]:
    return [m.header.stamp.sec * 1_000_000_000 + m.header.stamp.nanosec for m in messages]


def test_every_frame_of_a_video(world: World, video: Path) -> None:
    images = world.subscribe(Image, 'image')
    before = world.node.get_clock().now().nanoseconds
    player = play(world, video)
    world.until(lambda: player.finished and len(images) == 12, 'all images')
    assert numbers(images) == list(range(12))
    assert {(m.width, m.height, m.encoding) for m in images} == {(64, 48, 'bgr8')}
    assert {m.header.frame_id for m in images} == {'camera'}
    # Stamped when they were published, not with the times of the recording.
    times = [before, *stamps(images), world.node.get_clock().now().nanoseconds]
    assert times == sorted(set(times))
    assert (player.published, player.exit_code) == (12, 0)


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
@pytest.mark.parametrize('compressed', [False, True])
def test_bags(world: World, video: Path, tmp_path: Path, storage: str, compressed: bool) -> None:
    bag = tmp_path / 'bag'
    frames = [
        f._replace(frame=Frame.from_array(f.frame.pixels(), stamp=Stamp(9, 9), frame_id='front'))
        for f in open_source(video).frames()
    ]
    write_bag(bag, frames, storage, compressed=compressed)
    kind, topic = (CompressedImage, 'image/compressed') if compressed else (Image, 'image')
    images = world.subscribe(kind, topic)
    # A recording's own pace, just this once.
    player = play(world, bag, rate=0.0)
    world.until(lambda: player.finished and len(images) == 12, 'all images')
    assert numbers(images) == list(range(12))
    assert {m.header.frame_id for m in images} == {'front'}
    assert min(stamps(images)) > 1_000_000_000_000
    if compressed:
        assert {m.format for m in images} == {'jpeg'}


def test_pictures_are_not_encoded_again(world: World, tmp_path: Path) -> None:
    folder = tmp_path / 'pictures'
    folder.mkdir()
    for number, name in enumerate(('1.png', '2.jpg')):
        image = np.full((8, 8, 3), level(number), np.uint8)
        cv2.imwrite(str(folder / name), image)
    images = world.subscribe(CompressedImage, '/front/image/compressed')
    player = play(world, folder, '-r', 'image:=/front/image', frame_id='front')
    world.until(lambda: player.finished and len(images) == 2, 'all images')
    assert [m.data.tobytes() for m in images] == [
        (folder / name).read_bytes() for name in ('1.png', '2.jpg')
    ]
    assert [m.format for m in images] == ['png', 'jpeg']
    assert {m.header.frame_id for m in images} == {'front'}


def test_loop(world: World, video: Path) -> None:
    images = world.subscribe(Image, 'image')
    player = play(world, video, loop=True)
    world.until(lambda: len(images) > 30, 'a third lap')
    assert not player.finished
    world.remove(player)
    assert player.finished and player.exit_code == 0
    assert numbers(images[:30]) == [n % 12 for n in range(30)]


def test_waits_for_subscribers(world: World, video: Path) -> None:
    player = play(world, video, wait_for_subscribers=2)
    first = world.subscribe(Image, 'image')
    world.until(lambda: player.count_subscribers('image') == 1, 'one subscription')
    assert player.published == 0
    second = world.subscribe(Image, 'image')
    world.until(lambda: player.finished and len(first) == len(second) == 12, 'all images')


def test_can_be_stopped_while_it_waits(world: World, video: Path) -> None:
    player = play(world, video, wait_for_subscribers=100)
    world.remove(player)
    assert (player.finished, player.published, player.exit_code) == (True, 0, 0)


@pytest.mark.parametrize('reliability', ['reliable', 'best_effort'])
def test_reliability(world: World, video: Path, reliability: str) -> None:
    images = world.subscribe(Image, 'image', BEST_EFFORT)
    player = play(world, video, reliability=reliability)
    world.until(lambda: images, 'an image')
    (info,) = player.get_publishers_info_by_topic('image')
    assert info.qos_profile.reliability == ReliabilityPolicy[reliability.upper()]


def test_a_recording_that_breaks_off(world: World, tmp_path: Path) -> None:
    whole = write_video(tmp_path / 'whole.mp4', 28, width=256, height=256, faststart=True)
    torn = tmp_path / 'torn.mp4'
    torn.write_bytes(whole.read_bytes()[: whole.stat().st_size * 3 // 4])
    images = world.subscribe(Image, 'image')
    player = play(world, torn)
    world.until(lambda: player.finished and len(images) == player.published, 'what is there')
    assert numbers(images) == list(range(player.published))
    assert 0 < player.published < 28
    assert player.exit_code == 1


@pytest.mark.parametrize(
    'parameters, words',
    [
        ({'input': ''}, 'input: is empty'),
        ({'input': '/nowhere/drive.mp4'}, "'/nowhere/drive.mp4' does not exist"),
        ({'topic': '/left'}, "topic '/left'"),
        ({'rate': -1.0}, 'rate'),
        ({'reliability': 'perfect'}, "'perfect' is not one of reliable, best_effort"),
    ],
)
def test_mistakes(world: World, video: Path, parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(PerceptionError) as caught:
        play(world, video, **parameters)
    assert words in str(caught.value) and '\n' not in str(caught.value)


# As a process of its own


def test_process_ends_after_the_last_image(world: World, tmp_path: Path) -> None:
    # As many as a publisher keeps until they have arrived.
    video = write_video(tmp_path / 'drive.mp4', 10)
    images = world.subscribe(Image, 'image')
    options = parameters(input=video, rate=FAST, wait_for_subscribers=1)
    process = start('player', world.domain_id, *options)
    _, log = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, log
    world.until(lambda: len(images) == 10, 'all images')
    assert '10 images published' in log


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_process_stops_on_a_signal(world: World, video: Path, number: signal.Signals) -> None:
    images = world.subscribe(Image, 'image')
    process = start('player', world.domain_id, *parameters(input=video, loop=True))
    world.until(lambda: images, 'an image')
    process.send_signal(number)
    _, log = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, log
    assert 'Traceback' not in log


def test_process_names_a_mistake_in_one_line(domain_id: int) -> None:
    process = start('player', domain_id, *parameters(input='/nowhere/drive.mp4'))
    _, log = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 2
    assert log.splitlines() == [
        "error: input '/nowhere/drive.mp4' does not exist; give a video, a rosbag2 or a folder of"
        ' pictures'
    ]
