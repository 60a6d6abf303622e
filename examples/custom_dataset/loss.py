# SPDX-License-Identifier: Apache-2.0
"""What the network should have said, and how far off it was.

Which cells answer for an object is settled anew in every step, by how well they do already: task
alignment (TOOD, Feng et al. 2021). Their boxes learn by complete IoU (Zheng et al. 2020) and
distribution focal loss (GFL, Li et al. 2020), all cells' scores by cross entropy.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from network import BINS, STRIDES, Detector, Raw
from torch import Tensor
from torch.nn import functional

#: Alignment is score ** 1 * IoU ** 6, and the best 13 cells answer, as in the paper.
_SCORE_POWER, _IOU_POWER, _CELLS = 1, 6, 13
#: Smallest alignment of a cell that may answer at all; 0 is that of all others.
_FAINT = 1e-20
#: Weights of the three parts.
_BOX, _STEP, _CLASS = 7.5, 1.5, 0.5


class Loss(NamedTuple):
    """Parts of the loss, weighed; their sum is what to minimise."""

    box: Tensor
    step: Tensor
    classes: Tensor


class Assignment(NamedTuple):
    """Which cell answers for which object.

    Attributes:
        objects: (B, N) int64, index of the object; any where ``quality`` is 0.
        quality: (B, N) in 0..1, the score that the cell should give; 0 for those that answer for
            none.
    """

    objects: Tensor
    quality: Tensor


def detection_loss(detector: Detector, raw: Raw, boxes: Tensor, labels: Tensor) -> Loss:
    """Compare what a detector says with what there is.

    Args:
        raw: what it says of B images.
        boxes: (B, K, 4) x1, y1, x2, y2 in pixels of the image.
        labels: (B, K) int64 class of each; -1 where an image has fewer than K objects.
    """
    raw = Raw(raw.distances.float(), raw.classes.float())
    found = detector.boxes(raw.distances)
    objects, quality = assign(
        raw.classes.detach().sigmoid(), found.detach(), detector.centres, boxes, labels
    )
    total = quality.sum().clamp(min=1)
    wanted = boxes.gather(1, objects[..., None].expand(-1, -1, 4))
    label = labels.clamp(min=0).gather(1, objects)
    scores = torch.zeros_like(raw.classes).scatter(1, label[:, None], quality[:, None])
    box = ((1 - complete_iou(found, wanted)) * quality).sum()
    step = (step_loss(detector, raw.distances, wanted) * quality).sum()
    classes = functional.binary_cross_entropy_with_logits(raw.classes, scores, reduction='sum')
    return Loss(_BOX * box / total, _STEP * step / total, _CLASS * classes / total)


def assign(
    scores: Tensor, found: Tensor, centres: Tensor, boxes: Tensor, labels: Tensor
) -> Assignment:
    """Choose for each object the cells that answer for it.

    Candidates are the cells with their middle in the object's box, of which those with the best
    alignment are taken. A cell that several objects want goes to the one that it overlaps most.

    Args:
        scores: (B, classes, N) in 0..1.
        found: (B, N, 4) boxes of the cells.
        centres: (N, 2) their middles.
        boxes: (B, K, 4).
        labels: (B, K); -1 for none.
    """
    there = labels >= 0
    score = scores.gather(1, labels.clamp(min=0)[..., None].expand(-1, -1, len(centres)))
    overlap = iou(boxes[:, :, None], found[:, None])  # (B, K, N)
    alignment = score**_SCORE_POWER * overlap**_IOU_POWER
    candidate = _inside(boxes, centres) & there[..., None]
    alignment = torch.where(candidate, alignment.clamp(min=_FAINT), 0)

    best, where = alignment.topk(min(_CELLS, len(centres)), dim=2)
    chosen = torch.zeros_like(candidate).scatter(2, where, best > 0)
    objects = torch.where(chosen, overlap, -1).argmax(1)
    mine = torch.zeros_like(chosen).scatter(1, objects[:, None], True) & chosen

    # The best cell of an object should score as high as it overlaps, the others in proportion.
    alignment = torch.where(mine, alignment, 0)
    highest = alignment.amax(2, keepdim=True).clamp(min=_FAINT)
    overlap = torch.where(mine, overlap, 0).amax(2, keepdim=True)
    return Assignment(objects, (alignment / highest * overlap).amax(1))


def _inside(boxes: Tensor, centres: Tensor) -> Tensor:
    """Which cells have their middle in a box (B, K, N); every box has at least one."""
    middle = (boxes[..., :2] + boxes[..., 2:]) / 2
    half = (boxes[..., 2:] - boxes[..., :2]).clamp(min=STRIDES[0]) / 2
    return ((centres - middle[:, :, None]).abs() <= half[:, :, None]).all(3)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes (..., 4) of the same or of fitting shapes."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    inside = _product((high - low).clamp(min=0))
    return inside / (_area(a) + _area(b) - inside + 1e-9)


def complete_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU, less for middles that lie apart and for sides of another ratio; (..., 4) to (...)."""
    overlap = iou(a, b)
    low, high = torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:])
    diagonal = (high - low).square().sum(-1) + 1e-9
    apart = (a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]).square().sum(-1) / 4
    ratio = (4 / math.pi**2) * (_angle(a) - _angle(b)).square()
    with torch.no_grad():
        weight = ratio / (1 - overlap + ratio + 1e-9)
    return overlap - apart / diagonal - weight * ratio


def step_loss(detector: Detector, distances: Tensor, boxes: Tensor) -> Tensor:
    """Distribution focal loss: a distance of 3.2 strides should be 3 by 80 and 4 by 20 percent.

    Args:
        distances: (B, 4, BINS, N) logits.
        boxes: (B, N, 4), that each cell should give.

    Returns:
        (B, N), mean of the four sides.
    """
    sides = torch.cat((detector.centres - boxes[..., :2], boxes[..., 2:] - detector.centres), 2)
    steps = (sides.transpose(1, 2) / detector.strides).clamp(0, BINS - 1.01)[:, :, None]
    below = steps.floor().long()
    share = steps - below
    logs = distances.log_softmax(2)
    each = logs.gather(2, below) * (1 - share) + logs.gather(2, below + 1) * share
    return -each.mean((1, 2))


def _area(boxes: Tensor) -> Tensor:
    return _product(boxes[..., 2:] - boxes[..., :2])


def _product(sides: Tensor) -> Tensor:
    # Tensor.prod would have the device tell whether there is a 0, and wait for it.
    return sides[..., 0] * sides[..., 1]


def _angle(boxes: Tensor) -> Tensor:
    width, height = (boxes[..., 2:] - boxes[..., :2]).unbind(-1)
    return torch.atan(width / (height + 1e-9))
