# SPDX-License-Identifier: Apache-2.0
"""Counterbalanced fork-lift trucks, sometimes with a driver or a load."""

from __future__ import annotations

import numpy as np

from synthetic.bank import Bank
from synthetic.mesh import Material, Mesh, beam, box, cylinder, extrude, join, rotation
from synthetic.objects import pallet as pallets
from synthetic.objects.person import Body
from synthetic.objects.thing import Thing
from synthetic.palette import around, grey, hsv, pick

Rng = np.random.Generator
_COLORS = (
    hsv(0.12, 0.9, 0.95),
    hsv(0.06, 0.9, 0.95),
    hsv(0.0, 0.85, 0.75),
    hsv(0.35, 0.7, 0.5),
    hsv(0.6, 0.75, 0.6),
    (0.6, 0.6, 0.58),
    hsv(0.17, 0.8, 0.8),
)


def forklift(rng: Rng, bank: Bank, detail: int) -> Thing:
    """A truck with its forks towards +y."""
    color = pick(rng, _COLORS)
    paint = bank.of(rng, 'paint', color, 1.4, float(rng.uniform(0.15, 0.5)))
    dark = bank.of(rng, 'paint', grey(rng, 0.03, 0.1), 1.4, 0.15)
    weight = paint if rng.random() < 0.4 else dark
    width, length = rng.uniform(0.95, 1.25), rng.uniform(1.7, 2.2)
    roof = rng.uniform(2.0, 2.25)
    front, rear = length / 2, -length / 2
    deck = rng.uniform(0.5, 0.62)
    parts = [
        box((width * 0.9, length * 0.62, deck - 0.18), paint, (0, front - length * 0.31, 0.18)),
        extrude(
            [
                (rear, 0.3),
                (rear + 0.12, 0.16),
                (rear + 0.75, 0.16),
                (rear + 0.75, 1.0),
                (rear + 0.25, 1.02),
                (rear, 0.8),
            ],
            width,
            weight,
        ),
        box((width * 0.75, 0.75, 1.0 - deck), paint, (0, rear + 0.95, deck)),
        box((0.5, 0.5, 0.12), dark, (0, rear + 0.95, 1.0)),
        box((0.5, 0.12, 0.5), dark, (0, rear + 0.68, 1.05)),
        box((width * 0.85, 0.2, 0.55), paint, (0, front - 0.22, deck)),
        beam((0, front - 0.3, deck + 0.4), (0, front - 0.55, 1.15), 0.06, 0.06, dark),
        cylinder(0.17, 0.03, dark, 10).turned(rotation('x', 0.5)).moved((0, front - 0.55, 1.15)),
    ]
    parts += _wheels(rng, width, front, rear, int(np.clip(detail, 8, 18)))
    parts += _guard(rng, width, front, rear, roof, dark if rng.random() < 0.7 else paint)
    lift = float(rng.choice([rng.uniform(0.04, 0.3), rng.uniform(0.3, 1.6)], p=[0.75, 0.25]))
    tall = rng.uniform(roof - 0.15, roof + 0.25)
    parts += _mast(rng, width, front + 0.18, tall, lift, dark)
    everything: list[tuple[str | None, Mesh]] = [('forklift', join(parts))]
    if rng.random() < 0.3:
        body = Body.random(rng, bank)
        driver = body.mesh(body.seated(rng), max(6, detail // 2)).moved((0, rear + 1.02, 1.12))
        everything.append(('person', driver))
    if rng.random() < 0.25:
        carried = pallets.pallet(rng, bank, detail)
        turn = rotation('z', np.pi / 2 * rng.integers(0, 2))
        if carried.radius > 0.5:
            everything += [
                (name, m.turned(turn).moved((0, front + 0.95, lift + 0.03)))
                for name, m in carried.parts
            ]
    return Thing(tuple(everything), length / 2 + 0.55)


def _wheels(rng: Rng, width: float, front: float, rear: float, segments: int) -> list[Mesh]:
    tyre = Material(grey(rng, 0.015, 0.04))
    rim = Material(
        pick(rng, ((0.7, 0.7, 0.7), (0.15, 0.15, 0.15), hsv(0.12, 0.8, 0.9))), 0, 1.0, 0.2
    )
    wheels = []
    for y, r, w in (
        (front - 0.3, rng.uniform(0.3, 0.36), 0.22),
        (rear + 0.4, rng.uniform(0.23, 0.28), 0.18),
    ):
        wheel = join(
            [
                cylinder(r, w, tyre, segments),
                cylinder(r * 0.55, w + 0.02, rim, segments).moved((0, 0, -0.01)),
            ]
        )
        axle = wheel.turned(rotation('y', np.pi / 2))
        for x in (-width / 2 - 0.02, width / 2 + 0.02 - w):
            wheels.append(axle.moved((x, y, r)))
    return wheels


def _guard(
    rng: Rng, width: float, front: float, rear: float, roof: float, bar: Material
) -> list[Mesh]:
    w = width * 0.42
    a, b = front - 0.2, rear + 0.45
    slant = rng.uniform(0.1, 0.35)
    parts = []
    for x in (-w, w):
        parts.append(beam((x, a, 0.6), (x, a - slant, roof), 0.06, 0.07, bar))
        parts.append(beam((x, b, 0.95), (x, b + 0.1, roof), 0.06, 0.07, bar))
        parts.append(beam((x, a - slant, roof), (x, b + 0.1, roof), 0.06, 0.06, bar))
    for y in np.linspace(b + 0.1, a - slant, int(rng.integers(4, 7))):
        parts.append(beam((-w, y, roof), (w, y, roof), 0.05, 0.05, bar))
    if rng.random() < 0.6:
        lamp = Material(
            pick(rng, (hsv(0.1, 0.9, 1.0), hsv(0.6, 0.9, 1.0))),
            0,
            1.0,
            0.3,
            float(rng.choice([0, 1.5])),
        )
        parts.append(cylinder(0.06, 0.12, lamp, 8).moved((w * 0.6, b + 0.15, roof + 0.03)))
    if rng.random() < 0.6:
        light = Material((0.9, 0.9, 0.85), 0, 1.0, 0.3, float(rng.choice([0, 3.0])))
        parts += [box((0.14, 0.08, 0.12), light, (x, a - slant * 0.5, roof - 0.3)) for x in (-w, w)]
    return parts


def _mast(rng: Rng, width: float, y: float, tall: float, lift: float, dark: Material) -> list[Mesh]:
    x = width * 0.28
    chrome = Material((0.5, 0.5, 0.5), 0, 1.0, 0.6)
    parts = [box((0.09, 0.14, tall - 0.06), dark, (s * x, y, 0.06)) for s in (-1, 1)]
    inner = max(tall - 0.1, lift + 1.0)
    parts += [box((0.06, 0.1, inner - 0.1), dark, (s * (x - 0.08), y, 0.1)) for s in (-1, 1)]
    parts += [box((2 * x, 0.05, 0.1), dark, (0, y, z)) for z in (0.12, tall * 0.55, tall - 0.12)]
    parts.append(cylinder(0.04, tall * 0.85, chrome, 8).moved((0, y, 0.1)))
    carriage = y + 0.1
    parts += [box((width * 0.85, 0.05, 0.12), dark, (0, carriage, lift + z)) for z in (0.05, 0.38)]
    if rng.random() < 0.7:
        parts += [
            box((0.03, 0.04, 1.0), dark, (s * width * 0.4, carriage, lift + 0.1))
            for s in (-1, -0.5, 0, 0.5, 1)
        ]
        parts.append(box((width * 0.85, 0.05, 0.05), dark, (0, carriage, lift + 1.08)))
    fork = Material(
        around(rng, (0.08, 0.08, 0.08) if rng.random() < 0.7 else (0.4, 0.4, 0.4)),
        dark.texture,
        1.0,
        0.2,
    )
    reach = rng.uniform(0.9, 1.15)
    for s in (-1, 1):
        gap = s * width * 0.25
        parts.append(box((0.11, 0.05, 0.5), fork, (gap, carriage + 0.05, lift)))
        parts.append(box((0.11, reach, 0.04), fork, (gap, carriage + reach / 2, lift)))
    return parts
