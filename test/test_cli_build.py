# SPDX-License-Identifier: Apache-2.0
"""``trt-perception build`` and ``engines`` as a user types them."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
from pathlib import Path

import onnx
import pytest
from models import constant_detector
from test_cli import COMMAND, run
from test_engines import small, with_notes

from trt_perception.build.engine.differences import target
from trt_perception.runtime.tensorrt.gpu import find_gpu
from trt_perception.runtime.tensorrt.library import library
from trt_perception.runtime.tensorrt.manifest import read_manifest
from trt_perception.runtime.tensorrt.plan import load_plan, made_by

pytest.importorskip('tensorrt_rtx_bindings', reason='TensorRT-RTX is not installed')


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a user works: a quantized model m.onnx, engines in engines/."""
    monkeypatch.setenv('TRT_PERCEPTION_ENGINES', str(tmp_path / 'engines'))
    monkeypatch.setenv('COLUMNS', '200')
    small(tmp_path / 'm.onnx')
    return tmp_path


def engines(folder: Path) -> list[Path]:
    return sorted((folder / 'engines').glob('*.engine'))


def rows(text: str) -> dict[str, str]:
    """The summary's lines, by what they begin with."""
    parts = [re.split(r'\s{2,}', line.strip(), maxsplit=1) for line in text.splitlines()]
    return {part[0]: part[1] for part in parts if len(part) == 2}


def test_help(tmp_path: Path) -> None:
    done = run('build', '--help', cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, '')
    assert '\n  trt-perception build yolov8n.onnx  ' in done.stdout
    for option in (
        'precision', 'device', 'output', 'labels', 'accept', 'explain', 'json', 'cache', 'batch',
        'optimization-level', 'workspace', 'tactic-memory', 'tiling', 'auxiliary-streams',
        'hardware-compatibility', 'version-compatible', 'sparsity', 'profiling',
    ):  # fmt: skip
        assert f'--{option}' in done.stdout
    done = run('engines', '--help', cwd=tmp_path)
    for action in ('list', 'show', 'prune', 'adopt'):
        assert f'\n    {action} ' in done.stdout


def test_build(folder: Path) -> None:
    done = run('build', 'm.onnx', '-o', 'robot.engine', cwd=folder)
    assert (done.returncode, done.stderr) == (0, 'building m.onnx\n')
    told = rows(done.stdout)
    assert told['engine'] == 'robot.engine'
    assert told['precision'].startswith('int8, ')
    assert told['for'] == f'{target()} (gpu)'
    (kept,) = engines(folder)
    assert load_plan(folder / 'robot.engine') == load_plan(kept)
    again = run('build', 'm.onnx', cwd=folder)
    assert again.returncode == 0
    assert rows(again.stdout)['engine'] == str(kept)
    assert 'from the cache' in rows(again.stdout)['built']


def test_json_and_explain(folder: Path) -> None:
    model = onnx.load(str(folder / 'm.onnx'))
    next(n for n in model.graph.node if n.op_type == 'Conv').input[0] = 'images'
    onnx.save(model, str(folder / 'hole.onnx'))
    (folder / 'hole.yaml').write_text('outputs: [output0]')
    asked = ['build', 'hole.onnx', '--explain', '--profiling', 'layer_names_only', '--json']
    done = run(*asked, 'r.json', cwd=folder)
    assert done.returncode == 0, done.stderr
    report = json.loads((folder / 'r.json').read_text())
    assert report['engine'] == str(engines(folder)[0])
    assert not report['from_cache']
    assert report['manifest'] == json.loads(read_manifest(engines(folder)[0]).to_json())
    first = report['layers'][0]
    assert (first['name'], first['precision'], first['unmet']) == ('conv', 'HALF', True)
    assert not any(layer['unmet'] for layer in report['layers'][1:])
    assert report['builder_log'] and report['builder_log'][0].startswith('Layer(')
    line = next(x for x in done.stdout.splitlines() if x.split()[:1] == ['conv'])
    assert 'HALF, meant: INT8' in line
    assert rows(done.stdout)['in float'] == '1 layers that were meant for INT8: conv'

    again = json.loads(run(*asked, '-', cwd=folder).stdout)
    assert again['from_cache'] and again['layers'] == report['layers']
    if find_gpu() is None:
        assert any('the inspector needs a GPU' in note for note in again['notes'])


