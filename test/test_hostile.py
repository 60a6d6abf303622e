# SPDX-License-Identifier: Apache-2.0
"""What comes from outside is refused by an error of ours, whatever it is, or it works."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip('rosbags')
pytest.importorskip('sensor_msgs')

from diagnostic_msgs.msg import DiagnosticStatus
from hostile import doors, laughs
from hypothesis import given, settings
from hypothesis import strategies as st
from models import constant_detector, write_network
from pictures import stated_jpeg, stated_png
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.serialization import serialize_message
from rclpy.waitable import NumberOfEntities, Waitable
from sensor_msgs.msg import CompressedImage
from test_prometheus import free_port
from world import Camera, Robot, World, picture

from trt_perception.core import Frame, FrameError, PerceptionError
from trt_perception.core.compressed import MAX_CHUNKS, MAX_SEGMENTS
from trt_perception.nodes import detector
from trt_perception.ros.executor import GuardedExecutor
from trt_perception.ros.image_input import ImageInput
from trt_perception.ros.images import compressed_msg
from trt_perception.runtime import yaml_file
from trt_perception.runtime.model_file import load_spec, read_labels
from trt_perception.runtime.pipeline import open_pipeline
from trt_perception.runtime.yaml_file import YamlError, read_yaml

DOORS = doors()
#: Examples that each door gets; those with files behind them take their time.
EXAMPLES = {'raw image': 300, 'compressed image': 300, 'bag message': 40, 'bag file': 60}


@st.composite
def altered(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """Good bytes with something else at a few places, with a part missing, or twice."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        length = draw(st.integers(0, 8))
        what = draw(st.sampled_from(('replace', 'insert', 'cut', 'end', 'again')))
        if what == 'end':
            del data[at:]
        elif what == 'again':
            data[at:at] = data[at : at + 16 * length]
        else:
            new = b'' if what == 'cut' else draw(st.binary(min_size=1, max_size=8))
            data[at : at + (0 if what == 'insert' else length)] = new
    return bytes(data)


@pytest.mark.parametrize('name', DOORS)
def test_what_is_known_to_be_hostile(name: str) -> None:
    for seed in DOORS[name].seeds:
        DOORS[name].knock(seed)


@pytest.mark.parametrize('name', DOORS)
def test_what_was_altered(name: str) -> None:
    @settings(max_examples=EXAMPLES.get(name, 100))
    @given(altered(list(DOORS[name].seeds)))
    def knock(data: bytes) -> None:
        DOORS[name].knock(data)

    knock()


# Files


def test_no_weights_from_elsewhere(tmp_path: Path) -> None:
    secret = tmp_path / 'secret.bin'
    secret.write_bytes(bytes(1 << 16))
    folder = tmp_path / 'models'
    folder.mkdir()
    path = constant_detector(folder / 'm.onnx')
    for location, refused in ((str(secret), True), ('../secret.bin', True), ('own.bin', False)):
        model = onnx.load(path)
        weight = model.graph.initializer[0]
        size = len(weight.raw_data)
        weight.ClearField('raw_data')
        weight.data_location = onnx.TensorProto.EXTERNAL
        for key, value in {'location': location, 'offset': '0', 'length': str(size)}.items():
            weight.external_data.add(key=key, value=value)
        changed = folder / 'changed.onnx'
        changed.write_bytes(model.SerializeToString())
        (folder / 'own.bin').write_bytes(bytes(size))
        if refused:
            with pytest.raises(PerceptionError, match='is not in its own folder'):
                load_spec(changed)
        else:
            open_pipeline(changed, threads=1).close()


@pytest.mark.parametrize('size', [(100_000, 32), (8192, 8192)])
def test_no_model_takes_more_memory_than_can_be_meant(tmp_path: Path, size: tuple) -> None:
    width, height = size
    path = write_network(
        tmp_path / 'm.onnx', {'output0': np.zeros((1, 300, 6))}, width=width, height=height,
        metadata={},
    )  # fmt: skip
    with pytest.raises(PerceptionError, match=rf'an input of {width}x{height} is larger than'):
        load_spec(path)


