# SPDX-License-Identifier: Apache-2.0
"""The command as a user types it: real processes, their output and exit codes."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from models import constant_detector, write_network
from processes import read_terminal

import trt_perception
from trt_perception.core import ModelSpec
from trt_perception.runtime.host.onnx_runtime import cpu_name

COMMAND = [sys.executable, '-m', 'trt_perception.cli.main']


def run(*args: str | Path, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *args], cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True,
        timeout=240,
    )  # fmt: skip


@pytest.fixture
def given(tmp_path: Path) -> list[str | Path]:
    """Arguments of an evaluation with known results, over files that tests may break."""
    pytest.importorskip('pycocotools')
    constant_detector(
        tmp_path / 'm.onnx', [[0, 0, 20, 20], [30, 30, 60, 60]], [0.9, 0.8], [1, 0],
        classes=('car', 'person', 'dog'),
    )  # fmt: skip
    boxes = [(1, [30, 30, 30, 30]), (2, [4, 0, 20, 20]), (3, [0, 0, 9, 9]), (2, [40, 0, 5, 5])]
    data = {
        'images': [{'id': i, 'file_name': f'{i}.png'} for i in range(3)],
        'categories': [
            {'id': i + 1, 'name': name} for i, name in enumerate(('car', 'person', '[red]:car:'))
        ],
        'annotations': [
            {'image_id': i, 'category_id': c, 'bbox': box} for i in range(3) for c, box in boxes
        ],
    }
    for i in range(3):
        cv2.imwrite(str(tmp_path / f'{i}.png'), np.zeros((64, 64, 3), np.uint8))
    (tmp_path / 'instances.json').write_text(json.dumps(data))
    return ['evaluate', '--model', 'm.onnx', '--coco', 'instances.json', '--images', '.']


#: IoU 16/24 of every second person: recall 1/2 at 0.50 to 0.65.
PERSON = 0.4 * 51 / 101


# Help


@pytest.mark.parametrize(
    'args', [['--help'], ['evaluate', '--help'], ['quantize', '--help'], ['--version']]
)
def test_help_needs_nothing_but_python(tmp_path, args):
    code = (
        'import sys\n'
        'from trt_perception.cli.main import main\n'
        'try: main(sys.argv[1:])\n'
        'finally: print(*sorted({m.partition(".")[0] for m in sys.modules}), file=sys.stderr)'
    )
    done = subprocess.run(
        [sys.executable, '-c', code, *args], cwd=tmp_path, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0
    loaded = set(done.stderr.split())
    assert 'trt_perception' in loaded
    heavy = {'av', 'cv2', 'numpy', 'onnx', 'onnxruntime', 'pycocotools', 'rclpy', 'rich', 'yaml'}
    assert not loaded & heavy


def test_help_tells_what_there_is(tmp_path):
    done = run('--help', cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, '')
    assert 'evaluate  ' in done.stdout
    done = run('evaluate', '--help', cwd=tmp_path)
    assert '\n  trt-perception evaluate --model yolov8n.onnx --coco ' in done.stdout
    for option in ('model', 'coco', 'images', 'labels', 'backend', 'threads', 'score-threshold',
                   'limit', 'json'):  # fmt: skip
        assert f'--{option} ' in done.stdout
    done = run('quantize', '--help', cwd=tmp_path)
    assert '\n  trt-perception quantize yolov8n.onnx --calibration ' in done.stdout
    assert 'Exit code 3: ' in done.stdout
    done = run('--version', cwd=tmp_path)
    assert done.stdout == f'trt-perception {trt_perception.__version__}\n'


# Results


def test_json_to_the_terminal(given, tmp_path):
    done = run(*given, '--json', '-', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == 'evaluating 3 pictures\n'
    report = json.loads(done.stdout)
    content = (tmp_path / 'm.onnx').read_bytes()
    assert report['model'] == {'path': 'm.onnx', 'sha256': hashlib.sha256(content).hexdigest()}
    assert ModelSpec.from_dict(report['spec']).class_names == ('car', 'person', 'dog')
    assert report['data_set'] == {'annotations': 'instances.json', 'images': '.'}
    accuracy = report['accuracy']
    assert accuracy['map'] == pytest.approx((1 + PERSON) / 2)
    assert accuracy['map50'] == pytest.approx((1 + 51 / 101) / 2)
    assert [(c['name'], c['objects']) for c in accuracy['classes']] == [('car', 3), ('person', 6)]
    assert [c['ap'] for c in accuracy['classes']] == pytest.approx([1, PERSON])
    assert accuracy['only_in_model'] == ['dog']
    assert accuracy['only_in_data_set'] == ['[red]:car:']
    assert (report['pictures'], report['detections']) == (3, 6)
    assert set(report['stage_ms']) == {'preprocess', 'infer', 'decode'}
    assert report['engine']['device'] == cpu_name()
    assert report['reason'].startswith('TensorRT cannot run here: ')
    known = {'python', 'trt_perception', 'numpy', 'cv2', 'onnx', 'onnxruntime', 'pycocotools'}
    assert set(report['versions']) == known
    assert report['versions']['cv2'] == cv2.__version__


def test_table(given, tmp_path):
    done = run(*given, cwd=tmp_path, COLUMNS='200')
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ['class', 'objects', 'AP', 'AP50'] in lines
    # Best first.
    person = [f'{100 * PERSON:.1f}', f'{100 * 51 / 101:.1f}']
    assert lines.index(['car', '3', '100.0', '100.0']) < lines.index(['person', '6', *person])
    assert ['mAP', f'{50 * (1 + PERSON):.1f}'] in lines
    ran, median = ([line for line in lines if line[:1] == [word]] for word in ('ran', 'median'))
    assert ' '.join(ran[0]).startswith('ran ONNX Runtime ')
    assert f'on {cpu_name()}' in ' '.join(ran[0])
    assert ' '.join(median[0]).endswith(f' ms (on {cpu_name()})')
    assert ['not', 'compared', 'only', 'in', 'the', 'model:', 'dog'] in lines
    assert any(line[:5] == ['because', 'TensorRT', 'cannot', 'run', 'here:'] for line in lines)
    assert 'only in the data set: [red]:car:' in done.stdout


def test_json_to_a_file(given, tmp_path):
    before = set(tmp_path.iterdir())
    done = run(*given, '--json', 'out.json', '--limit', '1', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'mAP50' in done.stdout
    assert json.loads((tmp_path / 'out.json').read_text())['pictures'] == 1
    assert set(tmp_path.iterdir()) == before | {tmp_path / 'out.json'}


def test_options_reach_what_they_are_for(given, tmp_path):
    (tmp_path / 'names.txt').write_text('car\nhorse\nperson\n')
    options = ['--labels', 'names.txt', '--score-threshold', '0.85', '--backend', 'onnxruntime',
               '--threads', '1', '--json', '-']  # fmt: skip
    done = run(*given, *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report['spec']['class_names'] == ['car', 'horse', 'person']
    assert report['selection']['score_threshold'] == 0.85
    assert report['detections'] == 3
    assert report['accuracy']['map'] == 0


def test_progress_on_a_terminal(given, tmp_path):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *given, '--json', '-'], cwd=tmp_path, env={**os.environ, 'TERM': 'xterm'},
        stdout=subprocess.PIPE, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    shown = read_terminal(ours)
    assert process.stdout is not None
    with process.stdout as out:
        assert json.loads(out.read())['pictures'] == 3
    assert process.wait(60) == 0
    assert b'3 of 3 pictures' in shown


def test_a_name_that_the_terminal_has_no_letters_for(given, tmp_path):
    data = json.loads((tmp_path / 'instances.json').read_text())
    data['categories'][2]['name'] = 'Fußgänger'
    (tmp_path / 'instances.json').write_text(json.dumps(data))
    done = run(*given, cwd=tmp_path, PYTHONIOENCODING='ascii')
    assert done.returncode == 0, done.stderr
    assert 'Fu\\xdfg\\xe4nger' in done.stdout


# Mistakes


def mistake(done: subprocess.CompletedProcess[str]) -> str:
    """The one line on stderr."""
    assert done.returncode == 2
    assert done.stdout == ''
    (line,) = done.stderr.splitlines()
    assert line.startswith('error: ')
    return line


@pytest.mark.parametrize(
    ('option', 'value', 'words'),
    [
        ('--model', 'absent.onnx', "model 'absent.onnx' is not a file"),
        ('--model', '.', "model '.' is not a file"),
        ('--model', '0.png', "model '0.png' is not a readable ONNX file"),
        ('--model', 'strange.onnx', 'no known layout fits'),
        ('--coco', 'absent.json', "'absent.json': No such file or directory"),
        ('--coco', '.', 'Is a directory'),
        ('--coco', 'm.onnx', 'is not readable JSON'),
        ('--coco', 'list.json', "'list.json' is not a COCO detection data set"),
        ('--images', 'absent', "the first is 'absent/0.png'; give the folder"),
        ('--labels', 'absent.txt', "labels 'absent.txt' is neither a file nor 'coco'"),
        ('--labels', 'coco', '80 class names for a model of 3 classes'),
        ('--backend', 'cuda', "backend 'cuda' is not one of auto, onnxruntime, tensorrt"),
        ('--backend', 'tensorrt', "backend 'tensorrt' cannot run 'm.onnx' here: "),
        ('--precision', 'fp64', "precision 'fp64' is not one of auto, int8, fp16, fp32"),
        ('--json', '.', "'.' is a folder"),
        ('--json', 'absent/x.json', "there is no folder 'absent'"),
    ],
)
def test_mistakes_are_told_in_one_line(given, tmp_path, option, value, words):
    write_network(tmp_path / 'strange.onnx', {'o': np.zeros((1, 9, 9, 9), np.float32)})
    (tmp_path / 'list.json').write_text('[1, 2]')
    assert words in mistake(run(*given, option, value, cwd=tmp_path))


def test_a_broken_picture_is_told_after_the_progress(given, tmp_path):
    (tmp_path / '2.png').write_bytes(b'\xff\xd8\xff')
    done = run(*given, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, '')
    first, second = done.stderr.splitlines()
    assert first == 'evaluating 3 pictures'
    assert second.startswith("error: image '2.png': JPEG of 3 bytes ends before")


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        ([], 'COMMAND'),
        (['fly'], "invalid choice: 'fly'"),
        (['evaluate'], '--model, --coco, --images'),
        (['--threads', '-1'], "'-1' is not a whole number of 0 to 256"),
        (['--threads', '1e3'], "'1e3' is not"),
        (['--threads', '9' * 99], 'is not a whole number'),
        (['--limit', '0'], "'0' is not a whole number of 1 to"),
        (['--score-threshold', '2'], "'2' is not a number from 0 to 1"),
        (['--score-threshold', 'nan'], "'nan' is not"),
        (['--colour'], 'unrecognized arguments: --colour'),
    ],
)
def test_wrong_arguments(tmp_path, args, words):
    if args[:1] and args[0].startswith('-'):
        args = ['evaluate', '--model', 'm', '--coco', 'c', '--images', 'i', *args]
    done = run(*args, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, '')
    assert words in done.stderr.splitlines()[-1]
    assert 'Traceback' not in done.stderr


def test_a_library_that_is_not_installed(given, tmp_path):
    for library in ('numpy', 'cv2', 'rich', 'yaml', 'onnx', 'onnxruntime', 'pycocotools'):
        code = (
            f'import sys; sys.modules[{library!r}] = None\n'
            'from trt_perception.cli.main import main\n'
            'sys.exit(main())'
        )
        done = subprocess.run(
            [sys.executable, '-c', code, *given], cwd=tmp_path, capture_output=True, text=True,
            timeout=120,
        )  # fmt: skip
        line = mistake(done)
        assert library in line
        assert 'pip install' in line


def start(*args: str | Path, cwd: Path, **pipes: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*COMMAND, *args], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **pipes
    )


def test_ctrl_c(given, tmp_path):
    constant_detector(tmp_path / 'm.onnx', classes=('car', 'person', 'dog'), work=200)
    process = start(*given, '--json', 'out.json', cwd=tmp_path)
    assert process.stderr is not None and process.stdout is not None
    with process.stderr as err, process.stdout as out:
        assert err.readline() == b'evaluating 3 pictures\n'
        process.send_signal(signal.SIGINT)
        assert err.read() == b''
        assert out.read() == b''
    assert process.wait(60) == 130
    assert not (tmp_path / 'out.json').exists()


def test_whoever_reads_may_stop_reading(given, tmp_path):
    process = start(*given, '--json', '-', cwd=tmp_path)
    assert process.stderr is not None and process.stdout is not None
    process.stdout.close()
    with process.stderr as err:
        assert err.read() == b'evaluating 3 pictures\n'
    assert process.wait(60) == 1
