# SPDX-License-Identifier: Apache-2.0
"""A data set in the YOLO format, made of one in COCO's."""

from __future__ import annotations

import json
from pathlib import Path


def write_yolo(folder: Path, output: Path, part: str) -> tuple[Path, Path, Path]:
    """Write labels and the names' YAML, and link the pictures.

    Args:
        folder: with ``instances.json`` and ``images/``.
        output: folder to write ``images/part``, ``labels/part`` and ``data.yaml`` to.

    Returns:
        The three.
    """
    rows = json.loads((folder / 'instances.json').read_text())
    images, labels, names = output / 'images' / part, output / 'labels' / part, output / 'data.yaml'
    labels.mkdir(parents=True)
    images.parent.mkdir(exist_ok=True)
    images.symlink_to(folder.resolve() / 'images', target_is_directory=True)
    for picture in rows['images']:
        lines = []
        for row in rows['annotations']:
            if row['image_id'] == picture['id']:
                x, y, w, h = row['bbox']
                sides = (x + w / 2, y + h / 2, w, h)
                lengths = (picture['width'], picture['height']) * 2
                shares = (v / length for v, length in zip(sides, lengths, strict=True))
                lines.append(f'{row["category_id"] - 1} ' + ' '.join(f'{v:.6f}' for v in shares))
        if lines:  # a picture that shows nothing has no file, as labelling tools leave it
            (labels / picture['file_name']).with_suffix('.txt').write_text('\n'.join(lines) + '\n')
    table = [f'  {number}: {row["name"]}' for number, row in enumerate(rows['categories'])]
    names.write_text('\n'.join(['path: .', f'{part}: images/{part}', 'names:', *table]) + '\n')
    return images, labels, names