def test_yaml_says_what_is_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_file, 'MOST', 1000)
    monkeypatch.setattr(yaml_file, 'LARGEST', 30_000)
    path = tmp_path / 'a.yaml'
    for content, words in (
        (laughs(), 'stands for more than 1000 values'),
        (b'&a [*a]', 'stands for more than 1000 values'),
        (b'[' + b'1,' * 2000 + b']', 'holds more than 1000 values'),
        (b'a: ' + b'x' * 30_000, 'more than 30000 bytes'),
        (b'[' * 20_000, 'nested more than 50 deep'),
        (b'a: 2001-99-99', 'month must be in 1..12'),
    ):
        path.write_bytes(content)
        with pytest.raises(YamlError, match=words):
            read_yaml(path)
    path.write_text('a: &x [1, 2]\nb: *x\n')  # as people write it
    assert read_yaml(path) == {'a': [1, 2], 'b': [1, 2]}


def test_a_list_of_names_is_no_longer_than_anybody_writes(tmp_path: Path) -> None:
    path = tmp_path / 'labels.txt'
    path.write_bytes(b'a\n' * (yaml_file.LARGEST // 2 + 1))
    with pytest.raises(PerceptionError, match='has more than 1048576 bytes'):
        read_labels(str(path))


# Images


@pytest.mark.parametrize(
    ('picture', 'kind'),
    [
        (stated_jpeg(65535, 65535), 'too_large'),
        (stated_png(20_000, 20_000), 'too_large'),
        (stated_jpeg(64, 64, scans=101), 'too_large'),
        (stated_png(64, 64)[:40], 'truncated'),
    ],
)
def test_a_bomb_is_refused_by_what_it_says_of_itself(picture: np.ndarray, kind: str) -> None:
    with pytest.raises(FrameError) as caught:
        Frame.from_compressed(picture)
    assert caught.value.kind == kind


def test_more_bytes_than_an_image_has_are_not_looked_at() -> None:
    data = np.zeros(8 * 64 * 64 + 1, np.uint8)
    data[:3] = 0xFF, 0xD8, 0xFF
    with pytest.raises(FrameError, match='image of 32769 bytes has more than 8 for each of'):
        Frame.from_compressed(data, max_pixels=64 * 64)


def test_a_part_that_claims_gigabytes_gets_none() -> None:
    """OpenCV has memory for it before it looks how much there is."""
    for part in (b'IDAT', b'IEND'):
        png = bytearray(stated_png(64, 64).tobytes())
        at = png.index(part) - 4
        png[at : at + 4] = b'\x9c\x00\x00\x00'
        with pytest.raises(FrameError, match='ends before its end'):
            Frame.from_compressed(np.frombuffer(bytes(png), np.uint8))


def test_nobody_has_millions_of_parts_counted() -> None:
    jpeg, png = stated_jpeg(64, 64), stated_png(64, 64)
    for good, at, part, most, words in (
        (jpeg, 2, b'\xff', MAX_SEGMENTS, 'does not state its size'),
        (jpeg, 2, b'\xff\xe0\0\x02', MAX_SEGMENTS, 'does not state its size'),
        (png, 33, b'\0\0\0\0teXt\xa4\xb1\x1a\xe7', MAX_CHUNKS, 'more than 100000 parts'),
    ):
        head, tail = good[:at].tobytes(), good[at:].tobytes()
        Frame.from_compressed(np.frombuffer(head + part * (most - 10) + tail, np.uint8))
        with pytest.raises(FrameError, match=words):
            Frame.from_compressed(np.frombuffer(head + part * most + tail, np.uint8))


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Detectors say more often how they are."""
    monkeypatch.setattr(detector, 'REPORT_PERIOD', 0.2)


@pytest.mark.usefixtures('hasty')
def test_limits_are_parameters_and_what_is_larger_is_rejected(world: World, two: Path) -> None:
    robot = Robot(world, two, max_image_pixels=64 * 64).until_active()
    camera = Camera(world)
    camera.until_heard()
    robot.answer(camera, picture(1, 64, 64))
    camera.send(picture(2, 65, 64))
    padded = picture(3, 8, 8)
    padded.data = bytes(8 * 64 * 64 + 1)
    camera.send(padded)
    counts = robot.until_counted(rejected=2)
    assert counts['rejected too_large'] == 2
    robot.until_says(lambda s: s.level != DiagnosticStatus.OK and 'max_image_pixels' in s.message)
    camera.close()
    packed = Camera(world, 'image/compressed', CompressedImage)
    packed.until_heard()
    bomb = compressed_msg(Frame.from_compressed(stated_jpeg(65, 64)))
    packed.send(bomb)
    assert robot.until_counted(rejected=3)['rejected too_large'] == 3


@pytest.mark.usefixtures('hasty')
def test_bytes_that_are_no_message(world: World, two: Path) -> None:
    """What others send is deserialised before this package sees it; the node lives on."""
    robot = Robot(world, two).until_active()
    camera = Camera(world)
    camera.until_heard()
    good, order = serialize_message(picture()), random.Random(1)
    for _ in range(100):
        data = bytearray(good)
        for _ in range(3):
            data[order.randrange(4, 80)] = order.randrange(256)
        camera.publisher.publish(bytes(data[: order.randrange(4, len(data) + 1)]))
    robot.answer(camera, picture(7))
    world.until(lambda: robot.counts()['published'] >= 1)
    assert robot.counts()['received'] <= 101


# Processes


@pytest.mark.usefixtures('hasty')
def test_no_node_listens_to_the_network_but_dds(world: World, two: Path) -> None:
    def listening() -> set[str]:
        """Sockets of TCP of this process that wait for a client."""
        tables = [Path(f'/proc/self/net/{name}') for name in ('tcp', 'tcp6')]
        lines = [line.split() for t in tables if t.exists() for line in t.read_text().splitlines()]
        waiting = {f'socket:[{fields[9]}]' for fields in lines if fields[3] == '0A'}
        own = set()
        for descriptor in Path('/proc/self/fd').iterdir():
            with contextlib.suppress(OSError):  # gone meanwhile
                own.add(os.readlink(descriptor))
        return waiting & own

    before = listening()
    robot = Robot(world, two).until_active()
    assert listening() == before
    world.remove(robot.node)
    Robot(world, two, metrics_port=free_port()).until_active()
    assert len(listening() - before) == 1  # it would be seen


def test_what_another_thread_destroys_ends_no_executor(world: World) -> None:
    class Gone(Waitable):
        asked = 0

        def __enter__(self) -> None:
            pass

        def __exit__(self, *error: object) -> None:
            pass

        def add_to_wait_set(self, wait_set: object) -> None:
            self.asked += 1
            raise rclpy_implementation.InvalidHandle('destroyed meanwhile')

        def get_num_entities(self) -> NumberOfEntities:
            return NumberOfEntities()

    node = Node('waits', context=world.context)
    gone = Gone(node.default_callback_group)
    node.add_waitable(gone)
    executor = GuardedExecutor(world.context)
    executor.add_node(node)
    executor.spin_once(timeout_sec=0.0)
    assert gone.asked == 1 and not executor.over
    node.remove_waitable(gone)
    called: list[int] = []
    node.create_timer(0.0, lambda: called.append(1))
    world.until(lambda: executor.spin_once(timeout_sec=0.0) or called)
    executor.finish()
    node.destroy_node()


def test_lost_images_are_never_so_many(world: World) -> None:
    lost: list[int] = []
    images = ImageInput(world.node, print, print, lost.append)
    for change in (3, 2**64 - 5, 2**31 - 1, 2):  # as Fast DDS tells them when a camera is killed
        images._lost(change)
    images.close()
    assert lost == [3, 2]


def test_few_pools_of_memory() -> None:
    """Many threads, one after the other and at once, use no more than two."""
    code = (
        'import ctypes, os, re, sys, threading\n'
        'from trt_perception.runtime.malloc import few_arenas\n'
        'few_arenas()\n'
        'barrier = threading.Barrier(9)\n'
        'def work():\n'
        '    kept = [bytearray(3000) for _ in range(100)]; barrier.wait(); barrier.wait()\n'
        'for _ in range(8): threading.Thread(target=work).start()\n'
        'barrier.wait()\n'
        'libc = ctypes.CDLL(None); file = libc.fdopen; file.restype = ctypes.c_void_p\n'
        'out = file(1, b"w"); libc.malloc_info(0, ctypes.c_void_p(out)); libc.fflush(None)\n'
        'barrier.wait()\n'
    )
    usual = {k: v for k, v in os.environ.items() if k != 'MALLOC_ARENA_MAX'}
    for env, most in ((usual, 2), (usual | {'MALLOC_ARENA_MAX': '1'}, 1)):
        done = subprocess.run(
            [sys.executable, '-c', code], env=env, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        assert 1 <= done.stdout.count('<heap nr=') <= most
