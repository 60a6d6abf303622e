# SPDX-License-Identifier: Apache-2.0
"""Look at a labelled data set: the first pictures on one sheet, with the boxes drawn in.

Wrong labels are the first thing to look for when a training goes badly.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_Row = dict[str, Any]
_WIDTH, _HEIGHT = 640, 400
_COLORS = (
    (60, 160, 255), (255, 120, 60), (40, 90, 255), (80, 230, 80), (255, 80, 220), (0, 230, 230),
)  # fmt: skip


def sheet(folder: Path, file: Path, columns: int = 4, rows: int = 3) -> int:
    """Draw the first pictures of every data set in a folder, and some all along every drive.

    Args:
        folder: holds ``instances.json`` (COCO), itself or anywhere below; the pictures lie in
            ``images/`` beside it, or beside it.

    Returns:
        How many data sets.
    """
    parts = []
    for instances in (found := sorted(folder.rglob('instances.json'))):
        content = json.loads(instances.read_text(encoding='utf-8'))
        images = instances.parent / 'images'
        images = images if images.is_dir() else instances.parent
        is_drive = 'rate_hz' in content.get('info', {})
        step = max(1, len(content['images']) // (columns * rows)) if is_drive else 1
        names = {row['id']: row['name'] for row in content['categories']}
        shown = [
            _drawn(row, content['annotations'], names, images)
            for row in content['images'][::step][: columns * rows]
        ]
        shown += [np.full((_HEIGHT, _WIDTH, 3), 40, np.uint8)] * (-len(shown) % columns)
        parts += [np.hstack(shown[i : i + columns]) for i in range(0, len(shown), columns)]
    if parts:
        cv2.imwrite(str(file), np.vstack(parts))
    return len(found)


def _drawn(
    row: _Row, annotations: Sequence[_Row], names: dict[int, str], images: Path
) -> NDArray[np.uint8]:
    """A picture, as large as it can be on its part of the sheet."""
    tile = np.full((_HEIGHT, _WIDTH, 3), 40, np.uint8)
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION  # as the trainer reads it
    picture = cv2.imread(str(images / row['file_name']), flags)
    if picture is None:
        return tile
    scale = min(_WIDTH / picture.shape[1], _HEIGHT / picture.shape[0])
    picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    tile[: picture.shape[0], : picture.shape[1]] = picture
    kinds = sorted(names)
    for annotation in annotations:
        if annotation['image_id'] == row['id']:
            kind = annotation['category_id']
            color = _COLORS[kinds.index(kind) % len(_COLORS)]
            x, y, w, h = (round(scale * v) for v in annotation['bbox'])
            cv2.rectangle(tile, (x, y), (x + w - 1, y + h - 1), color, 2)
            at = x, max(14, y - 4)
            cv2.putText(tile, names[kind], at, cv2.FONT_HERSHEY_SIMPLEX, 0.6, color, 2)
    return tile


def main() -> int:
    """Read the arguments and draw; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('folder', type=Path, help='with instances.json in it or below')
    parser.add_argument('sheet', type=Path, help='PNG or JPEG file to write')
    given = parser.parse_args()
    if not sheet(given.folder, given.sheet):
        print(f"error: '{given.folder}' holds no instances.json", file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
