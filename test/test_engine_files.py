# SPDX-License-Identifier: Apache-2.0
"""Engine files and their manifests: what is read of them, and what is not trusted."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from models import constant_detector

from trt_perception.runtime.engine import EngineError
from trt_perception.runtime.model_file import load_spec
from trt_perception.runtime.tensorrt.manifest import Manifest, manifest_path, read_manifest
from trt_perception.runtime.tensorrt.plan import load_plan, made_by

PLAN = b'ftrt' + bytes(20) + bytes([10, 3, 0, 26]) + b'code' * 100


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    manifest = Manifest(hashlib.sha256(content).hexdigest(), len(content))
    manifest_path(path).write_text(manifest.to_json())
    return path


def ultralytics(metadata: bytes, plan: bytes = PLAN) -> bytes:
    return len(metadata).to_bytes(4, 'little') + metadata + plan


def test_plans(tmp_path: Path) -> None:
    plain = load_plan(written(tmp_path / 'a.engine', PLAN))
    assert (plain.data, plain.metadata) == (PLAN, {})
    assert made_by(plain.data) == 'TensorRT 10.3.0'
    notes = {'names': {'0': 'car'}, 'imgsz': [640, 640]}
    headed = load_plan(written(tmp_path / 'b.engine', ultralytics(json.dumps(notes).encode())))
    assert (headed.data, headed.metadata) == (PLAN, notes)


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ('unpickled',)


@pytest.mark.parametrize(
    'content',
    [
        b'', b'ft', b'not a plan at all', ultralytics(b'{}', b'nothing'), ultralytics(b'[1]'),
        ultralytics(b'{'), b'\xff' * 64, ultralytics(pickle.dumps(Bomb())), pickle.dumps(Bomb()),
        ultralytics(b'[' * 100000),
    ],
)  # fmt: skip
def test_no_plans(content: bytes, tmp_path: Path) -> None:
    path = written(tmp_path / 'a.engine', content)
    with pytest.raises(EngineError, match='is not a TensorRT engine'):
        load_plan(path)


def test_a_plan_is_code(tmp_path: Path) -> None:
    """It goes nowhere without the hash that its manifest holds."""
    path = written(tmp_path / 'a.engine', PLAN)
    path.write_bytes(PLAN[:-1] + b'!')
    with pytest.raises(EngineError, match='is not the one that its manifest tells of'):
        load_plan(path)
    manifest_path(path).unlink()
    with pytest.raises(EngineError, match=r"has no manifest 'a\.engine\.json'"):
        load_plan(path)
    path.unlink()
    with pytest.raises(EngineError, match='is not a file'):
        load_plan(path)


def test_manifests(tmp_path: Path) -> None:
    spec = load_spec(constant_detector(tmp_path / 'm.onnx'))
    manifest = Manifest('a' * 64, 7, spec=spec, gate={'passed': True}, tuning={'batch': [1, 2, 4]})
    path = tmp_path / 'm.engine'
    manifest_path(path).write_text(manifest.to_json())
    assert read_manifest(path) == manifest
    assert manifest.gate_passed is True
    assert dataclasses.replace(manifest, gate={'passed': 'yes'}).gate_passed is False
    assert dataclasses.replace(manifest, gate=None).gate_passed is None


def broken_manifests() -> list[str]:
    whole = json.loads(Manifest('a' * 64, 7).to_json())
    changed = [
        {'format': 9}, {'sha256': None}, {'bytes': '7'}, {'spec': {'layout': 'x'}}, {'spec': 3},
        {'gate': True}, {'more': 1}, {'accepted': 'no'},
    ]  # fmt: skip
    return ['', '{', '[]', 'null', '{}', '[' * 100000, *(json.dumps(whole | c) for c in changed)]


@pytest.mark.parametrize('text', broken_manifests())
def test_broken_manifests(text: str, tmp_path: Path) -> None:
    path = tmp_path / 'm.engine'
    manifest_path(path).write_text(text)
    with pytest.raises(EngineError, match='manifest') as raised:
        read_manifest(path)
    assert '\n' not in str(raised.value)
