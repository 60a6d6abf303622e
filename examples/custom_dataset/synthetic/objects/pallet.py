# SPDX-License-Identifier: Apache-2.0
"""Pallets: of boards on bearers or blocks, or of plastic; flat, stacked, loaded or leaning."""

from __future__ import annotations

import numpy as np

from synthetic.bank import Bank
from synthetic.mesh import Material, Mesh, boxes, join, rotation
from synthetic.objects.barrel import upright
from synthetic.objects.thing import Thing, on_ground
from synthetic.palette import any_color, around, hsv, pick

Rng = np.random.Generator
_SIZES = ((1.2, 0.8), (1.2, 1.0), (1.1, 1.1), (1.0, 0.6), (0.8, 0.6))


def pallet(rng: Rng, bank: Bank, detail: int) -> Thing:
    """One pallet, bare or with a load; or two or three of a kind on each other."""
    length, width = _SIZES[rng.integers(len(_SIZES))]
    single = _plastic if rng.random() < 0.18 else _wooden
    mesh, height = single(rng, bank, length, width)
    way = rng.random()
    reach = float(np.hypot(length, width)) / 2
    if way < 0.12:  # on edge, leaning
        tilt = rng.uniform(1.15, 1.5)
        stood = mesh.turned(rotation('x', tilt)).turned(rotation('z', rng.choice([0, np.pi])))
        return Thing((('pallet', on_ground(stood)),), length / 2)
    parts: list[tuple[str | None, Mesh]] = [('pallet', mesh)]
    if way < 0.19:
        for level in range(1, int(rng.integers(2, 5))):
            askew = rotation('z', rng.normal(0, 0.03))
            upper = mesh if rng.random() < 0.5 else single(rng, bank, length, width)[0]
            parts.append(
                ('pallet', upper.turned(askew).moved((*rng.normal(0, 0.02, 2), level * height)))
            )
    elif way < 0.35:
        for x, y in rng.permutation(((-0.3, -0.2), (0.3, -0.2), (-0.3, 0.2), (0.3, 0.2)))[
            : rng.integers(1, 4)
        ]:
            drum = upright(rng, bank, min(detail, 14)).scaled((0.68, 0.68, 0.9))
            parts.append(('barrel', drum.moved((x * length, y * width, height))))
    elif way < 0.62:
        parts.append((None, load(rng, bank, length, width).moved((0, 0, height))))
    return Thing(tuple(parts), reach)


def load(rng: Rng, bank: Bank, length: float, width: float) -> Mesh:
    """Cartons, sacks or a wrapped block, as wide as the pallet or less."""
    if rng.random() < 0.3:
        film = bank.of(
            rng,
            'cloth',
            around(rng, any_color(rng) if rng.random() < 0.5 else (0.6, 0.62, 0.65)),
            1.5,
            0.3,
        )
        size = np.array((length, width, rng.uniform(0.3, 1.3))) * (
            rng.uniform(0.8, 1),
            rng.uniform(0.8, 1),
            1,
        )
        return boxes((0, 0, size[2] / 2), size, film)
    nx, ny, nz = int(rng.integers(1, 4)), int(rng.integers(1, 3)), int(rng.integers(1, 4))
    size = np.array((length / nx, width / ny, rng.uniform(0.18, 0.42)))
    index = np.stack(
        np.meshgrid(np.arange(nx), np.arange(ny), np.arange(nz), indexing='ij'), -1
    ).reshape(-1, 3)
    top = (index[:, 2] < nz - 1) | (rng.random(len(index)) < 0.75)
    index = index[top] if top.any() else index
    center = (index + 0.5) * size - np.array((length, width, 0)) / 2
    carton = bank.of(rng, 'label', around(rng, (0.9, 0.9, 0.9), 0.2), 0)
    mesh = boxes(
        center + rng.normal(0, 0.008, center.shape) * (1, 1, 0),
        np.tile(size * 0.97, (len(index), 1)),
        carton,
    )
    return mesh.faded(np.repeat(rng.uniform(0.75, 1.1, len(index)), 6))


