# SPDX-License-Identifier: Apache-2.0
"""Commands on a GPU: they wait for the engine, and take what the detector would."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from models import constant_detector

pytest.importorskip('tensorrt_rtx_bindings', reason='TensorRT-RTX is not installed')
pytest.importorskip('pycocotools')

from fake_gpu import NAME, FakeGpu

from trt_perception.build.engine.cache import EngineCache
from trt_perception.build.engine.make import copy_engine, make_engine
from trt_perception.build.engine.serving import Wish, request_for
from trt_perception.cli.main import main


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command and a data set of one picture, whose car the model finds."""
    monkeypatch.chdir(tmp_path)
    constant_detector(tmp_path / 'm.onnx')
    cv2.imwrite('0.png', np.zeros((64, 64, 3), np.uint8))
    annotation = {'id': 1, 'image_id': 0, 'category_id': 1, 'bbox': [8, 8, 32, 16], 'area': 512}
    data = {
        'images': [{'id': 0, 'file_name': '0.png', 'width': 64, 'height': 64}],
        'categories': [{'id': 1, 'name': 'car'}, {'id': 2, 'name': 'person'}],
        'annotations': [annotation | {'iscrowd': 0}],
    }
    Path('coco.json').write_text(json.dumps(data))
    return ['evaluate', '--coco', 'coco.json', '--images', '.', '--json', 'out.json']


def report() -> dict:
    return json.loads(Path('out.json').read_text())


def test_an_engine_is_built_first(given: list[str], gpu: FakeGpu, capsys) -> None:
    assert main([*given, '--model', 'm.onnx', '--backend', 'tensorrt']) == 0
    assert 'building m.onnx' in capsys.readouterr().err
    told = report()
    assert (told['engine']['device'], told['engine']['precision']) == (NAME, 'fp16')
    assert told['reason'] == 'backend is tensorrt'
    assert told['accuracy']['map'] == pytest.approx(1)
    (entry,) = EngineCache().entries()
    assert gpu.opened == [entry.path] == gpu.closed
    assert main([*given, '--model', 'm.onnx', '--precision', 'fp32']) == 0
    assert report()['engine']['precision'] == 'fp32'


def test_a_file_that_is_an_engine(given: list[str], gpu: FakeGpu, capsys) -> None:
    copy_engine(make_engine(request_for(Wish(Path('m.onnx'))), EngineCache()), Path('r.engine'))
    assert main([*given, '--model', 'r.engine']) == 0
    assert report()['engine']['device'] == NAME
    assert 'building' not in capsys.readouterr().err
    assert main([*given, '--model', 'r.engine', '--backend', 'onnxruntime']) == 2
    assert "which backend 'onnxruntime' cannot run" in capsys.readouterr().err
    assert main([*given, '--model', 'r.engine', '--precision', 'int8']) == 2
    assert "engine 'r.engine' is of precision fp16, not int8" in capsys.readouterr().err


def test_benchmark(given: list[str], gpu: FakeGpu, capsys) -> None:
    """It builds the engine, or takes one, with a lane for each camera; else it says why not."""
    command = ['benchmark', '--image-size', '64x48', '--seconds', '1', '--json', 'out.json']
    assert main([*command, '--model', 'm.onnx', '--cameras', '2']) == 0
    assert 'building m.onnx' in capsys.readouterr().err
    told = report()
    (entry,) = EngineCache().entries()
    assert (told['ran']['device'], told['ran']['precision']) == (NAME, 'fp16')
    assert told['chosen'] == 'backend is auto'
    assert (told['model']['path'], told['engine']['path']) == ('m.onnx', str(entry.path))
    assert (gpu.opened, gpu.closed, gpu.lanes) == ([entry.path], [entry.path], [2])
    copy_engine(make_engine(request_for(Wish(Path('m.onnx'))), EngineCache()), Path('r.engine'))
    assert main([*command, '--engine', 'r.engine']) == 0
    assert gpu.opened[1:] == gpu.closed[1:] == [Path('r.engine')]
    assert (report()['chosen'], report()['model']) == ('the model is an engine', None)
    capsys.readouterr()
    assert main([*command, '--engine', 'r.engine', '--model', 'gone.onnx']) == 2
    assert capsys.readouterr().err.startswith("error: 'gone.onnx' cannot be read")
    del gpu.opened[2:]
    gpu.absent = 'no GPU'
    assert main([*command, '--model', 'm.onnx']) == 0
    assert report()['ran']['backend'].startswith('ONNX Runtime')
    assert report()['engine'] is None
    assert report()['chosen'] == 'TensorRT cannot run here: no GPU'
    assert main([*command, '--model', 'm.onnx', '--engine', 'r.engine']) == 2
    assert "engine 'r.engine' cannot run here: no GPU" in capsys.readouterr().err
    assert len(gpu.opened) == 2


def test_what_runs_is_told(given: list[str], gpu: FakeGpu, capsys) -> None:
    """Never ONNX Runtime in the place of TensorRT; with auto, and then with the reason."""
    gpu.absent = 'no GPU'
    assert main([*given, '--model', 'm.onnx', '--backend', 'tensorrt']) == 2
    assert "backend 'tensorrt' cannot run 'm.onnx' here: no GPU" in capsys.readouterr().err
    assert main([*given, '--model', 'm.onnx']) == 0
    assert report()['engine']['backend'].startswith('ONNX Runtime')
    assert report()['reason'] == 'TensorRT cannot run here: no GPU'
    assert 'no GPU' in capsys.readouterr().out


def test_the_demo_builds_before_it_begins(given: list[str], gpu: FakeGpu, tmp_path: Path) -> None:
    pytest.importorskip('rclpy')
    from trt_perception.cli.demo import add_parser
    from trt_perception.cli.demo.running import _check

    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    command = ['demo', '--model', 'm.onnx', '--input', '.', '--precision', 'fp32']
    plan = _check(parser.parse_args(command))
    nodes = {node['plugin']: node['parameters'] for node in plan.graph['components']}
    detector = nodes['trt_perception::DetectorNode']
    assert (detector['backend'], detector['precision']) == ('auto', 'fp32')
    (entry,) = EngineCache().entries()
    assert entry.manifest is not None and entry.manifest.precision == 'fp32'
    assert not [note for note in plan.notes if 'ONNX Runtime' in note]
    gpu.absent = 'no GPU'
    plan = _check(parser.parse_args(command))
    assert 'ONNX Runtime runs the model: TensorRT cannot run here: no GPU' in plan.notes
