# SPDX-License-Identifier: Apache-2.0
"""SIGINT and SIGTERM at any moment: the detector ends, cleanly, and leaves nothing behind."""

from __future__ import annotations

import random
import signal
import subprocess
import threading
import time
from pathlib import Path
from time import monotonic

import pytest
from models import constant_detector

pytest.importorskip('rclpy')

from processes import SHM, TIMEOUT, orphans, parameters, start, watch
from world import Camera, World, picture

MOMENTS = 16


@pytest.fixture
def busy_world(world: World) -> World:
    """A world with a camera of 100 images a second."""
    camera = Camera(world)
    timer = world.node.create_timer(0.01, lambda: camera.send(picture()))
    yield world
    world.node.destroy_timer(timer)


def ended(process: subprocess.Popen[str], what: str) -> tuple[int, str]:
    """Exit code and last words of a process that was told to end."""
    try:
        _, said = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        _, said = process.communicate()
        pytest.fail(f'hangs after {what}:\n{said}')
    return process.returncode, said


def test_at_any_moment(busy_world: World, tmp_path: Path) -> None:
    model = constant_detector(tmp_path / 'm.onnx', work=5)
    options = parameters(model=model, threads=1)
    # As long as this machine, as busy as it is, takes to start one.
    begun = monotonic()
    process = start('detector', busy_world.domain_id, *options)
    busy_world.until(lambda: busy_world.node.count_subscribers('image'), 'the detector listens')
    longest = 1.25 * (monotonic() - begun)
    process.send_signal(signal.SIGINT)
    assert ended(process, 'start')[0] == 0
    moments = random.Random(2)
    before = set(SHM.iterdir())
    used: set[Path] = set()
    clean = 0
    for number in range(MOMENTS):
        sent = (signal.SIGINT, signal.SIGTERM)[number % 2]
        delay = moments.uniform(0, longest)
        process = start('detector', busy_world.domain_id, *options)
        used |= watch(process, delay)
        process.send_signal(sent)
        used |= watch(process, TIMEOUT)
        code, said = ended(process, f'{sent.name} after {delay:.2f} s')
        # Python itself dies of it while it starts, before the package has a say.
        in_time = code in (-sent, 130) or 'KeyboardInterrupt' in said
        assert code == 0 or (in_time and 'rclpy' not in said), f'{code} after {delay:.2f} s: {said}'
        assert code != 0 or 'Traceback' not in said, said
        clean += code == 0
    assert clean > MOMENTS / 2
    used -= before
    assert used
    busy_world.until(lambda: not orphans(used), 'no shared memory left')


@pytest.mark.parametrize('sent', [signal.SIGINT, signal.SIGTERM])
def test_during_a_long_inference(world: World, tmp_path: Path, sent: signal.Signals) -> None:
    """It is waited for, and what it found is not published any more."""
    model = constant_detector(tmp_path / 'm.onnx', work=300)
    camera = Camera(world)
    process = start('detector', world.domain_id, *parameters(model=model, threads=1))
    camera.until_heard()
    for _ in range(10):  # the first may come before the other side is ready
        camera.send(picture())
        time.sleep(0.05)
    process.send_signal(sent)
    process.send_signal(sent)  # impatience changes nothing
    assert ended(process, sent.name)[0] == 0


def test_signals_in_a_row(world: World, tmp_path: Path) -> None:
    """As from a terminal and `ros2 launch` at once."""
    model = constant_detector(tmp_path / 'm.onnx')
    camera = Camera(world)
    process = start('detector', world.domain_id, *parameters(model=model))
    camera.until_heard()
    stop = threading.Event()

    def flood() -> None:
        while not stop.is_set() and process.poll() is None:
            process.send_signal(signal.SIGINT)
            time.sleep(0.001)

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        code, said = ended(process, 'many SIGINT')
    finally:
        stop.set()
        thread.join()
    assert code == 0 and 'Traceback' not in said, said


def test_a_wrong_parameter_ends_it_with_one_line(domain_id: int) -> None:
    for wrong, words in (
        ('score_threshold:=high', "score_threshold: 'high' is not a double, such as 0.25"),
        ('score_threshold:=2.0', 'score_threshold'),
        ('backend:=cuda', "backend: 'cuda' is not one of auto, onnxruntime, tensorrt"),
        ('region_of_interest:=[1, 2]', 'region_of_interest: [1, 2] is not x, y, width, height'),
    ):
        code, said = ended(start('detector', domain_id, '-p', wrong), 'start')
        assert code == 2
        lines = [line for line in said.splitlines() if line.startswith('error: ')]
        assert len(lines) == 1 and words in lines[0], said
        assert 'Traceback' not in said


@pytest.mark.parametrize(
    'arguments',
    [
        ['--params-file', 'absent.yaml'],
        ['-r', 'image:=/bad topic!'],
        ['-r', '__node:=bad-name'],
        ['-p'],
        ['--log-level', 'frob'],
    ],
)
def test_wrong_ros_arguments_end_it_with_one_line(domain_id: int, arguments: list[str]) -> None:
    code, said = ended(start('detector', domain_id, *arguments), 'start')
    assert code == 2, said
    assert sum(line.startswith('error: ') for line in said.splitlines()) == 1
    assert 'Traceback' not in said
