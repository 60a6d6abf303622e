# SPDX-License-Identifier: Apache-2.0
"""Engines built for real, by TensorRT-RTX, which needs no GPU for it; the cache that keeps them."""

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

import numpy as np
import onnx
import pytest
from models import constant_detector
from onnx import TensorProto, helper, numpy_helper
from quantized import DETECTORS, feeds, model_path, quantize_naively

from trt_perception.build.engine import differences, store
from trt_perception.build.engine.cache import EngineCache, check, default_folder, key_of
from trt_perception.build.engine.source import SourceError, network_for, read_source
from trt_perception.build.engine.tuning import Tuning, TuningError
from trt_perception.build.quantization.bench import Bench
from trt_perception.build.quantization.graph import prepare
from trt_perception.build.quantization.network import Network
from trt_perception.build.quantization.planning import make_plan
from trt_perception.core import Frame, PerceptionError
from trt_perception.core.files import FileError
from trt_perception.runtime.model_file import load_spec
from trt_perception.runtime.tensorrt.manifest import manifest_path, read_manifest
from trt_perception.runtime.tensorrt.plan import load_plan, made_by

pytest.importorskip('tensorrt_rtx_bindings', reason='TensorRT-RTX is not installed')

from trt_perception.build.engine.background import BackgroundBuild
from trt_perception.build.engine.builder import BuildCancelledError, Builder, BuildError
from trt_perception.build.engine.make import Request, make_engine
from trt_perception.build.engine.progress import Phases

COMMAND = [sys.executable, '-m', 'trt_perception.cli.main']


