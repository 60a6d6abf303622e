# SPDX-License-Identifier: Apache-2.0
"""``trt-perception quantize`` as a user types it, with the shipped model and rendered pictures."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import onnx
import pytest
from processes import read_terminal

pytest.importorskip('av')
pytest.importorskip('pycocotools')
pytest.importorskip('rosbags')

from trt_perception.replay.bag_writer import write_bag
from trt_perception.replay.sources import open_source
from trt_perception.runtime.gate_result import GateError, read_gate
from trt_perception.runtime.pipeline import open_pipeline

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / 'resource' / 'models' / 'warehouse.onnx'
EXAMPLE = ROOT / 'examples' / 'custom_dataset'
PLAINLY = Path(__file__).with_name('quantize_plainly.py')


@pytest.fixture(scope='module')
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled pictures that the model was not trained with."""
    if not EXAMPLE.is_dir():
        pytest.skip('the examples are not part of what is installed')
    folder = tmp_path_factory.mktemp('rendered')
    counts = ('--train', '0', '--calibration', '8', '--test', '10', '--sequences', '0')
    subprocess.run(
        [sys.executable, EXAMPLE / 'generate.py', folder, *counts], check=True, timeout=280,
        capture_output=True,
    )  # fmt: skip
    return folder


@pytest.fixture
def folder(rendered: Path, tmp_path: Path) -> Path:
    """Model and pictures under short names, in a folder that tests may write to."""
    shutil.copy(MODEL, tmp_path / 'm.onnx')
    for split in ('calibration', 'test'):
        (tmp_path / split).symlink_to(rendered / split)
    return tmp_path


COMMON = ['quantize', 'm.onnx', '--calibration', 'calibration/images']
LABELLED = ['--eval', 'test/instances.json', '--images', 'test/images']


def command(how: str, *args: str | Path) -> list[str | Path]:
    if how == 'really':
        return [sys.executable, '-m', 'trt_perception.cli.main', *args]
    return [sys.executable, PLAINLY, how, *args]


def run(folder: Path, how: str, *args: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(how, *args), cwd=folder, capture_output=True, text=True, timeout=250,
        env={**os.environ, 'COLUMNS': '200'},
    )  # fmt: skip


def left_behind(folder: Path) -> set[str]:
    return {f.name for f in folder.iterdir()} - {'m.onnx', 'm.yaml', 'calibration', 'test'}


def test_the_whole_of_it(folder):
    """With the real quantizer: the package's model, nearly all of it in INT8, as good as before."""
    few = ('--method', 'mse', '--frames', '2')
    done = run(folder, 'really', *COMMON, *LABELLED, *few, '--json', 'r.json')
    assert done.returncode == 0, done.stderr
    report = json.loads((folder / 'r.json').read_text())
    assert report['int8_share'] >= 0.9
    assert report['gate']['figure'] >= 0.98
    drawn = [point for point in report['curve'] if point['map'] is not None]
    assert 5 <= len(drawn) <= 8 and drawn[0]['int8_share'] == 1
    assert report['float_map'] == report['gate']['figures']['map_float']
    (taken,) = (p for p in drawn if p['int8_share'] == pytest.approx(report['int8_share']))
    assert taken['map'] == report['gate']['figures']['map_int8']
    pipeline = open_pipeline(folder / 'm_int8.onnx')
    assert pipeline.info.precision.startswith('int8 (')
    pipeline.close()
    # So the picture in docs/int8.md was drawn.
    picture = subprocess.run(
        [sys.executable, ROOT / 'tools' / 'int8_curves.py', f'A & B={folder / "r.json"}'],
        check=True, capture_output=True, text=True, timeout=60,
    ).stdout  # fmt: skip
    circles = [e for e in ElementTree.fromstring(picture).iter() if e.tag.endswith('circle')]
    assert len(circles) == len(drawn)
    # What was measured is there: a second run takes it up.
    measurements = folder / 'm_int8.quantize' / 'measurements.json'
    kept = json.loads(measurements.read_text())
    assert sum(name.startswith('sensitivity') for name in kept['figures']) == 63
    known = max(name for name in kept['figures'] if name.startswith('sensitivity'))
    kept['figures'][known] = 0.4321
    measurements.write_text(json.dumps(kept))
    again = run(folder, 'really', *COMMON, *LABELLED, *few, '--target', '0', '--json', '-')
    costs = {layer['name']: layer['sensitivity'] for layer in json.loads(again.stdout)['layers']}
    assert costs[known.split()[-1]] == 0.4321


