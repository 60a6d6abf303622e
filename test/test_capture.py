# SPDX-License-Identifier: Apache-2.0
"""Sources of live images: real files, streams and pipelines, that end, stall and come back."""

from __future__ import annotations

import errno
import sys
import threading
import wave
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, monotonic_ns
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip('av')

import av
from processes import TIMEOUT
from streams import WebCamera, jpeg_of, require_gstreamer, write_jpegs
from videos import number_of, write_video

from trt_perception.core import Frame, FrameError
from trt_perception.core.compressed import compressed_size
from trt_perception.runtime.capture import (
    Capture,
    CaptureError,
    CaptureLoop,
    Shot,
    Wish,
    capture_of,
)
from trt_perception.runtime.capture.av import BEHIND, AvCapture, frame_of
from trt_perception.runtime.capture.base import without_passwords
from trt_perception.runtime.capture.edge import WAITED, LiveEdge
from trt_perception.runtime.capture.formats import FORMATS, LUMA_FROM_16
from trt_perception.runtime.capture.v4l2 import v4l2_advice, v4l2_options
from trt_perception.runtime.host.color import to_bgr

NEVER = threading.Event()


@pytest.fixture(scope='session')
def gst(tmp_path_factory: pytest.TempPathFactory) -> None:
    require_gstreamer(tmp_path_factory.mktemp('gi'))


@pytest.fixture
def web() -> Iterator[WebCamera]:
    camera = WebCamera()
    yield camera
    camera.close()


def shots(capture: Capture, stop: threading.Event = NEVER) -> Iterator[Shot]:
    """All that a source gives, unhurried by the times when it is due."""
    capture.open(stop)
    try:
        while (shot := capture.read(stop)) is not None:
            yield shot
    finally:
        capture.close()


def numbers(capture: Capture) -> list[int]:
    return [number_of(to_bgr(shot.develop())) for shot in shots(capture)]


def refusal(call: Callable[[], object]) -> CaptureError:
    with pytest.raises(CaptureError) as caught:
        call()
    assert '\n' not in str(caught.value)
    return caught.value


