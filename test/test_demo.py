# SPDX-License-Identifier: Apache-2.0
"""The demo as a user runs it: two processes, files, a table, and nothing left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

import cv2
import onnx
import pytest
from models import constant_detector
from onnx import helper
from videos import read_video, write_video

pytest.importorskip('rclpy')
pytest.importorskip('av')
pytest.importorskip('rich')

from trt_perception.cli.demo.display import Display
from trt_perception.replay.bag_writer import write_bag
from trt_perception.replay.sources import open_source
from trt_perception.runtime.model_file import load_spec

COMMAND = [sys.executable, '-m', 'trt_perception.cli.main', 'demo']
TIMEOUT = 240.0


class Demo:
    """One run, and whatever it starts."""

    def __init__(self, domain_id: int | None, *args: str | Path) -> None:
        # Whoever carries this belongs to it.
        self._mark = f'DEMO_OF_A_TEST={uuid.uuid4()}'
        env = dict(os.environ)
        env['ROS_DOMAIN_ID'] = '9999'  # that of a robot, which is left alone
        if domain_id is not None:
            args += ('--domain', str(domain_id))
        key, _, value = self._mark.partition('=')
        self._process = subprocess.Popen(
            [*COMMAND, *map(str, args)],
            env={**env, key: value},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a terminal of its own, as far as Ctrl-C goes
        )
        self._locks: set[Path] = set()
        self._killed: set[Path] = set()

    def processes(self) -> dict[int, str]:
        """Command lines of all that belong to it, by pid."""
        found = {}
        for folder in Path('/proc').glob('[0-9]*'):
            try:
                if self._mark.encode() in (folder / 'environ').read_bytes().split(b'\0'):
                    found[int(folder.name)] = (folder / 'cmdline').read_text()
                    self._locks |= locks(int(folder.name))
            except OSError:
                continue  # gone meanwhile, or not ours to look into
        return found

    def until_it_says(self, words: str) -> None:
        """Read its output up to a line with these words."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.processes()
            if words in line:
                return
        raise AssertionError(f'it never said {words}: {self._process.stderr.read()}')

    def until_there_is(self, file: Path) -> None:
        """Wait for one of its processes to make a file."""
        give_up = monotonic() + TIMEOUT
        while not file.exists():
            assert self.processes() and monotonic() < give_up, f'no {file}'
            sleep(0.1)

    def signal(self, number: signal.Signals, *, group: bool = False) -> None:
        if group:
            os.killpg(self._process.pid, number)
        else:
            self._process.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        """Exit code, rest of the output, errors; nothing may be left of it."""
        try:
            out, err = self._process.communicate(timeout=TIMEOUT)
            assert self.processes() == {}
        finally:
            self.kill()
        left = {lock for lock in self._locks if lock.exists()}
        for lock in self._killed:
            lock.unlink(missing_ok=True)
            lock.with_name(lock.name.removesuffix('_el')).unlink(missing_ok=True)
        assert left <= self._killed
        return self._process.returncode, out, err

    def kill(self) -> None:
        """End all that is left of it."""
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)

    def kill_nodes(self) -> None:
        """Kill the nodes' process; its own shared memory is then left over."""
        nodes = 'import perception_container;'
        found = [pid for pid, command in self.processes().items() if nodes in command]
        (pid,) = found
        self._killed = locks(pid)
        os.kill(pid, signal.SIGKILL)


