# SPDX-License-Identifier: Apache-2.0
"""A labelled data set, held whole where the network is trained.

A folder holds ``instances.json`` (COCO) and the pictures under ``images/``. Each picture is decoded
once and laid into the network's input as `trt_perception` will lay a camera's image into it, so
that training and robot agree to the pixel.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trt_perception.core import Geometry, PerceptionError, place
from trt_perception.core.model_spec import parse_names
from trt_perception.replay.coco import CocoDataset, Picture

#: Grey of the letterbox, as `ModelSpec.pad_value`.
PAD = 114


class Samples(NamedTuple):
    """N pictures in the network's input, and what they show.

    Attributes:
        images: (N, height, width, 3) uint8, RGB.
        boxes: (N, K, 4) float32, x1, y1, x2, y2 in pixels of the input.
        labels: (N, K) int64; -1 where a picture shows fewer than K objects.
    """

    images: Tensor
    boxes: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> Samples:
        return Samples(*(tensor.to(device) for tensor in self))


def open_dataset(folder: Path, limit: int | None = None) -> CocoDataset:
    """Open a folder's data set.

    Raises:
        DatasetError: a file is missing or not of COCO's form.
    """
    return CocoDataset(folder / 'instances.json', folder / 'images', limit)


def class_names(folder: Path) -> tuple[str, ...]:
    """Names of the categories by rising id; the first is class 0 of the network.

    Raises:
        PerceptionError: a name comes twice, or cannot be printed.
    """
    try:
        return parse_names(list(_categories(folder).values()))
    except ValueError as error:
        raise PerceptionError(f"'{folder / 'instances.json'}' {error}") from None


def load_samples(folder: Path, width: int, height: int, limit: int | None = None) -> Samples:
    """Read a folder's pictures and what is annotated in them; crowds are left out.

    Args:
        width, height: of the network's input.
        limit: take only the first so many pictures.

    Raises:
        PerceptionError: the data set cannot be used.
    """
    pictures = open_dataset(folder, limit).pictures
    label = {category: number for number, category in enumerate(_categories(folder))}
    found: dict[int, list[tuple[int, list[float]]]] = {p.id: [] for p in pictures}
    for row in _read(folder)['annotations']:
        if row['image_id'] in found and not row.get('iscrowd', 0):
            found[row['image_id']].append((label[row['category_id']], row['bbox']))
    most = max((len(rows) for rows in found.values()), default=0)
    if most == 0:
        raise PerceptionError(f"'{folder}' shows no object; label some")

    images = np.full((len(pictures), height, width, 3), PAD, np.uint8)
    boxes = np.zeros((len(pictures), most, 4), np.float32)
    labels = np.full((len(pictures), most), -1, np.int64)

    def fill(index: int) -> None:
        picture = pictures[index]
        geometry = _lay_out(picture, images[index])
        for k, (category, box) in enumerate(found[picture.id]):
            boxes[index, k] = _to_network(box, geometry)
            labels[index, k] = category

    with ThreadPoolExecutor() as pool:  # OpenCV decodes beside Python
        list(pool.map(fill, range(len(pictures))))
    return Samples(*(torch.from_numpy(array) for array in (images, boxes, labels)))


def _lay_out(picture: Picture, canvas: NDArray[np.uint8]) -> Geometry:
    """Draw a picture into an input (height, width, 3); RGB."""
    image = cv2.imread(str(picture.path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise PerceptionError(f"'{picture.path}' is not a readable picture; remove it")
    height, width = image.shape[:2]
    if picture.size not in (None, (width, height)):
        raise PerceptionError(
            f"'{picture.path}' is {width}x{height} and was annotated at"
            f' {picture.size[0]}x{picture.size[1]}; give the picture that was annotated'
        )
    at = place(width, height, canvas.shape[1], canvas.shape[0], 'letterbox')
    small = cv2.resize(image, (at.width, at.height), interpolation=cv2.INTER_LINEAR)
    canvas[at.top : at.top + at.height, at.left : at.left + at.width] = small[..., ::-1]
    return at


def _to_network(box: Sequence[float], at: Geometry) -> list[float]:
    """From x, y, width, height in pixels of the picture to two corners in those of the input."""
    x, y, width, height = box
    scale_x, scale_y = at.width / at.source_width, at.height / at.source_height
    return [
        x * scale_x + at.left,
        y * scale_y + at.top,
        (x + width) * scale_x + at.left,
        (y + height) * scale_y + at.top,
    ]


def _categories(folder: Path) -> dict[int, str]:
    rows = _read(folder)['categories']
    return {row['id']: row['name'] for row in sorted(rows, key=lambda row: row['id'])}


def _read(folder: Path) -> dict[str, list[dict]]:
    # The product's reader has checked it all.
    return json.loads((folder / 'instances.json').read_bytes())
