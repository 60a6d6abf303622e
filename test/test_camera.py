# SPDX-License-Identifier: Apache-2.0
"""The camera over real DDS: its topics and stamps, and a source that goes and comes back."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic_ns
from typing import Any

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('av')

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from processes import TIMEOUT, parameters, start
from rclpy.parameter import Parameter
from rclpy.qos import ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from streams import RtspServer, WebCamera, jpeg_of, require_gstreamer
from test_camera_info import OF_CAMERA_CALIBRATION
from videos import number_of, write_video
from world import BEST_EFFORT, Managed, Robot, World, values

from trt_perception.core import PerceptionError
from trt_perception.nodes import camera
from trt_perception.nodes.camera import CameraNode
from trt_perception.ros.images import frame_from_image
from trt_perception.runtime.capture import Shot
from trt_perception.runtime.host.color import to_bgr


class Eye(Managed):
    """A camera in a world, and what it says."""

    name = 'camera'

    def __init__(self, world: World, *ros_args: str, **given: Any) -> None:
        self.world = world
        self._diagnostics = world.subscribe(DiagnosticArray, '/diagnostics')
        self._looked_at = 0
        self.node = CameraNode(
            context=world.context,
            cli_args=['--ros-args', *ros_args],
            parameter_overrides=[Parameter(name, value=value) for name, value in given.items()],
        )
        world.add(self.node)

    def until_says(self, words: str, level: bytes) -> dict[str, str]:
        """The values of the camera's first status, after the one found before, with these words."""

        def found() -> dict[str, str] | None:
            for number in range(self._looked_at, len(self._diagnostics)):
                (status,) = self._diagnostics[number].status
                said = (status.name, status.level) == ('camera: capture', level)
                if said and words in status.message:
                    self._looked_at = number + 1
                    return values(status)
            return None

        heard = self._diagnostics
        return self.world.until(found, f'{words!r}, last {heard[-1].status if heard else None}')


@pytest.fixture
def web() -> Iterator[WebCamera]:
    camera = WebCamera()
    yield camera
    camera.close()


@pytest.fixture
def calibration(tmp_path: Path) -> Path:
    path = tmp_path / 'calibration.yaml'
    path.write_text(OF_CAMERA_CALIBRATION)
    return path


def stamp(message: Image | CompressedImage | CameraInfo) -> tuple[int, int]:
    return message.header.stamp.sec, message.header.stamp.nanosec


def assert_accounted(told: dict[str, str]) -> None:
    """Where every image went that was read is known."""
    fates = ('published', 'unheard', 'dropped', 'limited', 'unusable')
    assert 0 < int(told['read']) == sum(int(told[fate]) for fate in fates)


def test_images_with_their_calibration(world: World, calibration: Path) -> None:
    images = world.subscribe(Image, '/front/image_raw')
    infos = world.subscribe(CameraInfo, '/front/camera_info')
    before = world.node.get_clock().now().nanoseconds
    eye = Eye(
        world,
        '-r', 'image:=/front/image_raw',
        source='pattern', frame_id='front_optical', encoding='nv12',
        camera_info_url=str(calibration),
    )  # fmt: skip
    world.until(lambda: len(images) > 5 and len(infos) > 5, 'images')
    world.remove(eye.node)
    assert {(m.width, m.height, m.encoding, m.step) for m in images} == {(640, 480, 'nv12', 640)}
    assert {m.header.frame_id for m in (*images, *infos)} == {'front_optical'}
    times = [sec * 1_000_000_000 + nanosec for sec, nanosec in map(stamp, images)]
    after = world.node.get_clock().now().nanoseconds
    assert [before, *times, after] == sorted({before, *times, after})
    # The same header on both, for whichever comes first to who looks.
    both = set(map(stamp, images)) & set(map(stamp, infos))
    assert len(both) > 4
    assert {(m.width, m.height, m.k[0]) for m in infos} == {(640, 480, 431.38739)}