def locks(pid: int) -> set[Path]:
    """The files beside its own shared memory that Fast DDS keeps open in a process."""
    files = (Path(os.readlink(fd)) for fd in Path(f'/proc/{pid}/fd').iterdir())
    return {f for f in files if f.match('/dev/shm/fastdds_*_el') and 'port' not in f.name}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A detector that sees a car and a person in every image; 64x64."""
    return constant_detector(
        tmp_path / 'two.onnx', [[8, 16, 40, 32], [4, 20, 12, 50]], [0.9, 0.6], [0, 1]
    )


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / 'drive.mp4', 20)


def check_files(folder: Path, images: int) -> dict:
    """What must hold of every result; the summary."""
    told = json.loads((folder / 'summary.json').read_text())
    frames, detector = told['frames'], told['detector']
    assert frames['received'] == images
    assert (frames['lost'], frames['dropped'], frames['unusable']) == (0, 0, 0)
    assert frames['annotated'] + frames['unpaired'] == images
    assert detector['received'] == detector['published'] + detector['dropped']
    assert images / 2 < detector['received'] <= images
    # All that the detector saw is in the video.
    assert frames['annotated'] == detector['published'] > 0
    video = read_video(folder / told['video'])
    assert len(video) == frames['annotated']
    assert len(told['pictures']) == min(5, len(video))
    for name in told['pictures']:
        assert cv2.imread(str(folder / name)).shape == video[0][1].shape
    assert {f.name for f in folder.iterdir()} == {
        told['video'], *told['pictures'], 'summary.json', 'graph.yaml'
    }  # fmt: skip
    stages = detector['stages']
    assert set(stages) == {
        'age', 'receive interval', 'queue', 'preprocess', 'infer', 'decode', 'publish', 'total',
        'stamp to publish', 'publish interval',
    }  # fmt: skip
    assert all(
        0 <= s['p50_ms'] <= s['p95_ms'] <= s['p99_ms'] <= s['max_ms'] for s in stages.values()
    )
    return told


def test_a_video(model: Path, video: Path, tmp_path: Path) -> None:
    """In a ROS domain that the demo chooses itself."""
    folder = tmp_path / 'out'
    demo = Demo(None, '--model', model, '--input', video, '--output', folder, '--rate', '10')
    demo.until_it_says('images received')
    code, out, err = demo.end()
    assert (code, err) == (0, '')
    told = check_files(folder, 20)
    annotated = told['frames']['annotated']
    assert told['classes'] == {'car': annotated, 'person': annotated}
    # The network's input is the image and 8 rows of padding above.
    _, image = read_video(folder / 'annotated.mp4')[0]
    assert image.shape == (48, 64, 3)
    detector = told['detector']
    for words in (
        f'{model} on {detector["device"]} (ONNX Runtime',
        f'{detector["received"]} of 20',
        'p50 ms', 'p95 ms', 'stamp to publish', 'car', 'person', 'annotated.mp4',
    ):  # fmt: skip
        assert words in out, words


def test_without_arguments(tmp_path: Path, domain_id: int) -> None:
    """The package's model on the package's drive, which shows all that it knows."""
    from trt_perception.ros.share import share

    folder = tmp_path / 'out'
    code, out, err = Demo(domain_id, '--output', folder, '--rate', '15').end()
    assert (code, err) == (0, '')
    model = share() / 'resource' / 'models' / 'warehouse.onnx'
    assert f'{model} on ' in out
    assert not re.search('photograph|rendered|nothing was|WARN|ERROR', out), out
    told = check_files(folder, 240)
    assert set(told['classes']) == set(load_spec(model).class_names)
    # What stands about all the time is seen all the time.
    assert told['classes']['forklift'] > 0.8 * told['frames']['annotated']


def test_without_a_model(video: Path, tmp_path: Path, domain_id: int) -> None:
    """The user hears that it will not do on pictures of the user's own."""
    folder = tmp_path / 'out'
    demo = Demo(domain_id, '--input', video, '--output', folder, '--rate', '10')
    code, out, err = demo.end()
    assert (code, err) == (0, '')
    assert 'warehouse.onnx has never seen a photograph; --model takes a detector of yours' in out
    check_files(folder, 20)


