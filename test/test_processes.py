# SPDX-License-Identifier: Apache-2.0
"""Player and detector as processes of their own, checked from a third one."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import constant_detector

pytest.importorskip('rclpy')
pytest.importorskip('av')
pytest.importorskip('rosbags')

from diagnostic_msgs.msg import DiagnosticArray
from processes import TIMEOUT, parameters, start
from sensor_msgs.msg import CompressedImage, Image
from videos import write_video
from vision_msgs.msg import Detection2DArray
from world import BEST_EFFORT, RELIABLE, Camera, World, picture

from trt_perception.core import Selection
from trt_perception.health.statistics import FrameCounts
from trt_perception.replay.bag_writer import write_bag
from trt_perception.replay.sources import open_source
from trt_perception.ros.fastdds import VARIABLES, default_profile
from trt_perception.ros.inference_status import inference_status
from trt_perception.runtime.pipeline import open_pipeline

FRAMES = 10  # as many as a publisher keeps until they have arrived
#: Environment of a player of large images, with and without what they need.
PROFILE = dict.fromkeys(VARIABLES, str(default_profile()))
NO_PROFILE = dict.fromkeys(VARIABLES, '')


class Checker:
    """Sees images, detections and diagnostics of the others."""

    def __init__(self, world: World, kind: Any = Image, topic: str = 'image') -> None:
        self.world = world
        self.images: list[Any] = world.subscribe(kind, topic)
        self.detections: list[Detection2DArray] = world.subscribe(Detection2DArray, 'detections')
        self._said: list[dict[str, Any]] = []
        world.node.create_subscription(DiagnosticArray, '/diagnostics', self._hear, 100)
        self._processes: list[subprocess.Popen[str]] = []

    def start(
        self, executable: str, env: dict[str, str] | None = None, **values: Any
    ) -> subprocess.Popen[str]:
        process = start(executable, self.world.domain_id, *parameters(**values), **(env or {}))
        self._processes.append(process)
        return process

    def _hear(self, message: DiagnosticArray) -> None:
        status = inference_status(message)
        if status is not None:
            self._said.append(status)

    def status(self) -> dict[str, Any]:
        """What the detector says of itself; empty before it does."""
        return self._said[-1] if self._said else {}

    def next_status(self) -> dict[str, Any]:
        """What it says of a whole period from now on."""
        heard = len(self._said) + 2
        self.world.until(lambda: len(self._said) >= heard, 'diagnostics')
        return self.status()

    def until_says(self, words: str) -> dict[str, Any]:
        """The first status that says so; none is missed, however soon another one follows."""

        def found() -> dict[str, Any] | None:
            return next((said for said in list(self._said) if words in said['message']), None)

        return self.world.until(found, words)

    def accounted(self, received: int) -> dict[str, Any]:
        """The status that tells where so many images went."""

        def whole() -> dict[str, Any]:
            status = self.status()
            known = status.get('received') == received == sum(status[f] for f in FrameCounts.FATES)
            return status if known else {}

        return self.world.until(whole, f'{received} images accounted for')

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        for process in self._processes:
            try:
                _, said = process.communicate(timeout=TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
            assert process.returncode == 0, said


@pytest.fixture
def checkers(domain_id: int) -> Iterator[Any]:
    """Make a `Checker` in a domain; all that it started must end well."""
    made: list[Checker] = []

    def make(domain: int = domain_id, **options: Any) -> Checker:
        made.append(Checker(World(domain), **options))
        return made[-1]

    yield make
    try:
        for checker in made:
            checker.close()
    finally:
        for checker in made:
            checker.world.close()


def send_until(world: World, camera: Camera, image: Image, answers: list[Any]) -> None:
    """Send an image until it is answered: the first may come before the other side is ready."""

    def answered() -> bool:
        camera.send(image)
        return bool(answers)

    world.until(answered, 'detections')


def boxes(message: Detection2DArray) -> list[tuple[Any, ...]]:
    return [
        (
            d.results[0].hypothesis.class_id,
            d.results[0].hypothesis.score,
            d.bbox.center.position.x,
            d.bbox.center.position.y,
            d.bbox.size_x,
            d.bbox.size_y,
        )
        for d in message.detections
    ]


@pytest.mark.parametrize(('storage', 'compressed'), [('sqlite3', False), ('mcap', True)])
def test_a_bag_of_a_real_video(
    checkers: Any, assets: Path, tmp_path: Path, storage: Any, compressed: bool
) -> None:
    """What comes over DDS is what the pipeline finds in the bag's own frames, number by number."""
    model = assets / 'models' / 'yolox_nano_416.onnx'
    video = open_source(assets / 'data' / 'carnd_vehicle_test_video.mp4')
    bag = tmp_path / 'bag'
    write_bag(bag, islice(video.frames(), FRAMES), storage, compressed=compressed)
    pipeline = open_pipeline(model, labels='coco', threads=1)
    expected = {
        timed.frame.data.tobytes(): pipeline(timed.frame, Selection()).detections
        for timed in open_source(bag).frames()
    }

    kind, topic = (CompressedImage, 'image/compressed') if compressed else (Image, 'image')
    checker = checkers(kind=kind, topic=topic)
    checker.start('detector', model=model, labels='coco', threads=1, image_depth=100)
    checker.world.until(lambda: checker.status().get('state') == 'active', 'active')
    checker.start('player', PROFILE, input=bag, rate=5.0, wait_for_subscribers=2)
    status = checker.accounted(received=FRAMES)
    checker.world.until(lambda: len(checker.images) == FRAMES, 'images')
    checker.world.until(lambda: len(checker.detections) == status['published'], 'detections')

    assert status['published'] + status['dropped'] == FRAMES
    assert status['published'] >= 2  # the first and the last at least
    sent = {(m.header.stamp.sec, m.header.stamp.nanosec): m for m in checker.images}
    assert len(sent) == FRAMES
    cars = 0
    for answer in checker.detections:
        image = sent[answer.header.stamp.sec, answer.header.stamp.nanosec]
        assert answer.header == image.header
        found = expected[bytes(image.data)]
        half = (found.boxes[:, 2:].astype(float) - found.boxes[:, :2]) / 2
        centre = found.boxes[:, :2] + half
        assert len(answer.detections) == len(found)
        names = [pipeline.spec.class_name(k) for k in found.class_ids]
        want = np.column_stack((found.scores, centre, 2 * half)).tolist()
        got = boxes(answer)
        assert [row[0] for row in got] == names
        np.testing.assert_allclose([row[1:] for row in got], want, rtol=1e-6)
        cars += names.count('car')
    assert cars >= status['published']


