# SPDX-License-Identifier: Apache-2.0
"""Whatever is done to a picture, its boxes stay about its objects."""

from __future__ import annotations

import pytest
import torch
from augment import Amount, augment
from data import PAD, Samples

WIDTH, HEIGHT = 96, 64
STILL = Amount(mosaic=0.0, scale=(1.0, 1.0), hue=0.0, saturation=0.0, brightness=0.0)


def samples(count: int = 6) -> Samples:
    """White pictures with one block each: in picture i of class i and brightness 20 * i."""
    random = torch.Generator().manual_seed(1)
    images = torch.full((count, HEIGHT, WIDTH, 3), 255, dtype=torch.uint8)
    boxes, labels = torch.zeros(count, 2, 4), torch.full((count, 2), -1)
    for i in range(count):
        x, y = torch.randint(2, 40, (2,), generator=random).tolist()
        w, h = torch.randint(14, 22, (2,), generator=random).tolist()
        images[i, y : y + h, x : x + w] = 20 * i
        boxes[i, 0] = torch.tensor([x, y, x + w, y + h])
        labels[i, 0] = i
    return Samples(images, boxes, labels)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_nothing_changed_but_the_side_that_it_is_seen_from() -> None:
    given = samples()
    batch = augment(given, torch.arange(6), STILL, generator())
    whole = given.images.permute(0, 3, 1, 2) / 255
    mirrored = []
    for i in range(6):
        side = [torch.allclose(batch.images[i], view, atol=2e-3)
                for view in (whole[i], whole[i].flip(2))]  # fmt: skip
        assert sum(side) == 1
        x1, y1, x2, y2 = given.boxes[i, 0].tolist()
        wanted = (WIDTH - x2, y1, WIDTH - x1, y2) if side[1] else (x1, y1, x2, y2)
        (k,) = torch.nonzero(batch.labels[i] >= 0).flatten().tolist()
        assert int(batch.labels[i, k]) == i
        assert batch.boxes[i, k].tolist() == pytest.approx(wanted, abs=1e-3)
        mirrored.append(side[1])
    assert {True, False} == set(mirrored)


@pytest.mark.parametrize('mosaic', [0.0, 1.0])
def test_boxes_stay_about_their_objects(mosaic: float) -> None:
    amount = STILL._replace(mosaic=mosaic, scale=(0.6, 1.4))
    checked = 0
    for seed in range(20):
        batch = augment(samples(), torch.arange(6), amount, generator(seed))
        for image, boxes, labels in zip(*batch, strict=True):
            for box, label in zip(boxes.tolist(), labels.tolist(), strict=True):
                if label < 0:
                    continue
                mine = (image[0] * 255 - 20 * label).abs() < 3
                x1, y1, x2, y2 = box
                assert 0 <= x1 < x2 <= WIDTH and 0 <= y1 < y2 <= HEIGHT
                # Full of its colour to half a pixel of its sides, and none just outside.
                inner = mine[round(y1 + 1) : round(y2 - 1), round(x1 + 1) : round(x2 - 1)]
                assert inner.all()
                middle_x, middle_y = int((x1 + x2) / 2), int((y1 + y2) / 2)
                for x, y in ((x1 - 2, middle_y), (x2 + 2, middle_y), (middle_x, y1 - 2),
                             (middle_x, y2 + 2)):  # fmt: skip
                    if 0 <= x < WIDTH and 0 <= y < HEIGHT:
                        assert not mine[int(y), int(x)]
                checked += 1
    assert checked > 80


def test_what_lies_beyond_a_picture_is_the_grey_of_the_letterbox() -> None:
    batch = augment(samples(), torch.arange(6), STILL._replace(scale=(0.5, 0.5)), generator())
    grey = ((batch.images * 255 - PAD).abs() < 0.01).all(1).float().mean((1, 2))
    assert torch.allclose(grey, torch.full((6,), 0.75), atol=0.03)


def test_colours_change_and_stay_colours() -> None:
    given = samples()
    strong = STILL._replace(hue=30.0, saturation=0.5, brightness=0.5)
    given.images[:] = torch.tensor([200, 40, 40], dtype=torch.uint8)
    batch = augment(given, torch.arange(6), strong, generator())
    colors = batch.images[:, :, 0, 0]
    assert len({tuple(c) for c in colors.tolist()}) == 6
    assert float(batch.images.min()) >= 0
    assert float(batch.images.max()) <= 1
    given.images[:] = 128
    greys = augment(given, torch.arange(6), strong._replace(brightness=0.0), generator())
    assert torch.allclose(greys.images, torch.full_like(greys.images, 128 / 255), atol=2e-3)


def test_the_same_seed_gives_the_same_pictures() -> None:
    amount = Amount(mosaic=0.5, scale=(0.5, 1.5))
    one, same, other = (
        augment(samples(), torch.arange(6), amount, generator(s)) for s in (3, 3, 4)
    )
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not torch.equal(one.images, other.images)
