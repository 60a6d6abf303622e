# SPDX-License-Identifier: Apache-2.0
"""A short drive: the camera goes ahead, people walk, a truck moves; for sequences of pictures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from synthetic.bank import Bank
from synthetic.camera import Camera
from synthetic.objects.forklift import forklift
from synthetic.objects.person import Body
from synthetic.objects.thing import Thing
from synthetic.places import place
from synthetic.scene import Floor, Scene, furnish, random_camera

Rng = np.random.Generator
#: Pictures a second.
RATE = 30.0


class Drive:
    """One drive through one place.

    Attributes:
        bank: the textures.
    """

    def __init__(self, rng: Rng, bank: Bank, seconds: float) -> None:
        self.bank = bank
        self._speed = float(rng.uniform(0.5, 0.9))
        length = self._speed * seconds
        where = place(rng, bank)
        for _ in range(20):
            if where.free[3] > length + 8 and where.free[2] - where.free[0] > 3.5:
                break
            where = place(rng, bank)
        start = random_camera(rng)
        middle = (where.free[0] + where.free[2]) / 2
        self._start = replace(
            start,
            position=(middle, 0.0, max(0.7, start.position[2])),
            yaw=0.0,
            roll=0.3 * start.roll,
            pitch=max(0.02, start.pitch),
        )
        self._sway = rng.uniform(0, 2 * np.pi, 6)
        floor = Floor(where)
        for y in np.arange(0.0, length + 1.5, 0.5):
            floor.take(middle, y, 0.55, forced=True)
        self._walkers = []
        for _ in range(rng.integers(2, 4)):
            y, x = rng.uniform(0.7 * length, length + 6), rng.uniform(*where.free[0:3:2])
            side = -1 if x > middle else 1
            course = (side * rng.uniform(0.4, 0.9), rng.normal(-0.2, 0.3))
            self._walkers.append(
                (Body.random(rng, bank), np.array((x, y)), np.array(course), rng.random())
            )
        things = []
        self._truck: tuple[Thing, float, float] | None = None
        if where.free[2] - where.free[0] > 7.5:
            x = middle + rng.choice([-1, 1]) * 2.1
            for y in np.arange(2.0, length + 8, 1.0):
                floor.take(x, y, 1.3, forced=True)
            self._truck = (forklift(rng, bank, 24), x, length + 8)
        nearest = self._start
        for y in np.arange(0.0, length, 4.0):
            ahead = replace(nearest, position=(middle, float(y), nearest.position[2]))
            things += furnish(rng, bank, ahead, where, floor, 8)
        self._scene = Scene(where, tuple(things))

    def camera(self, seconds: float) -> Camera:
        """Where the camera is at a moment: on its way, rocking a little."""
        x, _, z = self._start.position
        sway, t = self._sway, seconds
        return replace(
            self._start,
            position=(
                x + 0.1 * float(np.sin(0.6 * t + sway[0])),
                self._speed * t,
                z + 0.004 * float(np.sin(9 * t + sway[1])),
            ),
            yaw=0.12 * float(np.sin(0.5 * t + sway[2])) + 0.002 * float(np.sin(11 * t + sway[3])),
            pitch=self._start.pitch + 0.006 * float(np.sin(4 * t + sway[4])),
            roll=self._start.roll + 0.008 * float(np.sin(3 * t + sway[5])),
        )

    def scene(self, seconds: float) -> Scene:
        """What stands where at that moment."""
        things = list(self._scene.things)
        left = self._scene.place.free[0] + 0.5
        span = self._scene.place.free[2] - 0.5 - left
        for body, start, course, phase in self._walkers:
            way, y = start + course * seconds
            at = (way - left) % (2 * span)  # to and fro between the walls
            x = left + min(at, 2 * span - at)
            heading = float(np.arctan2(course[0] if at > span else -course[0], course[1]))
            pose = body.walking(phase + float(np.hypot(*course)) * seconds / 1.3)
            things.append(Thing((('person', body.mesh(pose, 10)),), 0.4).placed(x, y, heading))
        if self._truck:
            truck, x, y = self._truck
            things.append(truck.placed(x, y - 0.5 * seconds, np.pi))
        return Scene(self._scene.place, tuple(things))
