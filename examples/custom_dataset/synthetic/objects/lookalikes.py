# SPDX-License-Identifier: Apache-2.0
"""What could be taken for one of the classes: the detector must learn the difference."""

from __future__ import annotations

import numpy as np

from synthetic.bank import Bank
from synthetic.mesh import (
    Material,
    ball,
    beam,
    box,
    boxes,
    cylinder,
    faces,
    join,
    limb,
    revolve,
    rotation,
)
from synthetic.objects.board import mounted, panel
from synthetic.objects.thing import Thing, of, on_ground
from synthetic.palette import any_color, around, grey, hsv, pick

Rng = np.random.Generator


def painted(rng: Rng, bank: Bank, gloss: float = 0.2) -> Material:
    """Paint of any colour."""
    return bank.of(rng, 'paint', any_color(rng), 1.3, gloss)


def crate(rng: Rng, bank: Bank, detail: int) -> Thing:
    """A wooden crate or box with battens: boards as in a pallet, but a body."""
    x, y, z = rng.uniform(0.5, 1.2), rng.uniform(0.4, 0.9), rng.uniform(0.35, 1.0)
    plank = bank.of(rng, 'wood', around(rng, hsv(0.095, 0.45, 0.75), 0.25), 0.8)
    parts = [box((x, y, z), plank.tinted(0.85))]
    for s in (-1, 1):
        for level in (0.06, z - 0.06):
            parts.append(boxes((0, s * y / 2, level), (x, 0.03, 0.09), plank))
        parts += [
            boxes((t * (x / 2 - 0.05), s * y / 2, z / 2), (0.09, 0.035, z), plank) for t in (-1, 1)
        ]
    return of(None, join(parts))


def bin_(rng: Rng, bank: Bank, detail: int) -> Thing:
    """A waste bin: round and tapered, or square on wheels."""
    skin = painted(rng, bank)
    if rng.random() < 0.5:
        r, h = rng.uniform(0.17, 0.28), rng.uniform(0.5, 0.85)
        lid = skin._replace(color=grey(rng, 0.02, 0.5))
        shape = [
            (0, 0),
            (r * 0.78, 0),
            (r, h),
            (r * 1.06, h),
            (r * 1.06, h + 0.05),
            (r * 0.6, h + 0.16),
            (0, h + 0.17),
        ]
        return of(
            None, revolve(shape, [skin, skin, lid, lid, lid, lid], int(np.clip(detail, 8, 18)))
        )
    low, high = np.array((0.2, 0.22)), np.array((0.28, 0.3))
    corner = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    foot, rim = (
        np.hstack((corner * low, np.full((4, 1), 0.03))),
        np.hstack((corner * high, np.full((4, 1), 0.95))),
    )
    walls = [(foot[i], foot[(i + 1) % 4], rim[(i + 1) % 4], rim[i]) for i in range(4)]
    wheel = cylinder(0.1, 0.05, Material((0.02, 0.02, 0.02)), 10).turned(rotation('y', np.pi / 2))
    lid_ = box((0.62, 0.66, 0.07), skin.tinted(0.8), (0, 0, 0.95))
    return of(
        None,
        join(
            [
                faces(walls, skin),
                lid_,
                wheel.moved((-0.25, 0.24, 0.1)),
                wheel.moved((0.2, 0.24, 0.1)),
            ]
        ),
    )


def bollard(rng: Rng, bank: Bank, detail: int) -> Thing:
    """A post: with bands, or a flexible orange one with a round foot."""
    r, h = rng.uniform(0.035, 0.11), rng.uniform(0.6, 1.2)
    colors = (
        hsv(0.04, 0.95, 1.0),
        hsv(0.13, 0.9, 0.95),
        (0.6, 0.6, 0.6),
        (0.05, 0.05, 0.05),
        hsv(0.0, 0.85, 0.8),
    )
    skin = Material(pick(rng, colors), 0, 1.0, 0.2)
    band = Material(
        pick(rng, ((0.85, 0.85, 0.85), hsv(0, 0.9, 0.7), (0.03, 0.03, 0.03))), 0, 1.0, 0.2
    )
    a = rng.uniform(0.55, 0.75) * h
    shape = [
        (0, 0),
        (r, 0),
        (r, a),
        (r, a + 0.1),
        (r, a + 0.15),
        (r, min(h, a + 0.25)),
        (r, h),
        (r * 0.6, h + r * 0.5),
        (0, h + r * 0.6),
    ]
    parts = [
        revolve(
            shape, [skin, skin, band, skin, band, skin, skin, skin], int(np.clip(detail, 6, 14))
        )
    ]
    if rng.random() < 0.5:
        parts.append(revolve([(0.22, 0), (0.2, 0.05), (r, 0.09)], Material((0.03, 0.03, 0.03)), 10))
    return of(None, join(parts))