@pytest.fixture(scope='module')
def int8(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Gives the naive INT8 model of a detector, made once."""
    folder = tmp_path_factory.mktemp('int8')

    def make(name: str) -> Path:
        path: Path = folder / f'{name}.onnx'
        if not path.exists():
            quantize_naively(model_path(assets, name), feeds(assets, name, 1), path)
        return path

    return make


def small(path: Path, channels: int = 3, bias: bool = False) -> Path:
    """A quantized convolution, with the boxes of `constant_detector` beside it."""
    constant_detector(path)
    model = onnx.load(str(path))
    weights = {
        'w8': np.full((channels, 3, 3, 3), 3, np.int8), 'ws': np.full(channels, 0.01, np.float32),
        'xs': np.array(0.0079, np.float32), 'zero': np.array(0, np.int8),
    }  # fmt: skip
    if bias:
        weights |= {'b32': np.full(channels, 5, np.int32), 'bs': np.full(channels, 0.1, np.float32)}
        weights |= {'bz': np.zeros(channels, np.int32)}
    nodes = [
        helper.make_node('QuantizeLinear', ['images', 'xs', 'zero'], ['q'], 'quantize'),
        helper.make_node('DequantizeLinear', ['q', 'xs', 'zero'], ['x'], 'dequantize'),
        helper.make_node('DequantizeLinear', ['w8', 'ws'], ['w'], 'weights', axis=0),
        helper.make_node('Conv', ['x', 'w', *(['b'] if bias else [])], ['seen'], 'conv'),
    ]
    if bias:
        made = helper.make_node('DequantizeLinear', ['b32', 'bs', 'bz'], ['b'], 'bias', axis=0)
        nodes.insert(0, made)
    graph = model.graph
    graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in weights.items())
    graph.node.extend(nodes)
    shape = (1, channels, 62, 62)
    graph.output.append(helper.make_tensor_value_info('seen', TensorProto.FLOAT, shape))
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    path.with_suffix('.yaml').write_text('outputs: [output0]')
    return path


def with_notes(path: Path, **notes: str) -> Path:
    model = onnx.load(str(path))
    for key, value in notes.items():
        model.metadata_props.add(key=f'trt_perception.{key}', value=value)
    onnx.save(model, str(path))
    return path


def build(path: Path, cache: EngineCache, **wishes: Any) -> Any:
    return make_engine(Request(read_source(path), **wishes), cache)


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / 'engines')


def run(*args: str | Path, cache: EngineCache, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *args], env={**os.environ, 'TRT_PERCEPTION_ENGINES': str(cache.folder)},
        capture_output=True, text=True, timeout=240, **more,
    )  # fmt: skip


@pytest.mark.parametrize('name', DETECTORS)
def test_int8_engines(name: str, int8: Any, cache: EngineCache) -> None:
    path = int8(name)
    heard: list[tuple[str, float]] = []
    engine = make_engine(
        Request(read_source(path)),
        cache,
        on_progress=lambda phase, share: heard.append((phase, share)),
    )
    assert engine.manifest.precision == 'int8'
    assert load_plan(engine.path).data == engine.build.plan
    graph = onnx.load(str(path)).graph
    dequantized = {o for n in graph.node if n.op_type == 'DequantizeLinear' for o in n.output}
    convolutions = [n for n in graph.node if n.op_type == 'Conv']
    meant = {n.name for n in convolutions if n.input[1] in dequantized}
    assert len(meant) == len(convolutions) > 40
    layers = {x.name: x for x in engine.build.layers if x.kind == 'CONVOLUTION'}
    assert {name for name, layer in layers.items() if layer.precision == 'INT8'} == meant
    assert not [layer for layer in engine.build.layers if layer.unmet]
    shares = [share for _, share in heard]
    assert shares == sorted(shares)
    assert 0 <= shares[0] < 0.2 and 0.8 < shares[-1] <= 1
    assert len({phase for phase, _ in heard}) > 3


def test_int8_engine_of_our_quantizer(tmp_path: Path, cache: EngineCache) -> None:
    """The shipped model: what it quantizes multiplies in INT8, the last layers in FP16."""
    path = model_path(tmp_path, 'warehouse')
    generator = np.random.default_rng(0)
    blocks = generator.integers(0, 256, (12, 20, 3))
    picture = np.kron(blocks, np.ones((30, 30, 1))).astype(np.uint8)
    bench = Bench(load_spec(path), [Frame.from_array(picture)])
    network = Network(prepare(onnx.load(str(path))), bench, lambda: None)
    meant = set(list(network.layers)[:-6])
    plan, _ = make_plan(network, 'minmax')
    model = network.with_int8(plan, meant)
    assert len(meant) == 57 and sum(n.name.endswith('/divide') for n in model.graph.node) > 5
    onnx.save(model, str(tmp_path / 'm.onnx'))
    engine = build(tmp_path / 'm.onnx', cache)
    layers = {x.name: x for x in engine.build.layers if x.kind == 'CONVOLUTION'}
    assert set(layers) == set(network.layers)
    assert {name for name, layer in layers.items() if layer.precision == 'INT8'} == meant
    assert not [layer for layer in engine.build.layers if layer.unmet]


def test_float_engines(assets: Path, cache: EngineCache) -> None:
    path = model_path(assets, 'fastestdet')
    half = build(path, cache)
    single = build(path, cache, precision='fp32')
    assert (half.manifest.precision, single.manifest.precision) == ('fp16', 'fp32')
    for engine, precision in ((half, 'HALF'), (single, 'FLOAT')):
        kinds = {x.precision for x in engine.build.layers if x.kind == 'CONVOLUTION'}
        assert kinds == {precision}
    assert half.manifest.bytes < single.manifest.bytes


def test_it_is_told_what_was_meant(int8: Any, tmp_path: Path) -> None:
    """A convolution with quantized weights and a float input: TensorRT would say nothing."""
    model = onnx.load(str(int8('warehouse')))
    makers = {o: n for n in model.graph.node for o in n.output}
    victim = [n for n in model.graph.node if n.op_type == 'Conv'][5]
    dequantizer = makers[victim.input[0]]
    victim.input[0] = makers[dequantizer.input[0]].input[0]
    path = tmp_path / 'hole.onnx'
    onnx.save(model, str(path))
    source = read_source(path)
    layers = Builder(network_for(source, 'int8'), path, 'int8').layers
    assert [layer.name for layer in layers if layer.unmet] == [victim.name]


def test_the_inspector_s_table() -> None:
    """As TensorRT's inspector writes it: fused layers, their formats and tactics."""
    from trt_perception.build.engine.layers import parse_engine_information
    from trt_perception.runtime.engine import EngineError

    def layer(name: str, form: str, metadata: str = '') -> dict[str, Any]:
        tensor = {'Name': 'x', 'Dimensions': [1, 3, 8, 8], 'Format/Datatype': form}
        return {
            'Name': name, 'LayerType': 'CaskConvolution', 'Inputs': [tensor], 'Outputs': [tensor],
            'TacticName': 'sm87_xmma', 'Metadata': metadata,
        }  # fmt: skip

    text = json.dumps(
        {
            'Layers': [
                layer('a + relu', 'Int8 NC/32HW32'),
                layer('fused', 'Half NHWC', '[ONNX Layer: b]\x1e[ONNX Layer: add]'),
                layer('c || d', 'Row major linear FP32'),
                'e',
            ]
        }
    )
    found = parse_engine_information(text, {'a', 'b', 'e'})
    assert [(x.precision, x.meant_int8, x.unmet) for x in found] == [
        ('INT8', True, False), ('HALF', True, True), ('FLOAT', False, False), ('', True, True),
    ]  # fmt: skip
    assert found[0].detail == 'sm87_xmma'
    with pytest.raises(EngineError, match='the inspector gave no layers'):
        parse_engine_information('{}', set())


def test_biases_in_int32(tmp_path: Path, cache: EngineCache) -> None:
    """ONNX Runtime's quantizer makes them, TensorRT refuses them."""
    assert build(small(tmp_path / 'm.onnx', bias=True), cache).build.plan


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


def test_batches(tmp_path: Path, cache: EngineCache) -> None:
    free = constant_detector(tmp_path / 'free.onnx', dynamic=True)
    free.with_suffix('.yaml').write_text('input_size: [64, 64]')
    assert build(free, cache, precision='fp32', tuning=Tuning(batch=(1, 2, 4))).build.plan
    fixed = small(tmp_path / 'fixed.onnx')
    with pytest.raises(TuningError, match='fixes its batch'):
        build(fixed, cache, tuning=Tuning(batch=(2, 2, 2)))


@pytest.mark.parametrize(
    'wish, text',
    [
        ({'device': 'dla0'}, 'has no DLA; take device gpu'),
        ({'tuning': Tuning(hardware_compatibility='ampere_plus')}, 'no hardware compatibility'),
        ({'tuning': Tuning(version_compatible=True)}, 'no version compatible'),
    ],
)
def test_refused(wish: dict[str, Any], text: str, tmp_path: Path, cache: EngineCache) -> None:
    with pytest.raises(TuningError, match=text):
        build(small(tmp_path / 'm.onnx'), cache, **wish)
    assert not list(cache.entries())


def test_a_network_that_the_parser_does_not_know(tmp_path: Path, cache: EngineCache) -> None:
    path = small(tmp_path / 'm.onnx')
    model = onnx.load(str(path))
    model.graph.node.append(helper.make_node('Secret', ['seen'], ['z'], 'odd', domain='somebody'))
    model.graph.output.append(helper.make_tensor_value_info('z', TensorProto.FLOAT, (1,)))
    model.opset_import.append(helper.make_opsetid('somebody', 1))
    onnx.save(model, str(path))
    with pytest.raises(BuildError, match=r"cannot read model '.*Secret") as raised:
        build(path, cache)
    assert '\n' not in str(raised.value)


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


def test_gates(tmp_path: Path, cache: EngineCache) -> None:
    """The note is copied as it is; a model that failed is refused unless it is accepted."""
    note = {'passed': False, 'figure': 0.7, 'more': [1, {'a': None}]}
    failed = with_notes(small(tmp_path / 'failed.onnx'), gate=json.dumps(note))
    with pytest.raises(SourceError, match='did not pass its accuracy gate'):
        build(failed, cache)
    assert not cache.folder.exists()
    manifest = build(failed, cache, accept=True).manifest
    assert (manifest.gate, manifest.gate_passed, manifest.accepted) == (note, False, True)

    passed = with_notes(small(tmp_path / 'passed.onnx', 4), gate='{"passed": true}')
    manifest = build(passed, cache).manifest
    assert (manifest.gate_passed, manifest.accepted) == (True, False)

    for number, text in enumerate(('{', '[]', '"yes"')):
        odd = with_notes(small(tmp_path / f'odd{number}.onnx'), gate=text)
        with pytest.raises(SourceError, match=r"note 'trt_perception\.gate' cannot be read"):
            read_source(odd)


def test_precisions(tmp_path: Path, cache: EngineCache) -> None:
    plain = constant_detector(tmp_path / 'float.onnx')
    with pytest.raises(SourceError, match=r"is not quantized; .* trt-perception quantize '.*float"):
        build(plain, cache, precision='int8')
    for precision in ('fp16', 'fp32'):
        with pytest.raises(SourceError, match=f'cannot be built in {precision}; take --precision'):
            build(small(tmp_path / 'int8.onnx'), cache, precision=precision)


@pytest.mark.parametrize('content', [None, b'', b'rubbish' * 99])
def test_no_model(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / 'm.onnx'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PerceptionError, match='is not a'):
        read_source(path)


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


def test_cancelled(tmp_path: Path, cache: EngineCache) -> None:
    path = small(tmp_path / 'm.onnx')
    cancel = threading.Event()
    shares: list[float] = []

    def on_progress(phase: str, share: float) -> None:
        shares.append(share)
        cancel.set()

    with pytest.raises(BuildCancelledError, match='was stopped'):
        make_engine(Request(read_source(path)), cache, on_progress=on_progress, cancel=cancel)
    assert shares
    assert not list(cache.entries()) and not list(cache.folder.glob('.*.tmp'))


def test_in_the_background(tmp_path: Path, cache: EngineCache) -> None:
    request = Request(read_source(small(tmp_path / 'm.onnx')))
    build_ = BackgroundBuild(request, cache)
    engine = build_.result()
    assert build_.join(0) and build_.seconds > 0
    assert engine.build is not None and build_.status.share > 0.8 and build_.status.phase
    engine.path.write_bytes(b'')
    again = BackgroundBuild(request, cache)
    assert again.result().build is not None
    assert [note.endswith('building it anew') for note in again.status.notes] == [True]


def test_in_the_background_it_may_stop_or_fail(tmp_path: Path, cache: EngineCache) -> None:
    source = read_source(small(tmp_path / 'm.onnx'))
    handle = store.try_lock(cache.lock_path(build(source.path, cache).path))
    assert handle is not None
    waiting = BackgroundBuild(Request(source), cache)
    assert not waiting.join(0.2)  # what it waits for does not come
    waiting.cancel()
    with pytest.raises(BuildCancelledError):
        waiting.result()
    os.close(handle)
    with pytest.raises(TuningError, match='has no DLA'):
        BackgroundBuild(Request(source, device='dla0'), cache).result()


def test_phases() -> None:
    phases = Phases()
    assert phases.start('whole', None, 4) == 0
    assert phases.start('part', 'whole', 2) == 0
    assert phases.step('part', 0) == pytest.approx(1 / 8)
    assert phases.finish('part') == pytest.approx(1 / 8)
    assert phases.step('whole', 0) == pytest.approx(1 / 4)
    assert phases.start('odd', 'odd', 0) == pytest.approx(1 / 4)  # its own parent, without steps
    assert phases.step('unknown', 3) == pytest.approx(1 / 4)
    assert phases.step('whole', 3) == 1


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
    for number in range(20):
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
