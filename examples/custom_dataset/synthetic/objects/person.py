# SPDX-License-Identifier: Apache-2.0
"""People: a body of round limbs, dressed, in the poses of a working day."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthetic.bank import Bank
from synthetic.mesh import Material, Mesh, ball, box, join, limb, revolve, rotation
from synthetic.objects.thing import Thing, radius
from synthetic.palette import any_color, around, hsv, pick

Rng = np.random.Generator
Array = NDArray[np.float64]
_SKIN = (
    (0.62, 0.40, 0.30),
    (0.50, 0.30, 0.20),
    (0.35, 0.20, 0.12),
    (0.20, 0.11, 0.07),
    (0.10, 0.055, 0.04),
)


@dataclass(frozen=True)
class Pose:
    """Angles in radians; forward is positive. Pairs are left, right.

    Attributes:
        lean: of the trunk.
        hips, knees: of the thigh from the trunk's foot, and how far the knee is bent.
        spread: of the legs, sideways.
        shoulders, elbows: of the upper arm from hanging, and how far the elbow is bent.
        abduction: of the arms, sideways.
        turn: of the head.
    """

    lean: float
    hips: tuple[float, float]
    knees: tuple[float, float]
    spread: float
    shoulders: tuple[float, float]
    elbows: tuple[float, float]
    abduction: tuple[float, float]
    turn: float = 0.0


@dataclass(frozen=True)
class Body:
    """One person's build and clothes, for any pose."""

    height: float
    girth: float
    skin: Material
    shirt: Material
    trousers: Material
    shoes: Material
    hair: Material
    helmet: Material | None
    sleeves: float
    coat: Material | None
    pack: Material | None

    @classmethod
    def random(cls, rng: Rng, bank: Bank) -> Body:
        """Somebody."""
        shirt = bank.of(rng, 'cloth', any_color(rng), 0.7)
        if rng.random() < 0.3:
            shirt = bank.of(rng, 'vest', (1, 1, 1), 0)
        dark = (
            (0.02, 0.025, 0.05),
            (0.05, 0.07, 0.14),
            (0.03, 0.03, 0.03),
            (0.2, 0.17, 0.12),
            (0.12, 0.13, 0.1),
        )
        trousers = bank.of(
            rng, 'cloth', pick(rng, dark, 0.3) if rng.random() < 0.7 else any_color(rng), 0.7
        )
        hats = (hsv(0.13, 0.9, 0.95), (0.8, 0.8, 0.8), hsv(0.6, 0.8, 0.7), hsv(0.02, 0.9, 0.8))
        hair = ((0.02, 0.015, 0.01), (0.09, 0.05, 0.03), (0.35, 0.24, 0.12), (0.4, 0.4, 0.4))
        coat = any_color(rng) if rng.random() < 0.2 else None
        return cls(
            height=float(rng.normal(1.72, 0.09)),
            girth=float(np.exp(rng.normal(0.05, 0.13))),
            skin=Material(pick(rng, _SKIN)),
            shirt=shirt,
            trousers=trousers,
            shoes=Material(pick(rng, ((0.02, 0.02, 0.02), (0.1, 0.06, 0.03), (0.6, 0.6, 0.6)))),
            hair=Material(pick(rng, hair)),
            helmet=Material(pick(rng, hats), 0, 1.0, 0.4) if rng.random() < 0.45 else None,
            sleeves=float(rng.choice([0.5, 1.5, 2.0])),
            coat=shirt._replace(color=coat) if coat and shirt.size else None,
            pack=bank.of(rng, 'cloth', any_color(rng), 0.5) if rng.random() < 0.12 else None,
        )

    def walking(self, phase: float, stride: float = 0.5) -> Pose:
        """A moment of a walk; a phase of 1 is two steps."""
        swing = stride * np.sin(2 * np.pi * phase)
        bend = [
            0.15 + 0.75 * stride * max(0.0, float(np.sin(2 * np.pi * (phase + s))))
            for s in (0.25, 0.75)
        ]
        return Pose(
            0.06, (float(swing), float(-swing)), (bend[0], bend[1]), 0.03,
            (float(-0.8 * swing), float(0.8 * swing)), (0.35, 0.35), (0.12, 0.12),
        )  # fmt: skip

    def seated(self, rng: Rng) -> Pose:
        """On a seat, hands ahead."""
        return Pose(
            float(rng.uniform(-0.1, 0.15)), (1.45, 1.45), (1.3, 1.3), 0.12,
            (float(rng.uniform(0.5, 0.9)), float(rng.uniform(0.5, 0.9))), (0.6, 0.7), (0.15, 0.15),
            float(rng.normal(0, 0.3)),
        )  # fmt: skip

    def random_pose(self, rng: Rng) -> Pose:
        """Standing, walking, reaching, carrying, bending down or squatting."""
        kind = rng.random()
        near = tuple(rng.normal(0, 0.12, 2).tolist())
        turn = float(rng.normal(0, 0.4))
        if kind < 0.35:
            return self.walking(float(rng.random()), float(rng.uniform(0.3, 0.6)))
        if kind < 0.6:
            arms = tuple(rng.uniform(0, 1.9, 2).tolist()) if rng.random() < 0.4 else (0.3, 0.3)
            return Pose(
                0.02,
                near,
                (0.08, 0.08),
                0.08,
                near,
                arms,
                tuple(rng.uniform(0.05, 0.3, 2).tolist()),
                turn,
            )
        if kind < 0.75:
            up = tuple(rng.uniform(0.8, 2.7, 2).tolist())
            side = tuple(rng.uniform(0.05, 1.0, 2).tolist())
            return Pose(
                0.05, near, (0.1, 0.1), 0.1, up, tuple(rng.uniform(0, 0.8, 2).tolist()), side, turn
            )
        if kind < 0.88:
            lean = float(rng.uniform(0.6, 1.3))
            reach = float(rng.uniform(0.3, 1.4))
            return Pose(
                lean,
                (lean * 0.25 + near[0], near[1]),
                (0.3, 0.3),
                0.12,
                (reach, reach),
                (0.2, 0.3),
                (0.15, 0.15),
                turn,
            )
        deep = float(rng.uniform(1.3, 1.9))
        return Pose(
            float(rng.uniform(0.2, 0.6)),
            (deep, deep * rng.uniform(0.2, 1.0)),
            (deep + 0.35, deep * 1.1),
            0.2,
            (0.9, 0.9),
            (0.6, 0.6),
            (0.2, 0.2),
            turn,
        )

    def mesh(self, pose: Pose, segments: int = 8) -> Mesh:
        """The body with the middle of its hips over the origin, standing at z = 0 unless seated."""
        h, g = self.height, self.girth
        thigh, shin, trunk = 0.245 * h, 0.246 * h, 0.30 * h
        upper, fore = 0.175 * h, 0.15 * h
        tilt = rotation('x', -pose.lean)
        parts = []
        for side, hip, knee in zip((-1, 1), pose.hips, pose.knees, strict=True):
            joint = np.array((side * 0.052 * h, 0, 0))
            kneecap = joint + thigh * _down(hip, side * pose.spread)
            heel = kneecap + shin * _down(hip - knee, side * pose.spread)
            parts.append(
                limb(joint, kneecap, 0.050 * h * g, 0.036 * h * g, self.trousers, segments)
            )
            parts.append(limb(kneecap, heel, 0.035 * h * g, 0.024 * h, self.trousers, segments))
            sole = rotation('x', float(np.clip(hip - knee, -0.9, 0.4)))
            shoe = box((0.05 * h, 0.15 * h, 0.045 * h), self.shoes, (0, 0.035 * h, -0.045 * h))
            parts.append(shoe.turned(sole).moved(heel))
        top = self.coat or self.shirt
        profile = [
            (0.0, -0.06 * h),
            (0.075 * h, -0.05 * h),
            (0.088 * h * g, 0.02 * h),
            (0.082 * h * g, 0.1 * h),
            (0.105 * h, 0.24 * h),
            (0.09 * h, 0.285 * h),
            (0.035 * h, 0.31 * h),
            (0.0, 0.315 * h),
        ]
        torso = revolve(profile, top, segments + 2, smooth_along=True).scaled((1.0, 0.62, 1.0))
        parts.append(torso.turned(tilt))
        if self.coat:
            skirt = [(0.12 * h * g, -0.22 * h), (0.09 * h * g, 0.05 * h)]
            parts.append(revolve(skirt, top, segments + 2).scaled((1, 0.75, 1)).turned(tilt))
        if self.pack:
            parts.append(
                box((0.17 * h, 0.1 * h, 0.24 * h), self.pack, (0, -0.11 * h, 0.05 * h)).turned(tilt)
            )
        for side, shoulder, elbow, out in zip(
            (-1, 1), pose.shoulders, pose.elbows, pose.abduction, strict=True
        ):
            joint = tilt @ np.array((side * 0.105 * h, 0, trunk * 0.93))
            bend = joint + upper * _down(shoulder, side * out)
            hand = bend + fore * _down(shoulder + elbow, side * out * 0.5)
            sleeve = top if self.sleeves > 0.4 else self.skin
            parts.append(limb(joint, bend, 0.031 * h * g, 0.025 * h, sleeve, segments))
            lower = top if self.sleeves > 1 else self.skin
            parts.append(limb(bend, hand, 0.024 * h, 0.018 * h, lower, segments))
            parts.append(
                ball(0.027 * h, self.skin, 6)
                .scaled((0.8, 1, 1.2))
                .moved(hand + 0.02 * h * _down(shoulder + elbow, 0))
            )
        parts.append(self._head(h, pose, segments, tilt))
        return _stand(join(parts), seated=min(pose.hips) > 1.2 and pose.spread == 0.12)

    def _head(self, h: float, pose: Pose, segments: int, tilt: Array) -> Mesh:
        neck = limb((0, 0, 0.29 * h), (0, 0.01 * h, 0.35 * h), 0.03 * h, 0.03 * h, self.skin, 6)
        face = (
            ball(0.062 * h, self.skin, segments + 2)
            .scaled((0.82, 0.95, 1.1))
            .moved((0, 0.012 * h, 0.405 * h))
        )
        parts = [neck, face]
        if self.helmet:
            dome = [
                (0.072 * h, 0),
                (0.074 * h, 0.02 * h),
                (0.06 * h, 0.055 * h),
                (0.03 * h, 0.075 * h),
                (0.0, 0.08 * h),
            ]
            parts.append(
                revolve(dome, self.helmet, segments + 2, True)
                .scaled((1, 1.12, 1))
                .moved((0, 0.008 * h, 0.425 * h))
            )
            brim = box((0.1 * h, 0.06 * h, 0.008 * h), self.helmet, (0, 0.085 * h, 0.425 * h))
            parts.append(brim)
        else:
            parts.append(
                ball(0.064 * h, self.hair, segments + 2)
                .scaled((0.88, 0.95, 1.0))
                .moved((0, -0.006 * h, 0.42 * h))
            )
        head = join(parts)
        return head.turned(rotation('z', pose.turn)).turned(rotation('x', -pose.lean * 0.5)).moved(
            (tilt - rotation('x', -pose.lean * 0.5)) @ np.array((0, 0, 0.31 * h))
        )  # fmt: skip


