# SPDX-License-Identifier: Apache-2.0
"""Labels in the YOLO format become the same boxes in COCO's."""

from __future__ import annotations

import json
from pathlib import Path

import command
import pytest
import yolo_to_coco
from card import measure
from data import class_names, load_samples
from models import constant_detector
from yolo import write_yolo
from yolo_to_coco import convert

from trt_perception.core import PerceptionError
from trt_perception.runtime.model_file import read_labels


def rows(folder: Path) -> dict[str, list[dict]]:
    return json.loads((folder / 'instances.json').read_text())


def test_there_and_back(rendered: Path, tmp_path: Path) -> None:
    images, labels, names = write_yolo(rendered / 'train', tmp_path / 'yolo', 'train')
    pictures, objects = convert(images, labels, read_labels(str(names)), tmp_path / 'set')
    before, after = rows(rendered / 'train'), rows(tmp_path / 'set')
    assert (pictures, objects) == (len(before['images']), len(before['annotations']))
    assert class_names(tmp_path / 'set') == class_names(rendered / 'train')
    for old, new in zip(before['images'], after['images'], strict=True):
        assert [old[k] for k in ('file_name', 'width', 'height')] == [
            new[k] for k in ('file_name', 'width', 'height')
        ]
    for old, new in zip(before['annotations'], after['annotations'], strict=True):
        assert (old['image_id'], old['category_id']) == (new['image_id'], new['category_id'])
        assert new['bbox'] == pytest.approx(old['bbox'], abs=1e-2)
    # The trainer takes it: the pictures are found behind the link.
    assert len(load_samples(tmp_path / 'set', 64, 32).images) == pictures
    # Once more changes nothing; other pictures in their place would.
    assert convert(images, labels, read_labels(str(names)), tmp_path / 'set') == (pictures, objects)
    with pytest.raises(PerceptionError, match='is there already'):
        convert(rendered / 'test' / 'images', labels, read_labels(str(names)), tmp_path / 'set')
    # As would a link to pictures that are gone.
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other' / 'images').symlink_to(tmp_path / 'gone')
    with pytest.raises(PerceptionError, match='is there already'):
        convert(images, labels, read_labels(str(names)), tmp_path / 'other')


def test_a_folder_that_takes_no_link(
    rendered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """It is named, and not the pictures."""
    images, labels, names = write_yolo(rendered / 'train', tmp_path / 'yolo', 'train')
    options = {'images': images, 'labels': labels, 'names': names, 'output': '/proc/self'}
    monkeypatch.setattr('sys.argv', ['', *(f'--{name}={path}' for name, path in options.items())])
    with pytest.raises(SystemExit, match='2'):
        command.run(yolo_to_coco.main)
    assert capsys.readouterr().err.startswith("error: '/proc/self/images': ")


def test_labels_of_windows(rendered: Path, tmp_path: Path) -> None:
    """Which begin with a mark that nobody sees, and end their lines in their own way."""
    images, labels, names = write_yolo(rendered / 'train', tmp_path / 'yolo', 'train')
    for file in labels.iterdir():
        file.write_bytes(b'\xef\xbb\xbf' + file.read_bytes().replace(b'\n', b'\r\n'))
    _, objects = convert(images, labels, read_labels(str(names)), tmp_path / 'set')
    assert objects == len(rows(rendered / 'train')['annotations'])


@pytest.mark.parametrize(
    ('line', 'words'),
    [
        ('6 0.5 0.5 0.1 0.1', 'is not a class from 0 to 5'),
        ('0 0.5 0.5 0.1', 'is not a class'),
        ('0 0.5 0.5 0.1 1.1', 'is not a class'),
        ('0 nan 0.5 0.1 0.1', 'is not a class'),
        ('cone 0.5 0.5 0.1 0.1', 'is not a class'),
        ('\udcff', 'is not a class'),
    ],
)
def test_labels_that_are_none(line: str, words: str, rendered: Path, tmp_path: Path) -> None:
    images, labels, names = write_yolo(rendered / 'train', tmp_path / 'yolo', 'train')
    file = labels / '000003.txt'
    file.write_text(f'0 0.5 0.5 0.1 0.1\n{line}\n', errors='surrogateescape')
    with pytest.raises(PerceptionError, match=rf"000003\.txt' line 2: .*{words}"):
        convert(images, labels, read_labels(str(names)), tmp_path / 'set')


def test_a_folder_that_is_not_the_labels(rendered: Path, tmp_path: Path) -> None:
    images, labels, names = write_yolo(rendered / 'train', tmp_path / 'yolo', 'train')
    with pytest.raises(PerceptionError, match=r"that of the first is '.*nowhere/000000\.txt'"):
        convert(images, labels / 'nowhere', read_labels(str(names)), tmp_path / 'set')
    assert not (tmp_path / 'set').exists()


@pytest.mark.parametrize('score', [0.9, 0.0])
def test_a_card_of_such_a_set(score: float, rendered: Path, tmp_path: Path) -> None:
    """Which says nothing of crowds; also of a detector that sees nothing at all."""
    images, labels, names = write_yolo(rendered / 'train', tmp_path / 'yolo', 'train')
    classes = read_labels(str(names))
    _, objects = convert(images, labels, classes, tmp_path / 'set')
    model = constant_detector(
        tmp_path / 'm.onnx', [[8, 8, 40, 24]], [score], [0], classes=classes,
    )  # fmt: skip
    pictures, found = measure(model, tmp_path / 'set')
    assert pictures == 16
    everything, *others = found
    assert everything.objects == objects
    sizes = [row for row in others if row.what not in classes]
    assert sum(row.objects for row in sizes) == objects
    assert all(0 <= row.map <= row.map50 <= 1 for row in found)
