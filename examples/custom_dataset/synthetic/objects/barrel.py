# SPDX-License-Identifier: Apache-2.0
"""Drums of steel and plastic, and casks; standing or lying."""

from __future__ import annotations

import numpy as np

from synthetic.bank import Bank
from synthetic.mesh import Material, Mesh, cylinder, join, revolve, rotation
from synthetic.objects.thing import Thing, of, on_ground
from synthetic.palette import any_color, around, hsv, pick

Rng = np.random.Generator


def barrel(rng: Rng, bank: Bank, detail: int) -> Thing:
    """One drum."""
    mesh = upright(rng, bank, detail)
    if rng.random() < 0.18:
        mesh = on_ground(mesh.turned(rotation('x', np.pi / 2)))
    return of('barrel', mesh)


def upright(rng: Rng, bank: Bank, detail: int) -> Mesh:
    """A drum that stands."""
    segments = int(np.clip(detail, 10, 26))
    kind = rng.random()
    make = _steel if kind < 0.6 else _plastic if kind < 0.9 else _cask
    mesh = make(rng, bank, segments)
    mesh = mesh.scaled(np.array((1, 1, rng.uniform(0.9, 1.08))) * rng.uniform(0.62, 1.05))
    return mesh.turned(rotation('z', rng.uniform(0, 2 * np.pi)))


def _steel(rng: Rng, bank: Bank, segments: int) -> Mesh:
    color = pick(
        rng,
        (
            hsv(0.6, 0.8, 0.65),
            hsv(0.0, 0.85, 0.7),
            hsv(0.13, 0.9, 0.9),
            hsv(0.35, 0.6, 0.5),
            (0.08, 0.08, 0.09),
            (0.6, 0.6, 0.6),
            hsv(0.05, 0.85, 0.8),
            any_color(rng),
        ),
        0.2,
    )
    skin = bank.of(rng, 'paint', color, float(rng.uniform(0.6, 2.0)), float(rng.uniform(0.1, 0.5)))
    r, h, hoop = 0.29, 0.88, 0.012
    second = skin._replace(color=around(rng, any_color(rng))) if rng.random() < 0.25 else skin
    profile = [(0, 0.02), (r - 0.015, 0.02), (r - 0.012, 0), (r, 0.0), (r, 0.26)]
    pieces = [skin] * 4
    for z in (0.28, 0.58):
        profile += [(r + hoop, z), (r + hoop, z + 0.02), (r, z + 0.04), (r, 0.56 if z < 0.5 else h)]
        pieces += [skin, skin, skin, second if z < 0.5 else skin]
    lid = skin._replace(color=around(rng, any_color(rng))) if rng.random() < 0.3 else skin
    profile += [(r - 0.012, h), (r - 0.015, h - 0.018), (0, h - 0.018)]
    pieces += [skin, skin, lid]
    # The last wall piece reaches the rim.
    parts = [revolve(profile, pieces, segments)]
    if segments > 14:
        bung = Material((0.3, 0.3, 0.3), 0, 1.0, 0.3)
        parts += [
            cylinder(s, 0.015, bung, 8).moved((x, 0, h - 0.018))
            for s, x in ((0.035, 0.19), (0.02, -0.2))
        ]
    return join(parts)


def _plastic(rng: Rng, bank: Bank, segments: int) -> Mesh:
    color = pick(
        rng,
        (
            hsv(0.6, 0.85, 0.7),
            hsv(0.6, 0.85, 0.5),
            (0.65, 0.66, 0.65),
            (0.04, 0.04, 0.05),
            hsv(0.13, 0.7, 0.8),
            hsv(0.04, 0.9, 0.85),
        ),
        0.2,
    )
    skin = bank.of(rng, 'paint', color, 1.6, float(rng.uniform(0.15, 0.5)))
    lid = skin._replace(color=around(rng, (0.05, 0.05, 0.05))) if rng.random() < 0.5 else skin
    top = rng.uniform(0.17, 0.27)
    profile = [
        (0, 0),
        (0.25, 0),
        (0.285, 0.04),
        (0.29, 0.2),
        (0.275, 0.23),
        (0.275, 0.25),
        (0.29, 0.28),
        (0.29, 0.66),
        (0.275, 0.69),
        (0.275, 0.71),
        (0.29, 0.74),
        (0.285, 0.8),
        (0.25, 0.86),
        (top, 0.87),
        (top, 0.94),
        (0, 0.94),
    ]
    pieces = [skin] * 13 + [lid] * 2
    return revolve(profile, pieces, segments)


def _cask(rng: Rng, bank: Bank, segments: int) -> Mesh:
    stave = bank.of(rng, 'wood', pick(rng, (hsv(0.08, 0.6, 0.6), hsv(0.07, 0.5, 0.42))), 0.5)
    hoop = Material(around(rng, (0.12, 0.11, 0.11), 0.3), 0, 1.0, 0.3)
    z = np.array((0.0, 0.08, 0.14, 0.27, 0.33, 0.56, 0.62, 0.75, 0.81, 0.89))
    r = 0.25 + 0.075 * (1 - ((z - 0.445) / 0.445) ** 2)
    profile = [
        (0, 0.03),
        (r[0] - 0.02, 0.03),
        *zip(r.tolist(), z.tolist(), strict=True),
        (r[-1] - 0.02, 0.86),
        (0, 0.86),
    ]
    pieces = [stave, stave, *([stave, hoop] * 4), stave, stave, stave]
    return revolve(profile, pieces, segments)
