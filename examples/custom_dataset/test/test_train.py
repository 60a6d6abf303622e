# SPDX-License-Identifier: Apache-2.0
"""A whole training in small, and the commands around it."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from checkpoint import Trained, load, save
from conftest import EXAMPLE
from curves import Epoch
from network import Detector
from train import Settings, train

from trt_perception.core import PerceptionError

COMMANDS = ('card', 'export', 'film', 'generate', 'preview', 'train', 'yolo_to_coco')
CPU = torch.device('cpu')


def settings(rendered: Path, output: Path, **changes: float) -> Settings:
    """Learn 16 pictures by heart, and be asked about the same ones."""
    folder = rendered / 'train'
    small = {'width': 256, 'height': 160, 'epochs': 60, 'batch': 8, 'measurements': 2}
    return Settings(folder, folder, output, mosaic=False, **{**small, **changes})


def command(name: str, *args: str | Path) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, EXAMPLE / name, *args], capture_output=True, text=True, timeout=240
    )
    return done.returncode, done.stdout, done.stderr


def test_a_tiny_training_learns(rendered: Path, tmp_path: Path) -> None:
    epochs = train(settings(rendered, tmp_path), CPU)
    assert len(epochs) == 60
    assert epochs[-1].loss < 0.6 * epochs[0].loss
    measured = [e for e in epochs if e.map50 is not None]
    assert len(measured) == 2
    early, late = measured
    assert late.map50 > early.map50
    assert late.map50 > 0.15
    assert (tmp_path / 'curves.png').read_bytes().startswith(b'\x89PNG')
    assert load(tmp_path / 'model.pt').names[0] == 'pallet'


def test_the_same_seed_learns_the_same(rendered: Path, tmp_path: Path) -> None:
    def losses(seed: int) -> list[Epoch]:
        small = {'epochs': 1, 'width': 64, 'height': 64, 'measurements': 1, 'seed': seed}
        return train(settings(rendered, tmp_path, **small), CPU)

    assert losses(1) == losses(1)
    assert losses(1) != losses(2)


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'width': 250}, 'size 250 is not a multiple of 32'),
        ({'height': 0}, 'size 0 is not a multiple of 32'),
        ({'epochs': 0}, 'must be 1 or more'),
        ({'learning_rate': float('nan')}, 'learning rate nan is not above 0'),
    ],
)
def test_settings_that_cannot_work(
    changes: dict[str, float], words: str, rendered: Path, tmp_path: Path
) -> None:
    with pytest.raises(PerceptionError, match=words):
        train(settings(rendered, tmp_path, **changes), CPU)


def test_a_training_that_goes_astray_ends(rendered: Path, tmp_path: Path) -> None:
    """And leaves the network of an earlier one."""
    (tmp_path / 'model.pt').write_bytes(b'good')
    wild = settings(rendered, tmp_path, width=64, height=64, learning_rate=1e9)
    with pytest.raises(
        PerceptionError, match=r'the loss is nan in pass .*; lower the learning rate'
    ):
        train(wild, CPU)
    assert (tmp_path / 'model.pt').read_bytes() == b'good'


def test_other_classes_are_seen_before_the_training(rendered: Path, tmp_path: Path) -> None:
    """And not after it, when the accuracy is measured."""
    content = json.loads((rendered / 'test' / 'instances.json').read_text())
    for row in content['categories']:
        row['name'] += ' of another world'
    (tmp_path / 'instances.json').write_text(json.dumps(content))
    (tmp_path / 'images').symlink_to(rendered / 'test' / 'images')
    wrong = dataclasses.replace(settings(rendered, tmp_path), validation=tmp_path)
    with pytest.raises(PerceptionError, match='no class of the model'):
        train(wrong, CPU)
    assert not (tmp_path / 'model.pt').exists()


def test_without_a_gpu_a_small_training_says_that_it_is_one(
    rendered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is given is taken nevertheless."""
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    folders = ('--train', rendered / 'train', '--validation', rendered / 'train')
    small = ('--epochs', '2', '--output', tmp_path, '--size', '96', '64')
    code, printed, errors = command('train.py', *folders, *small)
    assert code == 0, errors
    assert printed.startswith('no GPU here: a small training')
    assert printed.count('/2 ') == 2
    detector = load(tmp_path / 'model.pt').detector
    assert (detector.width, detector.height) == (96, 64)
    for device, words in (
        ('cuda', 'finds no such GPU'),
        ('meta', "'meta' is neither cuda nor cpu"),
    ):
        code, _, errors = command('train.py', *folders, *small, '--device', device)
        assert code == 2
        assert errors.startswith('error: ') and words in errors
        assert errors.count('\n') == 1


def test_a_saved_network_is_the_same_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    detector = Detector(2, 96, 64).eval()
    save(tmp_path / 'model.pt', Trained(detector, ('cone', 'barrel')))
    again = load(tmp_path / 'model.pt')
    assert again.names == ('cone', 'barrel')
    images = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        assert torch.equal(detector(images).classes, again.detector(images).classes)


def test_mistakes_cost_one_line(rendered: Path, tmp_path: Path) -> None:
    (tmp_path / 'none.pt').write_bytes(b'no network')
    absent = tmp_path / 'absent'
    train_on_cpu = ('train.py', '--train', absent, '--validation', absent, '--device', 'cpu')
    for name, *args in (
        (*train_on_cpu, '--output', tmp_path / 'out'),
        (*train_on_cpu, '--output', '/proc/nothing'),
        ('export.py', tmp_path / 'none.pt', tmp_path / 'm.onnx'),
        ('export.py', tmp_path / 'absent.pt', tmp_path / 'm.onnx'),
        ('card.py', tmp_path / 'absent.onnx', rendered / 'test'),
        ('yolo_to_coco.py', '--images', absent, '--labels', absent, '--names', 'coco', '--output',
         tmp_path / 'out'),
    ):  # fmt: skip
        code, _, errors = command(str(name), *args)
        assert code == 2
        assert errors.startswith('error: ')
        assert errors.count('\n') == 1


@pytest.mark.parametrize('name', [f'{step}.py' for step in COMMANDS])
def test_what_is_not_installed_costs_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a terminal in which the desk was not set up."""
    for module in ('av', 'cv2', 'numpy', 'onnx', 'torch'):
        (tmp_path / f'{module}.py').write_text(f'raise ModuleNotFoundError("no {module}")')
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    code, printed, errors = command(name)
    assert (code, printed) == (2, '')
    assert errors.startswith('error: no ') and 'make training' in errors
    assert errors.count('\n') == 1
