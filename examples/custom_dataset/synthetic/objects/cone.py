# SPDX-License-Identifier: Apache-2.0
"""Traffic cones."""

from __future__ import annotations

import numpy as np

from synthetic.bank import Bank
from synthetic.mesh import Material, box, join, revolve, rotation
from synthetic.objects.thing import Thing, of, on_ground
from synthetic.palette import hsv, pick

Rng = np.random.Generator


def cone(rng: Rng, bank: Bank, detail: int) -> Thing:
    """One cone: square foot, none to three bands; standing, seldom lying or squashed."""
    segments = int(np.clip(detail, 8, 20))
    colors = (
        hsv(0.04, 0.95, 1.0),
        hsv(0.055, 0.9, 0.95),
        hsv(0.02, 0.9, 0.85),
        hsv(0.04, 0.95, 1.0),
    )
    color = pick(rng, colors, 0.15)
    if rng.random() < 0.2:
        color = pick(
            rng,
            (hsv(0.14, 0.9, 0.95), hsv(0.0, 0.9, 0.75), hsv(0.22, 0.8, 0.85), hsv(0.6, 0.8, 0.7)),
        )
    skin = bank.of(rng, 'paint', color, 1.5, 0.1)
    band = Material(pick(rng, ((0.8, 0.8, 0.8), (0.6, 0.62, 0.65))), skin.texture, 1.5, 0.2)
    height = float(rng.uniform(0.28, 0.95))
    foot, top = height * rng.uniform(0.2, 0.27), height * rng.uniform(0.025, 0.06)
    start = 0.04 * height

    def radius(t: float) -> float:
        return foot * 0.82 + (top - foot * 0.82) * t

    count = int(rng.choice([0, 1, 2, 3], p=[0.15, 0.35, 0.4, 0.1]))
    cuts = [0.0]
    low = rng.uniform(0.3, 0.45)
    for _ in range(count):
        high = low + rng.uniform(0.1, 0.2)
        cuts += [low, min(high, 0.97)]
        low = high + rng.uniform(0.07, 0.16)
        if low > 0.8:
            break
    cuts.append(1.0)
    profile = [(radius(t), start + t * (height - start)) for t in cuts]
    pieces = [band if i % 2 else skin for i in range(len(cuts) - 1)]
    profile.append((0.0, profile[-1][1]))
    hole = Material((0.02, 0.02, 0.02))
    body = revolve(profile, [*pieces, hole], segments)
    dark = skin if rng.random() < 0.7 else Material((0.03, 0.03, 0.03), skin.texture)
    mesh = join([body, box((2 * foot, 2 * foot, start), dark)])
    if rng.random() < 0.1:
        mesh = mesh.scaled((1.15, 0.8, rng.uniform(0.75, 0.95)))
    if rng.random() < 0.1:
        fallen = mesh.turned(rotation('z', rng.uniform(0, 2 * np.pi))).turned(
            rotation('x', np.pi / 2 - 0.2)
        )
        mesh = on_ground(fallen)
    return of('traffic_cone', mesh)
