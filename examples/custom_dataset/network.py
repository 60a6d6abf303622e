# SPDX-License-Identifier: Apache-2.0
"""A compact anchor-free detector: backbone, neck and head, 1.9 million parameters.

Each cell of three grids (strides 8, 16, 32) says how likely an object of each class has its middle
thereabouts, and how far the object's four sides are away. The parts are published ones:

* cross-stage partial blocks (CSPNet, Wang et al. 2019) that keep the result of every step
  (one-shot aggregation, VoVNet, Lee et al. 2019);
* pyramid pooling (SPP, He et al. 2014), with one small pool applied again instead of larger ones;
* a neck that goes down the pyramid and up again (FPN, Lin et al. 2016; PANet, Liu et al. 2018);
* separate branches for class and box (YOLOX, Ge et al. 2021), no objectness;
* a side's distance as a distribution over whole steps (GFL, Li et al. 2020).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

STRIDES = (8, 16, 32)
#: A side is 0 to 15 strides away from its cell's middle.
BINS = 16

#: Channels of the stem and of the four stages of the backbone, and steps in each stage's block.
_WIDTHS = (16, 32, 64, 128, 192)
_DEPTHS = (1, 2, 2, 1)
#: Channels of the neck's three outputs, and within the head's two branches.
_NECK = (64, 96, 128)
_BOX_WIDTH, _CLASS_WIDTH = 64, 48


class Raw(NamedTuple):
    """What the network says of N cells before anything is decoded.

    Attributes:
        distances: (B, 4, BINS, N) logits: left, top, right, bottom.
        classes: (B, classes, N) logits.
    """

    distances: Tensor
    classes: Tensor


class ConvUnit(nn.Sequential):
    """Convolution, normalisation, SiLU; the size is kept, or halved with ``stride=2``."""

    def __init__(self, channels_in: int, channels: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(channels),
            nn.SiLU(inplace=True),
        )


class Step(nn.Module):
    """Two convolutions, added to what came in where ``residual``."""

    def __init__(self, channels: int, residual: bool) -> None:
        super().__init__()
        self.convs = nn.Sequential(ConvUnit(channels, channels, 3), ConvUnit(channels, channels, 3))
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        return x + self.convs(x) if self.residual else self.convs(x)


class CspBlock(nn.Module):
    """Half of the channels pass by; the other half goes through steps, each of which is kept."""

    def __init__(self, channels_in: int, channels: int, steps: int, residual: bool) -> None:
        super().__init__()
        self.half = channels // 2
        self.enter = ConvUnit(channels_in, 2 * self.half)
        self.steps = nn.ModuleList(Step(self.half, residual) for _ in range(steps))
        self.leave = ConvUnit((2 + steps) * self.half, channels)

    def forward(self, x: Tensor) -> Tensor:
        kept = list(self.enter(x).split(self.half, 1))
        for step in self.steps:
            kept.append(step(kept[-1]))
        return self.leave(torch.cat(kept, 1))


class PyramidPool(nn.Module):
    """Let a cell see the largest value within 2, 4 and 6 cells around it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter = ConvUnit(channels, channels // 2)
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.leave = ConvUnit(4 * (channels // 2), channels)

    def forward(self, x: Tensor) -> Tensor:
        kept = [self.enter(x)]
        for _ in range(3):
            kept.append(self.pool(kept[-1]))
        return self.leave(torch.cat(kept, 1))


class Backbone(nn.Module):
    """From the image to features at strides 8, 16 and 32."""

    channels = _WIDTHS[2:]

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvUnit(3, _WIDTHS[0], 3, 2)
        self.stages = nn.ModuleList(
            nn.Sequential(ConvUnit(before, width, 3, 2), CspBlock(width, width, depth, True))
            for before, width, depth in zip(_WIDTHS, _WIDTHS[1:], _DEPTHS, strict=False)
        )
        self.stages[-1].append(PyramidPool(_WIDTHS[-1]))

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.stem(images)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features[1:]


class Neck(nn.Module):
    """Carry what the coarse grids understand to the fine ones, and what those see exactly back."""

    channels = _NECK

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        fine, middle, coarse = channels
        self.grow = nn.Upsample(scale_factor=2)
        self.down_middle = CspBlock(coarse + middle, _NECK[1], 1, False)
        self.down_fine = CspBlock(_NECK[1] + fine, _NECK[0], 1, False)
        self.shrink_fine = ConvUnit(_NECK[0], _NECK[0], 3, 2)
        self.up_middle = CspBlock(_NECK[0] + _NECK[1], _NECK[1], 1, False)
        self.shrink_middle = ConvUnit(_NECK[1], _NECK[1], 3, 2)
        self.up_coarse = CspBlock(_NECK[1] + coarse, _NECK[2], 1, False)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        fine, middle, coarse = features
        middle = self.down_middle(torch.cat((self.grow(coarse), middle), 1))
        fine = self.down_fine(torch.cat((self.grow(middle), fine), 1))
        middle = self.up_middle(torch.cat((self.shrink_fine(fine), middle), 1))
        coarse = self.up_coarse(torch.cat((self.shrink_middle(middle), coarse), 1))
        return [fine, middle, coarse]


class Head(nn.Module):
    """Distances and classes of every cell, by branches of their own."""

    def __init__(self, channels: Sequence[int], classes: int, cells: Sequence[int]) -> None:
        """Build the branches.

        Args:
            channels: of the features of each grid.
            classes: how many.
            cells: of each grid. Known sizes leave no arithmetic on shapes in the exported graph.
        """
        super().__init__()
        self.cells = tuple(cells)
        self.boxes = nn.ModuleList(_branch(c, _BOX_WIDTH, 4 * BINS) for c in channels)
        self.classes = nn.ModuleList(_branch(c, _CLASS_WIDTH, classes) for c in channels)
        # Else the many empty cells would drown the first steps of a training.
        for branch in self.classes:
            nn.init.constant_(branch[-1].bias, -math.log((1 - 0.01) / 0.01))

    def forward(self, features: Sequence[Tensor]) -> Raw:
        distances = torch.cat(self._rows(self.boxes, features), 2)
        classes = torch.cat(self._rows(self.classes, features), 2)
        return Raw(distances.view(-1, 4, BINS, sum(self.cells)), classes)

    def _rows(self, branches: nn.ModuleList, features: Sequence[Tensor]) -> list[Tensor]:
        return [
            branch(x).reshape(-1, branch[-1].out_channels, cells)
            for branch, x, cells in zip(branches, features, self.cells, strict=True)
        ]


def _branch(channels_in: int, channels: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        ConvUnit(channels_in, channels, 3),
        ConvUnit(channels, channels, 3),
        nn.Conv2d(channels, channels_out, 1),
    )


class Detector(nn.Module):
    """The whole network, for images of one size."""

    centres: Tensor
    strides: Tensor
    bins: Tensor

    def __init__(self, classes: int, width: int, height: int) -> None:
        """Build it with random weights.

        Args:
            classes: how many.
            width, height: of the images, pixels; multiples of 32.
        """
        super().__init__()
        self.width, self.height = width, height
        self.backbone = Backbone()
        self.neck = Neck(self.backbone.channels)
        centres, strides = cells(width, height)
        counts = [int((strides == stride).sum()) for stride in STRIDES]
        self.head = Head(self.neck.channels, classes, counts)
        self.register_buffer('centres', centres, persistent=False)
        self.register_buffer('strides', strides, persistent=False)
        self.register_buffer('bins', torch.arange(BINS, dtype=torch.float32), persistent=False)

    def forward(self, images: Tensor) -> Raw:
        """Look at images.

        Args:
            images: (B, 3, height, width), RGB, 0..1.
        """
        return self.head(self.neck(self.backbone(images)))

    def boxes(self, distances: Tensor) -> Tensor:
        """Where the objects are: each distance is the mean of its distribution.

        Args:
            distances: (B, 4, BINS, N) logits.

        Returns:
            (B, N, 4) x1, y1, x2, y2 in pixels of the image, not clipped to it.
        """
        # No matrix product with a vector: ONNX Runtime 1.32 fuses that with a transpose, wrongly.
        steps = (distances.softmax(2) * self.bins[:, None]).sum(2)
        left_top, right_bottom = (steps * self.strides).transpose(1, 2).split(2, 2)
        return torch.cat((self.centres - left_top, self.centres + right_bottom), 2)


class Deployed(nn.Module):
    """A detector that gives what YOLOv8 exports give, to be read by `trt_perception`."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> Tensor:
        """Look at images and decode.

        Returns:
            (B, 4 + classes, N): centre, size in pixels, then a score in 0..1 for each class.
        """
        raw = self.detector(images)
        low, high = self.detector.boxes(raw.distances).transpose(1, 2).split(2, 1)
        return torch.cat(((low + high) / 2, high - low, raw.classes.sigmoid()), 1)


def cells(width: int, height: int) -> tuple[Tensor, Tensor]:
    """All cells, row by row, the finest grid first.

    Returns:
        Their middles (N, 2), x and y in pixels, and their strides (N,).
    """
    centres, strides = [], []
    for stride in STRIDES:
        y, x = torch.meshgrid(
            torch.arange(height // stride), torch.arange(width // stride), indexing='ij'
        )
        centres.append((torch.stack((x, y), 2).reshape(-1, 2) + 0.5) * stride)
        strides.append(torch.full((x.numel(),), float(stride)))
    return torch.cat(centres), torch.cat(strides)