class Seen:
    """What a `CaptureLoop` tells."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.frames: list[Frame] = []
        self.shots: list[Shot] = []
        self.unusable: list[FrameError] = []
        self.failed: list[tuple[CaptureError, float]] = []
        self.counts: Counter[str] = Counter()
        self.ended = 0
        self.go_on = threading.Event()
        self.go_on.set()

    def on_open(self, what: str) -> None:
        self.opened.append(what)

    def on_shot(self, shot: Shot) -> None:
        self.frames.append(shot.develop())
        self.shots.append(shot)
        self.go_on.wait()

    def on_unusable(self, error: FrameError) -> None:
        self.unusable.append(error)

    def on_passed(self, fate: str, number: int) -> None:
        self.counts[fate] += number

    def on_read(self) -> None:
        self.counts['read'] += 1

    def on_failed(self, error: CaptureError, pause: float) -> None:
        self.failed.append((error, pause))

    def on_end(self) -> None:
        self.ended += 1

    def until(self, condition: Callable[[], object]) -> None:
        give_up = monotonic() + TIMEOUT
        while not condition():
            assert monotonic() < give_up, vars(self)
            NEVER.wait(0.01)


@pytest.fixture
def run() -> Iterator[Callable[..., tuple[Seen, CaptureLoop]]]:
    """Start a `CaptureLoop`; it is closed after the test."""
    loops: list[tuple[Seen, CaptureLoop]] = []

    def start(capture: Capture, **options: object) -> tuple[Seen, CaptureLoop]:
        seen = Seen()
        loops.append((seen, CaptureLoop(capture, seen, **options)))  # type: ignore[arg-type]
        return loops[-1]

    yield start
    for seen, loop in loops:
        seen.go_on.set()
        loop.close()


# At the door


@pytest.mark.parametrize(
    ('wish', 'words'),
    [
        (Wish(), 'source: is empty; give /dev/video0, an rtsp:// or http:// address'),
        (Wish('foo://camera/1'), "source 'foo://camera/1': 'foo' is not one of rtsp, rtsps, http"),
        (Wish('rtsp:///1'), "source 'rtsp:///1' names no machine, as in rtsp://machine/"),
        (
            Wish('rtsp://me:pw@h:x/'),
            "source 'rtsp://***@h:x/' is not an address; write it as rtsp://",
        ),
        (Wish('/nowhere/a.mp4'), "source '/nowhere/a.mp4' does not exist; give /dev/video0"),
        (Wish('pattern', 'fakesrc'), "source 'pattern' and a pipeline are given; leave one"),
        (Wish('pattern', encoding='yuv9'), "encoding 'yuv9' is not one of bgr8, rgb8"),
        (Wish('pattern', width=640), 'width 640 and height 0: give both or none'),
    ],
)
def test_what_no_source_can_be(wish: Wish, words: str) -> None:
    error = refusal(lambda: capture_of(wish))
    assert str(error).startswith(words) and error.final


def test_passwords_are_not_shown() -> None:
    for given, shown in (
        ('rtsp://me:secret@10.0.0.1:554/a?b=c@d', 'rtsp://***@10.0.0.1:554/a?b=c@d'),
        ('rtsp://me:se@cret@10.0.0.1/', 'rtsp://***@10.0.0.1/'),
        ('rtsp://me:sec/ret@10.0.0.1/', 'rtsp://***@10.0.0.1/'),
        ('http://10.0.0.1:80/a@b', 'http://10.0.0.1:80/a@b'),
        ('http://h/v.cgi?user=me&pwd=secret&n=1', 'http://h/v.cgi?user=me&pwd=***&n=1'),
        (
            'rtspsrc location=rtsp://me:s@h/ user-pw=s ! x',
            'rtspsrc location=rtsp://***@h/ user-pw=*** ! x',
        ),
    ):
        assert without_passwords(given) == shown
    for address in (
        'rtsp://me:se/cret@h/1', 'rtsp://me:se@cret@h/1', 'rtsp://me:1?secret@h/1',
        'rtsp://me:1#secret@h/1', 'http://h/cgi?user=me&pwd=secret',
    ):  # fmt: skip
        assert 'cret' not in without_passwords(address)
    error = refusal(lambda: capture_of(Wish('rtsp://me:secret/@h/')))
    assert 'cret' not in str(error) and '%2F' in str(error)
    capture = capture_of(Wish('rtsp://me:secret@127.0.0.1:9/'))
    error = refusal(lambda: capture.open(NEVER))
    assert 'nobody answers at 127.0.0.1' in str(error) and 'secret' not in str(error)
    assert not error.final


def test_without_pyav(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, 'av', None)
    for wish in (Wish('/dev/video0'), Wish('rtsp://h/'), Wish('pattern', encoding='nv12')):
        error = refusal(lambda wish=wish: capture_of(wish))  # type: ignore[misc]
        assert 'needs PyAV' in str(error) and 'pip install av' in str(error) and error.final
    # What does not need it goes on without it.
    assert next(shots(capture_of(Wish('pattern')))).develop().encoding == 'bgr8'
    (tmp_path / '1.jpg').write_bytes(jpeg_of(3))
    assert numbers(capture_of(Wish(str(tmp_path)))) == [3]


def test_without_gstreamer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'gi', None)
    error = refusal(lambda: capture_of(Wish(pipeline='videotestsrc')))
    assert str(error).startswith('a pipeline needs GStreamer (')
    assert 'sudo apt install python3-gi' in str(error) and error.final


# V4L2


@pytest.mark.parametrize(
    ('wish', 'options'),
    [
        (Wish(), {}),
        (Wish(width=1280, height=720), {'video_size': '1280x720'}),
        (Wish(rate=7.5), {'framerate': '7.5'}),
        (Wish(device_format='yuyv422'), {'input_format': 'yuyv422'}),
        (Wish(compressed=True), {'input_format': 'mjpeg'}),
        (Wish(compressed=True, device_format='h264'), {'input_format': 'h264'}),
    ],
)
def test_what_is_asked_of_a_device(wish: Wish, options: dict[str, str]) -> None:
    always = {'timestamps': 'default', 'fflags': '+4'}
    assert v4l2_options(wish) == always | options


def test_ffmpeg_knows_the_options() -> None:
    """One that it does not know would be refused before the device is looked for."""
    wish = Wish(width=1280, height=720, rate=30.0, device_format='mjpeg')
    with pytest.raises(FileNotFoundError):
        av.open('/dev/video99', format='v4l2', options=v4l2_options(wish))
    with pytest.raises(ValueError):
        av.open('/dev/video99', format='v4l2', options={'fflags': '+no_such_flag'})


def test_devices_that_are_not_there() -> None:
    gone = refusal(lambda: capture_of(Wish('/dev/video99')).open(NEVER))
    assert str(gone).startswith("source '/dev/video99': there is no such device; there is ")
    assert not gone.final  # it may be plugged in yet
    other = refusal(lambda: capture_of(Wish('/dev/null')).open(NEVER))
    assert str(other) == "source '/dev/null': is not a camera"
    advice = v4l2_advice('/dev/video0')
    assert 'sudo usermod -aG video $USER' in advice[errno.EACCES]
    assert 'fuser /dev/video0' in advice[errno.EBUSY]


def stamped(first: float, rate: int = 25) -> AvCapture:
    """FFmpeg's own device, whose first image is of this second of CLOCK_MONOTONIC."""
    graph = f'testsrc=size=64x48:rate={rate},settb=1/1000000,setpts=(N/{rate}+{first:.6f})/TB'
    return AvCapture(graph, Wish(timeout=0.5), name='test', format='lavfi')