def test_without_an_input(model: Path, tmp_path: Path, domain_id: int) -> None:
    folder = tmp_path / 'out'
    demo = Demo(domain_id, '--model', model, '--output', folder, '--rate', '60')
    code, out, err = demo.end()
    assert (code, err) == (0, '')
    assert 'of 240' in out
    assert 'drive.mp4 shows a rendered warehouse; --input takes a recording of yours' in out
    assert 'nothing was detected' not in out
    assert set(json.loads((folder / 'summary.json').read_text())['classes']) == {'car', 'person'}


def test_a_compressed_bag_with_labels(model: Path, tmp_path: Path, domain_id: int) -> None:
    """And class names, paths and a topic that YAML would take for something else."""
    (tmp_path / 'labels.txt').write_text('auto\nmensch\n')
    bag, folder = tmp_path / '2024', tmp_path / 'yes'
    source = open_source(write_video(tmp_path / 'v.mp4', 15))
    write_bag(bag, source.frames(), 'sqlite3', compressed=True, topic='/front/image')
    demo = Demo(
        domain_id, '--model', model, '--input', bag, '--output', folder, '--rate', '10',
        '--labels', tmp_path / 'labels.txt', '--topic', 'front/image',
    )  # fmt: skip
    code, _, err = demo.end()
    assert (code, err) == (0, '')
    assert set(check_files(folder, 15)['classes']) == {'auto', 'mensch'}


def test_a_model_that_finds_nothing(video: Path, tmp_path: Path, domain_id: int) -> None:
    model = constant_detector(tmp_path / 'm.onnx', [[8, 16, 40, 32]], [0.1], [0])
    folder = tmp_path / 'out'
    demo = Demo(domain_id, '--model', model, '--input', video, '--output', folder, '--rate', '20')
    code, out, err = demo.end()
    assert (code, err) == (0, '')
    assert 'nothing was detected' in out
    assert check_files(folder, 20)['classes'] == {}


def test_a_model_without_class_names(video: Path, tmp_path: Path, domain_id: int) -> None:
    model = constant_detector(tmp_path / 'm.onnx', metadata={})
    folder = tmp_path / 'out'
    demo = Demo(domain_id, '--model', model, '--input', video, '--output', folder, '--rate', '20')
    code, out, _ = demo.end()
    assert code == 0
    assert '--labels' in out
    assert set(check_files(folder, 20)['classes']) == {'0'}


@pytest.mark.parametrize(
    'change, words',
    [
        ({'--model': 'none.onnx'}, "none.onnx' is not a file"),
        ({'--model': __file__}, 'is not a readable ONNX file'),
        ({'--input': 'none.mp4'}, 'none.mp4'),
        ({'--input': __file__}, 'is not a whole video'),
        ({'--labels': 'none.txt'}, "labels 'none.txt' is neither a file nor 'coco'"),
        ({'--topic': '/front'}, 'has no topics'),
        ({'--rate': 'fast'}, "rate: 'fast' is not a double"),
        ({'--rate': '-1'}, 'rate: -1 is not in 0 to 1000'),
        ({'--output': '/proc/nothing'}, "output '/proc/nothing' cannot be written to"),
    ],
)
def test_mistakes(
    model: Path, video: Path, tmp_path: Path, change: dict[str, str], words: str
) -> None:
    given = {'--model': model, '--input': video, '--output': tmp_path / 'out', **change}
    demo = Demo(None, *(f'{name}={value}' for name, value in given.items()))
    code, out, err = demo.end()
    assert (code, out) == (2, '')
    (line,) = err.splitlines()
    assert line.startswith('error: ') and words in line


