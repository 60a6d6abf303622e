# SPDX-License-Identifier: Apache-2.0
"""The model that the package brings along is what its card says."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from trt_perception.runtime.model_file import load_spec

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / 'resource' / 'models' / 'warehouse.onnx'
CARD = MODEL.with_suffix('.md')
EXAMPLE = ROOT / 'examples' / 'custom_dataset'
CLASSES = ('pallet', 'barrel', 'traffic_cone', 'person', 'fiducial_board', 'forklift')
#: Other versions of OpenCV render and shrink a little differently.
TOLERANCE = 0.02


def told(pictures: int) -> dict[str, tuple[int, float, float]]:
    """Rows of one of the card's tables: objects, mAP50, mAP50-95."""
    table = CARD.read_text(encoding='utf-8').split(f'| {pictures} pictures |')[1].split('\n\n')[0]
    rows = re.findall(r'^\| ([^|]+) \| (\d+) \| ([\d.]+) \| ([\d.]+) \|$', table, re.MULTILINE)
    return {what: (int(n), float(map50), float(whole)) for what, n, map50, whole in rows}


def test_it_is_recognised_without_a_yaml() -> None:
    assert not MODEL.with_suffix('.yaml').exists()
    spec = load_spec(MODEL)
    assert spec.layout == 'yolov8'
    assert spec.class_names == CLASSES
    assert (spec.width, spec.height, spec.dtype) == (640, 384, 'float32')


def test_it_is_small() -> None:
    assert MODEL.stat().st_size < 8_000_000


def test_the_card_tells_all_classes_and_reaches_the_aim() -> None:
    rows = told(1000)
    assert set(CLASSES) < set(rows)
    assert len(rows) == 1 + len(CLASSES) + 3
    objects, map50, whole = rows['all']
    assert objects == sum(rows[name][0] for name in CLASSES)
    # Over 0.99 the pictures would be too easy to tell anything.
    assert 0.90 <= map50 <= 0.99
    assert whole >= 0.65


def test_it_does_on_100_new_pictures_what_the_card_says(tmp_path: Path) -> None:
    pytest.importorskip('pycocotools')
    if not EXAMPLE.is_dir():
        pytest.skip('the examples are not part of what is installed')
    sys.path.insert(0, str(EXAMPLE))
    import card
    import generate

    counts = ('--train', '0', '--calibration', '0', '--test', '100', '--sequences', '0')
    generate.main([str(tmp_path), *counts])
    pictures, rows = card.measure(MODEL, tmp_path / 'test')
    assert pictures == 100
    found = {row.what: row for row in rows}
    objects, map50, whole = told(100)['all']
    assert found['all'].objects == objects
    assert found['all'].map50 == pytest.approx(map50, abs=TOLERANCE)
    assert found['all'].map == pytest.approx(whole, abs=TOLERANCE)
    assert len(found) == 1 + len(CLASSES) + 3
