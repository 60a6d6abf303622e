# SPDX-License-Identifier: Apache-2.0
"""Engines built for real, by TensorRT-RTX, which needs no GPU for it."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from models import constant_detector
from onnx import TensorProto, helper
from quantized import DETECTORS, model_path

pytest.importorskip('tensorrt_rtx_bindings', reason='TensorRT-RTX is not installed')

from engines import build, small, with_notes

from trt_perception.build.engine import store
from trt_perception.build.engine.background import BackgroundBuild
from trt_perception.build.engine.builder import BuildCancelledError, Builder, BuildError
from trt_perception.build.engine.cache import EngineCache
from trt_perception.build.engine.make import Request, make_engine
from trt_perception.build.engine.progress import Phases
from trt_perception.build.engine.source import SourceError, network_for, read_source
from trt_perception.build.engine.tuning import Tuning, TuningError
from trt_perception.build.quantization.bench import Bench
from trt_perception.build.quantization.graph import prepare
from trt_perception.build.quantization.network import Network
from trt_perception.build.quantization.planning import make_plan
from trt_perception.core import Frame, PerceptionError
from trt_perception.runtime.model_file import load_spec
from trt_perception.runtime.tensorrt.plan import load_plan


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
