# SPDX-License-Identifier: Apache-2.0
"""The plugin for pytest, in the hands of a user: in processes of their own."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytest.importorskip('rosbags')

from bags import FRONT, START, gray, raw, two_cameras, write
from models import color_detector

from trt_perception.cli.main import main

pytest_plugins = ['pytester']

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / 'examples' / 'replay_test'


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A bag of two cameras, a model, and parameters of a robot."""
    write(pytester.path / 'bag', two_cameras(count=10))
    color_detector(pytester.path / 'color.onnx')
    (pytester.path / 'detector.yaml').write_text(
        'detector:\n  ros__parameters: {model: color.onnx, cameras: [front, rear],'
        ' front: {score_threshold: 0.1}}\n'
    )
    return pytester


def test_the_example(tmp_path: Path) -> None:
    """As the documentation has it, found by its entry point alone, and without ROS."""
    pytest.importorskip('av')
    for name in ('detector.yaml', 'test_drive.py'):
        shutil.copy(EXAMPLE / name, tmp_path)
    shutil.copy(ROOT / 'resource' / 'models' / 'warehouse.onnx', tmp_path)
    drive = ROOT / 'resource' / 'demo' / 'drive.mp4'
    assert main(['bag', 'make', str(drive), '-o', str(tmp_path / 'drive'), '--frames', '20']) == 0
    config = configparser.ConfigParser()
    config.read(ROOT / 'setup.cfg')
    info = tmp_path / 'site' / 'robot-1.dist-info'
    info.mkdir(parents=True)
    (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: robot\nVersion: 1\n')
    points = config['options.entry_points']['pytest11'].strip()
    (info / 'entry_points.txt').write_text(f'[pytest11]\n{points}\n')
    code = (
        "import sys, pytest; code = pytest.main(['-q', '--replay-output', 'kept']);"
        " print('rclpy' in sys.modules); sys.exit(code)"
    )
    paths = [str(info.parent), str(ROOT), os.environ.get('PYTHONPATH', '')]
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True, timeout=120,
        # As in one of the processes of pytest-xdist, which would overwrite each other's.
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(paths), 'PYTEST_XDIST_WORKER': 'gw0'},
    )  # fmt: skip
    assert done.returncode == 0 and '5 passed' in done.stdout, done.stdout + done.stderr
    assert done.stdout.endswith('False\n')
    (kept,) = (tmp_path / 'kept' / 'gw0').iterdir()
    assert {f.name for f in kept.iterdir()} >= {'report.html', 'replay.json', 'detections.mcap'}
    summary = json.loads((kept / 'replay.json').read_text())
    assert summary['selection']['score_threshold'] == 0.4


SAYS = """
import pytest
from trt_perception.testing import Replay, ReplayBag

FRONT, REAR = '/front/image_raw', '/rear/image_raw/compressed'

@pytest.fixture
def replay(replay_bag: ReplayBag) -> Replay:
    return replay_bag('bag', params='detector.yaml')

def test_counts(replay):
    replay.assert_whole()
    assert replay.images == 20
    assert replay.classes == {'red': 18, 'green': 18, 'blue': 18}
    assert (replay.count(), replay.count('red'), replay.count('red', FRONT)) == (54, 18, 10)
    assert (replay.images_with('red'), replay.images_with(topic=REAR)) == (18, 8)
    assert [seen.topic for seen in replay.frames(REAR)] == [REAR] * 10
    replay.assert_count('red', at_least=18, at_most=18)
    assert replay.latency_ms(100) >= replay.latency_ms(50, 'infer') > 0
    replay.assert_latency(p50_ms=9e9, max_ms=9e9, stage='infer', topic=FRONT)

def test_replayed_once(replay, replay_bag, tmp_path):
    assert replay_bag('bag', 'detector.yaml') is replay
    given = {'model': 'color.onnx', 'classes': ['blue']}
    other = replay_bag('bag', given, topics=FRONT, limit=3, classes=['red'])
    assert (other.images, set(other.classes)) == (3, {'red'})
    assert other.folder != replay.folder
"""

FAILS = """
import pytest

@pytest.fixture
def all_of_it(replay_bag):
    return replay_bag('bag', model='color.onnx')

def test_introspection(all_of_it):
    assert all_of_it.count('red') >= 1000

def test_count(all_of_it):
    all_of_it.assert_count('red', at_least=1000)

def test_latency(all_of_it):
    all_of_it.assert_latency(p50_ms=1e-6, p95_ms=9e9, max_ms=1e-6)

def test_class(all_of_it):
    all_of_it.count('rde')

def test_bag(replay_bag):
    replay_bag('nowhere', model='color.onnx')

def test_parameter(replay_bag):
    replay_bag('bag', 'detector.yaml', score_treshold=0.1)

def test_limit(replay_bag):
    replay_bag('bag', model='color.onnx', limit=-1)

def test_class_that_is_not_there(replay_bag):
    replay_bag('bag', model='color.onnx', classes=['person'])

def test_whole(replay_bag):
    replay_bag('odd', model='color.onnx').assert_whole()
"""