def test_a_model_that_keeps_its_accuracy_is_written(folder):
    (folder / 'm.yaml').write_text('nms: true\n')
    done = run(folder, '20', *COMMON, *LABELLED, '--target', '0.5', '--json', 'r.json')
    assert done.returncode == 0, done.stderr
    assert left_behind(folder) == {
        'm_int8.onnx', 'm_int8.yaml', 'm_int8.quantize', 'r.json',
    }  # fmt: skip
    assert {f.name for f in (folder / 'm_int8.quantize').iterdir()} == {
        'report.html', 'report.json',
    }  # fmt: skip
    assert (folder / 'm_int8.yaml').read_text() == 'nms: true\n'
    # The file says what it went through, and keeps what the float model said of itself.
    gate = read_gate(folder / 'm_int8.onnx')
    assert gate is not None and gate.passed and not gate.accepted
    assert (gate.measure, gate.frames, gate.target) == ('map', 10, 0.5)
    assert gate.float_sha256 == hashlib.sha256(MODEL.read_bytes()).hexdigest()
    notes, before = (
        {p.key: p.value for p in onnx.load(str(f)).metadata_props}
        for f in (folder / 'm_int8.onnx', MODEL)
    )
    assert before.items() <= notes.items() and before
    pipeline = open_pipeline(folder / 'm_int8.onnx')
    assert pipeline.info.precision == 'int8 (43 of 63 layers, else float32)'
    assert pipeline.spec.class_names[0] == 'pallet'
    pipeline.close()
    # Figures are the same wherever they stand.
    report = json.loads((folder / 'r.json').read_text())
    assert report == json.loads((folder / 'm_int8.quantize' / 'report.json').read_text())
    assert report['gate'] == json.loads(json.dumps(gate.to_dict()))
    assert report['output']['written'] is True
    assert report['output']['bytes'] == (folder / 'm_int8.onnx').stat().st_size
    lines = [' '.join(line.split()) for line in done.stdout.splitlines()]
    assert 'gate passed, target 0.5' in lines
    assert f'map int8 {gate.figures["map_int8"]:.4f}' in lines
    assert 'model m_int8.onnx' in lines
    assert 'report m_int8.quantize/report.html' in lines
    assert 'warning: 8 frames are few to calibrate with' in done.stderr
    # It is measured again as any model is.
    again = subprocess.run(
        [sys.executable, '-m', 'trt_perception.cli.main', 'evaluate', '--model', 'm_int8.onnx',
         '--coco', LABELLED[1], '--images', LABELLED[3], '--json', '-'],
        cwd=folder, capture_output=True, text=True, timeout=250,
    )  # fmt: skip
    accuracy = json.loads(again.stdout)['accuracy']
    assert accuracy['map'] == pytest.approx(gate.figures['map_int8'])


def test_a_model_that_lost_too_much_is_not(folder):
    (folder / 'old').mkdir()
    done = run(folder, 'ruin', *COMMON, '-o', 'old/out.onnx', '--report', 'there', '--json', '-')
    assert done.returncode == 3
    assert left_behind(folder) == {'old', 'there'}
    assert list((folder / 'old').iterdir()) == []
    assert {f.name for f in (folder / 'there').iterdir()} == {'report.html', 'report.json'}
    report = json.loads(done.stdout)
    assert report['gate']['passed'] is report['output']['written'] is False
    assert (report['gate']['measure'], report['gate']['frames']) == ('agreement', 2)
    last = done.stderr.splitlines()[-1]
    assert last.startswith('gate failed: INT8 keeps 0.0')
    assert "asked were 0.98; 'old/out.onnx' was not written. More frames" in last
    assert '--accept' in last


def test_it_is_written_if_somebody_wants_it(folder):
    done = run(folder, 'ruin', *COMMON, '--accept')
    assert done.returncode == 0, done.stderr
    assert 'gate failed, accepted, target 0.98' in ' '.join(done.stdout.split())
    gate = read_gate(folder / 'm_int8.onnx')
    assert gate is not None and gate.accepted and not gate.passed
    with pytest.raises(GateError, match='failed its gate'):
        open_pipeline(folder / 'm_int8.onnx')
    # Who quantizes once more begins with floats.
    done = run(folder, '0', 'quantize', 'm_int8.onnx', '--calibration', 'calibration/images')
    assert done.stderr == "error: model 'm_int8.onnx' is in INT8 already; give the float model\n"
    # What there was of an earlier run stays, and is not taken for the new one.
    done = run(folder, 'ruin', *COMMON)
    assert done.returncode == 3
    assert 'was not written (what is there is of an earlier run)' in done.stderr
    assert read_gate(folder / 'm_int8.onnx') == gate


def test_a_model_with_nothing_in_int8_is_none(folder):
    done = run(folder, '63', *COMMON, *LABELLED, '--json', '-')
    assert done.returncode == 3, done.stderr
    report = json.loads(done.stdout)
    assert (report['int8_share'], report['gate']['passed']) == (0, True)
    assert report['output']['written'] is False
    assert 'no layer bears INT8 within the target' in done.stderr.splitlines()[-1]
    assert left_behind(folder) == {'m_int8.quantize'}


def test_pictures_that_were_calibrated_with_prove_little(folder):
    done = run(folder, 'ruin', 'quantize', 'm.onnx', '--calibration', 'test/images', *LABELLED)
    assert done.returncode == 3
    assert 'warning: 10 of the 10 labelled pictures were calibrated with' in done.stderr


