# SPDX-License-Identifier: Apache-2.0
"""Fiducial boards: on stands, flat on the ground, leaning, or to be hung on a wall."""

from __future__ import annotations

import numpy as np

from synthetic.bank import Bank
from synthetic.mesh import Material, Mesh, beam, faces, join, rotation
from synthetic.objects.thing import Thing
from synthetic.palette import around, grey

Rng = np.random.Generator


def panel(
    rng: Rng, face: Material, width: float, height: float, frame: float = 0.0
) -> tuple[Mesh, Mesh]:
    """A thin upright panel about the origin: its print, towards -y, and the rest of it."""
    w, h, d = width / 2, height / 2, rng.uniform(0.004, 0.02)
    back = Material(grey(rng, 0.1, 0.7))
    corners = np.array([(-w, -d, -h), (w, -d, -h), (w, -d, h), (-w, -d, h)])
    far = corners * (1, -1, 1)
    front = corners * ((w - frame) / w, 1, (h - frame) / h) - (0, 0.002 * (frame > 0), 0)
    sides = [(corners[i], far[i], far[(i + 1) % 4], corners[(i + 1) % 4]) for i in range(4)]
    rest = [far[[1, 0, 3, 2]], *map(np.array, sides)] + ([corners] if frame else [])
    return faces([front], face), faces(rest, back)


def printed(rng: Rng, bank: Bank) -> tuple[Mesh, Mesh]:
    """A board with markers, upright, its print towards -y."""
    face = bank.of(
        rng, 'board', around(rng, (0.92, 0.92, 0.92), 0.08), 0, float(rng.choice([0, 0.3]))
    )
    side = float(np.exp(rng.uniform(np.log(0.25), np.log(1.2))))
    return panel(rng, face, side, side * rng.choice([1, 1, rng.uniform(0.8, 1.25)]))


def board(rng: Rng, bank: Bank, detail: int) -> Thing:
    """A board on the ground: only the printed sheet bears the label, the stand is clutter."""
    return mounted(rng, printed(rng, bank), 'fiducial_board')


def mounted(rng: Rng, sheet: tuple[Mesh, Mesh], category: str | None) -> Thing:
    """A panel put up somehow; it faces -y."""
    height = float(np.ptp(sheet[1].points[..., 2]))
    width = float(np.ptp(sheet[1].points[..., 0]))
    names = (category, None)
    way = rng.random()
    if way < 0.15:
        turn = rotation('x', -np.pi / 2) @ rotation('y', rng.uniform(0, 2 * np.pi))
        return Thing(
            tuple(
                (n, m.turned(turn).moved((0, 0, 0.02))) for n, m in zip(names, sheet, strict=True)
            ),
            width,
        )
    turn = rotation(
        'y', rng.choice([0, rng.normal(0, 0.1), rng.uniform(0, 2 * np.pi)], p=[0.5, 0.3, 0.2])
    )
    if way < 0.35:
        turn = rotation('x', -rng.uniform(0.1, 0.5)) @ turn
        low = -min(float((m.points @ turn.T)[..., 2].min()) for m in sheet)
        return Thing(
            tuple(
                (n, m.turned(turn).moved((0, 0, low))) for n, m in zip(names, sheet, strict=True)
            ),
            max(width, height) / 2,
        )
    turn = rotation('x', rng.normal(0.0, 0.15)) @ turn
    middle = max(float(rng.uniform(0.5, 1.5)), height * 0.75)
    raised = tuple(
        (n, m.turned(turn).moved((0, 0, middle))) for n, m in zip(names, sheet, strict=True)
    )
    rod = Material(grey(rng, 0.03, 0.5), 0, 1.0, 0.3)
    back = 0.05
    stand = [beam((0, back, middle), (0, back, 0.4 * middle), 0.035, 0.035, rod)]
    if rng.random() < 0.5:
        for angle in np.array((0.5, 2.6, 4.7)):
            foot = (0.4 * np.cos(angle), back + 0.4 * np.sin(angle), 0.0)
            stand.append(beam((0, back, 0.55 * middle), foot, 0.025, 0.025, rod))
    else:
        stand.append(beam((0, back, 0.45 * middle), (0, back, 0), 0.035, 0.035, rod))
        stand += [beam((-0.3, back, 0.02), (0.3, back, 0.02), 0.05, 0.04, rod)]
        stand += [beam((0, back - 0.25, 0.02), (0, back + 0.25, 0.02), 0.05, 0.04, rod)]
    return Thing((*raised, (None, join(stand))), max(0.4, width / 2))
