# SPDX-License-Identifier: Apache-2.0
"""Where the robot is: halls, aisles between racks, corridors and yards."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthetic import lights
from synthetic.bank import Bank
from synthetic.mesh import Material, Mesh, box, boxes, faces, join, rotation
from synthetic.objects.board import panel
from synthetic.palette import any_color, around, grey, hsv, pick
from synthetic.shade import Light

Rng = np.random.Generator
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Place:
    """A place about the camera, which stands at the origin and looks along +y.

    Attributes:
        mesh: floor, walls and all that stands fast.
        ground: texture slot of the floor.
        free: x0, y0, x1, y1 where things can stand.
        walls: of the sides at x0 and x1 and the end at y1, (point, heading): places for boards.
        shelves: x, y, z of places on racks that a pallet fits into, lengthwise along y.
        light: of the place.
    """

    mesh: Mesh
    ground: int
    free: tuple[float, float, float, float]
    walls: tuple[tuple[float, float, float], ...]
    shelves: tuple[tuple[float, float, float], ...]
    light: Light


def place(rng: Rng, bank: Bank) -> Place:
    """A place of any kind."""
    kind = rng.choice(['hall', 'aisle', 'corridor', 'yard'], p=[0.33, 0.22, 0.12, 0.33])
    if kind == 'yard':
        return _yard(rng, bank)
    if kind == 'corridor':
        half, end, height = rng.uniform(1.3, 2.5), rng.uniform(6, 22), rng.uniform(2.5, 3.5)
    elif kind == 'aisle':
        half, end, height = rng.uniform(2.6, 4.0), rng.uniform(14, 34), rng.uniform(5, 9)
    else:
        half, end, height = rng.uniform(4, 14), rng.uniform(7, 30), rng.uniform(3.5, 9)
    off = rng.uniform(-0.5, 0.5) * half if kind != 'aisle' else rng.uniform(-0.2, 0.2) * half
    x0, x1 = off - half, off + half
    parts = [_ground(rng, bank, 'floor', x0 - 1, x1 + 1, -4, end + 1)]
    slot = int(parts[0].surface[0, 0])
    parts += _room(rng, bank, x0, x1, -4.0, end, height)
    parts += _markings(rng, bank, x0, x1, end)
    free = (x0, 0.7, x1, end)
    shelves: list[tuple[float, float, float]] = []
    if kind == 'aisle':
        deep = 1.1
        for x in (x0 + deep / 2, x1 - deep / 2):
            rack, spots = _rack(rng, bank, x, end, height, deep)
            parts.append(rack)
            shelves += spots
        free = (x0 + deep, 0.7, x1 - deep, end)
        walls: tuple[tuple[float, float, float], ...] = ((0.0, end, 0.0),)
    else:
        walls = ((x0, 0.0, np.pi / 2), (x1, 0.0, -np.pi / 2), (0.0, end, 0.0))
        parts += _on_walls(rng, bank, x0, x1, end, height)
    return Place(join(parts), slot, free, walls, tuple(shelves), lights.indoors(rng))


def _ground(rng: Rng, bank: Bank, kind: str, x0: float, x1: float, y0: float, y1: float) -> Mesh:
    floor = bank.of(rng, kind, around(rng, (0.85, 0.85, 0.85), 0.12), float(rng.uniform(1.6, 3.2)))
    plane = faces([[(x0, y0, 0), (x1, y0, 0), (x1, y1, 0), (x0, y1, 0)]], floor)
    return plane.shifted_texture(rng.random(2))


def _room(
    rng: Rng, bank: Bank, x0: float, x1: float, y0: float, y1: float, height: float
) -> list[Mesh]:
    wall = bank.of(rng, 'wall', around(rng, (0.85, 0.85, 0.85), 0.15), float(rng.uniform(1.5, 3.5)))
    low = wall._replace(color=around(rng, (0.5, 0.5, 0.5), 0.5)) if rng.random() < 0.4 else wall
    split = rng.uniform(0.8, 1.4)
    parts = []
    corners = [(x0, y0), (x0, y1), (x1, y1), (x1, y0)]
    for (ax, ay), (bx, by) in zip(corners, [*corners[1:], corners[0]], strict=True):
        for z0, z1, skin in ((0, split, low), (split, height, wall)):
            parts.append(faces([[(ax, ay, z0), (bx, by, z0), (bx, by, z1), (ax, ay, z1)]], skin))
    tone = grey(rng, 0.2, 0.85)
    ceiling = bank.of(rng, 'ribbed' if rng.random() < 0.6 else 'wall', tone, 2.5)
    parts.append(
        faces([[(x0, y0, height), (x0, y1, height), (x1, y1, height), (x1, y0, height)]], ceiling)
    )
    lamp = Material(around(rng, (0.95, 0.95, 0.9), 0.05), 0, 1.0, 0.0, float(rng.uniform(1.5, 4)))
    rows, every = max(1, int((x1 - x0) / rng.uniform(3, 6))), rng.uniform(2.5, 5)
    wide, long = (
        (rng.uniform(0.15, 0.3), rng.uniform(1.0, 2.4)) if rng.random() < 0.7 else (0.6, 0.6)
    )
    for i in range(rows):
        x = x0 + (x1 - x0) * (i + 0.5) / rows
        y = np.arange(1.0, y1 - 1, every)
        quads = [
            [
                (x - wide, b, height - 0.05),
                (x - wide, b + long, height - 0.05),
                (x + wide, b + long, height - 0.05),
                (x + wide, b, height - 0.05),
            ]
            for b in y
        ]
        if quads:
            parts.append(faces(quads, lamp))
    if height > 4 and rng.random() < 0.7:
        steel = Material(grey(rng, 0.1, 0.5))
        y = np.arange(2.0, y1, rng.uniform(3, 6))
        size = np.tile((x1 - x0, 0.2, 0.35), (len(y), 1))
        parts.append(
            boxes(
                np.stack((np.full(len(y), (x0 + x1) / 2), y, np.full(len(y), height - 0.4)), 1),
                size,
                steel,
            )
        )
    return parts


def _on_walls(rng: Rng, bank: Bank, x0: float, x1: float, end: float, height: float) -> list[Mesh]:
    """Doors, windows, signs, pipes."""
    parts = []
    for _ in range(rng.integers(1, 8)):
        what = rng.random()
        if what < 0.35:
            skin, size, base = (
                bank.of(rng, 'paint', any_color(rng), 2.0),
                (rng.uniform(0.9, 3.0), rng.uniform(2.0, 3.0)),
                0.0,
            )
        elif what < 0.6:
            pale = around(rng, (0.7, 0.78, 0.85), 0.2)
            skin, size, base = (
                Material(pale, 0, 1.0, 0.3, float(rng.uniform(0.5, 2))),
                rng.uniform(0.8, 2.2, 2),
                1.2,
            )
        else:
            skin, size, base = (
                bank.of(rng, 'sign', (0.9, 0.9, 0.9), 0),
                rng.uniform(0.3, 1.1, 2),
                rng.uniform(0.8, 2.0),
            )
        w, h = float(size[0]), min(float(size[1]), height - base - 0.2)
        if h < 0.2:
            continue
        sheet = join(panel(rng, skin, w, h, 0.05)).moved((0, 0, base + h / 2))
        parts.append(_against(rng, sheet, x0, x1, end, w))
    if rng.random() < 0.4:
        z = rng.uniform(1.8, max(2.0, height - 0.5))
        parts.append(
            boxes(
                (x0 + 0.1, end / 2 - 1, z), (0.12, end, 0.12), Material(any_color(rng), 0, 1.0, 0.3)
            )
        )
    return parts


def _against(rng: Rng, sheet: Mesh, x0: float, x1: float, end: float, width: float) -> Mesh:
    """A panel that faces -y, put onto one of three walls."""
    side = rng.integers(3)
    if side == 2 and x1 - x0 > width + 0.2:
        return sheet.moved((rng.uniform(x0 + width / 2, x1 - width / 2), end - 0.03, 0))
    y = rng.uniform(1.5, max(2.0, end - width / 2))
    if side == 0:
        return sheet.turned(rotation('z', np.pi / 2)).moved((x0 + 0.03, y, 0))
    return sheet.turned(rotation('z', -np.pi / 2)).moved((x1 - 0.03, y, 0))


def _markings(rng: Rng, bank: Bank, x0: float, x1: float, end: float) -> list[Mesh]:
    """Lines painted on the floor."""
    if rng.random() < 0.4:
        return []
    paint = bank.of(
        rng,
        'paint',
        pick(
            rng, (hsv(0.13, 0.9, 0.95), (0.85, 0.85, 0.85), hsv(0.0, 0.8, 0.7), hsv(0.6, 0.8, 0.6))
        ),
        2.5,
    )
    if rng.random() < 0.2:
        paint = bank.of(rng, 'stripes', (1, 1, 1), 0.4)
    w = rng.uniform(0.04, 0.09)
    quads = []
    for x in rng.uniform(x0 * 0.9, x1 * 0.9, rng.integers(1, 4)):
        quads.append(
            [(x - w, -4, 0.003), (x + w, -4, 0.003), (x + w, end, 0.003), (x - w, end, 0.003)]
        )
    for y in rng.uniform(1, end, rng.integers(0, 3)):
        quads.append(
            [(x0, y - w, 0.004), (x1, y - w, 0.004), (x1, y + w, 0.004), (x0, y + w, 0.004)]
        )
    return [faces(quads, paint)]


def _rack(
    rng: Rng, bank: Bank, x: float, end: float, height: float, deep: float
) -> tuple[Mesh, list[tuple[float, float, float]]]:
    """A pallet rack along the aisle, its shelves filled with cartons, and what is left empty."""
    bay, levels = rng.uniform(1.9, 2.8), int(rng.integers(2, 4))
    post = Material(
        pick(rng, (hsv(0.6, 0.8, 0.5), hsv(0.04, 0.9, 0.9), grey(rng, 0.2, 0.6))),
        bank.slots['paint'][0],
        2.0,
    )
    bar = Material(
        pick(rng, (hsv(0.05, 0.95, 0.95), hsv(0.13, 0.9, 0.9), grey(rng, 0.3, 0.7))),
        bank.slots['paint'][1],
        2.0,
    )
    pitch = rng.uniform(1.3, 1.7)
    tall = min(height - 0.3, pitch * levels + 1.0)
    bays = min(8, int((end - 0.5) / bay))
    centers, sizes, beams, widths = [], [], [], []
    for i in range(bays + 1):
        for s in (-1, 1):
            centers.append((x + s * deep * 0.45, 0.5 + i * bay, tall / 2))
            sizes.append((0.09, 0.09, tall))
    goods, spots = [], []
    for i in range(bays):
        middle = 0.5 + (i + 0.5) * bay
        for level in range(1, levels + 1):
            for s in (-1, 1):
                beams.append((x + s * deep * 0.45, middle, level * pitch))
                widths.append((0.05, bay - 0.09, 0.12))
        for level in range(levels):
            floor = level * pitch + (0.07 if level else 0.0)
            if rng.random() < 0.3:
                spots.append((x, middle, floor))
                continue
            y = middle - bay / 2 + 0.15
            while y < middle + bay / 2 - 0.35:
                w = min(rng.uniform(0.35, 1.1), middle + bay / 2 - 0.1 - y)
                if rng.random() < 0.8:
                    h = rng.uniform(0.3, pitch - 0.35)
                    skin = (
                        bank.of(rng, 'label', around(rng, (0.9, 0.9, 0.9), 0.25), 0)
                        if rng.random() < 0.65
                        else bank.of(rng, 'cloth', around(rng, any_color(rng), 0.2), 1.2, 0.2)
                    )
                    goods.append(
                        boxes((x, y + w / 2, floor + h / 2), (deep * 0.85, w * 0.95, h), skin)
                    )
                y += w + rng.uniform(0.02, 0.15)
    parts = [boxes(centers, sizes, post), *goods]
    if beams:
        parts.append(boxes(beams, widths, bar))
    return join(parts), spots


def _yard(rng: Rng, bank: Bank) -> Place:
    """Outdoors: a ground to the horizon, some buildings, containers, a fence."""
    parts = [_ground(rng, bank, 'ground', -90, 90, -5, 150)]
    slot = int(parts[0].surface[0, 0])
    half, end = rng.uniform(5, 14), rng.uniform(10, 30)
    walls: list[tuple[float, float, float]] = []
    if rng.random() < 0.6:
        skin = bank.of(
            rng, 'wall', around(rng, (0.85, 0.85, 0.85), 0.15), float(rng.uniform(2.0, 4.0))
        )
        parts.append(
            box(
                (rng.uniform(10, 60), 8, rng.uniform(3, 9)),
                skin,
                (rng.uniform(-15, 15), end + 4.2, 0),
            )
        )
        if abs(parts[-1].points[..., 0].mean()) < 4:
            walls.append((0.0, end + 0.2, 0.0))
    for side in (-1, 1):
        way = rng.random()
        if way < 0.3:
            for y in np.arange(rng.uniform(0, 6), end, 6.6):
                steel = bank.of(rng, 'ribbed', any_color(rng), 1.2)
                parts.append(box((2.4, 6.0, 2.6), steel, (side * (half + 1.4), y + 3, 0)))
                if rng.random() < 0.3:
                    parts.append(
                        box(
                            (2.4, 6.0, 2.6),
                            steel._replace(color=any_color(rng)),
                            (side * (half + 1.4), y + 3, 2.6),
                        )
                    )
        elif way < 0.5:
            skin = bank.of(
                rng, 'wall', around(rng, (0.85, 0.85, 0.85), 0.15), float(rng.uniform(2.0, 4.0))
            )
            parts.append(
                box(
                    (6, rng.uniform(8, 40), rng.uniform(2.5, 8)),
                    skin,
                    (side * (half + 3.2), rng.uniform(5, 20), 0),
                )
            )
        elif way < 0.7:
            rail = Material(grey(rng, 0.1, 0.7))
            y = np.arange(0, end + 4, 2.0)
            posts = np.stack((np.full(len(y), side * half), y, np.full(len(y), 0.9)), 1)
            parts.append(boxes(posts, np.tile((0.07, 0.07, 1.8), (len(y), 1)), rail))
            for z in (0.3, 0.8, 1.3, 1.75):
                parts.append(boxes((side * half, end / 2, z), (0.03, end + 8, 0.04), rail))
    if rng.random() < 0.4:
        parts += _markings(rng, bank, -half, half, end)
    return Place(join(parts), slot, (-half, 0.7, half, end), tuple(walls), (), lights.outdoors(rng))
