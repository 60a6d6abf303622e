# SPDX-License-Identifier: Apache-2.0
"""The loss against slow, obvious versions of its parts."""

from __future__ import annotations

import math

import pytest
import torch
from loss import assign, complete_iou, detection_loss, iou, step_loss
from network import BINS, Detector, Raw, cells
from torch import Tensor

SIZE = 128, 96
CLASSES = 3


def random_boxes(random: torch.Generator, *shape: int) -> Tensor:
    """Boxes of all sizes, some of them beyond the image."""
    middle = torch.rand(*shape, 2, generator=random) * torch.tensor(SIZE)
    side = torch.exp(torch.rand(*shape, 2, generator=random) * 3 + 1.5)
    return torch.cat((middle - side / 2, middle + side / 2), -1)


def slow_iou(a: list[float], b: list[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    inside = width * height
    return inside / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inside)


def slow_assign(
    scores: Tensor, found: Tensor, boxes: Tensor, labels: Tensor
) -> list[tuple[int, float]]:
    """Object and quality of each cell of one image; quality 0 for none."""
    centres = cells(*SIZE)[0].tolist()
    alignment: dict[tuple[int, int], float] = {}
    overlap: dict[tuple[int, int], float] = {}
    wanted: dict[int, list[int]] = {}
    for k, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        if labels[k] < 0:
            continue
        grow_x, grow_y = max(0.0, 8 - (x2 - x1)) / 2, max(0.0, 8 - (y2 - y1)) / 2
        inside = [
            n
            for n, (x, y) in enumerate(centres)
            if x1 - grow_x <= x <= x2 + grow_x and y1 - grow_y <= y <= y2 + grow_y
        ]
        for n in inside:
            overlap[k, n] = slow_iou(boxes[k].tolist(), found[n].tolist())
            alignment[k, n] = max(1e-20, float(scores[labels[k], n]) * overlap[k, n] ** 6)
        for n in sorted(inside, key=lambda n: -alignment[k, n])[:13]:
            wanted.setdefault(n, []).append(k)
    owner = {n: max(objects, key=lambda k: overlap[k, n]) for n, objects in wanted.items()}
    answer = [(-1, 0.0)] * len(centres)
    for k in set(owner.values()):
        mine = [n for n in owner if owner[n] == k]
        best = max(alignment[k, n] for n in mine)
        most = max(overlap[k, n] for n in mine)
        for n in mine:
            answer[n] = (k, alignment[k, n] / best * most)
    return answer


@pytest.mark.parametrize('seed', range(12))
def test_assignment(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    centres, _ = cells(*SIZE)
    boxes = random_boxes(random, 2, 6)
    labels = torch.randint(-1, CLASSES, (2, 6), generator=random)
    scores = torch.rand(2, CLASSES, len(centres), generator=random)
    # As any detector's, the box of a cell holds the cell's middle.
    away = 1 + 40 * torch.rand(2, 2, len(centres), 2, generator=random)
    found = torch.cat((centres - away[0], centres + away[1]), 2)
    objects, quality = assign(scores, found, centres, boxes, labels)
    answering = 0
    for image in range(2):
        wanted = slow_assign(scores[image], found[image], boxes[image], labels[image])
        for n, (k, value) in enumerate(wanted):
            assert float(quality[image, n]) == pytest.approx(value, abs=1e-5)
            if value > 1e-6:
                assert int(objects[image, n]) == k
                answering += 1
    assert answering > 20


def test_the_smallest_object_has_a_cell_that_answers_for_it() -> None:
    centres, _ = cells(*SIZE)
    for x, y in ((0.5, 0.5), (8, 8), (63.9, 40), (127.5, 95.5)):
        box = torch.tensor([[[x - 0.5, y - 0.5, x + 0.5, y + 0.5]]])
        found = torch.cat((centres - 4, centres + 4), 1)[None]
        scores, labels = torch.ones(1, 1, len(centres)), torch.zeros(1, 1, dtype=torch.long)
        _, quality = assign(scores, found, centres, box, labels)
        # A box of 64 pixels holds it, or four of them a quarter each.
        assert 0.25 / 64 * 0.95 < float(quality.max()) < 1 / 64 * 1.05


def test_no_object_no_answer() -> None:
    centres, _ = cells(*SIZE)
    found = torch.cat((centres - 4, centres + 4), 1)[None]
    nothing = torch.zeros(1, 2, 4), torch.full((1, 2), -1)
    _, quality = assign(torch.ones(1, 1, len(centres)), found, centres, *nothing)
    assert float(quality.max()) == 0


def test_complete_iou() -> None:
    random = torch.Generator().manual_seed(0)
    a, b = random_boxes(random, 200), random_boxes(random, 200)
    for one, other, fast in zip(a.tolist(), b.tolist(), complete_iou(a, b).tolist(), strict=True):
        overlap = slow_iou(one, other)
        width = max(one[2], other[2]) - min(one[0], other[0])
        height = max(one[3], other[3]) - min(one[1], other[1])
        apart = math.dist(
            ((one[0] + one[2]) / 2, (one[1] + one[3]) / 2),
            ((other[0] + other[2]) / 2, (other[1] + other[3]) / 2),
        )
        angles = [math.atan((c[2] - c[0]) / (c[3] - c[1])) for c in (one, other)]
        ratio = 4 / math.pi**2 * (angles[0] - angles[1]) ** 2
        weight = ratio / (1 - overlap + ratio)
        slow = overlap - apart**2 / (width**2 + height**2) - weight * ratio
        assert fast == pytest.approx(slow, abs=1e-4)
    assert torch.allclose(complete_iou(a, a), torch.ones(200), atol=1e-4)
    assert torch.allclose(iou(a, b), iou(b, a))


def test_step_loss() -> None:
    random = torch.Generator().manual_seed(0)
    detector = Detector(CLASSES, 64, 32)
    count = len(detector.centres)
    distances = torch.randn(1, 4, BINS, count, generator=random)
    boxes = torch.cat((detector.centres - 20, detector.centres + 300), 1)[None]
    fast = step_loss(detector, distances, boxes)
    for n in range(count):
        total = 0.0
        for side in range(4):
            steps = (20, 20, 300, 300)[side] / float(detector.strides[n])
            steps = min(steps, BINS - 1.01)
            chances = distances[0, side, :, n].softmax(0)
            below = int(steps)
            total -= (below + 1 - steps) * math.log(float(chances[below]))
            total -= (steps - below) * math.log(float(chances[below + 1]))
        assert float(fast[0, n]) == pytest.approx(total / 4, rel=1e-4)


def test_what_is_right_costs_nothing_and_what_is_wrong_does() -> None:
    detector = Detector(CLASSES, 64, 64)
    # Every cell gives the one object's box, and those in it are sure of its class.
    boxes = torch.tensor([[[12.0, 4.0, 28.0, 36.0], [0, 0, 0, 0]]])
    labels = torch.tensor([[1, -1]])
    sides = torch.cat((detector.centres - boxes[0, 0, :2], boxes[0, 0, 2:] - detector.centres), 1)
    steps = (sides / detector.strides[:, None]).clamp(0, BINS - 1.01)
    below = steps.floor()
    bins = torch.arange(BINS)
    share = torch.where(bins == below[..., None], 1 - (steps - below)[..., None], 0.0)
    share = share + torch.where(bins == below[..., None] + 1, (steps - below)[..., None], 0.0)
    scores = torch.full((1, CLASSES, len(steps)), -12.0)
    scores[0, 1, (sides > 0).all(1)] = 12
    right = Raw((share + 1e-9).log().permute(1, 2, 0)[None], scores)
    box, step, classes = detection_loss(detector, right, boxes, labels)
    assert float(box) == pytest.approx(0, abs=1e-3)
    assert float(classes) == pytest.approx(0, abs=1e-2)
    moved = detection_loss(detector, right, boxes + 3, labels)
    assert float(moved.box) > 0.5
    assert float(moved.step) > float(step) + 1
    other = detection_loss(detector, right, boxes, torch.tensor([[0, -1]]))
    assert float(other.classes) > 1


def test_gradients_are_finite_for_images_with_and_without_objects() -> None:
    torch.manual_seed(0)
    detector = Detector(CLASSES, 64, 64)
    boxes = torch.tensor([[[4.0, 4, 20, 60], [0, 0, 0, 0]], [[0.0, 0, 0, 0], [0, 0, 0, 0]]])
    labels = torch.tensor([[2, -1], [-1, -1]])
    loss = torch.stack(detection_loss(detector, detector(torch.rand(2, 3, 64, 64)), boxes, labels))
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert all(torch.isfinite(p.grad).all() for p in detector.parameters())