def _down(forward: float, side: float) -> Array:
    """Unit vector of a limb that hangs, swung forward and to a side."""
    return np.array((np.sin(side), np.sin(forward) * np.cos(side), -np.cos(forward) * np.cos(side)))


def _stand(mesh: Mesh, seated: bool) -> Mesh:
    return mesh if seated else mesh.moved((0, 0, -mesh.points[..., 2].min()))


def person(rng: Rng, bank: Bank, detail: int) -> Thing:
    """Somebody, alone, perhaps with a carton in their arms."""
    body = Body.random(rng, bank)
    pose = body.random_pose(rng)
    parts: list[tuple[str | None, Mesh]] = []
    if rng.random() < 0.1:
        pose = Pose(-0.05, (0.1, -0.1), (0.1, 0.1), 0.06, (0.5, 0.5), (1.0, 1.0), (0.1, 0.1))
        size = rng.uniform(0.25, 0.45, 3)
        carton = box(size, bank.of(rng, 'label', around(rng, (0.9, 0.9, 0.9)), 0))
        parts.append((None, carton.moved((0, 0.2 + size[1] / 2, 0.62 * body.height))))
    mesh = body.mesh(pose, int(np.clip(detail // 2, 6, 12)))
    return Thing((('person', mesh), *parts), max(0.3, min(radius(mesh), 0.5)))
