# SPDX-License-Identifier: Apache-2.0
"""A contact sheet with the boxes drawn in."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from synthetic.camera import HEIGHT, WIDTH
from synthetic.objects import CATEGORIES

_COLORS = (
    (60, 160, 255),
    (255, 120, 60),
    (40, 90, 255),
    (80, 230, 80),
    (255, 80, 220),
    (0, 230, 230),
)


def sheet(folder: Path, file: Path, columns: int = 4, rows: int = 3) -> None:
    """Draw the first pictures of every split and drive in a data set."""
    parts = []
    for instances in sorted(folder.rglob('instances.json')):
        content = json.loads(instances.read_text(encoding='utf-8'))
        images = instances.parent / 'images'
        images = images if images.is_dir() else instances.parent
        step = (
            max(1, len(content['images']) // (columns * rows))
            if 'rate_hz' in content['info']
            else 1
        )
        blank = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
        shown = [
            _drawn(row, content['annotations'], images)
            for row in content['images'][::step][: columns * rows]
        ]
        shown += [blank] * (-len(shown) % columns)
        parts += [np.hstack(shown[i : i + columns]) for i in range(0, len(shown), columns)]
    if parts:
        cv2.imwrite(str(file), np.vstack(parts))


def _drawn(
    row: dict[str, object], annotations: list[dict[str, object]], images: Path
) -> np.ndarray:
    picture = cv2.imread(str(images / str(row['file_name'])))
    for annotation in annotations:
        if annotation['image_id'] == row['id']:
            kind = int(annotation['category_id']) - 1
            x, y, w, h = (round(v) for v in annotation['bbox'])
            cv2.rectangle(picture, (x, y), (x + w - 1, y + h - 1), _COLORS[kind], 1)
            cv2.putText(
                picture,
                CATEGORIES[kind],
                (x, max(8, y - 2)),
                cv2.FONT_HERSHEY_SIMPLEX,
                0.35,
                _COLORS[kind],
                1,
            )
    return picture
