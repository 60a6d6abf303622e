# SPDX-License-Identifier: Apache-2.0
"""The folder of engines: the right one is found, several processes share it, nothing breaks it."""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import onnx
import pytest

pytest.importorskip('tensorrt_rtx_bindings', reason='TensorRT-RTX is not installed')

from engines import COMMAND, build, run, small, with_notes

from trt_perception.build.engine import differences, store
from trt_perception.build.engine.builder import BuildCancelledError
from trt_perception.build.engine.cache import EngineCache, check, default_folder, key_of
from trt_perception.build.engine.make import Request, make_engine
from trt_perception.build.engine.source import read_source
from trt_perception.build.engine.tuning import Tuning
from trt_perception.core.files import FileError
from trt_perception.runtime.tensorrt.manifest import manifest_path, read_manifest
from trt_perception.runtime.tensorrt.plan import load_plan, made_by


def test_from_the_cache(tmp_path: Path, cache: EngineCache) -> None:
    path = small(tmp_path / 'm.onnx')
    first = build(path, cache)
    again = build(path, cache)
    assert (first.build is None, again.build is None) == (False, True)
    assert (again.path, again.manifest) == (first.path, first.manifest)
    manifest = read_manifest(first.path)
    assert manifest.model['sha256'] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert manifest.spec == read_source(path).spec
    assert manifest.spec.class_names == ('car', 'person')
    assert manifest.library.startswith(made_by(first.build.plan))


def test_every_wish_is_another_engine(tmp_path: Path, cache: EngineCache) -> None:
    path = small(tmp_path / 'm.onnx')
    wishes = [
        Tuning(), Tuning(optimization_level=1), Tuning(workspace_mib=64, tactic_memory_mib=64),
        Tuning(tiling='fast'), Tuning(auxiliary_streams=0), Tuning(sparsity=True),
        Tuning(profiling='none'),
    ]  # fmt: skip
    made = {build(path, cache, tuning=tuning).path for tuning in wishes}
    assert len(made) == len(wishes)
    with_notes(path, calibration='{"pictures": 7}')
    assert build(path, cache).path not in made
    assert read_manifest(build(path, cache).path).calibration == {'pictures': 7}


def test_the_key_is_of_the_content() -> None:
    one = {'onnx': 'a', 'tuning': {'batch': (1, 2, 4)}, 'gpu': 'x'}
    assert key_of(one) == key_of(dict(reversed(one.items())))
    assert key_of(one) != key_of(one | {'gpu': 'y'})


def test_labels_reach_the_manifest_without_a_build(tmp_path: Path, cache: EngineCache) -> None:
    path = small(tmp_path / 'm.onnx')
    build(path, cache)
    path.with_suffix('.yaml').write_text('{outputs: [output0], classes: [pallet, barrel]}')
    again = build(path, cache)
    assert again.build is None
    assert read_manifest(again.path).spec.class_names == ('pallet', 'barrel')


@pytest.mark.parametrize(
    'damage', ['cut', 'changed', 'no manifest', 'no engine', 'empty manifest', 'of another']
)
def test_a_broken_engine_is_named_and_rebuilt(
    damage: str, tmp_path: Path, cache: EngineCache
) -> None:
    path = small(tmp_path / 'm.onnx')
    made = build(path, cache)
    plan, manifest = made.path, manifest_path(made.path)
    if damage == 'cut':
        plan.write_bytes(plan.read_bytes()[:-9])
    elif damage == 'changed':
        plan.write_bytes(plan.read_bytes()[:-1] + b'?')
    elif damage == 'no manifest':
        manifest.unlink()
    elif damage == 'no engine':
        plan.unlink()
    elif damage == 'empty manifest':
        manifest.write_text('')
    else:
        other = build(small(tmp_path / 'other.onnx', channels=4), cache)
        plan.write_bytes(other.path.read_bytes())
        manifest.write_bytes(manifest_path(other.path).read_bytes())
    notes: list[str] = []
    again = make_engine(Request(read_source(path)), cache, on_note=notes.append)
    assert again.build is not None
    assert len(notes) == 1 and str(plan) in notes[0] and notes[0].endswith('building it anew')
    assert check(again.path, again.manifest.key).fault == ''


def test_weights_beside_the_model_count(tmp_path: Path) -> None:
    path = small(tmp_path / 'm.onnx')
    model = onnx.load(str(path))
    onnx.save(model, str(path), save_as_external_data=True, location='w.bin', size_threshold=0)
    before = read_source(path)
    data = bytearray((tmp_path / 'w.bin').read_bytes())
    data[0] ^= 1
    (tmp_path / 'w.bin').write_bytes(data)
    after = read_source(path)
    assert before.sha256 == after.sha256
    assert before.digest != after.digest


def test_two_builders(int8: Any, cache: EngineCache) -> None:
    """Two processes want the same engine: one builds it, and both have it."""
    path = int8('fastestdet')
    command = [*COMMAND, 'build', str(path), '--json', '-', '--cache', str(cache.folder)]
    pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, 'text': True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(2)]
    results = [process.communicate(timeout=240) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], results
    reports = [json.loads(out) for out, _ in results]
    assert sorted(report['from_cache'] for report in reports) == [False, True]
    assert reports[0]['manifest'] == reports[1]['manifest']
    assert [entry.fault for entry in cache.entries()] == ['']


