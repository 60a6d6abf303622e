# SPDX-License-Identifier: Apache-2.0
"""What stands about and is none of the classes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from synthetic.bank import Bank
from synthetic.mesh import (
    Material,
    Mesh,
    ball,
    beam,
    box,
    boxes,
    cylinder,
    faces,
    join,
    revolve,
    rotation,
)
from synthetic.objects.board import panel
from synthetic.objects.lookalikes import (
    bag,
    bin_,
    bollard,
    bucket,
    coat_rack,
    crate,
    gas_bottle,
    painted,
    pallet_jack,
    poster,
    tank,
    warning_stand,
)
from synthetic.objects.pallet import load
from synthetic.objects.thing import Thing, of, on_ground
from synthetic.palette import any_color, around, grey, hsv, pick

Rng = np.random.Generator


def cartons(rng: Rng, bank: Bank, detail: int) -> Thing:
    """Cartons or a crate on the floor."""
    size = rng.uniform(0.25, 0.9, 3)
    return of(
        None,
        load(rng, bank, float(size[0]), float(size[1])).turned(rotation('z', rng.normal(0, 0.2))),
    )


def planks(rng: Rng, bank: Bank, detail: int) -> Thing:
    """A pile of sawn timber on the ground."""
    n, layers, length = int(rng.integers(3, 7)), int(rng.integers(2, 6)), rng.uniform(1.0, 2.2)
    plank = bank.of(rng, 'wood', around(rng, hsv(0.1, 0.4, 0.8), 0.25), 0.8)
    centers = [
        ((i - n / 2) * 0.13, rng.normal(0, 0.04), 0.03 + 0.055 * k)
        for k in range(layers)
        for i in range(n)
    ]
    mesh = boxes(np.array(centers), np.tile((0.12, length, 0.05), (len(centers), 1)), plank)
    return of(None, mesh.faded(np.repeat(np.exp(rng.normal(0, 0.12, len(centers))), 6)))


def bench(rng: Rng, bank: Bank, detail: int) -> Thing:
    """A bench of slats."""
    wood, leg = (
        bank.of(rng, 'wood', around(rng, hsv(0.08, 0.5, 0.6), 0.3), 0.8),
        Material(grey(rng, 0.03, 0.3)),
    )
    length = rng.uniform(1.1, 1.8)
    slats = [(0, -0.18 + 0.12 * i, 0.44) for i in range(4)] + [
        (0, 0.24, 0.6 + 0.13 * i) for i in range(2)
    ]
    sizes = [(length, 0.1, 0.03)] * 4 + [(length, 0.03, 0.1)] * 2
    legs = [(s * length * 0.4, y, 0.22) for s in (-1, 1) for y in (-0.15, 0.2)]
    return of(None, join([boxes(slats, sizes, wood), boxes(legs, [(0.06, 0.06, 0.44)] * 4, leg)]))


def column(rng: Rng, bank: Bank, detail: int) -> Thing:
    """A pillar of the building, round or square, with warning stripes at times."""
    h, r = 5.0, rng.uniform(0.13, 0.32)
    skin = bank.of(rng, 'concrete', grey(rng, 0.4, 0.9), 1.5)
    foot = bank.of(rng, 'stripes', (1, 1, 1), 0.6) if rng.random() < 0.5 else skin
    if rng.random() < 0.4:
        return of(
            None, revolve([(r, 0), (r, 1.1), (r, h)], [foot, skin], int(np.clip(detail, 10, 20)))
        )
    return of(
        None,
        join([box((2 * r, 2 * r, 1.1), foot), box((2 * r, 2 * r, h - 1.1), skin, (0, 0, 1.1))]),
    )


def spool(rng: Rng, bank: Bank, detail: int) -> Thing:
    """A cable drum of wood, on its rim or lying."""
    r, w = rng.uniform(0.35, 0.65), rng.uniform(0.4, 0.8)
    wood = bank.of(rng, 'wood', around(rng, hsv(0.09, 0.45, 0.7), 0.25), 0.9)
    cable = Material(pick(rng, ((0.03, 0.03, 0.03), hsv(0.05, 0.9, 0.9), any_color(rng))))
    segments = int(np.clip(detail, 10, 22))
    core = revolve([(r * 0.6, 0), (r * 0.6, w)], cable, segments)
    mesh = join(
        [
            core,
            cylinder(r, 0.05, wood, segments),
            cylinder(r, 0.05, wood, segments).moved((0, 0, w)),
        ]
    )
    return of(
        None, on_ground(mesh.turned(rotation('x', np.pi / 2))) if rng.random() < 0.7 else mesh
    )


def heap(rng: Rng, bank: Bank, detail: int) -> Thing:
    """A heap of sand or rubble: a cone, but blunt and of earth."""
    r = rng.uniform(0.35, 1.0)
    skin = bank.of(
        rng,
        'concrete',
        around(rng, hsv(rng.uniform(0.05, 0.12), rng.uniform(0.1, 0.6), 0.7), 0.3),
        0.7,
    )
    shape = [(r, 0), (r * 0.75, r * 0.2), (r * 0.35, r * 0.5), (r * 0.1, r * 0.6), (0, r * 0.62)]
    return of(None, revolve(shape, skin, 12, True).scaled((1, rng.uniform(0.7, 1.2), 1)))


def barrier(rng: Rng, bank: Bank, detail: int) -> Thing:
    """A barrier with red and white boards, or a concrete one."""
    length = rng.uniform(1.0, 2.0)
    if rng.random() < 0.4:
        skin = bank.of(rng, 'concrete', grey(rng, 0.4, 0.8), 1.2)
        low = np.array(
            [
                (-0.3, 0),
                (0.3, 0),
                (0.25, 0.2),
                (0.1, 0.35),
                (0.08, 0.8),
                (-0.08, 0.8),
                (-0.1, 0.35),
                (-0.25, 0.2),
            ]
        )
        a, b = low[np.arange(8)], low[(np.arange(8) + 1) % 8]
        walls = [
            ((length / 2, *p), (-length / 2, *p), (-length / 2, *q), (length / 2, *q))
            for p, q in zip(a, b, strict=True)
        ]
        return of(None, faces(walls, skin))
    stripes = bank.of(rng, 'stripes', (1, 1, 1), 0.35)
    leg = Material(grey(rng, 0.2, 0.7))
    parts = [boxes((0, 0, z), (length, 0.03, 0.17), stripes) for z in (0.4, 0.85)]
    parts += [boxes((s * length * 0.4, 0, 0.5), (0.05, 0.05, 1.0), leg) for s in (-1, 1)]
    parts += [boxes((s * length * 0.4, 0, 0.03), (0.06, 0.6, 0.06), leg) for s in (-1, 1)]
    return of(None, join(parts))


def trolley(rng: Rng, bank: Bank, detail: int) -> Thing:
    """A cart with shelves, a cabinet or a machine: boxes of metal."""
    skin = painted(rng, bank)
    x, y, z = rng.uniform(0.5, 1.1), rng.uniform(0.4, 0.8), rng.uniform(0.8, 1.9)
    if rng.random() < 0.5:
        front = bank.of(rng, 'sign', (0.8, 0.8, 0.8), 0)
        face = join(panel(rng, front, x * 0.6, z * 0.3)).moved((0, -y / 2 - 0.01, z * 0.65))
        return of(None, join([box((x, y, z), skin), face]))
    z = min(z, 1.1)
    parts = [boxes((0, 0, h), (x, y, 0.03), skin) for h in (0.15, z * 0.55, z)]
    parts += [
        boxes((s * x / 2, t * y / 2, z / 2 + 0.05), (0.03, 0.03, z), skin.tinted(0.6))
        for s in (-1, 1)
        for t in (-1, 1)
    ]
    return of(None, join(parts))


def plant(rng: Rng, bank: Bank, detail: int) -> Thing:
    """A bush, in a pot or not."""
    r = rng.uniform(0.25, 0.6)
    green = bank.of(rng, 'leaves', around(rng, (0.8, 0.8, 0.8), 0.3), 0.8)
    parts = [
        ball(r * rng.uniform(0.6, 1), green, 9).moved(
            (*rng.normal(0, r * 0.3, 2), 0.4 + r * rng.uniform(0.6, 1.2))
        )
        for _ in range(3)
    ]
    if rng.random() < 0.6:
        parts.append(
            revolve(
                [(0, 0), (r * 0.5, 0), (r * 0.7, 0.45), (0, 0.42)], Material(any_color(rng)), 12
            )
        )
    return of(None, join(parts))


def pipe(rng: Rng, bank: Bank, detail: int) -> Thing:
    """Pipes or rolls on the ground."""
    r, n = rng.uniform(0.05, 0.2), int(rng.integers(1, 5))
    skin = painted(rng, bank)
    length = rng.uniform(1.2, 2.6)
    segments = int(np.clip(detail, 8, 16))
    one = revolve(
        [(r * 0.8, 0), (r, 0), (r, length), (r * 0.8, length), (0, length - 0.02)],
        [*[skin] * 3, skin.tinted(0.1)],
        segments,
    )
    lying = on_ground(one.turned(rotation('x', np.pi / 2)))
    return of(
        None, join([lying.moved(((i - n / 2) * 2.05 * r, rng.normal(0, 0.1), 0)) for i in range(n)])
    )


def ladder(rng: Rng, bank: Bank, detail: int) -> Thing:
    """A step ladder."""
    h, skin = (
        rng.uniform(1.0, 1.9),
        Material(
            pick(rng, ((0.6, 0.6, 0.62), hsv(0.05, 0.9, 0.9), hsv(0.13, 0.9, 0.9))), 0, 1, 0.4
        ),
    )
    parts: list[Mesh] = []
    for s in (-1, 1):
        parts.append(beam((s * 0.27, -0.4, 0), (s * 0.18, 0, h), 0.05, 0.03, skin))
        parts.append(beam((s * 0.27, 0.4, 0), (s * 0.18, 0, h), 0.04, 0.03, skin))
    for t in np.linspace(0.2, 0.95, int(h / 0.25)):
        parts.append(boxes((0, -0.4 * (1 - t), t * h), (0.5 - 0.16 * t, 0.09, 0.03), skin))
    return of(None, join(parts))


#: All of them, with how often each comes.
CLUTTER: dict[Callable[[Rng, Bank, int], Thing], float] = {
    cartons: 1.5,
    crate: 1.2,
    planks: 1.0,
    bench: 0.7,
    bin_: 1.5,
    bollard: 1.5,
    column: 1.0,
    tank: 0.8,
    spool: 0.8,
    gas_bottle: 0.8,
    bucket: 1.2,
    bag: 1.5,
    heap: 0.6,
    warning_stand: 1.0,
    barrier: 1.0,
    poster: 2.0,
    coat_rack: 1.2,
    pallet_jack: 0.8,
    trolley: 1.2,
    plant: 0.8,
    pipe: 0.8,
    ladder: 0.6,
}


def clutter(rng: Rng, bank: Bank, detail: int) -> Thing:
    """Any of `CLUTTER`."""
    weights = np.array(list(CLUTTER.values()))
    make = list(CLUTTER)[rng.choice(len(weights), p=weights / weights.sum())]
    return make(rng, bank, detail)
