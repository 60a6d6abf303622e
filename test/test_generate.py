# SPDX-License-Identifier: Apache-2.0
"""The rendered data set: repeatable, its splits apart, its boxes tight, its drives smooth."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from time import monotonic, sleep
from typing import NamedTuple

import cv2
import numpy as np
import pytest

EXAMPLE = Path(__file__).resolve().parents[1] / 'examples' / 'custom_dataset'
if not EXAMPLE.is_dir():
    pytest.skip('the examples are not part of what is installed', allow_module_level=True)
sys.path.insert(0, str(EXAMPLE))

from synthetic import dataset, render, textures  # noqa: E402
from synthetic.bank import Bank  # noqa: E402
from synthetic.camera import HEIGHT, WIDTH, Camera  # noqa: E402
from synthetic.drive import RATE, Drive  # noqa: E402
from synthetic.mesh import Material, box  # noqa: E402
from synthetic.objects import CATEGORIES  # noqa: E402
from synthetic.objects.thing import Thing  # noqa: E402
from synthetic.places import place  # noqa: E402
from synthetic.render import Label, Rendered  # noqa: E402
from synthetic.scene import Scene, random_camera, random_scene  # noqa: E402


class Shot(NamedTuple):
    """One scene and what was rendered of it."""

    scene: Scene
    camera: Camera
    rendered: Rendered


@pytest.fixture(scope='module')
def bank() -> Bank:
    return Bank(np.random.default_rng(1), 'train')


@pytest.fixture(scope='module')
def shots(bank: Bank) -> list[Shot]:
    """Some scenes, rendered."""
    found = []
    for number in range(60):
        rng = np.random.default_rng((2, number))
        camera = random_camera(rng)
        scene = random_scene(rng, bank, camera)
        found.append(Shot(scene, camera, render.render(scene, camera, bank)))
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob('*') if p.is_file()}


def iou(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Of two boxes x, y, width, height."""
    w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(0.0, w) * max(0.0, h)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def ignore(count: int) -> None:
    """Nobody watches the progress."""


def test_colcon_leaves_it_alone() -> None:
    assert (EXAMPLE / 'COLCON_IGNORE').is_file()


def test_same_bytes_for_any_number_of_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, 'BATCH', 2)
    for jobs in (1, 2):
        dataset.split(tmp_path / str(jobs), 'train', 3, 7, jobs, ignore)
    dataset.split(tmp_path / 'other', 'train', 2, 8, 1, ignore)
    one, two, other = (contents(tmp_path / name) for name in ('1', '2', 'other'))
    assert len(one) == 4
    assert one == two
    assert not set(one.values()) & set(other.values())


def test_fewer_pictures_are_the_first_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, 'BATCH', 2)
    for count in (2, 3):
        dataset.split(tmp_path / str(count), 'test', count, 7, 1, ignore)
    few, more = contents(tmp_path / '2'), contents(tmp_path / '3')
    shared = [name for name in few if name.endswith('.jpg')]
    assert len(shared) == 2
    assert all(few[name] == more[name] for name in shared)


@pytest.mark.parametrize('kinds', [textures.FLOORS, textures.GROUNDS, textures.WALLS])
def test_no_two_splits_share_a_background(kinds: dict[str, tuple[object, ...]]) -> None:
    assert list(kinds) == list(dataset.SPLITS)
    for a, b in itertools.combinations(kinds.values(), 2):
        assert not set(a) & set(b)


def test_no_two_splits_share_a_hue() -> None:
    arcs = sorted((arc, split) for split, arcs in textures.HUES.items() for arc in arcs)
    assert {split for _, split in arcs} == set(dataset.SPLITS)
    for ((_, end), _), ((start, _), _) in itertools.pairwise(arcs):
        assert end < start


@pytest.mark.parametrize('split', dataset.SPLITS)
def test_a_bank_draws_only_what_its_split_may_have(
    split: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object) -> None:
        raise AssertionError(f'a texture of another split than {split}')

    for kinds in (textures.FLOORS, textures.GROUNDS, textures.WALLS):
        for other in set(dataset.SPLITS) - {split}:
            monkeypatch.setitem(kinds, other, (forbidden,) * 4)
    Bank(np.random.default_rng(3), split)


