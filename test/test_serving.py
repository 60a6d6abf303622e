# SPDX-License-Identifier: Apache-2.0
"""What runs a model: decided, built in the background by the real TensorRT-RTX, taken, freed."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from models import constant_detector, write_network

pytest.importorskip('tensorrt_rtx_bindings', reason='TensorRT-RTX is not installed')

from fake_gpu import NAME, FakeGpu

from trt_perception.build.engine.cache import EngineCache
from trt_perception.build.engine.make import Engine, copy_engine, identify, make_engine
from trt_perception.build.engine.serving import Offer, Serving, Wish, choose, request_for
from trt_perception.core import PerceptionError, SpecError
from trt_perception.runtime.engine import EngineError
from trt_perception.runtime.gate_result import METADATA_KEY, GateError, GateResult
from trt_perception.runtime.tensorrt.manifest import manifest_path

HOST = 'ONNX Runtime'


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return constant_detector(tmp_path / 'm.onnx')


@pytest.fixture
def serve(gpu: FakeGpu) -> Iterator[Callable[..., Serving]]:
    """Starts to serve; all builds have ended after the test."""
    started: list[Serving] = []

    def start(model: Path, **wishes: Any) -> Serving:
        started.append(Serving(Wish(model, threads=1, **wishes)))
        return started[-1]

    yield start
    for serving in started:
        serving.close()
        serving.join()
    assert not [t for t in threading.enumerate() if t.name == 'build']


def taken(serving: Serving) -> Offer:
    offer = serving.take()
    assert offer is not None
    return offer


def built(model: Path, **wishes: Any) -> Engine:
    return make_engine(request_for(Wish(model, **wishes)), EngineCache())


def with_failed_gate(path: Path) -> Path:
    model = onnx.load(str(path))
    gate = GateResult('map', 0.9, 0.98, None, 27, 173, {}, 'val.json', 'ONNX Runtime', 'ab')
    model.metadata_props.add(key=METADATA_KEY, value=json.dumps(gate.to_dict()))
    onnx.save(model, str(path))
    return path


# Now


def test_the_host_meanwhile_and_then_the_engine(model, serve, gpu):
    gpu.loads.clear()
    serving = serve(model)
    assert serving.building and serving.spec.class_names == ('car', 'person')
    first = taken(serving)
    assert first.pipeline.info.backend.startswith(HOST)
    assert first.reason == 'until there is an engine'
    assert serving.take() is None
    gpu.loads.set()
    serving.join()
    assert not serving.building and serving.problem == '' and serving.progress == {}
    second = taken(serving)
    assert (second.pipeline.info.device, second.pipeline.info.precision) == (NAME, 'fp16')
    assert second.reason.startswith('engine built in')
    assert serving.take() is None
    serving.close()
    assert not gpu.closed  # it is the taker's


def test_what_nobody_took_is_freed(model, serve, gpu):
    serving = serve(model)
    serving.join()  # the engine took the place of the host's pipeline
    serving.close()
    assert gpu.closed == gpu.opened and len(gpu.opened) == 1


def test_onnx_runtime_alone(model, serve, gpu):
    for wishes in ({'backend': 'onnxruntime'}, {'backend': 'auto'}):
        serving = serve(model, **wishes)
        assert taken(serving).pipeline.info.backend.startswith(HOST)
        assert not serving.building and serving.problem == ''
        gpu.absent = 'no GPU'
    assert not gpu.opened


def test_an_engine_of_the_cache_runs_at_once(model, serve, gpu):
    engine = built(model)
    serving = serve(model)
    offer = taken(serving)
    assert (offer.pipeline.info.device, offer.reason) == (NAME, 'engine from the cache')
    assert gpu.opened == [engine.path]


@pytest.mark.parametrize('fallback', [True, False])
def test_an_engine_that_cannot_be_loaded(model, serve, gpu, fallback):
    built(model)
    gpu.refuses = 'out of memory'
    if not fallback:
        with pytest.raises(EngineError, match='out of memory'):
            serve(model, fallback=False)
        return
    serving = serve(model)
    assert taken(serving).pipeline.info.backend.startswith(HOST)
    assert serving.problem == 'there is no engine: out of memory'


def test_without_onnx_runtime_there_is_nothing_meanwhile(model, serve, gpu, monkeypatch):
    gpu.loads.clear()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, 'onnxruntime', None)
        serving = serve(model)
    assert serving.take() is None and serving.building
    assert serving.notes[0].startswith("nothing runs until there is an engine: backend 'onnxr")
    gpu.loads.set()
    serving.join()
    assert taken(serving).pipeline.info.device == NAME


# Earlier engines


def test_an_earlier_engine_serves_meanwhile(model, serve, gpu):
    """The newest of the same file; one of other classes or another file would say other things."""
    old = built(model, precision='fp32')
    built(constant_detector(model.with_name('other.onnx')), precision='fp32')
    constant_detector(model, scores=[0.8])
    serving = serve(model)
    first = taken(serving)
    assert gpu.opened[0] == old.path and first.pipeline.info.precision == 'fp32'
    assert first.reason == f'engine of {old.manifest.built} until there is another'
    serving.join()
    assert taken(serving).pipeline.info.precision == 'fp16'
    constant_detector(model, classes=('tree', 'bush'))
    assert taken(serve(model)).pipeline.info.backend.startswith(HOST)


def test_an_earlier_engine_of_another_release_is_left_alone(model, serve, gpu):
    old = built(model, precision='fp32')
    file = manifest_path(old.path)
    file.write_text(file.read_text().replace(old.manifest.library, 'TensorRT 10.3.0'))
    assert taken(serve(model)).pipeline.info.backend.startswith(HOST)


def test_an_earlier_engine_that_cannot_be_loaded_is_named(model, serve, gpu):
    built(model, precision='fp32')
    gpu.refuses = 'out of memory'
    serving = serve(model)
    assert taken(serving).pipeline.info.backend.startswith(HOST)
    assert serving.notes == ('out of memory',)


# Files of engines


def test_a_file_that_is_an_engine(model, serve, gpu, tmp_path):
    path = tmp_path / 'robot.engine'
    copy_engine(built(model), path)
    for wishes in ({}, {'backend': 'tensorrt', 'precision': 'fp16', 'fallback': False}):
        offer = taken(serve(path, **wishes))
        assert (offer.pipeline.info.device, offer.reason) == (NAME, 'the model is an engine')
    for wishes, words in (
        ({'backend': 'onnxruntime'}, "is a TensorRT engine, which backend 'onnxruntime' cannot"),
        ({'precision': 'fp32'}, 'is of precision fp16, not fp32; leave precision auto'),
        ({'device': 'dla0'}, 'is of device gpu, not dla0; leave device gpu'),
    ):
        with pytest.raises(EngineError, match=words):
            serve(path, **wishes)
    gpu.absent = 'no GPU'
    with pytest.raises(EngineError, match=r"robot\.engine' cannot run here: no GPU"):
        serve(path)


# Refused


@pytest.mark.parametrize(
    ('wishes', 'words'),
    [
        ({'backend': 'cuda'}, "backend 'cuda' is not one of auto, onnxruntime, tensorrt"),
        ({'precision': 'fp64'}, "precision 'fp64' is not one of auto, int8, fp16, fp32"),
        ({'device': 'dla7'}, "device 'dla7' is not one of gpu, dla0, dla1"),
        ({'backend': 'onnxruntime', 'precision': 'fp16'}, 'on the CPU as it is; leave out'),
        ({'backend': 'onnxruntime', 'device': 'dla0'}, 'on the CPU as it is; leave out'),
        ({'precision': 'int8'}, 'is not quantized; quantize it first'),
    ],
)
def test_wishes_that_are_refused(model, serve, gpu, wishes, words):
    with pytest.raises(PerceptionError, match=words):
        serve(model, **wishes)


def test_tensorrt_that_is_not_there(model, serve, gpu):
    gpu.absent = 'no GPU'
    with pytest.raises(EngineError, match=r"backend 'tensorrt' cannot run '.*' here: no GPU"):
        choose(Wish(model, backend='tensorrt', fallback=False))
    serving = serve(model, backend='tensorrt')
    assert taken(serving).reason == serving.problem == 'TensorRT cannot run here: no GPU'


def test_without_a_compiler_for_the_kernels_no_engine_is_built(model, serve, gpu):
    gpu.no_compiler = 'NVRTC is not usable'
    serving = serve(model)
    assert taken(serving).reason == 'TensorRT cannot run here: NVRTC is not usable'
    assert not serving.building


def test_a_model_that_failed_its_gate(model, serve, gpu):
    with_failed_gate(model)
    with pytest.raises(GateError, match='failed its gate'):
        serve(model)
    serving = serve(model, accept_failed_gate=True)
    serving.join()
    assert taken(serving).pipeline.info.device == NAME


def test_a_model_that_is_not_understood(serve, gpu, tmp_path):
    path = write_network(tmp_path / 'strange.onnx', {'o': np.zeros((1, 9, 9, 9), np.float32)})
    with pytest.raises(SpecError, match='no known layout fits'):
        serve(path)


def test_the_engine_is_the_one_that_the_command_makes(model, gpu):
    request = request_for(Wish(model))
    assert identify(request).key == make_engine(request, EngineCache()).manifest.key
