# SPDX-License-Identifier: Apache-2.0
"""What is none of the classes, though much of it is like one: the detector must learn the difference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from synthetic.bank import Bank
from synthetic.mesh import Material, Mesh, ball, beam, box, boxes, cylinder, faces, join, limb, revolve, rotation
from synthetic.objects.board import mounted, panel
from synthetic.objects.pallet import load
from synthetic.objects.thing import Thing, of, on_ground
from synthetic.palette import any_color, around, grey, hsv, pick

Rng = np.random.Generator


def _paint(rng: Rng, bank: Bank, gloss: float = 0.2) -> Material:
    return bank.of(rng, 'paint', any_color(rng), 1.3, gloss)


def cartons(rng: Rng, bank: Bank, detail: int) -> Thing:
    """Cartons or a crate on the floor."""
    size = rng.uniform(0.25, 0.9, 3)
    return of(None, load(rng, bank, float(size[0]), float(size[1])).turned(rotation('z', rng.normal(0, 0.2))))


def crate(rng: Rng, bank: Bank, detail: int) -> Thing:
    """A wooden crate or box with battens: boards as in a pallet, but a body."""
    x, y, z = rng.uniform(0.5, 1.2), rng.uniform(0.4, 0.9), rng.uniform(0.35, 1.0)
    plank = bank.of(rng, 'wood', around(rng, hsv(0.095, 0.45, 0.75), 0.25), 0.8)
    parts = [box((x, y, z), plank.tinted(0.85))]
    for s in (-1, 1):
        for level in (0.06, z - 0.06):
            parts.append(boxes((0, s * y / 2, level), (x, 0.03, 0.09), plank))
        parts += [boxes((t * (x / 2 - 0.05), s * y / 2, z / 2), (0.09, 0.035, z), plank) for t in (-1, 1)]
    return of(None, join(parts))


def planks(rng: Rng, bank: Bank, detail: int) -> Thing:
    """A pile of sawn timber on the ground."""
    n, layers, length = int(rng.integers(3, 7)), int(rng.integers(2, 6)), rng.uniform(1.0, 2.2)
    plank = bank.of(rng, 'wood', around(rng, hsv(0.1, 0.4, 0.8), 0.25), 0.8)
    centers = [((i - n / 2) * 0.13, rng.normal(0, 0.04), 0.03 + 0.055 * k) for k in range(layers) for i in range(n)]
    mesh = boxes(np.array(centers), np.tile((0.12, length, 0.05), (len(centers), 1)), plank)
    return of(None, mesh.faded(np.repeat(np.exp(rng.normal(0, 0.12, len(centers))), 6)))


def bench(rng: Rng, bank: Bank, detail: int) -> Thing:
    """A bench of slats."""
    wood, leg = bank.of(rng, 'wood', around(rng, hsv(0.08, 0.5, 0.6), 0.3), 0.8), Material(grey(rng, 0.03, 0.3))
    length = rng.uniform(1.1, 1.8)
    slats = [(0, -0.18 + 0.12 * i, 0.44) for i in range(4)] + [(0, 0.24, 0.6 + 0.13 * i) for i in range(2)]
    sizes = [(length, 0.1, 0.03)] * 4 + [(length, 0.03, 0.1)] * 2
    legs = [(s * length * 0.4, y, 0.22) for s in (-1, 1) for y in (-0.15, 0.2)]
    return of(None, join([boxes(slats, sizes, wood), boxes(legs, [(0.06, 0.06, 0.44)] * 4, leg)]))


def bin_(rng: Rng, bank: Bank, detail: int) -> Thing:
    """A waste bin: round and tapered, or square on wheels."""
    skin = _paint(rng, bank)
    if rng.random() < 0.5:
        r, h = rng.uniform(0.17, 0.28), rng.uniform(0.5, 0.85)
        lid = skin._replace(color=grey(rng, 0.02, 0.5))
        shape = [(0, 0), (r * 0.78, 0), (r, h), (r * 1.06, h), (r * 1.06, h + 0.05), (r * 0.6, h + 0.16), (0, h + 0.17)]
        return of(None, revolve(shape, [skin, skin, lid, lid, lid, lid], int(np.clip(detail, 8, 18))))
    low, high = np.array((0.2, 0.22)), np.array((0.28, 0.3))
    corner = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    foot, rim = np.hstack((corner * low, np.full((4, 1), 0.03))), np.hstack((corner * high, np.full((4, 1), 0.95)))
    walls = [(foot[i], foot[(i + 1) % 4], rim[(i + 1) % 4], rim[i]) for i in range(4)]
    wheel = cylinder(0.1, 0.05, Material((0.02, 0.02, 0.02)), 10).turned(rotation('y', np.pi / 2))
    lid_ = box((0.62, 0.66, 0.07), skin.tinted(0.8), (0, 0, 0.95))
    return of(None, join([faces(walls, skin), lid_, wheel.moved((-0.25, 0.24, 0.1)), wheel.moved((0.2, 0.24, 0.1))]))


def bollard(rng: Rng, bank: Bank, detail: int) -> Thing:
    """A post: with bands, or a flexible orange one with a round foot."""
    r, h = rng.uniform(0.035, 0.11), rng.uniform(0.6, 1.2)
    colors = (hsv(0.04, 0.95, 1.0), hsv(0.13, 0.9, 0.95), (0.6, 0.6, 0.6), (0.05, 0.05, 0.05), hsv(0.0, 0.85, 0.8))
    skin = Material(pick(rng, colors), 0, 1.0, 0.2)
    band = Material(pick(rng, ((0.85, 0.85, 0.85), hsv(0, 0.9, 0.7), (0.03, 0.03, 0.03))), 0, 1.0, 0.2)
    a = rng.uniform(0.55, 0.75) * h
    shape = [(0, 0), (r, 0), (r, a), (r, a + 0.1), (r, a + 0.15), (r, min(h, a + 0.25)), (r, h), (r * 0.6, h + r * 0.5), (0, h + r * 0.6)]
    parts = [revolve(shape, [skin, skin, band, skin, band, skin, skin, skin], int(np.clip(detail, 6, 14)))]
    if rng.random() < 0.5:
        parts.append(revolve([(0.22, 0), (0.2, 0.05), (r, 0.09)], Material((0.03, 0.03, 0.03)), 10))
    return of(None, join(parts))


def column(rng: Rng, bank: Bank, detail: int) -> Thing:
    """A pillar of the building, round or square, with warning stripes at times."""
    h, r = 5.0, rng.uniform(0.13, 0.32)
    skin = bank.of(rng, 'concrete', grey(rng, 0.4, 0.9), 1.5)
    foot = bank.of(rng, 'stripes', (1, 1, 1), 0.6) if rng.random() < 0.5 else skin
    if rng.random() < 0.4:
        return of(None, revolve([(r, 0), (r, 1.1), (r, h)], [foot, skin], int(np.clip(detail, 10, 20))))
    return of(None, join([box((2 * r, 2 * r, 1.1), foot), box((2 * r, 2 * r, h - 1.1), skin, (0, 0, 1.1))]))


def tank(rng: Rng, bank: Bank, detail: int) -> Thing:
    """A round tank, much larger than a barrel, or a caged square one."""
    if rng.random() < 0.4:
        white = Material((0.75, 0.76, 0.75), bank.slots['paint'][1], 1.4, 0.2)
        steel = Material((0.35, 0.35, 0.36), 0, 1.0, 0.3)
        parts = [box((1.0, 0.9, 0.9), white, (0, 0, 0.16)), box((1.05, 0.95, 0.1), steel, (0, 0, 0.06))]
        for t in np.linspace(-0.5, 0.5, 6):
            parts += [boxes((t, s * 0.47, 0.6), (0.02, 0.02, 0.95), steel) for s in (-1, 1)]
            parts += [boxes((s * 0.52, t * 0.9, 0.6), (0.02, 0.02, 0.95), steel) for s in (-1, 1)]
        for z in (0.3, 0.6, 0.9):
            parts += [boxes((0, s * 0.47, z), (1.04, 0.02, 0.03), steel) for s in (-1, 1)]
            parts += [boxes((s * 0.52, 0, z), (0.02, 0.95, 0.03), steel) for s in (-1, 1)]
        return of(None, join(parts))
    r, h = rng.uniform(0.55, 1.1), rng.uniform(1.4, 2.6)
    skin = _paint(rng, bank, 0.3)
    shape = [(0, 0.25), (r * 0.9, 0.25), (r, 0.4), (r, h - 0.2), (r * 0.7, h), (0, h + 0.1)]
    legs = [boxes((r * 0.7 * a, r * 0.7 * b, 0.18), (0.1, 0.1, 0.36), skin.tinted(0.5)) for a in (-1, 1) for b in (-1, 1)]
    return of(None, join([revolve(shape, skin, int(np.clip(detail, 12, 24))), *legs]))


def spool(rng: Rng, bank: Bank, detail: int) -> Thing:
    """A cable drum of wood, on its rim or lying."""
    r, w = rng.uniform(0.35, 0.65), rng.uniform(0.4, 0.8)
    wood = bank.of(rng, 'wood', around(rng, hsv(0.09, 0.45, 0.7), 0.25), 0.9)
    cable = Material(pick(rng, ((0.03, 0.03, 0.03), hsv(0.05, 0.9, 0.9), any_color(rng))))
    segments = int(np.clip(detail, 10, 22))
    core = revolve([(r * 0.6, 0), (r * 0.6, w)], cable, segments)
    mesh = join([core, cylinder(r, 0.05, wood, segments), cylinder(r, 0.05, wood, segments).moved((0, 0, w))])
    return of(None, on_ground(mesh.turned(rotation('x', np.pi / 2))) if rng.random() < 0.7 else mesh)


def gas_bottle(rng: Rng, bank: Bank, detail: int) -> Thing:
    """A slim gas cylinder."""
    r, h = rng.uniform(0.09, 0.16), rng.uniform(0.6, 1.5)
    skin = _paint(rng, bank, 0.4)
    shape = [(0, 0), (r, 0), (r, h), (r * 0.8, h + r * 0.6), (r * 0.35, h + r), (r * 0.35, h + r + 0.1), (0, h + r + 0.1)]
    top = skin._replace(color=any_color(rng))
    return of(None, revolve(shape, [skin, skin, top, top, top, top], int(np.clip(detail, 8, 14))))


def bucket(rng: Rng, bank: Bank, detail: int) -> Thing:
    """A bucket, or a paint can."""
    r = rng.uniform(0.12, 0.19)
    skin = Material(pick(rng, (hsv(0.04, 0.9, 0.95), (0.04, 0.04, 0.04), any_color(rng), (0.8, 0.8, 0.8))), 0, 1, 0.2)
    shape = [(0, 0), (r * 0.75, 0), (r, r * 2), (r * 1.07, r * 2), (r * 1.07, r * 2.1), (r * 0.95, r * 2.1), (0, r * 1.8)]
    return of(None, revolve(shape, [*[skin] * 5, skin.tinted(0.4)], int(np.clip(detail, 8, 16))))


def bag(rng: Rng, bank: Bank, detail: int) -> Thing:
    """A full sack, often orange; some pointed like a cone."""
    colors = (hsv(0.045, 0.95, 1.0), hsv(0.045, 0.85, 0.9), (0.7, 0.68, 0.6), (0.02, 0.02, 0.025), any_color(rng))
    skin = bank.of(rng, 'cloth', pick(rng, colors), 0.6, 0.1)
    r = rng.uniform(0.17, 0.38)
    shape = [(0, 0), (r * 0.8, 0), (r, r * 0.4), (r * 0.85, r * 0.9), (r * 0.35, r * 1.4), (r * 0.15, r * 1.6), (r * 0.25, r * 1.8)]
    mesh = revolve(shape, skin, int(np.clip(detail, 7, 14)), smooth_along=True)
    wobble = 1 + 0.12 * np.sin(mesh.points[..., :1] * 17 + 3 * np.cos(mesh.points[..., 1:2] * 13))
    mesh = mesh._replace(points=mesh.points * np.concatenate((wobble, wobble, np.ones_like(wobble)), -1))
    return of(None, mesh.scaled((1, rng.uniform(0.6, 1), rng.uniform(0.6, 1.3))))


def heap(rng: Rng, bank: Bank, detail: int) -> Thing:
    """A heap of sand or rubble: a cone, but blunt and of earth."""
    r = rng.uniform(0.35, 1.0)
    skin = bank.of(rng, 'concrete', around(rng, hsv(rng.uniform(0.05, 0.12), rng.uniform(0.1, 0.6), 0.7), 0.3), 0.7)
    shape = [(r, 0), (r * 0.75, r * 0.2), (r * 0.35, r * 0.5), (r * 0.1, r * 0.6), (0, r * 0.62)]
    return of(None, revolve(shape, skin, 12, True).scaled((1, rng.uniform(0.7, 1.2), 1)))


def warning_stand(rng: Rng, bank: Bank, detail: int) -> Thing:
    """A folding sign for wet floors."""
    skin = Material(pick(rng, (hsv(0.14, 0.9, 0.98), hsv(0.05, 0.9, 0.98))), 0, 1, 0.2)
    sheet = join(panel(rng, skin if rng.random() < 0.5 else bank.of(rng, 'sign', skin.color, 0), 0.3, 0.62))
    front = on_ground(sheet.turned(rotation('x', -0.25)))
    return of(None, join([front.moved((0, -0.09, 0)), front.turned(rotation('z', np.pi)).moved((0, 0.09, 0))]))


def barrier(rng: Rng, bank: Bank, detail: int) -> Thing:
    """A barrier with red and white boards, or a concrete one."""
    length = rng.uniform(1.0, 2.0)
    if rng.random() < 0.4:
        skin = bank.of(rng, 'concrete', grey(rng, 0.4, 0.8), 1.2)
        low = np.array([(-0.3, 0), (0.3, 0), (0.25, 0.2), (0.1, 0.35), (0.08, 0.8), (-0.08, 0.8), (-0.1, 0.35), (-0.25, 0.2)])
        a, b = low[np.arange(8)], low[(np.arange(8) + 1) % 8]
        walls = [((length / 2, *p), (-length / 2, *p), (-length / 2, *q), (length / 2, *q)) for p, q in zip(a, b, strict=True)]
        return of(None, faces(walls, skin))
    stripes = bank.of(rng, 'stripes', (1, 1, 1), 0.35)
    leg = Material(grey(rng, 0.2, 0.7))
    parts = [boxes((0, 0, z), (length, 0.03, 0.17), stripes) for z in (0.4, 0.85)]
    parts += [boxes((s * length * 0.4, 0, 0.5), (0.05, 0.05, 1.0), leg) for s in (-1, 1)]
    parts += [boxes((s * length * 0.4, 0, 0.03), (0.06, 0.6, 0.06), leg) for s in (-1, 1)]
    return of(None, join(parts))


def poster(rng: Rng, bank: Bank, detail: int) -> Thing:
    """A sign or a chequered board, put up as the fiducial boards are."""
    face = bank.of(rng, 'chess' if rng.random() < 0.45 else 'sign', around(rng, (0.92, 0.92, 0.92), 0.08), 0)
    side = rng.uniform(0.3, 1.0)
    return mounted(rng, panel(rng, face, side, side * rng.uniform(0.8, 1.4)), None)


def coat_rack(rng: Rng, bank: Bank, detail: int) -> Thing:
    """A coat on a stand: the trunk of a person, without one."""
    h = rng.uniform(1.4, 1.8)
    coat = bank.of(rng, 'vest', (1, 1, 1), 0) if rng.random() < 0.4 else bank.of(rng, 'cloth', any_color(rng), 0.6)
    rod = Material(grey(rng, 0.02, 0.4))
    shape = [(0.2, h * 0.42), (0.19, h * 0.6), (0.2, h * 0.78), (0.17, h * 0.83), (0.04, h * 0.87)]
    parts = [revolve(shape, coat, 10, True).scaled((1, 0.55, 1)), cylinder(0.02, h, rod, 6), ball(0.035, rod, 6).moved((0, 0, h))]
    parts += [beam((0, 0, 0.1), (0.25 * np.cos(a), 0.25 * np.sin(a), 0), 0.03, 0.03, rod) for a in (0.3, 2.4, 4.5)]
    if rng.random() < 0.6:
        parts += [limb((s * 0.18, 0, h * 0.8), (s * 0.24, 0.02, h * 0.5), 0.055, 0.04, coat, 7) for s in (-1, 1)]
    return of(None, join(parts))


def pallet_jack(rng: Rng, bank: Bank, detail: int) -> Thing:
    """A hand pallet truck: forks and a handle, no truck."""
    skin = _paint(rng, bank)
    parts = [box((0.16, 1.1, 0.06), skin, (s * 0.2, 0, 0.07)) for s in (-1, 1)]
    parts += [box((0.55, 0.2, 0.35), skin, (0, -0.6, 0.07)), beam((0, -0.7, 0.3), (0, -1.05, 1.15), 0.04, 0.04, skin)]
    parts += [boxes((0, -1.06, 1.18), (0.32, 0.04, 0.04), Material((0.03, 0.03, 0.03)))]
    parts += [cylinder(0.09, 0.12, Material((0.05, 0.05, 0.05)), 10).turned(rotation('y', np.pi / 2)).moved((-0.06, -0.68, 0.09))]
    return of(None, join(parts))


def trolley(rng: Rng, bank: Bank, detail: int) -> Thing:
    """A cart with shelves, a cabinet or a machine: boxes of metal."""
    skin = _paint(rng, bank)
    x, y, z = rng.uniform(0.5, 1.1), rng.uniform(0.4, 0.8), rng.uniform(0.8, 1.9)
    if rng.random() < 0.5:
        front = bank.of(rng, 'sign', (0.8, 0.8, 0.8), 0)
        face = join(panel(rng, front, x * 0.6, z * 0.3)).moved((0, -y / 2 - 0.01, z * 0.65))
        return of(None, join([box((x, y, z), skin), face]))
    z = min(z, 1.1)
    parts = [boxes((0, 0, h), (x, y, 0.03), skin) for h in (0.15, z * 0.55, z)]
    parts += [boxes((s * x / 2, t * y / 2, z / 2 + 0.05), (0.03, 0.03, z), skin.tinted(0.6)) for s in (-1, 1) for t in (-1, 1)]
    return of(None, join(parts))


def plant(rng: Rng, bank: Bank, detail: int) -> Thing:
    """A bush, in a pot or not."""
    r = rng.uniform(0.25, 0.6)
    green = bank.of(rng, 'leaves', around(rng, (0.8, 0.8, 0.8), 0.3), 0.8)
    parts = [ball(r * rng.uniform(0.6, 1), green, 9).moved((*rng.normal(0, r * 0.3, 2), 0.4 + r * rng.uniform(0.6, 1.2))) for _ in range(3)]
    if rng.random() < 0.6:
        parts.append(revolve([(0, 0), (r * 0.5, 0), (r * 0.7, 0.45), (0, 0.42)], Material(any_color(rng)), 12))
    return of(None, join(parts))


def pipe(rng: Rng, bank: Bank, detail: int) -> Thing:
    """Pipes or rolls on the ground."""
    r, n = rng.uniform(0.05, 0.2), int(rng.integers(1, 5))
    skin = _paint(rng, bank)
    length = rng.uniform(1.2, 2.6)
    segments = int(np.clip(detail, 8, 16))
    one = revolve([(r * 0.8, 0), (r, 0), (r, length), (r * 0.8, length), (0, length - 0.02)], [*[skin] * 3, skin.tinted(0.1)], segments)
    lying = on_ground(one.turned(rotation('x', np.pi / 2)))
    return of(None, join([lying.moved(((i - n / 2) * 2.05 * r, rng.normal(0, 0.1), 0)) for i in range(n)]))


def ladder(rng: Rng, bank: Bank, detail: int) -> Thing:
    """A step ladder."""
    h, skin = rng.uniform(1.0, 1.9), Material(pick(rng, ((0.6, 0.6, 0.62), hsv(0.05, 0.9, 0.9), hsv(0.13, 0.9, 0.9))), 0, 1, 0.4)
    parts: list[Mesh] = []
    for s in (-1, 1):
        parts.append(beam((s * 0.27, -0.4, 0), (s * 0.18, 0, h), 0.05, 0.03, skin))
        parts.append(beam((s * 0.27, 0.4, 0), (s * 0.18, 0, h), 0.04, 0.03, skin))
    for t in np.linspace(0.2, 0.95, int(h / 0.25)):
        parts.append(boxes((0, -0.4 * (1 - t), t * h), (0.5 - 0.16 * t, 0.09, 0.03), skin))
    return of(None, join(parts))


#: All of them, with how often each comes.
CLUTTER: dict[Callable[[Rng, Bank, int], Thing], float] = {
    cartons: 1.5, crate: 1.2, planks: 1.0, bench: 0.7, bin_: 1.5, bollard: 1.5, column: 1.0, tank: 0.8, spool: 0.8,
    gas_bottle: 0.8, bucket: 1.2, bag: 1.5, heap: 0.6, warning_stand: 1.0, barrier: 1.0, poster: 2.0, coat_rack: 1.2,
    pallet_jack: 0.8, trolley: 1.2, plant: 0.8, pipe: 0.8, ladder: 0.6,
}  # fmt: skip


def clutter(rng: Rng, bank: Bank, detail: int) -> Thing:
    """Any of `CLUTTER`."""
    weights = np.array(list(CLUTTER.values()))
    make = list(CLUTTER)[rng.choice(len(weights), p=weights / weights.sum())]
    return make(rng, bank, detail)