def test_every_class_and_every_size_comes(shots: list[Shot]) -> None:
    labels = [label for shot in shots for label in shot.rendered.labels]
    assert {label.category for label in labels} == set(CATEGORIES)
    sides = np.array([max(label.box[2:]) for label in labels])
    edges = (render.LONG, 24, 40, 80, 160, HEIGHT / 2, WIDTH)
    counts, _ = np.histogram(sides, edges)
    assert sides.min() >= render.LONG
    assert (counts >= 5).all(), counts
    assert any(label.visible < 0.7 for label in labels)
    assert any(not shot.rendered.labels for shot in shots)


def test_boxes_are_tight_about_what_is_seen(shots: list[Shot]) -> None:
    """A box's sides touch pixels of its thing, and no pixel of it lies outside."""
    checked = 0
    for shot in shots:
        owner = shot.rendered.owner
        assert owner.max() == len(shot.rendered.labels)
        for number, label in enumerate(shot.rendered.labels, 1):
            ys, xs = np.nonzero(owner == number)
            x, y, w, h = label.box
            finer = shot.camera.finer
            # Edges of the outermost rendered pixels.
            edges = (
                xs.min() / finer,
                ys.min() / finer,
                (xs.max() + 1) / finer,
                (ys.max() + 1) / finer,
            )
            assert (x, y, x + w, y + h) == pytest.approx(edges, abs=1e-6)
            assert label.area == pytest.approx(len(xs) / finer**2)
            assert 0 <= x < x + w <= WIDTH and 0 <= y < y + h <= HEIGHT
            checked += 1
    assert checked > 100


def test_boxes_are_where_the_points_project(shots: list[Shot]) -> None:
    """What nothing hides reaches as far as its corners do, by the pinhole's formula."""
    checked = 0
    for shot in shots:
        if shot.camera.bend:
            continue
        outlines = [
            (name, outline(mesh.points.reshape(-1, 3), shot.camera))
            for thing in shot.scene.things
            for name, mesh in thing.parts
            if name
        ]
        for label in shot.rendered.labels:
            x, y, w, h = label.box
            if label.visible < 0.97 or x <= 0 or y <= 0 or x + w >= WIDTH or y + h >= HEIGHT:
                continue
            # The 3 % that something may hide can be a tip.
            away = min(
                np.abs(np.subtract(found, (x, y, x + w, y + h))).max()
                for name, found in outlines
                if name == label.category
            )
            checked += 1
            assert away < 0.06 * max(w, h) + 1.2, (label, away)
    assert checked > 50


