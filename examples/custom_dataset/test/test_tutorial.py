# SPDX-License-Identifier: Apache-2.0
"""Every command of docs/custom_detector.md, as it is written there and in its order.

A home folder that is new, a terminal in which nothing is set up, and no GPU. What `make training`
would install is there already.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import onnx
import pytest
from conftest import ROOT
from yolo import write_yolo

from trt_perception.core.labels import COCO
from trt_perception.runtime.model_file import load_spec

pytest.importorskip('rclpy')

from vision_msgs.msg import Detection2DArray, LabelInfo
from world import LATCHED, Camera, World, picture

from trt_perception.ros.domain import free_domain

DOCUMENT = ROOT / 'docs' / 'custom_detector.md'
CLASSES = ('pallet', 'barrel', 'traffic_cone', 'person', 'fiducial_board', 'forklift')

pytestmark = pytest.mark.skipif(
    Path(sys.prefix).parent != ROOT / '.venv', reason='it is about the desk that make sets up'
)


class Block(NamedTuple):
    """Some commands: number of the section, language, text."""

    section: int
    language: str
    text: str


def blocks() -> list[Block]:
    found, section = [], 0
    pattern = re.compile(r'^## (\d)|^```(\w+)\n(.*?)^```$', re.MULTILINE | re.DOTALL)
    for number, language, text in pattern.findall(DOCUMENT.read_text(encoding='utf-8')):
        section = int(number or section)
        if language:
            found.append(Block(section, language, text))
    return found


def commands(section: int, about: str = '') -> list[str]:
    """What is run in a section, or those blocks of it that mention something."""
    found = [b.text for b in blocks() if b.language == 'bash' and b.section == section]
    chosen = [text for text in found if about in text]
    assert chosen
    return chosen


class Terminal:
    """A shell in the repository's folder, of a user whose home is new."""

    def __init__(self, home: Path) -> None:
        self.home = home
        distro, version = Path(sys.prefix).name.split('-')
        python = Path(sys.base_prefix, 'bin', f'python{version}')
        # As `ros2 run` does, which no package index has.
        ros2 = home / '.stand-in' / 'ros2'
        ros2.parent.mkdir()
        ros2.write_text('#!/bin/sh\ntest "$1 $2" = "run trt_perception" && shift 2 && exec "$@"\n')
        ros2.chmod(0o755)
        ours = f'{sys.prefix}/bin'
        path = [p for p in os.environ['PATH'].split(os.pathsep) if p != ours]
        self._env = {
            'HOME': str(home),
            'PATH': os.pathsep.join([str(ros2.parent), *path]),
            # Of the environment that this test runs in, whatever the defaults are.
            'MAKEFLAGS': f'ROS_DISTRO={distro} PYTHON={python}',
            'CUDA_VISIBLE_DEVICES': '',
            'OMP_NUM_THREADS': '1',  # see conftest.py
        }

    def start(self, text: str, **env: str) -> subprocess.Popen[str]:
        """Type some lines; the first that fails ends it."""
        ready = '' if 'setup.bash' in text else 'source .venv/setup.bash\n'
        return subprocess.Popen(
            ['bash', '-euc', ready + text],
            cwd=ROOT,
            env=self._env | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def type(self, texts: Sequence[str]) -> str:
        """Type them, wait for their end, and give what they printed."""
        printed = ''
        for text in texts:
            process = self.start(text)
            try:
                output, _ = process.communicate(timeout=600)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise
            assert process.returncode == 0, text + output
            printed += output
        return printed


@pytest.fixture(scope='module')
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Terminal:
    terminal = Terminal(tmp_path_factory.mktemp('home'))
    assert 'Ready' in terminal.type(commands(1))
    return terminal


def test_only_what_needs_another_tool_is_not_run() -> None:
    """What the document says of itself."""
    told = blocks()
    assert {b.language for b in told} == {'bash', 'sh', 'text'}
    (unrun,) = (b for b in told if b.language == 'sh')
    assert unrun.section == 8
    assert len(unrun.text.splitlines()) == 4
    assert 'These four lines are the only ones' in DOCUMENT.read_text(encoding='utf-8')
    assert {b.section for b in told if b.language == 'bash'} == set(range(1, 9))


def test_links_lead_somewhere() -> None:
    text = DOCUMENT.read_text(encoding='utf-8')
    links = re.findall(r'\]\(([^)#]*)(?:#([^)]*))?\)', text)
    assert len(links) > 5
    for file, anchor in links:
        assert not file or (DOCUMENT.parent / file).is_file(), file
        if anchor:
            target = DOCUMENT.parent / file if file else DOCUMENT
            lines = target.read_text(encoding='utf-8').splitlines()
            titles = [line.lstrip('#').strip() for line in lines if line.startswith('#')]
            assert anchor in [re.sub(r'[^\w -]', '', t).lower().replace(' ', '-') for t in titles]


def test_labels_in_the_yolo_format(rendered: Path, tmp_path: Path, terminal: Terminal) -> None:
    for part, of in (('train', 'train'), ('val', 'test'), ('test', 'test')):
        write_yolo(rendered / of, tmp_path / 'pictures', part)
    other = Terminal(tmp_path)
    printed = other.type([*commands(2, 'yolo_to_coco'), *commands(3)])
    assert printed.count('pictures, ') == 3
    sheet = cv2.imread(str(tmp_path / 'detector' / 'labels.png'))
    # A row of four pictures of each of the small sets, three of the large one.
    assert sheet.shape == (400 * 5, 640 * 4, 3)


@pytest.mark.timeout(1800)
def test_from_nothing_to_a_node(terminal: Terminal) -> None:
    folder = terminal.home / 'detector'
    terminal.type([*commands(2, 'generate'), *commands(3)])
    assert cv2.imread(str(folder / 'labels.png')) is not None
    assert {p.name for p in (folder / 'data').iterdir()} == {'train', 'val', 'test'}

    assert 'no GPU here: a small training' in terminal.type(commands(4))
    assert (folder / 'training' / 'curves.png').is_file()
    assert 'from PyTorch at most' in terminal.type(commands(5))
    assert load_spec(folder / 'detector.onnx').class_names == CLASSES

    printed = terminal.type(commands(6))
    assert 'mAP50' in printed and '| 32 pictures |' in printed
    assert load_spec(folder / 'detector_int8.onnx').class_names == CLASSES
    assert (folder / 'detector_int8.quantize' / 'report.html').is_file()
    # Little was learnt, but something: an untrained network finds nothing at all.
    (mean,) = re.findall(r'^\| all \| \d+ \| ([\d.]+)', printed, re.MULTILINE)
    assert float(mean) > 0.005

    terminal.type(commands(7, 'trt-perception demo'))
    assert {p.name for p in (folder / 'demo').iterdir()} >= {'annotated.mp4', 'summary.json'}
    run_node(terminal, commands(7, 'ros2 run'))


def run_node(terminal: Terminal, texts: Sequence[str]) -> None:
    """Start the node as it is written; it detects in what a camera publishes, until Ctrl-C."""
    (text,) = texts
    with free_domain() as domain:
        world, node = World(domain), terminal.start(text, ROS_DOMAIN_ID=str(domain))
        see_it_work(world, node)


def see_it_work(world: World, node: subprocess.Popen[str]) -> None:
    try:
        labels = world.subscribe(LabelInfo, '/label_info', LATCHED)
        detections = world.subscribe(Detection2DArray, '/detections')
        camera = Camera(world, '/camera/image_raw').until_heard()
        world.until(lambda: world.node.count_publishers('/detections'), 'the node')
        camera.send(picture(7, 640, 400))
        world.until(lambda: detections, 'detections')
        assert detections[0].header.stamp.sec == 7
        world.until(lambda: labels, 'label_info')
        assert tuple(c.class_name for c in labels[0].class_map) == CLASSES
        os.killpg(node.pid, signal.SIGINT)
        output, _ = node.communicate(timeout=60)
        assert node.returncode in (0, 130, -signal.SIGINT), output
        assert 'Traceback' not in output
    finally:
        if node.poll() is None:
            os.killpg(node.pid, signal.SIGKILL)
            node.wait()
        world.close()


def test_a_model_of_ultralytics(terminal: Terminal) -> None:
    """One of 80 classes, of which one is among those that were rendered."""
    assets = Path(os.environ.get('TRT_PERCEPTION_ASSETS', ROOT.parent / 'shared' / 'assets'))
    export = assets / 'models' / 'yolov8n_coco_640.onnx'
    folder = terminal.home / 'detector'
    if not export.is_file():
        pytest.skip(f'no models at {assets}; set TRT_PERCEPTION_ASSETS')
    assert (folder / 'data').is_dir(), 'the test before makes it'
    model = onnx.load(export)  # a copy of such a file that lost what it says of itself
    onnx.helper.set_model_props(model, {'names': repr(dict(enumerate(COCO)))})
    onnx.save(model, folder / 'best.onnx')
    printed = terminal.type(commands(8))
    assert 'only in the data set: pallet' in printed
    assert (folder / 'best_demo' / 'annotated.mp4').is_file()