def test_stamps_of_a_device_are_kept() -> None:
    first = round(monotonic() - 5.0, 2)
    seen = [shot for shot, _ in zip(shots(stamped(first)), range(20), strict=False)]
    wanted = [(first + k / 25) * 1e9 for k in range(20)]
    assert [s.taken for s in seen] == pytest.approx(wanted, abs=2000)


@pytest.mark.parametrize('ahead', [-3600.0, 3600.0])
def test_stamps_of_another_clock_are_not_taken_over(ahead: float) -> None:
    before = monotonic_ns()
    shot = next(shots(stamped(monotonic() + ahead)))
    assert before < shot.taken < monotonic_ns()


class Reluctant:
    """A device's container that has nothing yet, so many times; FFmpeg then raises EAGAIN."""

    def __init__(self, container: Any, times: float) -> None:
        self._container = container
        self.times = times

    def demux(self, stream: Any) -> Iterator[Any]:
        self.times -= 1
        if self.times >= 0:
            raise av.BlockingIOError(errno.EAGAIN, 'Resource temporarily unavailable')
        return self._container.demux(stream)

    def close(self) -> None:
        self._container.close()


def test_a_device_that_has_nothing_yet() -> None:
    capture = stamped(monotonic())
    capture.open(NEVER)
    capture._container = reluctant = Reluctant(capture._container, 5)  # type: ignore[assignment]
    assert capture.read(NEVER) is not None
    reluctant.times = float('inf')
    error = refusal(lambda: capture.read(NEVER))
    assert str(error) == "source 'test' gave nothing for 0.5 s"
    stop = threading.Event()
    stop.set()
    assert capture.read(stop) is None
    capture.close()


# A stream's own time


def test_what_is_waited_for_is_new() -> None:
    edge = LiveEdge()
    assert edge.came(5, 100) == 100  # nothing is known yet
    assert edge.behind(0, WAITED, 1000) == 0
    # Each comes 10 later than the one before, and is read 30 later.
    assert [edge.behind(10 * k, 0, 1000 + 30 * k) for k in range(1, 4)] == [20, 40, 60]
    assert edge.came(30, 1090) == 1030
    assert edge.came(None, 1090) == 1090
    # One that had to be waited for: nothing was left before it.
    assert edge.behind(40, WAITED, 2000) == 0
    assert edge.came(40, 2000) == 2000
    # What came faster than its time was late before.
    assert edge.behind(1000, 0, 2001) == 0
    assert edge.came(990, 2001) == 1991
    # Nothing comes before its time.
    assert edge.came(5000, 2002) == 2002


# The test pattern


def test_pattern() -> None:
    capture = capture_of(Wish('pattern', width=322, height=240, rate=50.0))
    before = monotonic_ns()
    assert capture.open(NEVER) == 'pattern, 322x240, 50 Hz'
    taken = []
    pictures = []
    for _ in range(3):
        shot = capture.read(NEVER)
        assert shot is not None
        taken.append(shot.taken)
        pictures.append(to_bgr(shot.develop()))
        assert (shot.width, shot.height) == (322, 240)
    assert pictures[0].shape == (240, 322, 3)
    assert not np.array_equal(pictures[0], pictures[1])
    assert taken[0] >= before and np.diff(taken).tolist() == [20_000_000, 20_000_000]