def test_compressed(world: World, web: WebCamera) -> None:
    images = world.subscribe(CompressedImage, 'image/compressed', BEST_EFFORT)
    infos = world.subscribe(CameraInfo, 'camera_info', BEST_EFFORT)
    eye = Eye(world, source=web.url, image_transport='compressed', reliability='best_effort')
    world.until(lambda: len(images) > 5 and infos, 'images')
    assert {m.format for m in images} == {'jpeg'}
    # As the camera made them.
    assert {m.data.tobytes() for m in images} <= set(web.sent)
    assert {(m.width, m.height, m.k[0]) for m in infos} == {(64, 48, 0.0)}
    for topic in ('image/compressed', 'camera_info'):
        (info,) = eye.node.get_publishers_info_by_topic(topic)
        assert info.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT


def test_nothing_is_made_for_nobody(world: World) -> None:
    eye = Eye(world, source='pattern')
    idle = eye.until_says('images/s, nobody listens', DiagnosticStatus.OK)
    assert int(idle['unheard']) > 0 and idle['published'] == '0' and idle['subscribers'] == '0'
    images = world.subscribe(Image, 'image')
    world.until(lambda: images, 'an image')
    busy = eye.until_says(' dropped', DiagnosticStatus.OK)
    assert int(busy['published']) > 0 and busy['subscribers'] == '1'


def test_calibration_of_another_size(world: World, calibration: Path) -> None:
    infos = world.subscribe(CameraInfo, 'camera_info')
    eye = Eye(world, source='pattern', width=320, height=240, camera_info_url=str(calibration))
    words = 'the calibration is for 640x480 and the images are 320x240: camera_info says not'
    eye.until_says(words, DiagnosticStatus.WARN)
    world.until(lambda: infos, 'camera_info')
    assert {(m.width, m.height, m.k[0]) for m in infos} == {(320, 240, 0.0)}


def test_images_that_fit_the_calibration_again(
    world: World, calibration: Path, tmp_path: Path
) -> None:
    (tmp_path / 'one.jpg').write_bytes(jpeg_of(0, (480, 640)))
    # One picture, and a long time nothing: what comes then is in the hands of the test.
    eye = Eye(world, source=str(tmp_path), rate=0.001, camera_info_url=str(calibration))
    world.until(lambda: eye.node._stream, 'it is active')
    size = [320, 240]

    def send() -> None:
        assert eye.node._stream is not None
        eye.node._stream.on_read()
        eye.node._stream.on_shot(Shot(monotonic_ns(), *size, lambda: None))

    timer = world.node.create_timer(0.05, send)
    eye.until_says('the images are 320x240', DiagnosticStatus.WARN)
    size[:] = [640, 480]
    eye.until_says('images/s', DiagnosticStatus.OK)
    world.node.destroy_timer(timer)


def test_rtsp_server_that_dies_and_comes_back(world: World, tmp_path: Path) -> None:
    write_video(tmp_path / 'drive.mp4', 1000, codec='libx264')
    server = RtspServer(tmp_path)
    images = world.subscribe(Image, 'image')
    try:
        server.start()
        eye = Eye(world, source=server.url('drive.mp4'), timeout=1.0, longest_pause=0.5)
        ok = eye.until_says('images/s', DiagnosticStatus.OK)
        assert ok['images'] == 'h264, 64x48, 25 Hz' and ok['connected'] == '1'
        world.until(lambda: len(images) > 5, 'images')

        server.kill()
        gone = eye.until_says('nobody answers at 127.0.0.1; start the', DiagnosticStatus.ERROR)
        assert (gone['state'], gone['disconnected']) == ('waiting', '1')
        have = len(images)
        server.start()
        eye.until_says('images/s', DiagnosticStatus.OK)
        world.until(lambda: len(images) > have + 5, 'images again')

        # No connection ends, and nothing comes.
        server.hang()
        eye.until_says('gave nothing for 1 s', DiagnosticStatus.ERROR)
        server.kill()
        server.start()
        have = len(images)
        back = eye.until_says('images/s', DiagnosticStatus.OK)
        assert int(back['connected']) >= 3 and int(back['disconnected']) >= 2
        world.until(lambda: len(images) > have + 5, 'images again')

        world.remove(eye.node)
        assert_accounted(eye.until_says('unconfigured', DiagnosticStatus.WARN))
        assert {(m.width, m.height) for m in images} == {(64, 48)}
    finally:
        server.kill()


