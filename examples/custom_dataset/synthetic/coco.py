# SPDX-License-Identifier: Apache-2.0
"""The annotations in COCO's JSON."""

from __future__ import annotations

import errno
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from synthetic.camera import HEIGHT, WIDTH
from synthetic.objects import CATEGORIES
from synthetic.render import Label

#: How the description of each data set begins.
RENDERED = 'rendered'


def begin(folder: Path, info: dict[str, Any]) -> None:
    """Make a folder, or void the labels of what was rendered into it before.

    Raises:
        FileExistsError: it holds something else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / 'instances.json'
    if any(folder.iterdir()) and not _is_rendered(path):
        raise FileExistsError(errno.EEXIST, 'It holds what was not rendered', str(folder))
    path.write_text(json.dumps({'info': info}), encoding='utf-8')


def _is_rendered(path: Path) -> bool:
    try:
        return json.loads(path.read_bytes())['info']['description'].startswith(RENDERED)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def write(
    path: Path, pictures: Sequence[tuple[str, Sequence[Label]]], info: dict[str, Any]
) -> None:
    """Write ``instances.json``: pictures by file name with what is in each; ids count from 1."""
    images, annotations = [], []
    for number, (name, labels) in enumerate(pictures, 1):
        images.append({'id': number, 'file_name': name, 'width': WIDTH, 'height': HEIGHT})
        for label in labels:
            annotations.append({
                'id': len(annotations) + 1,
                'image_id': number,
                'category_id': CATEGORIES.index(label.category) + 1,
                'bbox': [round(v, 2) for v in label.box],
                'area': round(label.area, 1),
                'iscrowd': 0,
                'visible': round(label.visible, 3),
            })  # fmt: skip
    categories = [{'id': i, 'name': name} for i, name in enumerate(CATEGORIES, 1)]
    content = {'info': info, 'images': images, 'annotations': annotations, 'categories': categories}
    path.write_text(json.dumps(content), encoding='utf-8')
