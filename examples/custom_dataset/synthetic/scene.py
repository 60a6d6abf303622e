# SPDX-License-Identifier: Apache-2.0
"""What stands where before the camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synthetic.bank import Bank
from synthetic.camera import WIDTH, Camera
from synthetic.mesh import rotation
from synthetic.objects import CATEGORIES, MAKERS
from synthetic.objects.board import printed
from synthetic.objects.clutter import clutter
from synthetic.objects.thing import Thing
from synthetic.places import Place, place

Rng = np.random.Generator
#: How often each class is asked for; forklifts bring pallets and persons along.
_SHARES = (0.18, 0.16, 0.16, 0.18, 0.20, 0.12)
#: Metres that decide how far away a thing of a given size in the picture stands.
_EXTENT = {
    'pallet': 1.1,
    'barrel': 0.8,
    'traffic_cone': 0.6,
    'person': 1.7,
    'fiducial_board': 0.6,
    'forklift': 2.2,
}


@dataclass(frozen=True)
class Scene:
    """A place and the things in it, before a camera at the origin."""

    place: Place
    things: tuple[Thing, ...]


def random_camera(rng: Rng) -> Camera:
    """A camera on a robot, from knee to head height."""
    low, high = ((0.25, 0.6), (0.6, 1.2), (1.2, 2.1))[rng.choice(3, p=[0.35, 0.4, 0.25])]
    height = rng.uniform(low, high)
    roll = rng.normal(0, np.radians(2.5)) if rng.random() < 0.9 else rng.uniform(-0.3, 0.3)
    view = np.radians(rng.uniform(55, 100))
    pitch = np.radians(rng.uniform(-7, 12) + 9 * min(height, 1.6))
    bend = rng.uniform(0.02, 0.25) if rng.random() < 0.35 else 0.0
    focal = WIDTH / 2 / np.tan(view / 2)
    return Camera((0.0, 0.0, height), rng.normal(0, 0.12), pitch, roll, focal, bend)


class Floor:
    """Who stands where: nobody within another."""

    def __init__(self, place_: Place) -> None:
        self.free = place_.free
        self._taken: list[tuple[float, float, float]] = [(0.0, 0.0, 0.4)]

    def take(self, x: float, y: float, radius: float, forced: bool = False) -> bool:
        """Whether there was room (or it does not matter); then there is none any more."""
        x0, y0, x1, y1 = self.free
        if forced:
            self._taken.append((x, y, radius))
            return True
        if not (x0 + radius < x < x1 - radius and y0 + radius < y < y1 - radius):
            return False
        if any(np.hypot(x - a, y - b) < 0.95 * (radius + r) for a, b, r in self._taken):
            return False
        self._taken.append((x, y, radius))
        return True


def random_scene(rng: Rng, bank: Bank, camera: Camera) -> Scene:
    """A place with some things of the classes and some that are none."""
    where = place(rng, bank)
    wanted = 0 if rng.random() < 0.04 else 1 + min(13, int(rng.poisson(6)))
    return Scene(where, tuple(furnish(rng, bank, camera, where, Floor(where), wanted)))


def furnish(
    rng: Rng, bank: Bank, camera: Camera, where: Place, floor: Floor, wanted: int
) -> list[Thing]:
    """About so many things of the classes, and clutter."""
    things: list[Thing] = []
    # The largest first, while there is room.
    for kind in sorted(rng.choice(len(CATEGORIES), wanted, p=_SHARES), reverse=True):
        category = CATEGORIES[kind]
        if category == 'fiducial_board' and where.walls and rng.random() < 0.4:
            things.append(_on_wall(rng, bank, camera, where))
            continue
        pixels = np.exp(rng.uniform(np.log(22), np.log(340)))
        first = MAKERS[category](rng, bank, int(pixels / 7) + 6)
        for _ in range(4):
            spot = _spot(rng, camera, floor, _EXTENT[category] * camera.focal / pixels)
            if placed := _stand(rng, floor, things, first, spot, category):
                break
        if not placed:
            continue
        if category not in ('forklift', 'fiducial_board') and rng.random() < 0.3:  # company
            for _ in range(rng.integers(1, 4)):
                other = MAKERS[category](rng, bank, int(pixels / 7) + 6)
                away = rng.uniform(1.0, 1.6) * (first.radius + other.radius)
                angle = rng.uniform(0, 2 * np.pi)
                near = (spot[0] + away * np.cos(angle), spot[1] + away * np.sin(angle))
                _stand(rng, floor, things, other, near, category)
    for x, y, z in where.shelves:
        if y > 1.5 and rng.random() < 0.2:
            stored = MAKERS['pallet'](rng, bank, 10)
            if stored.radius > 0.5:
                things.append(stored.placed(x, y + rng.normal(0, 0.1), np.pi / 2, z))
    for _ in range(2 + rng.poisson(4)):
        far = np.exp(rng.uniform(np.log(1.2), np.log(18)))
        spot = _spot(rng, camera, floor, far)
        _stand(rng, floor, things, clutter(rng, bank, int(60 / far) + 6), spot, None)
    return things


def _spot(rng: Rng, camera: Camera, floor: Floor, distance: float) -> tuple[float, float]:
    """A point of the floor in the view, about that far away."""
    x0, y0, _ = camera.position
    ahead = float(np.clip(distance, 1.0, floor.free[3] - y0 - 0.6))
    half = WIDTH / 2 / camera.focal
    return x0 + ahead * float(np.tan(camera.yaw) + rng.uniform(-1.05, 1.05) * half), y0 + ahead


def _stand(
    rng: Rng,
    floor: Floor,
    things: list[Thing],
    thing: Thing,
    spot: tuple[float, float],
    category: str | None,
) -> bool:
    x, y = spot
    if y < thing.radius + 0.75 or not floor.take(x, y, thing.radius):
        return False
    heading = float(rng.uniform(0, 2 * np.pi))
    if category == 'fiducial_board' or (
        category is None and rng.random() < 0.5
    ):  # mostly seen from the front
        heading = float(np.arctan2(-x, y) + rng.normal(0, 0.6))
    things.append(thing.placed(x, y, heading))
    return True


def _on_wall(rng: Rng, bank: Bank, camera: Camera, where: Place) -> Thing:
    x, y, heading = where.walls[rng.integers(len(where.walls))]
    x0, _, x1, y1 = where.free
    half = WIDTH / 2 / camera.focal
    cx, cy, _ = camera.position
    if heading:
        nearest = cy + abs(x - cx) / half
        y = float(rng.uniform(min(nearest, y1 - 0.7), y1 - 0.6))
    else:
        reach = (y - cy) * half
        x = float(np.clip(cx + rng.uniform(-reach, reach), x0 + 0.6, x1 - 0.6))
    turn = rotation('z', heading) @ rotation('y', rng.normal(0, 0.06))
    sheet = printed(rng, bank)
    away = rotation('z', heading) @ np.array((0, -0.035, 0))
    at = np.array((x, y, rng.uniform(0.5, 2.2))) + away
    front, rest = (m.turned(turn).moved(at) for m in sheet)
    return Thing((('fiducial_board', front), (None, rest)), 0.0)