def test_what_is_shown_of_what_the_nodes_say(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is a warning; but not that there is no camera before or after all is played."""
    said = [
        ('detector', '[WARN] [1.0] [detector]: nobody publishes /camera/image_raw; start it'),
        ('player', '[INFO] [1.1] [player]: drive.mp4: 20 images at 30 Hz to /camera/image_raw'),
        ('detector', '[WARN] [1.2] [detector]: nobody publishes /camera/image_raw; start it'),
        ('player', '[INFO] [1.3] [player]: 20 images published'),
        ('detector', '[WARN] [1.4] [detector]: nobody publishes /camera/image_raw; start it'),
        ('detector', '[ERROR] [1.5] [detector]: no memory'),
    ]
    with Display(20) as display:
        for _, line in said:
            display.line(line)
    shown = capsys.readouterr().out.splitlines()[1:]
    assert shown == [f'{node}: {line}' for node, line in (said[2], said[5])]


# It does not go well


@pytest.fixture
def slowly(model: Path, tmp_path: Path, domain_id: int) -> Iterator[Demo]:
    """A demo that would take a minute."""
    video = write_video(tmp_path / 'long.mp4', 28)
    demo = Demo(
        domain_id, '--model', model, '--input', video, '--output', tmp_path / 'out', '--rate=0.5'
    )  # fmt: skip
    yield demo
    demo.kill()


@pytest.mark.parametrize('group', [False, True])
def test_ctrl_c(slowly: Demo, tmp_path: Path, group: bool) -> None:
    """A signal to the demo alone, and what a terminal does: to all of its processes."""
    slowly.until_there_is(tmp_path / 'out' / '.annotated.mp4.part')
    slowly.signal(signal.SIGINT, group=group)
    code, out, err = slowly.end()
    assert code == 130, out + err
    assert 'Traceback' not in out + err
    frames = json.loads((tmp_path / 'out' / 'summary.json').read_text())['frames']
    assert 0 < frames['annotated'] <= frames['received'] < 28
    assert len(read_video(tmp_path / 'out' / 'annotated.mp4')) == frames['annotated']


@pytest.mark.parametrize('milliseconds', range(0, 3000, 600))
def test_ctrl_c_at_any_moment(slowly: Demo, milliseconds: int) -> None:
    sleep(milliseconds / 1000)
    slowly.signal(signal.SIGINT, group=milliseconds % 400 == 0)
    code, out, err = slowly.end()
    # Python's own answer, as long as the demo has not begun.
    own = code == -signal.SIGINT or 'init_import_site' in err
    assert code == 130 or (own and not out), out + err


def test_the_nodes_die(slowly: Demo) -> None:
    slowly.until_it_says('images received')
    slowly.kill_nodes()
    code, out, err = slowly.end()
    assert code == 1, out + err
    assert 'error: perception_container ended with exit code -9' in out


def test_a_recording_that_breaks_off(model: Path, tmp_path: Path, domain_id: int) -> None:
    """What can be played is in the video; the player's own words say what is wrong."""
    whole = write_video(tmp_path / 'whole.mp4', 28, width=256, height=256, faststart=True)
    torn = tmp_path / 'torn.mp4'
    torn.write_bytes(whole.read_bytes()[: whole.stat().st_size * 3 // 4])
    folder = tmp_path / 'out'
    demo = Demo(domain_id, '--model', model, '--input', torn, '--output', folder, '--rate', '5')
    code, out, _ = demo.end()
    assert code == 1
    assert 'player ended with exit code 1' in out
    assert f"input '{torn}' is not a whole video" in out
    assert 0 < len(read_video(folder / 'annotated.mp4')) < 28


def test_a_model_that_does_not_run(video: Path, tmp_path: Path, domain_id: int) -> None:
    """What only the detector can find out; it would wait for another model for ever."""
    path = constant_detector(tmp_path / 'm.onnx')
    model = onnx.load(path)
    (output,) = model.graph.output
    model.graph.node[0].output[0] = 'before'
    model.graph.node.append(helper.make_node('Wish', ['before'], [output.name], domain='nowhere'))
    model.opset_import.append(helper.make_opsetid('nowhere', 1))
    onnx.save(model, path)
    demo = Demo(domain_id, '--model', path, '--input', video, '--output', tmp_path / 'out')
    code, out, _ = demo.end()
    assert code == 1
    assert 'error: perception_container ended with exit code 1' in out
    assert 'detector: [ERROR] ' in out and 'not configured: ' in out and 'Wish' in out