def _wooden(rng: Rng, bank: Bank, length: float, width: float) -> tuple[Mesh, float]:
    fresh = (hsv(0.10, 0.42, 0.86), hsv(0.09, 0.5, 0.74), hsv(0.085, 0.3, 0.6), (0.36, 0.34, 0.31))
    color = pick(rng, fresh, 0.2)
    if rng.random() < 0.1:
        color = pick(rng, (hsv(0.6, 0.8, 0.7), hsv(0.0, 0.8, 0.6), hsv(0.35, 0.6, 0.5)))
    plank = bank.of(rng, 'wood', color, float(rng.uniform(0.6, 1.4)))
    thick, post = rng.uniform(0.018, 0.026), rng.uniform(0.075, 0.105)
    centers, sizes = [], []
    deck = int(rng.integers(5, 10)) if rng.random() < 0.8 else 4
    share = rng.uniform(0.55, 0.9)
    skipped = rng.integers(1, deck - 1) if rng.random() < 0.12 else -1
    block = rng.random() < 0.6
    low = thick if rng.random() < 0.85 else 0.0
    lift = low + post + (thick if block else 0)
    for i in range(deck):  # the deck's boards run along x
        wide = width * share / deck * (1.25 if i in (0, deck - 1) else 0.95)
        y = -width / 2 + wide / 2 + (width - wide) * i / (deck - 1)
        if i != skipped:
            centers.append((0, y, lift + thick / 2))
            sizes.append((length, wide, thick))
    rows = (-1, 0, 1)
    for i in rows:
        x = i * (length - 0.1) / 2
        if block:
            centers.append((x, 0, low + post + thick / 2))
            sizes.append((0.1, width, thick))
            for j in rows:
                centers.append((x, j * (width - 0.12) / 2, low + post / 2))
                sizes.append((0.1, 0.12, post))
        else:
            centers.append((x, 0, low + post / 2))
            sizes.append((rng.uniform(0.04, 0.06), width, post))
        if low:
            across = not block
            centers.append((0, i * (width - 0.1) / 2, low / 2) if across else (x, 0, low / 2))
            sizes.append((length, 0.1, thick) if across else (0.1, width, thick))
    mesh = boxes(np.array(centers), np.array(sizes), plank)
    tone = np.repeat(np.exp(rng.normal(0, 0.13, len(centers))), 6)
    return mesh.faded(tone).shifted_texture(rng.random((mesh.points.shape[0], 1, 2))), lift + thick


def _plastic(rng: Rng, bank: Bank, length: float, width: float) -> tuple[Mesh, float]:
    color = pick(
        rng,
        (
            hsv(0.6, 0.8, 0.55),
            (0.05, 0.05, 0.06),
            (0.25, 0.25, 0.26),
            hsv(0.35, 0.6, 0.45),
            hsv(0.02, 0.7, 0.5),
        ),
    )
    shell = Material(color, bank.slots['paint'][0], 1.2, 0.15)
    centers, sizes = [], []
    for i in range(n := int(rng.integers(8, 13))):
        wide = width / n
        centers.append((0, -width / 2 + wide * (i + 0.5), 0.135))
        sizes.append((length, wide * 0.72, 0.03))
    for i in (-1, 0, 1):
        centers.append((i * (length - 0.14) / 2, 0, 0.125))
        sizes.append((0.14, width, 0.025))
        centers.append((i * (length - 0.14) / 2, 0, 0.01))
        sizes.append((0.14, width, 0.02))
        for j in (-1, 0, 1):
            centers.append((i * (length - 0.14) / 2, j * (width - 0.14) / 2, 0.065))
            sizes.append((0.14, 0.14, 0.1))
    return join([boxes(np.array(centers), np.array(sizes), shell)]), 0.15
