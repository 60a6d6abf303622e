# SPDX-License-Identifier: Apache-2.0
"""A decoder of a user's own, in a package of its own: installed, found, and as good as ours."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import constant_detector

from trt_perception.core import Candidates, Detections, Frame, Selection
from trt_perception.core.decoders import DecodeError
from trt_perception.runtime.host.preprocess import HostPreprocessor
from trt_perception.runtime.pipeline import Pipeline, open_pipeline

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / 'examples' / 'custom_decoder'
#: mAP in percent; 25.2 was measured.
FLOOR = 24.2


def python(*args: str | Path, path: Path, cwd: Path) -> tuple[int, str, str]:
    """Run this Python with one more folder of packages; exit code, output, errors."""
    done = subprocess.run(
        [sys.executable, *args], cwd=cwd, env={**os.environ, 'PYTHONPATH': str(path)},
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope='module')
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder that pip installed the example into."""
    if not EXAMPLE.is_dir():
        pytest.skip('the examples are not part of what is installed')
    source = tmp_path_factory.mktemp('example') / 'source'  # building leaves its traces beside it
    shutil.copytree(EXAMPLE, source)
    target = tmp_path_factory.mktemp('packages')
    pip = ['-m', 'pip', 'install', '--quiet', '--no-deps', '--no-build-isolation', '--no-index']
    code, out, err = python(*pip, '--target', target, source, path=target, cwd=source)
    assert code == 0, out + err
    return target


def test_it_is_short() -> None:
    lines = (EXAMPLE / 'fastestdet.py').read_text(encoding='utf-8').splitlines()
    assert len(lines) < 40


def test_colcon_leaves_it_alone() -> None:
    assert (EXAMPLE / 'COLCON_IGNORE').is_file()


def test_accuracy_with_fastestdet(packages: Path, assets: Path, tmp_path: Path) -> None:
    pytest.importorskip('pycocotools')
    data = assets / 'data' / 'coco_ccby_bysa'
    command = [
        '-m', 'trt_perception.cli.main', 'evaluate', '--json', '-', '--labels', 'coco',
        '--model', assets / 'models' / 'fastestdet_352.onnx',
        '--coco', data / 'instances_val.json', '--images', data / 'images' / 'val2017',
    ]  # fmt: skip
    code, out, err = python(*command, path=packages, cwd=tmp_path)
    assert code == 0, err
    report = json.loads(out)
    spec = report['spec']
    assert (spec['layout'], spec['num_classes'], spec['nms']) == ('fastestdet', 80, True)
    assert (spec['color'], spec['resize']) == ('bgr', 'stretch')
    assert FLOOR < 100 * report['accuracy']['map'] < FLOOR + 3
    # Without the package the network is as strange as before.
    code, out, err = python(*command, path=tmp_path, cwd=tmp_path)
    assert code == 2
    assert 'no known layout fits the outputs 758 float32 1x85x22x22' in err
    assert 'fastestdet' not in err.partition('known are')[2]


LAYOUT_OF = """
import sys
from pathlib import Path
from trt_perception.runtime.model_file import load_spec
print(load_spec(Path(sys.argv[1])).layout)
"""


def test_it_disturbs_no_other_model(packages: Path, tmp_path: Path) -> None:
    model = constant_detector(tmp_path / 'm.onnx')
    code, out, err = python('-c', LAYOUT_OF, model, path=packages, cwd=tmp_path)
    assert (code, out, err) == (0, 'yolov8\n', '')


# Decoders that are wrong


def install(folder: Path, module: str) -> Path:
    """A package of one module with one decoder, `Mine`, as pip would have installed it."""
    (folder / 'mine.py').write_text(module)
    info = folder / 'mine-1.0.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n')
    (info / 'entry_points.txt').write_text('[trt_perception.decoders]\nmine = mine:Mine\n')
    return folder


def recogniser(body: str) -> str:
    """A decoder that recognises like this."""
    return f"""class Mine:
    layout = 'mine'
    def recognise(self, signature, width, height):
        {body}
    def decode(self, outputs, spec, selection): ...
"""


@pytest.mark.parametrize(
    ('module', 'words'),
    [
        ('raise ImportError("no torch")', '(mine:Mine) left out: ImportError: no torch'),
        ('class Mine: ...', "left out: AttributeError: 'Mine' object has no attribute 'layout'"),
        ('class Mine: layout = "mine"', "left out: AttributeError: 'Mine' object has no attr"),
        ('class Mine: layout = "yolov8"', "there is a decoder of layout 'yolov8' already"),
        (recogniser('return signature.inputs[7]'), 'left out: IndexError: tuple index out of'),
        (recogniser('return 5'), 'left out: TypeError: '),
        (recogniser('return {}'), 'left out: ValueError: recognise gave []; it must give num_cl'),
        (
            recogniser('return {"num_classes": 2, "colour": "bgr"}'),
            "left out: ValueError: recognise gave ['colour', 'num_classes']; it must give num_cl",
        ),
    ],
)
def test_a_wrong_decoder_is_named_and_takes_no_other_with_it(
    tmp_path: Path, module: str, words: str
) -> None:
    model = constant_detector(tmp_path / 'm.onnx')
    package = install(tmp_path, module)
    code, out, err = python('-c', LAYOUT_OF, model, path=package, cwd=tmp_path)
    assert (code, out) == (0, 'yolov8\n'), err
    assert err.startswith("decoder 'mine' ")
    assert words in err
    assert len(err.splitlines()) == 1


def detect(model: Path, boxes: Any, scores: Any, class_ids: Any) -> Detections:
    """What a pipeline makes of what its decoder gives."""

    class Mine:
        layout = 'mine'

        def recognise(self, signature, width, height): ...

        def decode(self, outputs, spec, selection):
            return Candidates(boxes, scores, class_ids)

    whole = open_pipeline(constant_detector(model))
    pipeline = Pipeline(whole.spec, HostPreprocessor(whole.spec), whole.engine, Mine())
    return pipeline(Frame.from_array(np.zeros((64, 64, 3), np.uint8)), Selection()).detections


def test_what_a_decoder_gives_may_be_of_any_number_type(tmp_path: Path) -> None:
    for arrays in (
        ([[8, 8, 40, 24]], [0.9], [1]),
        (np.array([[8.0, 8, 40, 24]]), np.array([0.9]), np.array([1])),
        (np.array([[8, 8, 40, 24]], np.float16), np.array([0.9], np.float16), np.array([1.0])),
    ):
        found = detect(tmp_path / 'm.onnx', *arrays)
        assert found.boxes.tolist() == [[8, 8, 40, 24]]
        assert found.class_ids.tolist() == [1]
        dtypes = (found.boxes.dtype, found.scores.dtype, found.class_ids.dtype)
        assert dtypes == (np.float32, np.float32, np.int32)


@pytest.mark.parametrize(
    'arrays',
    [
        ([[1, 2, 3, 4]], [0.5], [1, 2]),
        ([1, 2, 3, 4], [0.5], [1]),
        ([[1, 2, 3]], [0.5], [1]),
        ([[1, 2, 3, 4]], [[0.5]], [1]),
        ([[1, 2, 3, 4]], 0.5, [1]),
    ],
)
def test_what_a_decoder_gives_must_belong_together(tmp_path: Path, arrays: Any) -> None:
    with pytest.raises(DecodeError, match=r' gave boxes \(.*; they must be \(N, 4\), \(N,\)'):
        detect(tmp_path / 'm.onnx', *arrays)