@pytest.mark.parametrize(
    'args, text',
    [
        (['none.onnx'], "model 'none.onnx' is not a file"),
        (['float.onnx', '--precision', 'int8'], 'quantize it first: trt-perception quantize'),
        (['m.onnx', '--precision', 'fp16'], 'is quantized, so it cannot be built in fp16'),
        (['m.onnx', '--device', 'dla0'], 'has no DLA; take device gpu'),
        (['m.onnx', '--device', 'npu'], "device 'npu' is not one of gpu, dla0, dla1"),
        (['m.onnx', '--tiling', 'wild'], "tiling 'wild' is not one of"),
        (['m.onnx', '--optimization-level', '9'], 'optimization level 9 is not one of 0 to 5'),
        (['m.onnx', '--batch', '4'], 'fixes its batch'),
        (['m.onnx', '-o', 'no/where.engine'], "there is no folder 'no'"),
        (['m.onnx', '-o', '.'], 'is a folder'),
        (['m.onnx', '--json', 'no/where.json'], "there is no folder 'no'"),
        (['m.onnx', '--labels', 'none.txt'], "labels 'none.txt' is neither"),
        (['failed.onnx'], 'did not pass its accuracy gate'),
    ],
)
def test_refused(args: list[str], text: str, folder: Path) -> None:
    constant_detector(folder / 'float.onnx')
    with_notes(small(folder / 'failed.onnx'), gate='{"passed": false}')
    done = run('build', *args, cwd=folder)
    assert (done.returncode, done.stdout) == (2, '')
    errors = [line for line in done.stderr.splitlines() if not line.startswith('building ')]
    assert len(errors) == 1 and errors[0].startswith('error: ')
    assert text in errors[0]
    assert not engines(folder)


@pytest.mark.parametrize('text', ['', 'x', '1,2', '1,2,3,4', '-1', '1.5'])
def test_no_batch(text: str, folder: Path) -> None:
    done = run('build', 'm.onnx', f'--batch={text}', cwd=folder)
    assert done.returncode == 2
    assert 'is neither a number nor three' in done.stderr


def test_accepted_all_the_same(folder: Path) -> None:
    with_notes(folder / 'm.onnx', gate='{"passed": false}')
    done = run('build', 'm.onnx', '--accept', cwd=folder)
    assert done.returncode == 0, done.stderr
    assert rows(done.stdout)['gate'] == 'FAILED, accepted all the same'


def test_outputs_that_nobody_reads(folder: Path) -> None:
    """An engine all the same, and the summary says what is missing."""
    (folder / 'm.yaml').unlink()
    done = run('build', 'm.onnx', '--json', '-', cwd=folder)
    assert done.returncode == 0
    report = json.loads(done.stdout)
    assert report['manifest']['spec'] is None
    (note,) = report['notes']
    assert note.startswith('the manifest cannot say how to read the outputs: ')


def test_ctrl_c(folder: Path) -> None:
    """While it waits for another process, which is where it can be held for sure."""
    import fcntl

    assert run('build', 'm.onnx', cwd=folder).returncode == 0
    (path,) = engines(folder)
    path.write_bytes(b'')
    with (path.parent / f'.{path.name}.lock').open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = subprocess.Popen(
            [*COMMAND, 'build', 'm.onnx'], cwd=folder, stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        assert process.stderr.readline() == 'building m.onnx\n'
        assert 'another process builds the engine' in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, 'stopping\n')
    assert path.read_bytes() == b''


def test_ctrl_c_while_tensorrt_builds(folder: Path) -> None:
    """Whatever it is doing then: a whole engine or none."""
    process = subprocess.Popen(
        [*COMMAND, 'build', 'm.onnx'], cwd=folder, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert process.stderr.readline() == 'building m.onnx\n'
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode in (0, 130)
    assert (process.returncode == 0) == bool(engines(folder))
    assert not list((folder / 'engines').glob('.*.tmp'))


def test_a_bar_where_somebody_watches(folder: Path) -> None:
    control, terminal = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, 'build', 'm.onnx'], cwd=folder, stdout=subprocess.PIPE, stderr=terminal,
        env={**os.environ, 'TERM': 'xterm'},
    )  # fmt: skip
    os.close(terminal)
    shown = b''
    while True:
        try:
            shown += os.read(control, 4096)
        except OSError:  # the process has closed its end
            break
    os.close(control)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert 'engine' in shown.decode() and '━' in shown.decode()