def tank(rng: Rng, bank: Bank, detail: int) -> Thing:
    """A round tank, much larger than a barrel, or a caged square one."""
    if rng.random() < 0.4:
        white = Material((0.75, 0.76, 0.75), bank.slots['paint'][1], 1.4, 0.2)
        steel = Material((0.35, 0.35, 0.36), 0, 1.0, 0.3)
        parts = [
            box((1.0, 0.9, 0.9), white, (0, 0, 0.16)),
            box((1.05, 0.95, 0.1), steel, (0, 0, 0.06)),
        ]
        for t in np.linspace(-0.5, 0.5, 6):
            parts += [boxes((t, s * 0.47, 0.6), (0.02, 0.02, 0.95), steel) for s in (-1, 1)]
            parts += [boxes((s * 0.52, t * 0.9, 0.6), (0.02, 0.02, 0.95), steel) for s in (-1, 1)]
        for z in (0.3, 0.6, 0.9):
            parts += [boxes((0, s * 0.47, z), (1.04, 0.02, 0.03), steel) for s in (-1, 1)]
            parts += [boxes((s * 0.52, 0, z), (0.02, 0.95, 0.03), steel) for s in (-1, 1)]
        return of(None, join(parts))
    r, h = rng.uniform(0.55, 1.1), rng.uniform(1.4, 2.6)
    skin = painted(rng, bank, 0.3)
    shape = [(0, 0.25), (r * 0.9, 0.25), (r, 0.4), (r, h - 0.2), (r * 0.7, h), (0, h + 0.1)]
    legs = [
        boxes((r * 0.7 * a, r * 0.7 * b, 0.18), (0.1, 0.1, 0.36), skin.tinted(0.5))
        for a in (-1, 1)
        for b in (-1, 1)
    ]
    return of(None, join([revolve(shape, skin, int(np.clip(detail, 12, 24))), *legs]))


def gas_bottle(rng: Rng, bank: Bank, detail: int) -> Thing:
    """A slim gas cylinder."""
    r, h = rng.uniform(0.09, 0.16), rng.uniform(0.6, 1.5)
    skin = painted(rng, bank, 0.4)
    shape = [
        (0, 0),
        (r, 0),
        (r, h),
        (r * 0.8, h + r * 0.6),
        (r * 0.35, h + r),
        (r * 0.35, h + r + 0.1),
        (0, h + r + 0.1),
    ]
    top = skin._replace(color=any_color(rng))
    return of(None, revolve(shape, [skin, skin, top, top, top, top], int(np.clip(detail, 8, 14))))


def bucket(rng: Rng, bank: Bank, detail: int) -> Thing:
    """A bucket, or a paint can."""
    r = rng.uniform(0.12, 0.19)
    skin = Material(
        pick(rng, (hsv(0.04, 0.9, 0.95), (0.04, 0.04, 0.04), any_color(rng), (0.8, 0.8, 0.8))),
        0,
        1,
        0.2,
    )
    shape = [
        (0, 0),
        (r * 0.75, 0),
        (r, r * 2),
        (r * 1.07, r * 2),
        (r * 1.07, r * 2.1),
        (r * 0.95, r * 2.1),
        (0, r * 1.8),
    ]
    return of(None, revolve(shape, [*[skin] * 5, skin.tinted(0.4)], int(np.clip(detail, 8, 16))))