@pytest.mark.parametrize('encoding', FORMATS)
def test_every_encoding(encoding: str) -> None:
    """They show the same picture, seen through what the detector makes of them."""
    plain = to_bgr(next(shots(capture_of(Wish('pattern')))).develop())
    frame = next(shots(capture_of(Wish('pattern', encoding=encoding)))).develop()
    assert (frame.encoding, frame.width, frame.height) == (encoding, 640, 480)
    picture = to_bgr(frame)
    if encoding == 'mono8':
        plain = cv2.cvtColor(cv2.cvtColor(plain, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    difference = np.abs(picture.astype(int) - plain)
    # Chroma is shared at the edges of the bars.
    assert np.median(difference) <= 2 and difference.mean() < 4


def test_a_size_that_an_encoding_cannot_hold() -> None:
    shot = next(shots(capture_of(Wish('pattern', encoding='nv12', width=33, height=31))))
    with pytest.raises(FrameError, match='sizes must be even'):
        shot.develop()


# Files and folders


def test_video(tmp_path: Path) -> None:
    path = write_video(tmp_path / 'a.mp4', 28)
    capture = capture_of(Wish(str(path)))
    assert capture.recorded
    seen = list(shots(capture))
    assert [number_of(to_bgr(s.develop())) for s in seen] == list(range(28))
    # Due at its own rate.
    assert set(np.diff([s.taken for s in seen]).tolist()) == {40_000_000}
    # And again, from the start.
    assert numbers(capture) == list(range(28))


def test_a_video_that_was_cut_off(
    run: Callable[..., tuple[Seen, CaptureLoop]], tmp_path: Path
) -> None:
    """What is there is shown, and what is not there is counted."""
    path = write_video(tmp_path / 'a.mp4', 28, rate=100, faststart=True)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    seen, _ = run(capture_of(Wish(str(path))))
    seen.until(lambda: seen.ended)
    assert 0 < seen.counts['read'] < 28 and not seen.failed
    assert seen.counts['read'] + seen.counts['skipped'] == 28


def test_a_video_put_together_from_two(tmp_path: Path) -> None:
    """The times of the second begin anew, and go on for who plays it."""
    part = write_video(tmp_path / 'part.ts', 5)
    path = tmp_path / 'a.ts'
    path.write_bytes(part.read_bytes() * 2)
    seen = list(shots(capture_of(Wish(str(path)))))
    assert [number_of(to_bgr(s.develop())) for s in seen] == [0, 1, 2, 3, 4] * 2
    times = [s.taken for s in seen]
    assert times == sorted(times)


def test_jpegs_are_passed_on_as_they_are(tmp_path: Path) -> None:
    path = write_jpegs(tmp_path / 'a.avi', 5, 25)
    frames = [s.develop() for s in shots(capture_of(Wish(str(path), compressed=True)))]
    assert [f.data.tobytes() for f in frames] == [jpeg_of(n) for n in range(5)]
    # From another codec they have to be made.
    video = write_video(tmp_path / 'a.mp4', 3)
    made = [s.develop() for s in shots(capture_of(Wish(str(video), compressed=True)))]
    assert [(f.encoding, number_of(to_bgr(f))) for f in made] == [('jpeg', n) for n in range(3)]
    assert {compressed_size(f.data) for f in made} == {(64, 48)}


def test_jpegs_of_another_size_and_none(tmp_path: Path) -> None:
    """A camera that is told to send others, and packets that got lost in part."""
    path = tmp_path / 'a.mjpeg'
    whole = [jpeg_of(0), jpeg_of(1, (96, 128)), jpeg_of(2)]
    path.write_bytes(b''.join([*whole, b'\xff\xd8\xff\xd9']))
    seen = list(shots(capture_of(Wish(str(path), compressed=True))))
    assert [(s.width, s.height) for s in seen] == [(64, 48), (128, 96), (64, 48), (0, 0)]
    assert [s.develop().data.tobytes() for s in seen[:3]] == whole
    with pytest.raises(FrameError, match='does not state its size'):
        seen[3].develop()


@pytest.mark.parametrize('encoding', LUMA_FROM_16)
def test_jpegs_have_black_at_0(tmp_path: Path, encoding: str) -> None:
    path = write_jpegs(tmp_path / 'a.avi', 28, 25)
    assert numbers(capture_of(Wish(str(path), encoding=encoding))) == list(range(28))


def test_what_fits_already_is_not_copied() -> None:
    for encoding in ('bgr8', 'mono8', 'yuv422_yuy2', 'rgba8'):
        image = av.VideoFrame(64, 48, FORMATS[encoding].ffmpeg)
        frame = frame_of(image, encoding)
        assert frame.data.ctypes.data == image.planes[0].buffer_ptr
        assert frame.step == image.planes[0].line_size


def test_pictures(tmp_path: Path) -> None:
    for name, number in (('a10.jpg', 2), ('a9.jpg', 1), ('a1.JPEG', 0)):
        (tmp_path / name).write_bytes(jpeg_of(number))
    cv2.imwrite(str(tmp_path / 'b.png'), np.full((30, 40, 3), 40, np.uint8))
    (tmp_path / 'a95.jpg').write_bytes(b'\xff\xd8torn')
    (tmp_path / 'notes.txt').write_text('none')
    capture = capture_of(Wish(str(tmp_path), compressed=True, rate=100.0))
    seen = list(shots(capture))
    assert [(s.width, s.height) for s in seen] == [(64, 48)] * 3 + [(0, 0), (40, 30)]
    with pytest.raises(FrameError, match=r"picture '.*a95\.jpg'"):
        seen.pop(3).develop()
    frames = [s.develop() for s in seen]
    assert [f.data.tobytes() for f in frames[:3]] == [jpeg_of(n) for n in range(3)]
    assert [f.encoding for f in frames] == ['jpeg'] * 3 + ['png']
    assert next(shots(capture_of(Wish(str(tmp_path))))).develop().encoding == 'bgr8'


def test_files_that_are_no_images(tmp_path: Path) -> None:
    words = tmp_path / 'words.mp4'
    words.write_text('This is no video.\n' * 100)
    sound = tmp_path / 'sound.wav'
    with wave.open(str(sound), 'wb') as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(8000))
    (tmp_path / 'empty').mkdir()
    for path, reason in (
        (words, f"source '{words}': is no video that FFmpeg can read"),
        (sound, f"source '{sound}' has no video stream"),
        (tmp_path / 'empty', f"source '{tmp_path}/empty' is a folder without jpg or png pictures"),
    ):
        error = refusal(lambda path=path: next(shots(capture_of(Wish(str(path))))))  # type: ignore[misc]
        assert str(error) == reason and error.final


# Streams


def test_a_web_camera(web: WebCamera) -> None:
    capture = capture_of(Wish(web.url, compressed=True))
    assert not capture.recorded
    before = monotonic_ns()
    images = shots(capture)
    got = [next(images) for _ in range(20)]
    assert before < got[0].taken and got[-1].taken < monotonic_ns()
    assert [s.taken for s in got] == sorted(s.taken for s in got)
    # As they were sent, and without a gap.
    frames = [s.develop().data.tobytes() for s in got]
    first = web.sent.index(frames[0])
    assert frames == web.sent[first : first + 20]
    images.close()  # type: ignore[attr-defined]


def test_addresses_that_a_camera_refuses(web: WebCamera) -> None:
    for path, words in (
        ('locked', 'the camera wants a name and a password, as in rtsp://name:password@machine/'),
        ('nothing', 'the camera has nothing there; its manual tells the paths of its streams'),
    ):
        capture = capture_of(Wish(web.url.replace('video', path)))
        error = refusal(lambda capture=capture: capture.open(NEVER))  # type: ignore[misc]
        assert str(error) == f"source '{capture.name}': {words}" and not error.final


def test_who_reads_slowly_reads_what_is_new(web: WebCamera) -> None:
    """A stream that is read slower than it comes is caught up with, and what that costs is told."""
    web.rate = 25.0  # what FFmpeg takes for the rate of such a stream, for it carries no times
    capture = capture_of(Wish(web.url, compressed=True))
    images = shots(capture)
    next(images)
    skipped = 0
    give_up = monotonic() + TIMEOUT
    while not skipped:
        assert monotonic() < give_up
        NEVER.wait(3 / web.rate)
        shot = next(images)
        skipped += capture.skipped()
    latest = len(web.sent)
    at = len(web.sent) - 1 - web.sent[::-1].index(shot.develop().data.tobytes())
    # Not further back than where catching up ends, and no more than it began with.
    assert latest - at <= BEHIND / 1e9 * web.rate + 5
    images.close()  # type: ignore[attr-defined]


def test_a_stream_that_stalls(web: WebCamera, run: Callable[..., tuple[Seen, CaptureLoop]]) -> None:
    seen, loop = run(capture_of(Wish(web.url, timeout=0.5)))
    seen.until(lambda: len(seen.frames) > 3)
    web.flowing.clear()
    seen.until(lambda: seen.failed)
    assert str(seen.failed[0][0]) == f"source '{web.url}' gave nothing for 0.5 s"
    web.flowing.set()
    seen.until(lambda: len(seen.opened) == 2)
    have = len(seen.frames)
    seen.until(lambda: len(seen.frames) > have)
    web.flowing.clear()
    # With a reader that waits for a stream which gives nothing.
    loop.close()
    told = (len(seen.frames), len(seen.failed))
    web.flowing.set()
    NEVER.wait(0.2)
    assert told == (len(seen.frames), len(seen.failed))


# The loop


def test_a_slow_receiver_gets_the_freshest(
    run: Callable[..., tuple[Seen, CaptureLoop]],
) -> None:
    capture = capture_of(Wish('pattern', rate=100.0, width=64, height=48))
    seen, loop = run(capture)
    seen.go_on.clear()
    seen.until(lambda: seen.counts['read'] > 20 and seen.frames)
    held = len(seen.frames)
    seen.go_on.set()
    seen.until(lambda: len(seen.frames) > held)
    # All but the one that waited were overtaken by it.
    assert seen.shots[held].taken - seen.shots[held - 1].taken > 10 * 10_000_000
    loop.close()
    # One may have waited when it was closed.
    assert 0 <= seen.counts['read'] - seen.counts['dropped'] - len(seen.frames) <= 1


def test_rate_limit(run: Callable[..., tuple[Seen, CaptureLoop]], tmp_path: Path) -> None:
    video = write_video(tmp_path / 'a.mp4', 25, rate=50)
    seen, _ = run(capture_of(Wish(str(video))), rate=10.0)
    seen.until(lambda: seen.ended)
    fates = ('limited', 'dropped', 'skipped')
    assert sum(seen.counts[f] for f in fates) + len(seen.frames) == seen.counts['read'] == 25
    assert seen.counts['limited'] >= 15


def test_a_recording_again_and_again(
    run: Callable[..., tuple[Seen, CaptureLoop]], tmp_path: Path
) -> None:
    video = write_video(tmp_path / 'a.mp4', 3, rate=100)
    once, _ = run(capture_of(Wish(str(video))))
    again, _ = run(capture_of(Wish(str(video))), repeat=True)
    once.until(lambda: once.ended)
    again.until(lambda: len(again.opened) > 3)
    assert (len(once.opened), again.ended, once.failed, again.failed) == (1, 0, [], [])
    assert once.counts['read'] == 3


def test_pauses_between_attempts(run: Callable[..., tuple[Seen, CaptureLoop]]) -> None:
    seen, loop = run(capture_of(Wish('/dev/video99')), longest_pause=0.6)
    seen.until(lambda: len(seen.failed) == 3)
    loop.close()
    assert [pause for _, pause in seen.failed] == [0.5, 0.6, 0.6]


class Loose:
    """A source that gives one image and breaks off, each time but the first two."""

    name = 'loose'
    recorded = False

    def __init__(self) -> None:
        self.opened = 0
        self.whole = True

    def open(self, stop: threading.Event) -> str:
        self.opened += 1
        if self.opened < 3:
            raise CaptureError('not yet')
        self.whole = True
        return 'images'

    def read(self, stop: threading.Event) -> Shot | None:
        if not self.whole:
            raise CaptureError('broken off')
        self.whole = False
        return Shot(monotonic_ns(), 8, 8, lambda: Frame.from_array(np.zeros((8, 8, 3), np.uint8)))

    def skipped(self) -> int:
        return 0

    def close(self) -> None:
        pass


def test_pauses_begin_anew_once_there_were_images(
    run: Callable[..., tuple[Seen, CaptureLoop]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('trt_perception.runtime.capture.loop.FIRST_PAUSE', 0.01)
    seen, _ = run(Loose(), longest_pause=0.03)
    seen.until(lambda: len(seen.failed) > 3)
    assert [pause for _, pause in seen.failed[:4]] == [0.01, 0.02, 0.01, 0.01]


class Broken:
    """A source whose library raises what it likes."""

    name = 'broken'
    recorded = False

    def __init__(self) -> None:
        self.closed = 0

    def open(self, stop: threading.Event) -> str:
        return 'trouble'

    def read(self, stop: threading.Event) -> Shot | None:
        if self.closed:
            return Shot(monotonic_ns(), 8, 8, self._fail)
        raise MemoryError

    def skipped(self) -> int:
        return 0

    def close(self) -> None:
        self.closed += 1

    def _fail(self) -> Frame:
        raise ZeroDivisionError('no image')


def test_the_threads_outlive_what_is_raised(run: Callable[..., tuple[Seen, CaptureLoop]]) -> None:
    seen, _ = run(Broken())
    seen.until(lambda: len(seen.unusable) > 1)
    assert str(seen.failed[0][0]) == "source 'broken': MemoryError: MemoryError"
    assert str(seen.unusable[0]) == 'ZeroDivisionError: no image'


# GStreamer


@pytest.mark.parametrize('encoding', FORMATS)
def test_pipeline_in_every_encoding(gst: None, encoding: str) -> None:
    """An odd number of pixels in a row, which is padded then, where the encoding allows it."""
    width = 322 if encoding.startswith(('nv', 'yuv')) else 321
    size = f'video/x-raw,width={width},height=240'
    pipeline = f'videotestsrc num-buffers=1 pattern=red ! {size}'
    (shot,) = shots(capture_of(Wish(pipeline=pipeline, encoding=encoding)))
    frame = shot.develop()
    assert (frame.encoding, frame.width, frame.height) == (encoding, width, 240)
    assert (shot.width, shot.height) == (width, 240)
    blue, green, red = to_bgr(frame)[:, : width // 2].reshape(-1, 3).mean(0)
    if encoding == 'mono8':
        assert blue == green == red and 50 < red < 100
    else:
        assert red > 245 and blue < 10 and green < 10


def test_pipeline_of_jpegs(gst: None) -> None:
    pipeline = 'videotestsrc num-buffers=3 ! video/x-raw,width=320,height=240 ! jpegenc'
    capture = capture_of(Wish(pipeline=pipeline, compressed=True))
    seen = list(shots(capture))
    assert capture.recorded
    assert [s.develop().encoding for s in seen] == ['jpeg'] * 3
    assert compressed_size(seen[0].develop().data) == (seen[0].width, seen[0].height) == (320, 240)


@pytest.mark.parametrize('tail', ['', ' ! videoconvert ! appsink'])
def test_pipeline_that_is_live(
    gst: None, run: Callable[..., tuple[Seen, CaptureLoop]], tail: str
) -> None:
    size = 'video/x-raw,width=64,height=48,framerate=50/1'
    capture = capture_of(Wish(pipeline=f'videotestsrc is-live=true ! {size}{tail}'))
    before = monotonic_ns()
    seen, loop = run(capture)
    seen.until(lambda: len(seen.frames) > 10)
    loop.close()
    assert not capture.recorded and not seen.failed
    assert seen.opened == ['bgr8, 64x48, 50 Hz']
    times = [before, *(s.taken for s in seen.shots), monotonic_ns()]
    assert times == sorted(times)


def test_pipeline_that_is_read_slowly(gst: None) -> None:
    size = 'video/x-raw,width=64,height=48,framerate=100/1'
    capture = capture_of(Wish(pipeline=f'videotestsrc is-live=true ! {size}'))
    images = shots(capture)
    first = next(images)
    NEVER.wait(0.3)
    next(images)  # the one that waited, which is the latest
    latest = next(images)
    assert capture.skipped() >= 10
    assert latest.taken - first.taken > 150_000_000
    images.close()  # type: ignore[attr-defined]


def test_pipeline_of_a_file_plays_at_its_own_pace(
    gst: None, run: Callable[..., tuple[Seen, CaptureLoop]], tmp_path: Path
) -> None:
    path = write_jpegs(tmp_path / 'a.avi', 10, 50)
    seen, _ = run(capture_of(Wish(pipeline=f'filesrc location={path} ! avidemux ! jpegdec')))
    seen.until(lambda: seen.ended)
    assert seen.failed == []
    # From the first to the last, however busy the machine.
    assert seen.shots[-1].taken - seen.shots[0].taken >= 9 * 20_000_000 * 0.9
    assert number_of(to_bgr(seen.frames[-1])) == 9


def test_pipeline_of_a_single_picture(gst: None, tmp_path: Path) -> None:
    """Played again and again it takes its time, too."""

    class Patient(threading.Event):
        waited = 0.0

        def wait(self, timeout: float | None = None) -> bool:
            self.waited += timeout or 0.0
            return False

    (tmp_path / 'a.jpg').write_bytes(jpeg_of(3))
    capture = capture_of(Wish(pipeline=f'filesrc location={tmp_path}/a.jpg ! jpegdec'))
    stop = Patient()
    assert len(list(shots(capture, stop))) == 1
    assert stop.waited == 0.1


@pytest.mark.parametrize('encoding', LUMA_FROM_16)
def test_pipeline_of_jpegs_has_black_at_0(gst: None, tmp_path: Path, encoding: str) -> None:
    path = write_jpegs(tmp_path / 'a.avi', 28, 100)
    pipeline = f'filesrc location={path} ! avidemux ! jpegdec ! videoconvert ! appsink name=sink'
    seen = numbers(capture_of(Wish(pipeline=pipeline, encoding=encoding)))
    # It takes the latest of what comes.
    assert set(seen) <= set(range(28)) and seen[-1] == 27


@pytest.mark.parametrize(
    ('pipeline', 'words'),
    [
        ('videotestsrc ! nosuchthing', 'GStreamer says: no element "nosuchthing"'),
        ('videotestsrc !', 'GStreamer says: '),
        ('videotestsrc foo=1', 'GStreamer says: no property "foo" in element "videotestsrc"'),
        ('appsink', 'it needs one appsink and has 0'),
        ('videotestsrc ! appsink videotestsrc ! appsink', 'it needs one appsink and has 2'),
    ],
)
def test_pipelines_that_cannot_be_made(gst: None, pipeline: str, words: str) -> None:
    error = refusal(lambda: capture_of(Wish(pipeline=pipeline)))
    assert str(error).startswith(f"pipeline '{pipeline}': {words}") and error.final


@pytest.mark.parametrize(
    ('pipeline', 'compressed', 'words'),
    [
        ('videotestsrc', True, 'It has to end in image/jpeg.'),
        ('videotestsrc ! video/x-raw,format=NV12 ! appsink', False,
         'It has to end in video/x-raw,format=BGR.'),
        ('v4l2src device=/dev/video99', False, "Cannot identify device '/dev/video99'."),
        ('videotestsrc ! valve drop=true', False, 'it gave nothing for 0.5 s'),
    ],
)  # fmt: skip
def test_pipelines_that_do_not_run(gst: None, pipeline: str, compressed: bool, words: str) -> None:
    capture = capture_of(Wish(pipeline=pipeline, compressed=compressed, timeout=0.5))
    error = refusal(lambda: next(shots(capture)))
    assert str(error).startswith(f"pipeline '{pipeline}': ")
    assert str(error).endswith(words) and not error.final


def test_a_pipeline_is_not_waited_for(gst: None) -> None:
    stop = threading.Event()
    capture = capture_of(Wish(pipeline='videotestsrc ! valve drop=true', timeout=600.0))
    threading.Timer(0.3, stop.set).start()
    assert list(shots(capture, stop)) == []


def test_images_that_are_too_large_are_not_decoded(tmp_path: Path) -> None:
    video = write_video(tmp_path / 'v.mp4')
    error = refusal(lambda: capture_of(Wish(str(video), max_pixels=1000)).open(NEVER))
    assert 'more than the 1000 pixels that are taken; raise max_image_pixels' in str(error)
    assert error.final
    (tmp_path / 'pictures').mkdir()
    (tmp_path / 'pictures' / 'a.jpg').write_bytes(jpeg_of(1))
    capture = capture_of(Wish(str(tmp_path / 'pictures'), max_pixels=1000))
    capture.open(NEVER)
    shot = capture.read(NEVER)
    assert shot is not None
    with pytest.raises(FrameError) as caught:
        shot.develop()
    assert caught.value.kind == 'too_large'