def test_engines(folder: Path) -> None:
    empty = run('engines', 'list', cwd=folder)
    assert empty.stdout == f'0 engines, 0.0 MB, in {folder / "engines"}\n'
    for name in ('m', 'other'):
        small(folder / f'{name}.onnx', channels=len(name))
        assert run('build', f'{name}.onnx', cwd=folder).returncode == 0
    first, second = engines(folder)
    listed = run('engines', 'list', cwd=folder)
    assert first.stem[:8] in listed.stdout and 'other.onnx' in listed.stdout
    assert listed.stdout.splitlines()[-1].startswith('2 engines, ')
    report = json.loads(run('engines', 'list', '--json', cwd=folder).stdout)
    assert [(e['engine'], e['fault']) for e in report] == [(str(first), ''), (str(second), '')]

    shown = run('engines', 'show', first.stem[:12], cwd=folder)
    assert shown.stdout == read_manifest(first).to_json()
    assert run('engines', 'show', str(first), cwd=folder).stdout == shown.stdout
    unknown = run('engines', 'show', 'xyz', cwd=folder)
    assert (unknown.returncode, unknown.stderr.count('\n')) == (2, 1)
    both = run('engines', 'show', '', cwd=folder)
    assert 'give more of its name' in both.stderr

    first.write_bytes(b'cut')
    (folder / 'engines' / f'.{second.name}.0123.tmp').write_bytes(b'half')
    (folder / 'engines' / '.gone.engine.0123.tmp').write_bytes(b'half')
    assert 'is not what its manifest tells of' in run('engines', 'list', cwd=folder).stdout
    planned = run('engines', 'prune', '--dry-run', cwd=folder)
    assert planned.stdout.count('would delete') == 2 and first.exists()
    pruned = run('engines', 'prune', cwd=folder)
    assert f'deleted {first.stem}: ' in pruned.stdout
    assert 'deleted gone: left by a build that was killed' in pruned.stdout
    assert engines(folder) == [second]
    assert run('engines', 'prune', '--all', cwd=folder).returncode == 0
    assert not list((folder / 'engines').iterdir())
    assert 'nothing to delete' in run('engines', 'prune', cwd=folder).stdout


def test_prune_keeps_what_others_build(folder: Path) -> None:
    import fcntl

    assert run('build', 'm.onnx', cwd=folder).returncode == 0
    (path,) = engines(folder)
    with (path.parent / f'.{path.name}.lock').open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = run('engines', 'prune', '--all', cwd=folder)
    assert done.stdout == f'kept {path.stem}: somebody builds it\n'
    assert path.exists()


def test_engines_of_another_release(folder: Path) -> None:
    assert run('build', 'm.onnx', cwd=folder).returncode == 0
    (path,) = engines(folder)
    manifest = path.with_name(path.name + '.json')
    here = str(library())
    manifest.write_text(manifest.read_text().replace(f'"{here}"', '"TensorRT-RTX 1.4.0"'))
    done = run('engines', 'prune', cwd=folder)
    assert f'made with TensorRT-RTX 1.4.0, and this is {here}' in done.stdout
    assert not engines(folder)


def test_adopt(folder: Path) -> None:
    assert run('build', 'm.onnx', '-o', 'mine.engine', cwd=folder).returncode == 0
    plan = (folder / 'mine.engine').read_bytes()
    notes = json.dumps({'task': 'detect', 'names': {'0': 'car'}}).encode()
    (folder / 'u.engine').write_bytes(len(notes).to_bytes(4, 'little') + notes + plan)
    done = run('engines', 'adopt', 'u.engine', cwd=folder)
    assert done.stdout.startswith(f'u.engine.json: {made_by(plan)}, sha256 ')
    assert load_plan(folder / 'u.engine').data == plan
    again = run('engines', 'adopt', 'mine.engine', cwd=folder)
    assert (again.returncode, again.stderr) == (
        2, "error: engine 'mine.engine' has its manifest already\n",
    )  # fmt: skip
    (folder / 'no.engine').write_bytes(b'no engine')
    assert run('engines', 'adopt', 'no.engine', cwd=folder).returncode == 2