def test_a_topic_of_a_bag(folder):
    frames = list(open_source(folder / 'calibration' / 'images').frames())
    write_bag(folder / 'bag', frames, topic='/front', compressed=True)
    done = run(
        folder, 'ruin', 'quantize', 'm.onnx', '--calibration', 'bag', '--topic', '/front',
        '--frames', '3', '--json', '-',
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    chosen = json.loads(done.stdout)['calibration']
    assert (chosen['source'], chosen['seen'], chosen['frames']) == ('bag /front', 8, 3)
    assert not [f for f in (folder / 'm_int8.quantize').iterdir() if f.is_dir()]


@pytest.fixture(scope='module')
def resumed(rendered: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which each run goes on where the one before was stopped."""
    folder = tmp_path_factory.mktemp('resumed')
    shutil.copy(MODEL, folder / 'm.onnx')
    for split in ('calibration', 'test'):
        (folder / split).symlink_to(rendered / split)
    return folder


@pytest.mark.parametrize(
    'phase',
    [
        'choose frames',
        'observe',
        'sensitivity',
        'draw the curve',
    ],
)
def test_ctrl_c_keeps_what_was_measured(resumed, phase):
    file = resumed / 'm_int8.quantize' / 'measurements.json'
    before = json.loads(file.read_text())['figures'] if file.exists() else {}
    # Whoever started the tests in the background left SIGINT ignored, for all that they start too.
    with subprocess.Popen(
        command('really', *COMMON, *LABELLED, '--method', 'mse', '--frames', '2'), cwd=resumed,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:  # fmt: skip
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if line == f'{phase}\n':
                    break
            process.send_signal(signal.SIGINT)
            *_, last = process.stderr
            assert process.wait(60) == 130
        finally:
            process.kill()
    # Nothing is half-written, and no folder is left that says nothing.
    assert left_behind(resumed) == ({'m_int8.quantize'} if file.exists() else set())
    if not file.exists():
        assert last == 'stopped; nothing was measured yet\n'
        return
    assert last == (
        "stopped; what was measured is kept in 'm_int8.quantize', and the same command goes on from"
        ' there\n'
    )
    assert list(file.parent.iterdir()) == [file]
    assert before.items() <= json.loads(file.read_text())['figures'].items()


def test_progress_on_a_terminal(folder):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command('ruin', *COMMON, '--json', '-'), cwd=folder, stdout=subprocess.PIPE, stderr=theirs,
        env={**os.environ, 'TERM': 'xterm', 'COLUMNS': '120'},
    )  # fmt: skip
    os.close(theirs)
    shown = read_terminal(ours)
    assert process.stdout is not None
    with process.stdout as out:
        assert json.loads(out.read())['calibration']['frames'] == 6
    assert process.wait(60) == 3
    for phase in (b'choose frames', b'run the float model', b'observe', b'compare INT8 with it'):
        assert phase in shown
    assert b'100%' in shown


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'model': 'absent.onnx'}, "model 'absent.onnx' is not a file"),
        ({'model': 'test/instances.json'}, 'is not a readable ONNX file'),
        ({'--calibration': 'absent'}, "input 'absent' does not exist"),
        ({'--calibration': 'test'}, "'test' is a folder without jpg or png pictures"),
        ({'--calibration': 'one'}, "'one' holds 1 image, too few to calibrate and to"),
        ({'--calibration': 'one', '--eval': 'absent.json', '--images': '.'}, "'absent.json'"),
        ({'--topic': '/front'}, "topic '/front': input 'calibration/images' is no bag"),
        ({'--eval': 'test/instances.json'}, '--eval and --images belong together'),
        ({'--images': 'test/images'}, '--eval and --images belong together'),
        ({'-o': 'm.onnx'}, "output 'm.onnx' is the model itself"),
        ({'-o': 'm.int8'}, "output 'm.int8' must end in .onnx"),
        ({'-o': 'absent/o.onnx'}, "there is no folder 'absent'"),
        ({'-o': 'o.onnx'}, "'o.yaml' would override what the output says of itself"),
        ({'--report': 'm.onnx'}, "'m.onnx' cannot be made: File exists"),
        ({'--json': '.'}, "'.' is a folder"),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_one_line_before_the_work(folder, change, words):
    (folder / 'o.yaml').write_text('nms: true\n')
    (folder / 'one').mkdir()
    picture = next((folder / 'test' / 'images').iterdir())
    shutil.copy(picture, folder / 'one' / picture.name)
    options: dict[str, Any] = {'--calibration': 'calibration/images', **change}
    model = options.pop('model', 'm.onnx')
    done = run(folder, '0', 'quantize', model, *(w for pair in options.items() for w in pair))
    assert (done.returncode, done.stdout) == (2, '')
    *phases, line = done.stderr.splitlines()
    assert line.startswith('error: ') and words in line
    assert 'observe' not in phases
    assert left_behind(folder) == {'one', 'o.yaml'}
