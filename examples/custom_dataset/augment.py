# SPDX-License-Identifier: Apache-2.0
"""New pictures from old ones, a batch at a time and on the device that trains.

A new picture is one tile, or four that meet in a point (the mosaic of YOLOv4, Bochkovskiy et al.
2020). A tile shows a part of one picture at a scale of its own, perhaps mirrored.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from data import PAD, Samples
from torch import Tensor
from torch.nn import functional

#: Of an object's area this much must still be seen in its tile, and so many pixels of each side.
_SEEN, _SMALLEST = 0.25, 4.0
#: Brightness and two axes of colour (YIQ): hue is the angle and saturation the distance from grey.
_TO_YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))
_FROM_YIQ = ((1.0, 0.9562, 0.6214), (1.0, -0.2727, -0.6468), (1.0, -1.1037, 1.7006))


class Amount(NamedTuple):
    """How much is changed.

    Attributes:
        mosaic: share of the pictures that are made of four.
        scale: smallest and largest scale of a tile.
        hue: turn of the colours, at most, in degrees.
        saturation, brightness: change of either, at most, as a share.
    """

    mosaic: float
    scale: tuple[float, float]
    hue: float = 8.0
    saturation: float = 0.5
    brightness: float = 0.3


class Batch(NamedTuple):
    """Pictures as the network takes them.

    Attributes:
        images: (B, 3, height, width) float32, RGB, 0..1.
        boxes: (B, K, 4) float32, x1, y1, x2, y2.
        labels: (B, K) int64; -1 for none.
    """

    images: Tensor
    boxes: Tensor
    labels: Tensor


class _Tiles(NamedTuple):
    """Where four pictures go; each (B, 4) or (B, 4, 2), x and y.

    A point p of a picture, mirrored first where ``mirrored``, comes to ``p * scale + offset``, and
    is seen where that lies from ``low`` to ``high``.
    """

    mirrored: Tensor
    scale: Tensor
    offset: Tensor
    low: Tensor
    high: Tensor


def augment(samples: Samples, first: Tensor, amount: Amount, random: torch.Generator) -> Batch:
    """Make a new picture of each that is named and of others drawn at random.

    Args:
        first: (B,) indices into the samples.
        random: of the samples' device.
    """
    count, height, width, _ = samples.images.shape
    others = torch.randint(count, (len(first), 3), generator=random, device=first.device)
    chosen = torch.cat((first[:, None], others), 1)
    size = _constant(((width, height),), first.device)[0]
    tiles = _draw(len(first), size, amount, random)
    boxes, seen = _place_boxes(samples.boxes[chosen], tiles, size)
    labels = torch.where(seen, samples.labels[chosen], -1).flatten(1)
    images = _recolor(_render(samples.images[chosen], tiles), amount, random)
    # Four tiles show parts of four pictures: twice the objects of one are room enough.
    most = 2 * samples.labels.shape[1]
    place = torch.arange(labels.shape[1], device=first.device)
    _, kept = ((labels >= 0) * len(place) - place).topk(most, 1)
    boxes = boxes.flatten(1, 2).gather(1, kept[..., None].expand(-1, -1, 4))
    return Batch(images, boxes, labels.gather(1, kept))


def _draw(count: int, size: Tensor, amount: Amount, random: torch.Generator) -> _Tiles:
    def uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        share = torch.rand(count, *shape, generator=random, device=size.device)
        return low + (high - low) * share

    # Where the tiles meet: about the middle, or at the far corner, where the first tile is all.
    mosaic = uniform(1) < amount.mosaic
    meet = torch.where(mosaic, (uniform(2, low=0.3, high=0.7) * size).round(), size)
    zero = torch.zeros_like(meet)
    x = torch.stack((zero, meet, size.expand_as(meet)), 1)  # (B, 3, 2): three lines each way
    low = torch.stack([torch.stack((x[:, i, 0], x[:, j, 1]), 1) for j in (0, 1) for i in (0, 1)], 1)
    high = torch.stack(
        [torch.stack((x[:, i, 0], x[:, j, 1]), 1) for j in (1, 2) for i in (1, 2)], 1
    )
    scale = uniform(4, low=amount.scale[0], high=amount.scale[1])
    # Any place where the picture fills the tile, or is whole in it if it is the smaller one.
    room = high - low - size * scale[..., None]
    return _Tiles(uniform(4) < 0.5, scale, low + room * uniform(4, 2), low, high)


def _place_boxes(boxes: Tensor, tiles: _Tiles, size: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes (B, 4, K, 4) as they come to lie, cut at their tile, and which are still seen."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    mirrored = tiles.mirrored[..., None]
    x1, x2 = torch.where(mirrored, size[0] - x2, x1), torch.where(mirrored, size[0] - x1, x2)
    corners = torch.stack((x1, y1, x2, y2), -1).unflatten(-1, (2, 2))
    scale, offset = tiles.scale[..., None, None, None], tiles.offset[:, :, None, None]
    whole = corners * scale + offset
    cut = whole.clamp(tiles.low[:, :, None, None], tiles.high[:, :, None, None])
    sides, sides_before = cut[..., 1, :] - cut[..., 0, :], whole[..., 1, :] - whole[..., 0, :]
    area, area_before = sides[..., 0] * sides[..., 1], sides_before[..., 0] * sides_before[..., 1]
    seen = (sides >= _SMALLEST).all(-1) & (area >= _SEEN * area_before)
    return cut.flatten(-2), seen


def _render(images: Tensor, tiles: _Tiles) -> Tensor:
    """Draw four pictures (B, 4, H, W, 3) uint8 into one (B, 3, H, W), 0..1."""
    count, _, height, width, _ = images.shape
    batch = torch.arange(count, device=images.device)[:, None]
    x = torch.arange(width, device=images.device) + 0.5
    y = torch.arange(height, device=images.device) + 0.5
    right = (x >= tiles.low[:, 1:2, 0]).long()  # (B, W)
    below = (y >= tiles.low[:, 2:3, 1]).long()  # (B, H)
    tile = 2 * below[:, :, None] + right[:, None]  # (B, H, W), of each pixel of the new picture
    at = batch[..., None], tile
    source_x = (x - tiles.offset[..., 0][at]) / tiles.scale[at]
    source_y = (y[:, None] - tiles.offset[..., 1][at]) / tiles.scale[at]
    outside = (source_x < 0) | (source_x > width) | (source_y < 0) | (source_y > height)
    source_x = torch.where(tiles.mirrored[at], width - source_x, source_x)
    # The four lie one below the other; a sample must not reach over the edge into the next.
    stack = images.permute(0, 4, 1, 2, 3).reshape(count, 3, 4 * height, width).float()
    row = source_y.clamp(0.5, height - 0.5) + tile * height
    grid = torch.stack((source_x / width, row / (4 * height)), -1) * 2 - 1
    drawn = functional.grid_sample(stack, grid, padding_mode='border', align_corners=False)
    return torch.where(outside[:, None], PAD, drawn) / 255


def _recolor(images: Tensor, amount: Amount, random: torch.Generator) -> Tensor:
    """Turn hues, and change saturation and brightness, by one matrix an image."""

    def change(most: float) -> Tensor:
        share = torch.rand(len(images), 1, 1, generator=random, device=images.device)
        return most * (2 * share - 1)

    angle = torch.deg2rad(change(amount.hue))
    colors = 1 + change(amount.saturation)
    cosine, sine, zero = angle.cos() * colors, angle.sin() * colors, torch.zeros_like(angle)
    turn = torch.cat(
        (
            torch.cat((zero + 1, zero, zero), 2),
            torch.cat((zero, cosine, -sine), 2),
            torch.cat((zero, sine, cosine), 2),
        ),
        1,
    )
    to_yiq, from_yiq = _constant(_TO_YIQ, images.device), _constant(_FROM_YIQ, images.device)
    matrix = from_yiq @ turn @ to_yiq * (1 + change(amount.brightness))
    return torch.einsum('bij,bjhw->bihw', matrix, images).clamp(0, 1)


@lru_cache
def _constant(rows: tuple[tuple[float, ...], ...], device: torch.device) -> Tensor:
    """A matrix that stays on the device: to send it in every step would make both sides wait."""
    return torch.tensor(rows, dtype=torch.float32, device=device)