def test_a_device_that_is_not_there(world: World) -> None:
    """The node says so, goes on trying, and answers meanwhile."""
    eye = Eye(world, source='/dev/video99')
    said = eye.until_says('there is no such device', DiagnosticStatus.ERROR)
    assert said['source'] == '/dev/video99' and said['connected'] == '0'
    assert not eye.node.finished


def test_all_of_a_recording(world: World, tmp_path: Path) -> None:
    video = write_video(tmp_path / 'drive.mp4', 12)
    images = world.subscribe(Image, 'image')
    eye = Eye(world, source=str(video))
    world.until(lambda: eye.node.finished, 'the end')
    assert eye.node.exit_code == 0
    seen = [number_of(to_bgr(frame_from_image(m))) for m in images]
    # The first ones may come before DDS has brought the two together.
    assert seen == sorted(set(seen)) and seen[-1] == 11


def test_a_recording_that_begins_again_is_told_once(world: World, tmp_path: Path) -> None:
    images = world.subscribe(Image, 'image')
    log = world.log()
    video = write_video(tmp_path / 'drive.mp4', 3, rate=50)
    eye = Eye(world, source=str(video), loop=True)
    world.until(lambda: sum(number_of(to_bgr(frame_from_image(m))) == 2 for m in images) > 2, 'it')
    assert eye.until_says('images/s', DiagnosticStatus.OK)['connected'] == '1'
    assert sum(f'{video}: mpeg4' in line.msg for line in list(log)) == 1


def test_simulated_time(world: World) -> None:
    clock = world.node.create_publisher(Clock, '/clock', 1)
    images = world.subscribe(Image, 'image')
    eye = Eye(world, source='pattern', use_sim_time=True)
    message = Clock()
    message.clock.sec = 1000
    world.until(lambda: eye.node.count_publishers('/clock'), 'discovery')

    def told() -> bool:
        clock.publish(message)
        return bool(images) and images[-1].header.stamp.sec >= 999

    world.until(told, 'an image in simulated time')
    # Before there was one, time stood at 0, and nothing is stamped earlier.
    assert all(stamp(m) == (0, 0) or 990 < m.header.stamp.sec <= 1000 for m in images)


def test_to_a_detector_in_the_same_process(world: World, two: Path) -> None:
    """By reference: nothing subscribes to the camera's topic."""
    said = world.subscribe(DiagnosticArray, '/diagnostics')
    eye = Eye(world, source='pattern', frame_id='front')
    robot = Robot(world, two)
    world.until(lambda: len(robot.detections) > 3, 'detections')
    assert {d.header.frame_id for d in robot.detections} == {'front'}

    def by_reference() -> bool:
        told = [s for m in said for s in m.status if s.name == 'detector: inference']
        return bool(told) and values(told[-1]).get('images') == '/image (in this process)'

    world.until(by_reference, 'frames by reference')
    assert eye.node.count_subscribers('/image') == 0


def test_pipeline(world: World, tmp_path: Path) -> None:
    require_gstreamer(tmp_path)
    images = world.subscribe(Image, 'image')
    pipeline = 'videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=20/1'
    eye = Eye(world, pipeline=pipeline, encoding='yuv422_yuy2')
    world.until(lambda: len(images) > 3, 'images')
    assert {(m.width, m.encoding, m.step) for m in images} == {(320, 'yuv422_yuy2', 640)}
    said = eye.until_says('images/s', DiagnosticStatus.OK)
    assert (said['source'], said['images']) == (pipeline, 'yuv422_yuy2, 320x240, 20 Hz')


