# SPDX-License-Identifier: Apache-2.0
"""What the tests of engines share: a quantized model, a build, the command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from models import constant_detector
from onnx import TensorProto, helper, numpy_helper

from trt_perception.build.engine.cache import EngineCache
from trt_perception.build.engine.make import Request, make_engine
from trt_perception.build.engine.source import read_source

COMMAND = [sys.executable, '-m', 'trt_perception.cli.main']


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


def run(*args: str | Path, cache: EngineCache, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *args], env={**os.environ, 'TRT_PERCEPTION_ENGINES': str(cache.folder)},
        capture_output=True, text=True, timeout=240, **more,
    )  # fmt: skip
