# SPDX-License-Identifier: Apache-2.0
"""Look at a labelled data set: the first pictures on one sheet, with the boxes drawn in.

Wrong labels are the first thing to look for when a training goes badly.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from command import imports, run

with imports():
    import cv2
    import numpy as np
    from numpy.typing import NDArray

_Row = dict[str, Any]
_WIDTH, _HEIGHT = 640, 400
_COLORS = (
    (60, 160, 255), (255, 120, 60), (40, 90, 255), (80, 230, 80), (255, 80, 220), (0, 230, 230),
)  # fmt: skip


class SheetError(ValueError):
    """A sheet that cannot be drawn or written."""


def check(file: Path) -> None:
    """See that a sheet can be written there.

    Raises:
        SheetError: it cannot.
    """
    if not (cv2.haveImageWriter(str(file)) and os.access(file.parent, os.W_OK)):
        raise SheetError(f"'{file}' cannot be written; give a .png or .jpg in a folder that exists")


def sheet(folder: Path, file: Path, columns: int = 4, rows: int = 3) -> None:
    """Draw the first pictures of every data set in a folder, and some all along every drive.

    Args:
        folder: holds ``instances.json`` (COCO), itself or anywhere below; the pictures lie in
            ``images/`` beside it, or beside it.

    Raises:
        SheetError: there is no data set, or one is not of COCO's form; or the sheet's file is none
            that OpenCV can write.
    """
    check(file)
    parts = []
    for instances in sorted(folder.rglob('instances.json')):
        images = instances.parent / 'images'
        images = images if images.is_dir() else instances.parent
        try:
            shown = _shown(json.loads(instances.read_bytes()), images, columns * rows)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SheetError(f"'{instances}' is not a COCO data set: {error!r}") from None
        shown += [np.full((_HEIGHT, _WIDTH, 3), 40, np.uint8)] * (-len(shown) % columns)
        parts += [np.hstack(shown[i : i + columns]) for i in range(0, len(shown), columns)]
    if not parts:
        raise SheetError(f"'{folder}' holds no instances.json with pictures")
    if not cv2.imwrite(str(file), np.vstack(parts)):
        raise SheetError(f"'{file}' cannot be written; give another file")


def _shown(content: _Row, images: Path, most: int) -> list[NDArray[np.uint8]]:
    is_drive = 'rate_hz' in content.get('info', {})
    step = max(1, len(content['images']) // most) if is_drive else 1
    names = {row['id']: row['name'] for row in content['categories']}
    chosen = content['images'][::step][:most]
    return [_drawn(row, content['annotations'], names, images) for row in chosen]


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
    try:
        sheet(given.folder, given.sheet)
    except SheetError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    run(main)
