# SPDX-License-Identifier: Apache-2.0
"""The data set: batches of pictures, each from its own seed, on as many processes as wanted."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from synthetic import coco, effects
from synthetic.bank import Bank
from synthetic.drive import RATE, Drive
from synthetic.render import Label, render
from synthetic.scene import random_camera, random_scene

#: The splits; a picture's seed begins with the seed that was asked for and its split's number.
SPLITS = ('train', 'calibration', 'test')
_SEQUENCES = len(SPLITS)
#: Pictures that share one set of textures.
BATCH = 48

Item = tuple[str, list[Label]]


def split(
    folder: Path, name: str, count: int, seed: int, jobs: int, done: Callable[[int], None]
) -> list[Item]:
    """Render a split into ``folder``: ``images`` and ``instances.json``.

    The bytes do not depend on ``jobs``.
    """
    info = {'description': f'{coco.RENDERED}, split {name}, seed {seed}'}
    coco.begin(folder, info)
    images = folder / 'images'
    images.mkdir(exist_ok=True)
    batches = [range(start, min(count, start + BATCH)) for start in range(0, count, BATCH)]
    items = []
    for part in _spread(partial(_batch, images, name, seed), batches, jobs):
        items += part
        done(len(part))
    coco.write(folder / 'instances.json', items, info)
    return items


def sequence(
    folder: Path, number: int, frames: int, seed: int, jobs: int, done: Callable[[int], None]
) -> list[Item]:
    """Render a drive into ``folder``, pictures in order and ``instances.json``."""
    info = {'description': f'{coco.RENDERED} drive, seed {seed}', 'rate_hz': RATE}
    coco.begin(folder, info)
    pieces = [range(start, min(frames, start + 40)) for start in range(0, frames, 40)]
    items = []
    for part in _spread(partial(_piece, folder, number, seed, frames), pieces, jobs):
        items += part
        done(len(part))
    coco.write(folder / 'instances.json', items, info)
    return items


def _spread(
    work: Callable[[range], list[Item]], pieces: Sequence[range], jobs: int
) -> Iterator[list[Item]]:
    if min(jobs, len(pieces)) <= 1:
        yield from map(work, pieces)
        return
    context = multiprocessing.get_context('spawn')
    # Ctrl-C reaches them too, and ends them without a word.
    at_once = (signal.SIGINT, signal.SIG_DFL)
    with ProcessPoolExecutor(min(jobs, len(pieces)), context, signal.signal, at_once) as pool:
        yield from pool.map(work, pieces)


def _batch(images: Path, name: str, seed: int, numbers: range) -> list[Item]:
    cv2.setNumThreads(1)  # the processes already use every core
    key = (seed, SPLITS.index(name))
    bank = Bank(np.random.default_rng((*key, 0, numbers.start)), name)
    items = []
    for number in numbers:
        picture, labels, quality = one(np.random.default_rng((*key, 1, number)), bank)
        file = f'{number:06d}.jpg'
        _save(images / file, picture, quality)
        items.append((file, labels))
    return items


def one(rng: np.random.Generator, bank: Bank) -> tuple[NDArray[np.uint8], list[Label], int]:
    """One picture (RGB), what is in it, and the quality for its JPEG."""
    bank.new_board(rng)
    camera = random_camera(rng)
    rendered = render(random_scene(rng, bank, camera), camera, bank)
    sensor = effects.random_sensor(rng)
    gain = effects.exposure(rendered.light, sensor.level)
    return effects.develop(rendered.light, sensor, gain, bank, rng), rendered.labels, sensor.quality


def _piece(folder: Path, number: int, seed: int, frames: int, moments: range) -> list[Item]:
    cv2.setNumThreads(1)
    items = []
    for moment, (picture, labels, quality) in zip(
        moments, drive(number, frames, seed, moments), strict=True
    ):
        file = f'{moment:05d}.jpg'
        _save(folder / file, picture, quality)
        items.append((file, labels))
    return items


def drive(
    number: int, frames: int, seed: int, moments: Iterable[int]
) -> Iterator[tuple[NDArray[np.uint8], list[Label], int]]:
    """Some pictures (RGB) of a drive of so many, what is in each, and the quality for its JPEG."""
    rng = np.random.default_rng((seed, _SEQUENCES, number))
    # Drives are for showing the detector, so they are of the world that it was not trained in.
    way = Drive(rng, Bank(rng, 'test'), frames / RATE)
    sensor = effects.steady(effects.random_sensor(rng))
    first = render(way.scene(0), way.camera(0), way.bank, remove=False)
    gain = effects.exposure(first.light, sensor.level)
    for moment in moments:
        camera, scene = way.camera(moment / RATE), way.scene(moment / RATE)
        rendered = render(scene, camera, way.bank, remove=False)
        grain = np.random.default_rng((seed, _SEQUENCES, number, moment))
        picture = effects.develop(rendered.light, sensor, gain, way.bank, grain)
        yield picture, rendered.labels, sensor.quality


def _save(path: Path, picture: NDArray[np.uint8], quality: int) -> None:
    _, data = cv2.imencode('.jpg', picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    path.write_bytes(data.tobytes())