def test_who_waits_may_stop(tmp_path: Path, cache: EngineCache) -> None:
    path = small(tmp_path / 'm.onnx')
    made = build(path, cache)
    handle = store.try_lock(cache.lock_path(made.path))
    assert handle is not None
    cancel, notes = threading.Event(), []

    def on_note(text: str) -> None:
        notes.append(text)
        cancel.set()

    with pytest.raises(BuildCancelledError):
        make_engine(Request(read_source(path)), cache, on_note=on_note, cancel=cancel)
    assert len(notes) == 1 and 'another process builds the engine' in notes[0]
    os.close(handle)
    assert build(path, cache).build is None


def test_a_deleted_lock_keeps_nobody_out_and_nobody_in(tmp_path: Path) -> None:
    path = tmp_path / '.lock'
    first = store.try_lock(path)
    assert first is not None and store.try_lock(path) is None
    path.unlink()
    second = store.try_lock(path)
    assert second is not None
    os.close(first)
    assert store.try_lock(path) is None
    os.close(second)


BUILDING_FOREVER = """
import sys
from pathlib import Path
from trt_perception.build.engine.cache import EngineCache
from trt_perception.build.engine.make import Request, make_engine
from trt_perception.build.engine.source import read_source

request = Request(read_source(Path(sys.argv[1])))
cache = EngineCache(Path(sys.argv[2]))
while True:
    path = make_engine(request, cache).path
    print(path.stem, flush=True)
    path.write_bytes(b'') if sys.argv[3] == 'damage' else cache.remove(path)
"""


def test_killed_at_any_moment(tmp_path: Path, cache: EngineCache) -> None:
    """A process that builds, and damages or removes what it built, over and over."""
    path = small(tmp_path / 'm.onnx')
    key = build(path, cache).manifest.key
    rng = random.Random(0)
    for number in range(10):
        how = ('damage', 'remove')[number % 2]
        process = subprocess.Popen(
            [sys.executable, '-c', BUILDING_FOREVER, path, cache.folder, how],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline().strip() == key
        time.sleep(rng.uniform(0, 0.3))  # the moment is random: nothing is awaited
        process.kill()
        process.communicate()
        # What passes for an engine is one, and nobody is kept out.
        entry = cache.look_up(key)
        if entry.manifest is not None and not entry.fault:
            load_plan(entry.path)
        assert make_engine(Request(read_source(path)), cache).manifest.key == key
        load_plan(entry.path)
    assert sorted(file.suffix for file in cache.folder.iterdir()) == ['.engine', '.json', '.lock']


def test_killed_between_the_two_files(
    tmp_path: Path, cache: EngineCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worst moment: the engine is new, its manifest still the old one."""
    path = small(tmp_path / 'm.onnx')
    made = build(path, cache)
    old = manifest_path(made.path).read_text().replace(made.manifest.sha256, 'a' * 64)
    manifest_path(made.path).write_text(old)
    assert 'is not what its manifest tells of' in cache.look_up(made.manifest.key).fault
    assert build(path, cache).build is not None


def limit_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))


def test_a_full_disk_leaves_the_old_engine(tmp_path: Path, cache: EngineCache) -> None:
    """A limit on the size of files stands in for the disk: the same error at the same place."""
    target = tmp_path / 'robot.engine'
    old = run('build', small(tmp_path / 'm.onnx'), '-o', target, cache=cache)
    assert old.returncode == 0, old.stderr
    before = {path: path.read_bytes() for path in (target, manifest_path(target))}
    files = sorted(cache.folder.iterdir())
    other = small(tmp_path / 'other.onnx', channels=4)
    full = run('build', other, '-o', target, cache=cache, preexec_fn=limit_files)
    assert full.returncode == 2
    (line,) = [x for x in full.stderr.splitlines() if x.startswith('error')]
    assert 'cannot be written: File too large' in line
    assert {path: path.read_bytes() for path in before} == before
    load_plan(target)
    left = set(cache.folder.iterdir()) - set(files)
    assert {path.suffix for path in left} <= {'.lock'}


def test_written_together(tmp_path: Path) -> None:
    one, two = tmp_path / 'one', tmp_path / 'nowhere' / 'two'
    one.write_bytes(b'old')
    with pytest.raises(FileError, match='nowhere/two'):
        store.write_together({one: b'new', two: b'new'})
    assert one.read_bytes() == b'old'
    assert sorted(tmp_path.iterdir()) == [one]


def test_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv('TRT_PERCEPTION_ENGINES', raising=False)
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.setenv('XDG_CACHE_HOME', 'not/absolute')
    assert default_folder() == tmp_path / '.cache' / 'trt_perception' / 'engines'
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'xdg'))
    assert default_folder() == tmp_path / 'xdg' / 'trt_perception' / 'engines'
    monkeypatch.setenv('TRT_PERCEPTION_ENGINES', '~/mine')
    assert default_folder() == tmp_path / 'mine'


def test_timings_are_shared(
    tmp_path: Path, cache: EngineCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A timing cache goes from build to build; TensorRT-RTX carries an empty one along."""
    from trt_perception.build.engine import make

    monkeypatch.setattr(differences, 'keeps_timings', lambda: True)
    monkeypatch.setattr(make, 'keeps_timings', lambda: True)
    with pytest.warns(DeprecationWarning):
        build(small(tmp_path / 'm.onnx'), cache)
    (kept,) = (cache.folder / 'timings').glob('*.timings')
    first = kept.read_bytes()
    assert first
    kept.write_bytes(b'rubbish' * 99)  # costs the timings, not the build
    with pytest.warns(DeprecationWarning):
        build(small(tmp_path / 'other.onnx', 4), cache)
    assert kept.read_bytes() == first