def test_exceptions_of_cpp_beside_gstreamer(tmp_path: Path) -> None:
    """Its libunwind must not come between what throws and what catches in the same process."""
    require_gstreamer(tmp_path)
    import gi

    code = f"""
import sys
sys.path.append({str(Path(gi.__file__).parents[1])!r})
import rclpy
from rclpy.context import Context
from rclpy.signals import SignalHandlerGuardCondition
from trt_perception.runtime.capture import Wish, capture_of
capture_of(Wish(pipeline='videotestsrc'))
import onnxruntime
context = Context()
rclpy.init(context=context)
guard = SignalHandlerGuardCondition(context)
guard.destroy()
try:
    guard.destroy()
except rclpy.exceptions.InvalidHandle:
    print('caught')
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, 'caught\n'), done.stderr


@pytest.mark.parametrize(
    ('given', 'words'),
    [
        ({}, 'source: is empty'),
        ({'source': 'ftp://camera/1'}, "'ftp' is not one of rtsp, rtsps, http, https"),
        ({'source': 'pattern', 'encoding': 'yuv9'}, "encoding: 'yuv9' is not one of bgr8, rgb8"),
        ({'source': 'pattern', 'rate': -1.0}, 'rate: -1.0 is not in 0 to 1000'),
        ({'source': 'pattern', 'camera_info_url': '/nowhere.yaml'}, "'/nowhere.yaml' cannot be r"),
    ],
)
def test_mistakes(world: World, given: dict[str, Any], words: str) -> None:
    with pytest.raises(PerceptionError) as caught:
        Eye(world, **given)
    assert words in str(caught.value) and '\n' not in str(caught.value)


# Lifecycle


@pytest.fixture
def talkative(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera, 'REPORT_PERIOD', 0.1)


@pytest.fixture
def capturing() -> Callable[[], int]:
    """How many threads read a source that did not before the test."""
    before = set(threading.enumerate())
    return lambda: sum(t.name == 'capture' for t in set(threading.enumerate()) - before)


@pytest.mark.usefixtures('talkative')
def test_the_whole_lifecycle(world: World, calibration: Path, capturing: Callable[[], int]) -> None:
    images = world.subscribe(Image, 'image')
    eye = Eye(world, autostart=False)
    assert eye.state() == 'unconfigured'
    # What can never work: said, and tried again when it is another value.
    for given, words in (
        ({}, 'not configured: source: is empty; give'),
        ({'source': '/nowhere/a.mp4'}, "not configured: source '/nowhere/a.mp4' does not exist"),
        ({'source': 'pattern', 'camera_info_url': '/nowhere.yaml'}, "'/nowhere.yaml' cannot be"),
    ):
        assert eye.set(**given) == ''
        assert not eye.change('configure') and eye.state() == 'unconfigured'
        assert eye.until_says(words, DiagnosticStatus.ERROR)['state'] == 'unconfigured'
    assert 'read-only' in eye.set(pipeline='videotestsrc ! filesink location=a')
    assert eye.set(encoding='yuv9').startswith("encoding: 'yuv9' is not one of bgr8")
    for url, optical in ((str(calibration), 'front'), ('', 'left')):
        assert eye.set(camera_info_url=url, frame_id=optical) == ''
        assert eye.change('configure') and eye.state() == 'inactive'
        assert eye.set(frame_id='not before it is configured') == ''
        inactive = eye.until_says('inactive', DiagnosticStatus.OK)
        assert (inactive['source'], inactive['state']) == ('pattern', 'inactive')
        assert (inactive['calibration'] == 'none') == (not url)
        assert capturing() == 0 and world.node.count_publishers('image') == 0
        assert eye.change('activate')
        images.clear()
        world.until(lambda: len(images) > 2, 'images')
        assert {m.header.frame_id for m in images} == {optical}
        assert eye.change('deactivate')
        assert capturing() == 0
        world.until(lambda: world.node.count_publishers('image') == 0, 'it is not advertised')
        assert eye.change('cleanup') and eye.state() == 'unconfigured'
        assert_accounted(eye.until_says('unconfigured', DiagnosticStatus.WARN))
    assert eye.change('shutdown') and eye.state() == 'finalized'


@pytest.mark.usefixtures('talkative')
def test_a_silent_source_is_left_and_taken_again(
    world: World, web: WebCamera, capturing: Callable[[], int], capfd: pytest.CaptureFixture[str]
) -> None:
    """It does not hold up who deactivates, nor the next activation."""
    images = world.subscribe(Image, 'image')
    eye = Eye(world, source=web.url, timeout=60.0)
    world.until(lambda: images, 'an image')
    web.flowing.clear()
    world.until(
        lambda: int(eye.until_says('images/s', DiagnosticStatus.OK)['read']) >= len(web.sent),
        'all that was sent is read',
    )
    assert eye.change('deactivate') and capturing() == 1
    assert 'does not answer; it is left when' in capfd.readouterr().err
    images.clear()
    assert eye.change('activate')
    web.flowing.set()
    world.until(lambda: len(images) > 2, 'images')
    world.until(lambda: capturing() == 1, 'the one before has come back')
    world.remove(eye.node)
    assert_accounted(eye.until_says('unconfigured', DiagnosticStatus.WARN))


@pytest.mark.usefixtures('talkative')
def test_a_source_that_cannot_work_is_left_to_the_manager(world: World, tmp_path: Path) -> None:
    """The node does not end, and may be given another one."""
    words = tmp_path / 'words.mp4'
    words.write_text('This is no video.\n' * 100)
    eye = Eye(world, autostart=False, source=str(words))
    assert eye.change('configure') and eye.change('activate')
    assert eye.until_says('no video that FFmpeg can', DiagnosticStatus.ERROR)['state'] == 'failed'
    assert eye.change('deactivate')
    said = eye.until_says('no video that FFmpeg can', DiagnosticStatus.ERROR)
    assert said['state'] == 'inactive'
    # It may go, too.
    words.unlink()
    assert not eye.change('activate') and eye.state() == 'unconfigured'
    eye.until_says(f"on_activate failed: CaptureError: source '{words}'", DiagnosticStatus.ERROR)
    # And a recording may be seen again.
    write_video(words, 3)
    assert eye.change('configure')
    for turn in (1, 2):
        assert eye.change('activate')
        assert eye.until_says('ended', DiagnosticStatus.OK)['connected'] == str(turn)
        assert eye.change('deactivate')
    assert not eye.node.finished and eye.node.exit_code == 0


# As a process of its own


def test_process_stops_on_a_signal_while_its_source_is_silent(world: World, web: WebCamera) -> None:
    images = world.subscribe(Image, 'image')
    process = start('camera', world.domain_id, *parameters(source=web.url, timeout=2.0))
    world.until(lambda: images, 'an image')
    web.flowing.clear()
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, log
    assert 'Traceback' not in log


def test_process_ends_where_trying_again_cannot_help(domain_id: int, tmp_path: Path) -> None:
    words = tmp_path / 'words.mp4'
    words.write_text('This is no video.\n' * 100)
    process = start('camera', domain_id, *parameters(source=words))
    _, log = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1
    assert f"source '{words}': is no video that FFmpeg can read" in log


def test_process_names_a_mistake_in_one_line(domain_id: int) -> None:
    process = start('camera', domain_id, *parameters(source='/nowhere/a.mp4'))
    _, log = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 2
    assert log.splitlines() == [
        "error: source '/nowhere/a.mp4' does not exist; give /dev/video0, an rtsp:// or http://"
        ' address, a video file, a folder of jpg and png pictures, or pattern'
    ]