def test_large_images_that_are_lost_are_named(checkers: Any, tmp_path: Path) -> None:
    """Best effort and 6 MiB between processes: they arrive with the profile only."""
    model = constant_detector(tmp_path / 'm.onnx')
    video = write_video(tmp_path / 'v.mp4', 20, width=1920, height=1080)
    checker = checkers()
    checker.start('detector', model=model)
    checker.world.until(lambda: checker.status().get('state') == 'active', 'active')
    play = {'input': video, 'rate': 10.0, 'loop': True, 'reliability': 'best_effort'}
    player = checker.start('player', NO_PROFILE, **play)
    complaint = checker.until_says('were lost on their way here')
    assert 'config/fastdds_large_images.xml' in complaint['message']
    assert complaint['level'] == 'warn'
    player.send_signal(signal.SIGINT)
    checker.world.until(lambda: checker.world.node.count_publishers('image') == 0, 'the end')
    before = checker.next_status()
    assert before['lost'] > 0  # how many depends on the machine
    checker.start('player', PROFILE, **play)

    def nearly_all_came() -> bool:
        new = {name: checker.status()[name] - before[name] for name in ('received', 'lost')}
        return new['received'] >= 20 and new['lost'] < 0.2 * new['received']

    checker.world.until(nearly_all_came, 'images')


def test_two_robots_in_two_domains(
    checkers: Any, domain_id: int, other_domain_id: int, tmp_path: Path
) -> None:
    model = constant_detector(tmp_path / 'm.onnx')
    robots = [checkers(domain_id), checkers(other_domain_id)]
    for number, checker in enumerate(robots, 1):
        checker.start('detector', model=model)
        camera = Camera(checker.world).until_heard()
        send_until(checker.world, camera, picture(number), checker.detections)
    for number, checker in enumerate(robots, 1):
        assert {d.header.stamp.sec for d in checker.detections} == {number}


def test_a_quality_of_service_mismatch_is_named(checkers: Any, tmp_path: Path) -> None:
    model = constant_detector(tmp_path / 'm.onnx')
    video = write_video(tmp_path / 'v.mp4', 50)
    checker = checkers()
    checker.start('detector', model=model, image_reliability='reliable')
    checker.start('player', input=video, reliability='best_effort', loop=True)
    words = '/player publishes /image best_effort and image_reliability is reliable'
    status = checker.until_says(words)
    assert (status['level'], status['received']) == ('warn', 0)
    assert not checker.detections


def test_topics_nodes_and_namespaces_are_renamed(world: World, tmp_path: Path) -> None:
    model = constant_detector(tmp_path / 'm.onnx')
    seen = world.subscribe(Detection2DArray, '/front/objects')
    remap = ['-r', '__ns:=/front', '-r', '__node:=eye', '-r', 'detections:=objects']
    remap += ['-r', 'image:=/camera/image_raw']
    process = start('detector', world.domain_id, *parameters(model=model), *remap)
    try:
        camera = Camera(world, '/camera/image_raw', qos=BEST_EFFORT).until_heard()
        world.until(lambda: world.node.count_publishers('/front/objects'), 'publisher')
        world.until(lambda: world.node.count_subscribers('/front/objects'), 'subscriber')
        image = picture(4)
        send_until(world, camera, image, seen)
        assert seen[0].header == image.header
        # It comes on a topic of its own, and may come last.
        named = world.node.get_node_names_and_namespaces
        world.until(lambda: ('eye', '/front') in named(), 'its name')
        compressed = Camera(world, '/camera/image_raw/compressed', CompressedImage, RELIABLE)
        assert compressed.publisher.get_subscription_count() == 0
    finally:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, said