def outline(points: np.ndarray, camera: Camera) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 of points of the world in the picture, written out anew."""
    right, down, ahead = camera.axes()
    seen = points - np.array(camera.position)
    z = np.maximum(seen @ ahead, 1e-3)
    x = WIDTH / 2 + camera.focal * (seen @ right) / z
    y = HEIGHT / 2 + camera.focal * (seen @ down) / z
    return float(x.min()), float(y.min()), float(x.max()), float(y.max())


def test_what_is_hardly_seen_is_taken_away(bank: Bank) -> None:
    """The picture of a thing that is nearly hidden is the picture without it."""
    rng = np.random.default_rng(4)
    where = place(rng, bank)
    camera = Camera((0.0, 0.0, 1.0), 0.0, 0.15, 0.0, 350.0)
    wall = Thing(((None, box((1.0, 0.1, 1.0), Material(), (0, 3, 0))),), 0.5)

    def barrel(x: float) -> Thing:
        return Thing((('barrel', box((0.4, 0.4, 0.8), Material((0.8, 0.1, 0.1)), (x, 4, 0))),), 0.3)

    def taken(*things: Thing, remove: bool = True) -> Rendered:
        return render.render(Scene(where, things), camera, bank, remove)

    alone, hidden, seen = taken(wall), taken(wall, barrel(0.53)), taken(wall, barrel(1.0))
    assert [label.category for label in seen.labels] == ['barrel']
    assert hidden.labels == []
    assert (hidden.light == alone.light).all()
    # It was there, though: a drive leaves it.
    left = taken(wall, barrel(0.53), remove=False)
    assert left.labels == []
    assert (left.light != alone.light).any()


def test_the_lens_bends_picture_and_boxes_alike(bank: Bank) -> None:
    rng = np.random.default_rng(5)
    where = place(rng, bank)
    cube = Thing(
        (('barrel', box((0.5, 0.5, 0.5), Material((0.9, 0.0, 0.9)), (-1.2, 2.5, 0))),), 0.4
    )
    straight, bent = (Camera((0.0, 0.0, 0.8), 0.0, 0.2, 0.0, 330.0, bend) for bend in (0.0, 0.25))
    boxes = []
    for camera in (straight, bent):
        without = render.render(Scene(where, ()), camera, bank)
        rendered = render.render(Scene(where, (cube,)), camera, bank)
        (label,) = rendered.labels
        boxes.append(label.box)
        changed = np.abs(rendered.light - without.light).max(axis=2)
        mine = rendered.owner == 1
        assert (changed[mine] > 0).mean() > 0.95
    assert iou(*boxes) < 0.9


def test_drives_move_smoothly() -> None:
    rng = np.random.default_rng(6)
    drive = Drive(rng, Bank(rng, 'test'), 1.0)
    moments = np.arange(8) / RATE
    cameras = [drive.camera(float(t)) for t in moments]
    for before, after in itertools.pairwise(cameras):
        step = np.subtract(after.position, before.position)
        assert 0.005 < np.linalg.norm(step) < 0.05
        assert max(abs(after.yaw - before.yaw), abs(after.pitch - before.pitch)) < 0.01
    labels = [
        render.render(drive.scene(float(t)), camera, drive.bank, remove=False).labels
        for t, camera in zip(moments, cameras, strict=True)
    ]
    assert min(map(len, labels)) >= 3
    kept = [
        max((iou(label.box, other.box) for other in same(label, after)), default=0.0) > 0.6
        for before, after in itertools.pairwise(labels)
        for label in before
    ]
    assert np.mean(kept) > 0.9


def same(label: Label, others: Iterable[Label]) -> list[Label]:
    return [other for other in others if other.category == label.category]


def test_a_sheet_of_labels(tmp_path: Path) -> None:
    """Of any data set: pictures of another size, classes with other numbers."""
    import preview

    with pytest.raises(ValueError, match=r'holds no instances\.json'):
        preview.sheet(tmp_path, tmp_path / 'sheet.png')
    cv2.imwrite(str(tmp_path / 'wide.png'), np.zeros((200, 800, 3), np.uint8))
    content = {
        'images': [
            {'id': 4, 'file_name': 'wide.png'}, {'id': 5, 'file_name': 'gone.png'},
        ],
        'categories': [{'id': 90, 'name': 'cone'}, {'id': 7, 'name': 'cup'}],
        'annotations': [{'image_id': 4, 'category_id': 90, 'bbox': [400, 100, 80, 60.5]}],
    }  # fmt: skip
    (tmp_path / 'instances.json').write_text(json.dumps(content))
    preview.sheet(tmp_path, tmp_path / 'sheet.png')
    sheet = cv2.imread(str(tmp_path / 'sheet.png'))
    assert sheet.shape == (400, 4 * 640, 3)
    # The picture at 640 of its 800 pixels; the others are grey, that of the missing one too.
    assert (sheet[160:] == 40).all() and (sheet[:, 640:] == 40).all()
    ys, xs = np.nonzero(sheet[:160, :640].any(2))
    # A line of 2 pixels about the box; its name stands above.
    assert (xs.min(), ys.max()) == pytest.approx((320, 80 + 48), abs=2)
    for file in ('sheet.none', 'nowhere/sheet.png'):
        with pytest.raises(ValueError, match='cannot be written'):
            preview.sheet(tmp_path, tmp_path / file)
    del content['categories']
    (tmp_path / 'instances.json').write_text(json.dumps(content))
    with pytest.raises(ValueError, match='is not a COCO data set: KeyError'):
        preview.sheet(tmp_path, tmp_path / 'sheet.png')


def command(*args: str | Path) -> list[str | Path]:
    return [sys.executable, EXAMPLE / 'generate.py', *args]


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        (('/proc/nothing',), "'/proc/nothing'"),
        (('out', '--preview', 'sheet.none'), "'sheet.none' cannot be written"),
        (('out', '--train', 'many'), "'many' is not a whole number of 0"),
        (('out', '--jobs', '0'), "'0' is not a whole number of 1"),
    ],
)
def test_mistakes(args: tuple[str, ...], words: str, tmp_path: Path) -> None:
    """Each is told in one line, before anything is rendered."""
    done = subprocess.run(command(*args), cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    *usage, line = done.stderr.splitlines()
    assert 'error: ' in line and words in line
    assert not usage or usage[0].startswith('usage: ')
    assert not list(tmp_path.rglob('*.jpg'))


def test_ctrl_c(tmp_path: Path) -> None:
    """Ends all processes at once, and leaves no labels that belong to other pictures."""
    dataset.split(tmp_path / 'train', 'train', 1, 7, 1, ignore)
    process = subprocess.Popen(
        command(tmp_path, '--train', '480', '--jobs', '2'),
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        give_up = monotonic() + 120
        while len(list(tmp_path.rglob('*.jpg'))) < 3:
            assert process.poll() is None and monotonic() < give_up
            sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert (process.returncode, errors.strip()) == (130, '')
    content = json.loads((tmp_path / 'train' / 'instances.json').read_text())
    assert 'seed 0' in content['info']['description']
    assert 'annotations' not in content


def test_pictures_of_others_stay(tmp_path: Path) -> None:
    """What was rendered is replaced, and nothing else."""
    pictures, folder = tmp_path / 'mine', tmp_path / 'set'
    pictures.mkdir()
    folder.mkdir()
    (folder / 'images').symlink_to(pictures)
    for labels in ('', '{"images": []}', '[]', '{"info": {"description": "of mine"}}'):
        if labels:
            (folder / 'instances.json').write_text(labels)
        before = contents(folder)
        with pytest.raises(FileExistsError, match='It holds what was not rendered'):
            dataset.split(folder, 'train', 1, 7, 1, ignore)
        assert contents(folder) == before
    assert not any(pictures.iterdir())
    for count in (2, 1):
        items = dataset.split(tmp_path / 'rendered', 'train', count, 7, 1, ignore)
        assert len(items) == count


def test_the_command_writes_what_it_says(tmp_path: Path) -> None:
    pycocotools = pytest.importorskip('pycocotools.coco')
    counts = {'train': 2, 'calibration': 1, 'test': 1}
    sizes = itertools.chain.from_iterable((f'--{name}', str(n)) for name, n in counts.items())
    more = ('--sequences', '1', '--frames', '2', '--preview', tmp_path / 'sheet.png')
    done = subprocess.run(
        command(tmp_path / 'set', *sizes, *more), capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    folders = {tmp_path / 'set' / name / 'images': n for name, n in counts.items()}
    folders[tmp_path / 'set' / 'sequences' / 'drive-0'] = 2
    for images, count in folders.items():
        instances = (images.parent if images.name == 'images' else images) / 'instances.json'
        data = pycocotools.COCO(str(instances))
        assert [c['name'] for c in data.loadCats(data.getCatIds())] == list(CATEGORIES)
        assert len(data.imgs) == count == len(list(images.glob('*.jpg')))
        for row in data.imgs.values():
            picture = cv2.imread(str(images / row['file_name']))
            assert picture.shape == (row['height'], row['width'], 3) == (HEIGHT, WIDTH, 3)
            assert picture.std() > 4
        for row in data.anns.values():
            assert row['iscrowd'] == 0 and 0 < row['area'] <= row['bbox'][2] * row['bbox'][3] + 0.1
    drive = json.loads((tmp_path / 'set' / 'sequences' / 'drive-0' / 'instances.json').read_text())
    assert drive['info']['rate_hz'] == RATE
    assert cv2.imread(str(tmp_path / 'sheet.png')) is not None