def bag(rng: Rng, bank: Bank, detail: int) -> Thing:
    """A full sack, often orange; some pointed like a cone."""
    colors = (
        hsv(0.045, 0.95, 1.0),
        hsv(0.045, 0.85, 0.9),
        (0.7, 0.68, 0.6),
        (0.02, 0.02, 0.025),
        any_color(rng),
    )
    skin = bank.of(rng, 'cloth', pick(rng, colors), 0.6, 0.1)
    r = rng.uniform(0.17, 0.38)
    shape = [
        (0, 0),
        (r * 0.8, 0),
        (r, r * 0.4),
        (r * 0.85, r * 0.9),
        (r * 0.35, r * 1.4),
        (r * 0.15, r * 1.6),
        (r * 0.25, r * 1.8),
    ]
    mesh = revolve(shape, skin, int(np.clip(detail, 7, 14)), smooth_along=True)
    wobble = 1 + 0.12 * np.sin(mesh.points[..., :1] * 17 + 3 * np.cos(mesh.points[..., 1:2] * 13))
    mesh = mesh._replace(
        points=mesh.points * np.concatenate((wobble, wobble, np.ones_like(wobble)), -1)
    )
    return of(None, mesh.scaled((1, rng.uniform(0.6, 1), rng.uniform(0.6, 1.3))))


def warning_stand(rng: Rng, bank: Bank, detail: int) -> Thing:
    """A folding sign for wet floors."""
    skin = Material(pick(rng, (hsv(0.14, 0.9, 0.98), hsv(0.05, 0.9, 0.98))), 0, 1, 0.2)
    sheet = join(
        panel(rng, skin if rng.random() < 0.5 else bank.of(rng, 'sign', skin.color, 0), 0.3, 0.62)
    )
    front = on_ground(sheet.turned(rotation('x', -0.25)))
    return of(
        None,
        join([front.moved((0, -0.09, 0)), front.turned(rotation('z', np.pi)).moved((0, 0.09, 0))]),
    )


def poster(rng: Rng, bank: Bank, detail: int) -> Thing:
    """A sign or a chequered board, put up as the fiducial boards are."""
    face = bank.of(
        rng, 'chess' if rng.random() < 0.45 else 'sign', around(rng, (0.92, 0.92, 0.92), 0.08), 0
    )
    side = rng.uniform(0.3, 1.0)
    return mounted(rng, panel(rng, face, side, side * rng.uniform(0.8, 1.4)), None)


def coat_rack(rng: Rng, bank: Bank, detail: int) -> Thing:
    """A coat on a stand: the trunk of a person, without one."""
    h = rng.uniform(1.4, 1.8)
    coat = (
        bank.of(rng, 'vest', (1, 1, 1), 0)
        if rng.random() < 0.4
        else bank.of(rng, 'cloth', any_color(rng), 0.6)
    )
    rod = Material(grey(rng, 0.02, 0.4))
    shape = [(0.2, h * 0.42), (0.19, h * 0.6), (0.2, h * 0.78), (0.17, h * 0.83), (0.04, h * 0.87)]
    parts = [
        revolve(shape, coat, 10, True).scaled((1, 0.55, 1)),
        cylinder(0.02, h, rod, 6),
        ball(0.035, rod, 6).moved((0, 0, h)),
    ]
    parts += [
        beam((0, 0, 0.1), (0.25 * np.cos(a), 0.25 * np.sin(a), 0), 0.03, 0.03, rod)
        for a in (0.3, 2.4, 4.5)
    ]
    if rng.random() < 0.6:
        parts += [
            limb((s * 0.18, 0, h * 0.8), (s * 0.24, 0.02, h * 0.5), 0.055, 0.04, coat, 7)
            for s in (-1, 1)
        ]
    return of(None, join(parts))


def pallet_jack(rng: Rng, bank: Bank, detail: int) -> Thing:
    """A hand pallet truck: forks and a handle, no truck."""
    skin = painted(rng, bank)
    parts = [box((0.16, 1.1, 0.06), skin, (s * 0.2, 0, 0.07)) for s in (-1, 1)]
    parts += [
        box((0.55, 0.2, 0.35), skin, (0, -0.6, 0.07)),
        beam((0, -0.7, 0.3), (0, -1.05, 1.15), 0.04, 0.04, skin),
    ]
    parts += [boxes((0, -1.06, 1.18), (0.32, 0.04, 0.04), Material((0.03, 0.03, 0.03)))]
    parts += [
        cylinder(0.09, 0.12, Material((0.05, 0.05, 0.05)), 10)
        .turned(rotation('y', np.pi / 2))
        .moved((-0.06, -0.68, 0.09))
    ]
    return of(None, join(parts))
