# SPDX-License-Identifier: Apache-2.0
"""From a scene to a picture and to what of each thing is seen in it."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from synthetic.bank import Bank
from synthetic.camera import Camera
from synthetic.mesh import Mesh, join
from synthetic.raster import Buffer, Polygons, in_camera
from synthetic.scene import Scene
from synthetic.shade import ShadowMap, contact_map, shade

#: A thing of which less than this share is seen is taken away, or left without a label.
VISIBLE = 0.6
#: The least longer and shorter side of a box, and the least area that is seen, pixels.
LONG, SHORT, AREA = 12.0, 8.0, 120.0


class Label(NamedTuple):
    """One thing as it is seen.

    Attributes:
        category: name of its class.
        box: x, y, width, height of what is seen, pixels of the picture.
        area: pixels of it that are seen.
        visible: seen share of the whole, what is outside of the picture included.
    """

    category: str
    box: tuple[float, float, float, float]
    area: float
    visible: float


class Rendered(NamedTuple):
    """A picture before the lens.

    Attributes:
        light: (height, width, 3) float32, linear, finer than the picture.
        labels: what is to be found in it.
        owner: (height, width) int32, the label of each rendered pixel, from 1; 0 is none.
    """

    light: NDArray[np.float32]
    labels: list[Label]
    owner: NDArray[np.int32]


def render(scene: Scene, camera: Camera, bank: Bank, remove: bool = True) -> Rendered:
    """Draw a scene.

    Args:
        remove: take away things that are hardly seen, so that nothing in the picture is both
            there and without a label. Otherwise they stay and only have none.
    """
    meshes: list[Mesh] = [scene.place.mesh]
    names: list[str | None] = [None]
    carriers: list[int] = [-1]
    for number, thing in enumerate(scene.things):
        for name, part in thing.parts:
            meshes.append(part)
            names.append(name)
            carriers.append(number)
    counts = [m.points.shape[0] for m in meshes]
    part_of = np.repeat(np.arange(len(meshes)), counts)
    mesh = join(meshes)
    polygons, forms = in_camera(mesh, camera)
    buffer = Buffer(*camera.size)
    buffer.draw(polygons)

    owner = _owners(buffer, part_of, camera)
    whole = _whole_areas(polygons, part_of, len(meshes))
    labels = _labels(owner, names, whole, camera)
    gone = np.zeros(len(meshes), bool)
    if remove:
        for k, name in enumerate(names):
            # What stands on a thing, or holds it, goes with it.
            follows = k > 0 and gone[k - 1] and carriers[k] == carriers[k - 1]
            gone[k] = follows or (name is not None and k not in labels)
        if gone.any():
            _take_away(buffer, polygons, part_of, gone)
            owner = _owners(buffer, part_of, camera)
            labels = _labels(
                owner, [None if g else n for n, g in zip(names, gone, strict=True)], whole, camera
            )
    kept = join([m for m, g in zip(meshes, gone, strict=True) if not g])
    shadow = ShadowMap(kept, scene.place.light, camera)
    contact = contact_map([m for m, g in zip(meshes[1:], gone[1:], strict=True) if not g], camera)
    light = shade(
        buffer, mesh, forms, camera, scene.place.light, bank, shadow, contact, scene.place.ground
    )
    number = np.zeros(len(meshes), np.int32)
    number[list(labels)] = np.arange(1, len(labels) + 1)
    return Rendered(camera.through_lens(light), list(labels.values()), number[owner])


def _owners(buffer: Buffer, part_of: NDArray[np.int64], camera: Camera) -> NDArray[np.uint16]:
    """The part that each pixel shows; 0, the place, also where there is nothing."""
    parts = np.append(part_of, 0).astype(np.uint16)  # face -1 is the last
    return camera.through_lens(np.take(parts, buffer.face, mode='wrap'))


def _whole_areas(polygons: Polygons, part_of: NDArray[np.int64], parts: int) -> NDArray[np.float64]:
    """Rendered pixels of each part if it were alone in a picture without end; 0 if unseen."""
    areas = np.zeros(parts)
    part = part_of[polygons.face]
    side = 56
    for k in range(1, parts):
        mine = np.flatnonzero(part == k)
        if not mine.size:
            continue
        corners = polygons.corners[mine]
        low = corners.min(axis=(0, 1))
        extent = np.maximum(corners.max(axis=(0, 1)) - low, 1e-3)
        mask = np.zeros((side, side), np.uint8)
        for outline in np.rint((corners - low) * (side * 16 / extent) - 8).astype(np.int32):
            cv2.fillConvexPoly(mask, outline, 1, cv2.LINE_8, 4)
        areas[k] = mask.mean() * extent.prod()
    return areas


def _labels(
    owner: NDArray[np.uint16], names: list[str | None], whole: NDArray[np.float64], camera: Camera
) -> dict[int, Label]:
    """What is seen well enough, by part."""
    finer = camera.finer
    seen = np.bincount(owner.ravel(), minlength=len(names))
    found: dict[int, Label] = {}
    for k, name in enumerate(names):
        area = seen[k] / finer**2
        if name is None or area < AREA or seen[k] < VISIBLE * whole[k]:
            continue
        mask = owner == k
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        x, y = columns[0] / finer, rows[0] / finer
        w, h = (columns[-1] + 1) / finer - x, (rows[-1] + 1) / finer - y
        if max(w, h) >= LONG and min(w, h) >= SHORT:
            share = min(1.0, seen[k] / max(whole[k], 1.0))
            found[k] = Label(name, (float(x), float(y), float(w), float(h)), float(area), share)
    return found


def _take_away(
    buffer: Buffer, polygons: Polygons, part_of: NDArray[np.int64], gone: NDArray[np.bool_]
) -> None:
    """Draw what was behind parts that are gone."""
    part = part_of[polygons.face]
    keep = ~gone[part]
    left = Polygons(
        polygons.face[keep], polygons.corners[keep], polygons.bounds[keep], polygons.planes[keep]
    )
    for k in np.flatnonzero(gone):
        bounds = polygons.bounds[part == k]
        if not len(bounds):
            continue
        x0, y0 = bounds[:, :2].min(axis=0)
        x1, y1 = bounds[:, 2:].max(axis=0)
        buffer.near[y0:y1, x0:x1] = 0
        buffer.face[y0:y1, x0:x1] = -1
        buffer.draw(left, (int(x0), int(y0), int(x1), int(y1)))