def test_what_can_be_said(project: pytest.Pytester) -> None:
    """And what is said where it does not hold."""
    messages = [(FRONT, START + n, raw(gray(n), START + n)) for n in range(4)]
    messages[2][2].encoding = 'strange'
    write(project.path / 'odd', iter(messages))
    project.makepyfile(test_holds=SAYS, test_fails=FAILS)
    result = project.runpytest_subprocess('-p', 'trt_perception.testing', '--tb=short')
    result.assert_outcomes(passed=2, failed=9)
    result.stdout.fnmatch_lines_random(
        [
            'E *assert 16 >= 1000',
            'E    +    where count = <replay of bag: 20 images; red 16, green 16, blue 16>.count',
            'E   AssertionError: 16 red found, and 1000 expected: <replay of bag: 20 images; *>',
            'E   AssertionError: total: half of all images within * ms, budget 1e-06 ms;'
            ' 20 of 20 take longer',
            'E   total: the slowest image within * ms, budget 1e-06 ms; 20 of 20 take longer',
            'E   95 of 100 stay below, in ms: image *, preprocess *, infer *, decode *, total *',
            'E   ran ONNX Runtime *, float32, on *',
            "E   ValueError: the model has no class 'rde'; did you mean 'red'? (it has *)",
            "replay_bag: bag '*nowhere': it does not exist",
            "replay_bag: parameter 'score_treshold' is not one of a detector; did you mean"
            " 'score_threshold'?",
            'replay_bag: limit: -1 is not a whole number of 1 or more',
            "replay_bag: classes: the model has no class 'person', it has red, green, blue",
            "E   AssertionError: /front/image_raw: 1 images: encoding 'strange' is not one of *",
        ]
    )


def test_the_workflow(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it runs is what the commands take, and it fails where it should."""
    text = (EXAMPLE / '.github' / 'workflows' / 'replay.yml').read_text()
    workflow = yaml.load(text, yaml.BaseLoader)
    assert set(workflow) == {'name', 'on', 'permissions', 'jobs'}
    (job,) = workflow['jobs'].values()
    assert set(job) == {'runs-on', 'timeout-minutes', 'steps'}
    steps = {step.get('name', step.get('uses')): step for step in job['steps']}
    for step in steps.values():
        assert ('run' in step) != ('uses' in step)
        assert step.get('if', '${{ !cancelled() }}') == '${{ !cancelled() }}'
        assert set(step) <= {'name', 'if', 'run', 'uses', 'with'}
    replay, test = (shlex.split(steps[name]['run']) for name in ('Replay', 'Test'))
    extras = re.search(r'\[(.*)\]', steps['Install']['run'])
    config = configparser.ConfigParser()
    config.read(ROOT / 'setup.cfg')
    assert extras and set(extras[1].split(',')) <= set(config['options.extras_require'])
    # The pages that are kept are those that are written.
    kept = steps['Keep the pages']['with']['path'].split()
    assert kept == [replay[replay.index('-o') + 1], test[test.index('--replay-output') + 1]]
    assert (EXAMPLE / test[-1]).is_file()

    (project.path / 'bag').rename(project.path / 'drive')
    monkeypatch.chdir(project.path)
    assert replay[0] == 'trt-perception'
    assert main(replay[1:]) == 2
    assert '--update-baseline this replay becomes the baseline' in capsys.readouterr().err
    assert main([*replay[1:], '--update-baseline']) == 0
    assert main(replay[1:]) == 0
    assert main([*replay[1:], '--score-threshold', '0.5']) == 3
    assert (project.path / kept[0] / 'comparison.html').is_file()


def test_a_start_of_pytest_is_not_slower_for_it() -> None:
    """What pytest loads at each start, whatever it tests, imports nothing but itself."""
    code = (
        'import sys, pytest, json, collections, functools; before = set(sys.modules);'
        ' import trt_perception.testing; print(*sorted(set(sys.modules) - before))'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    names = {name.partition('.')[0] for name in done.stdout.split()} - {'trt_perception'}
    assert names <= set(sys.stdlib_module_names)
    assert {n for n in done.stdout.split() if n.startswith('trt_perception')} == {
        'trt_perception', 'trt_perception.testing', 'trt_perception.testing.replays',
    }  # fmt: skip
