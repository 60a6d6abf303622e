# SPDX-License-Identifier: Apache-2.0
"""Turn labels in the YOLO format into a folder that train.py takes.

A YOLO label file has a line `class x y width height` for each object, in shares of the picture; the
class is a number, and a YAML file holds the names. The pictures are not copied: images/ becomes a
link.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from command import imports, run

with imports():
    import cv2

    from trt_perception.core import PerceptionError
    from trt_perception.core.files import write_atomically
    from trt_perception.runtime.model_file import read_labels

_PICTURES = {'.jpg', '.jpeg', '.png'}


def convert(images: Path, labels: Path, names: tuple[str, ...], output: Path) -> tuple[int, int]:
    """Write ``instances.json`` and a link to the pictures.

    Args:
        images: folder of pictures, with or without folders within.
        labels: folder of ``.txt`` files named as the pictures are; one that is missing means that
            the picture shows nothing.
        names: of the classes, in the order of their numbers.
        output: folder to write to; it is created.

    Returns:
        How many pictures and objects.

    Raises:
        PerceptionError: no pictures, no labels, one of either that cannot be read, or a link that
            would replace other pictures.
    """
    pictures = sorted(p for p in images.rglob('*') if p.suffix.lower() in _PICTURES)
    if not pictures:
        raise PerceptionError(f"'{images}' holds no JPEG or PNG pictures")
    rows: dict[str, list[dict]] = {
        'images': [],
        'annotations': [],
        'categories': [{'id': i, 'name': name} for i, name in enumerate(names, 1)],
    }
    for number, path in enumerate(pictures, 1):
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if picture is None:
            raise PerceptionError(f"'{path}' is not a readable picture; remove it")
        height, width = picture.shape[:2]
        name = path.relative_to(images)
        rows['images'].append(
            {'id': number, 'file_name': str(name), 'width': width, 'height': height}
        )
        for category, box in _objects((labels / name).with_suffix('.txt'), len(names)):
            x, y, w, h = (v * side for v, side in zip(box, (width, height) * 2, strict=True))
            rows['annotations'].append({
                'id': len(rows['annotations']) + 1,
                'image_id': number,
                'category_id': category + 1,
                'bbox': [x - w / 2, y - h / 2, w, h],
            })  # fmt: skip
    if not rows['annotations']:
        wanted = (labels / pictures[0].relative_to(images)).with_suffix('.txt')
        raise PerceptionError(f"none of the pictures has a label; that of the first is '{wanted}'")
    output.mkdir(parents=True, exist_ok=True)
    link = output / 'images'
    if not os.path.lexists(link):
        link.symlink_to(images.resolve(), target_is_directory=True)
    elif link.resolve() != images.resolve():
        raise PerceptionError(f"'{link}' is there already; give another output folder")
    write_atomically(output / 'instances.json', json.dumps(rows))
    return len(pictures), len(rows['annotations'])


def _objects(path: Path, classes: int) -> Iterator[tuple[int, list[float]]]:
    if not path.is_file():
        return
    for number, line in enumerate(path.read_text('utf-8-sig', 'replace').splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            category, box = int(words[0]), [float(word) for word in words[1:]]
        except ValueError:
            category, box = -1, []
        if not 0 <= category < classes or len(box) != 4 or not all(0 <= v <= 1 for v in box):
            raise PerceptionError(
                f"'{path}' line {number}: '{line}' is not a class from 0 to {classes - 1} and"
                ' x, y, width, height from 0 to 1'
            )
        yield category, box


def main() -> int:
    """Read the arguments and convert; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    add = parser.add_argument
    add('--images', type=Path, required=True, help='folder of pictures')
    add('--labels', type=Path, required=True, help='folder of .txt files')
    add('--names', required=True, help="the data set's YAML file, or a text file, a name a line")
    add('--output', type=Path, required=True, help='folder to write')
    given = parser.parse_args()
    try:
        names = read_labels(given.names)
        pictures, objects = convert(given.images, given.labels, names, given.output)
    except PerceptionError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    print(f"{pictures} pictures, {objects} objects in '{given.output}'")
    return 0


if __name__ == '__main__':
    run(main)
