# SPDX-License-Identifier: Apache-2.0
"""Light: from the faces that are seen to linear colours."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from synthetic.atlas import LEVELS, SIDE
from synthetic.bank import Bank
from synthetic.camera import Camera
from synthetic.mesh import Mesh
from synthetic.raster import Buffer, in_light, planes_of

Array = NDArray[np.float64]
Picture = NDArray[np.float32]
#: Metres and texels of the shadow map's sides.
_REACH, MAP = 26.0, 640
_BAND = 40  # rows at a time, so that they stay in the processor's cache
_STAINS = 9.0  # metres until the stains of the floor repeat


@dataclass(frozen=True)
class Light:
    """What a place is lit by; colours linear.

    Attributes:
        toward: (3,) unit vector to the sun or the strongest lamps.
        sun, sky, bounce: colours of that light, of what comes from above and from below.
        cookie: (MAP, MAP) float32 of how much of the sun comes through, or None.
        haze: its colour.
        sight: metres in which haze takes about two thirds of the colour.
    """

    toward: Array
    sun: Array
    sky: Array
    bounce: Array
    cookie: NDArray[np.float32] | None
    haze: Array
    sight: float


class ShadowMap:
    """What the light reaches."""

    def __init__(self, mesh: Mesh, light: Light, camera: Camera) -> None:
        side = np.cross((0.0, 1.0, 0.0), light.toward)
        side /= np.linalg.norm(side)
        other = np.cross(light.toward, side)
        ahead = camera.axes()[2] * (1, 1, 0)
        middle = np.array(camera.position) * (1, 1, 0) + ahead / np.linalg.norm(ahead) * (
            _REACH * 0.42
        )
        scale = MAP / _REACH
        view = np.zeros((3, 4))
        view[:, :3] = side * scale, other * scale, light.toward
        # By whole texels, so that edges of shadows do not crawl while the camera moves.
        view[:, 3] = np.rint(-view[:, :3] @ middle + (MAP / 2, MAP / 2, 100.0))
        self.view = view
        buffer = Buffer(MAP, MAP)
        buffer.draw(in_light(mesh, light.toward, view, MAP))
        self.near = buffer.near

    def reached(self, column: Picture, row: Picture, near: Picture) -> Picture:
        """How much of the light comes to points given as ``view`` tells them, 0..1.

        The four texels about a point are compared each for itself, so that edges are soft.
        """
        left, top = np.floor(column), np.floor(row)
        across, down = column - left, row - top
        lit = []
        for y in (0, 1):
            pair = [
                cv2.remap(
                    self.near, left + np.float32(x), top + np.float32(y), cv2.INTER_NEAREST, None,
                    cv2.BORDER_CONSTANT, 0,
                )
                < near + np.float32(0.035)
                for x in (0, 1)
            ]  # fmt: skip
            lit.append(pair[0] * (1 - across) + pair[1] * across)
        return lit[0] * (1 - down) + lit[1] * down


def shade(
    buffer: Buffer,
    mesh: Mesh,
    forms: Array,
    camera: Camera,
    light: Light,
    bank: Bank,
    shadow: ShadowMap,
    contact: NDArray[np.float32],
    floor: int,
) -> Picture:
    """Light what is seen.

    Args:
        buffer, mesh, forms: as drawn and given by `in_camera`.
        shadow: of the same mesh.
        contact: (H, W) float32, how much of the sky is hidden at the foot of things, see
            `contact_map`.
        floor: texture slot of the ground, which gets stains.

    Returns:
        (height, width, 3) float32, linear.
    """
    table = _face_table(mesh, forms, camera, light, floor)
    width, height = camera.size
    axes = camera.axes()
    # A ray of pixel (x, y) is ray @ (x, y, 1); all positions are camera + ray / nearness.
    (cx, cy), scale = camera.center, camera.scale
    pixel = np.array([[1 / scale, 0, -cx / scale], [0, 1 / scale, -cy / scale], [0, 0, 1]])
    ray = (axes.T @ pixel).astype(np.float32)
    position = np.array(camera.position, np.float32)
    lit_ray = (shadow.view[:, :3] @ ray).astype(np.float32)
    lit_position = (shadow.view[:, :3] @ position + shadow.view[:, 3]).astype(np.float32)
    places = np.ascontiguousarray(bank.atlas.table().T)
    sides = np.float32(SIDE) / 2 ** np.arange(LEVELS, dtype=np.float32)
    picture = np.zeros((height, width, 3), np.float32)
    open_rows = np.flatnonzero((buffer.face < 0).any(axis=1))
    if open_rows.size:
        _background(picture, slice(open_rows[0], open_rows[-1] + 1), camera, bank, light)
    x = np.arange(width, dtype=np.float32)[None]
    for top in range(0, height, _BAND):
        rows = slice(top, top + _BAND)
        face = buffer.face[rows]
        seen = face >= 0
        if not seen.any():
            continue
        y = np.arange(top, top + face.shape[0], dtype=np.float32)[:, None]
        face = np.maximum(face, 0).astype(np.intp)  # what take wants; else it casts each time
        distance = 1 / np.maximum(buffer.near[rows], 1e-4)

        def column(k: int, face: NDArray[np.intp] = face) -> Picture:
            return np.take(table[k], face, mode='clip')

        def form(k: int, x: Picture = x, y: Picture = y, z: Picture = distance) -> Picture:
            return (column(k) * x + column(k + 1) * y + column(k + 2)) * z

        def along(
            r: Picture, start: float, x: Picture = x, y: Picture = y, z: Picture = distance
        ) -> Picture:
            return (r[0] * x + (r[1] * y + r[2])) * z + start

        u, v, sun = form(0), form(3), form(6)
        level = column(12) + 1.5 * cv2.log(distance)
        level = np.clip(level * np.float32(1 / np.log(2)), 0, LEVELS - 1).astype(np.intp)
        side = np.take(sides, level, mode='clip')
        entry = column(13).astype(np.intp) * LEVELS + level
        map_x = (u - np.floor(u)) * side + (
            np.take(places[0], entry, mode='clip') - np.float32(0.5)
        )
        map_y = (v - np.floor(v)) * side + (
            np.take(places[1], entry, mode='clip') - np.float32(0.5)
        )
        texture = cv2.remap(bank.atlas.pixels, map_x, map_y, cv2.INTER_LINEAR)

        column_l = along(lit_ray[0], lit_position[0])
        row_l = along(lit_ray[1], lit_position[1])
        near_l = along(lit_ray[2], lit_position[2])
        reached = shadow.reached(column_l, row_l, near_l)
        if light.cookie is not None:  # stands still in the world, not before the camera
            column_l -= np.float32(shadow.view[0, 3])
            row_l -= np.float32(shadow.view[1, 3])
            reached *= cv2.remap(
                light.cookie, column_l, row_l, cv2.INTER_LINEAR, None, cv2.BORDER_WRAP
            )
        sun = np.clip(sun, 0, 1) * reached
        gloss = column(20)
        shiny = gloss.any()
        if shiny:
            shine = np.clip(form(9), 0, 1)
            for _ in range(4):
                shine *= shine
            shine *= gloss * reached

        px, py, pz = (along(ray[i], float(position[i])) for i in range(3))
        hidden = cv2.remap(
            contact, (px - position[0]) * _CONTACT_SCALE + _CONTACT_ORIGIN[0],
            (py - position[1]) * _CONTACT_SCALE + _CONTACT_ORIGIN[1], cv2.INTER_LINEAR, None,
            cv2.BORDER_CONSTANT, 0,
        )  # fmt: skip
        # Darkness near the ground, fading within a hand's breadth.
        open_sky = 1 - hidden * (0.2 / (0.2 + np.maximum(pz, 0)))
        stained = column(21) > 0
        if stained.any():
            tile = np.float32(SIDE / _STAINS)
            stains = cv2.remap(
                bank.stains, px * tile, py * tile, cv2.INTER_LINEAR, None, cv2.BORDER_WRAP
            )
            open_sky = np.where(stained, open_sky * stains, open_sky)
            sun = np.where(stained, sun * stains, sun)
        clear = np.exp(distance * np.float32(-1 / light.sight))
        part = picture[rows]
        for c in range(3):
            lit = column(14 + c) * open_sky + column(17 + c) * sun
            lit *= texture[..., c] * np.float32(1 / 255)
            if shiny:
                lit += shine * np.float32(light.sun[c])
            lit -= np.float32(light.haze[c])
            lit *= clear
            lit += np.float32(light.haze[c])
            np.copyto(part[..., c], lit, where=seen)
    return picture


def _face_table(mesh: Mesh, forms: Array, camera: Camera, light: Light, floor: int) -> Picture:
    """(22, N): what shading looks up by face.

    0..11 forms over (x, y, 1) of u, v, the cosine to the sun and to the highlight, each over the
    distance; 12 the natural logarithm of the texels a pixel at 1 m; 13 texture slot; 14..16 colour
    in the light of the sky; 17..19 in that of the sun; 20 gloss; 21 is the ground.
    """
    n = mesh.points.shape[0]
    table = np.zeros((22, n))
    used = np.flatnonzero(forms[:, 2].any(axis=1) | forms[:, 0].any(axis=1))
    points, normals = mesh.points[used], mesh.normals[used]
    view = np.array(camera.position) - points.mean(axis=1)
    view /= np.linalg.norm(view, axis=1, keepdims=True)
    half = view + light.toward
    half /= np.maximum(np.linalg.norm(half, axis=1, keepdims=True), 1e-6)
    cosines = np.stack((normals @ light.toward, np.einsum('nvk,nk->nv', normals, half)), axis=2)[
        :, :3
    ]
    seen = camera.see(points[:, :3])
    lit = planes_of(seen, cosines)
    (cx, cy), scale = camera.center, camera.scale
    lit[:, :2] /= scale
    lit[:, 2] -= lit[:, 0] * cx + lit[:, 1] * cy
    table[0:3, used] = forms[used, :, 1].T
    table[3:6, used] = forms[used, :, 2].T
    table[6:9, used] = lit[..., 0].T
    table[9:12, used] = lit[..., 1].T
    texels = np.abs(np.linalg.det(forms[used])) * SIDE**2
    table[12, used] = 0.5 * np.log(np.maximum(texels, 1e-30)) - 0.3
    up = normals.mean(axis=1)
    above = 0.5 + 0.5 * up[:, 2:]
    ambient = light.sky * above + light.bounce * (1 - above)
    # Not all sides of the sky are equally bright; else faces in the shade would melt together.
    ambient = ambient * (0.85 + 0.2 * (up @ np.array((0.8, -0.6, 0.0))))[:, None]
    slot, gloss, glow = mesh.surface[used].T
    table[13, used] = slot
    table[14:17, used] = (mesh.color[used] * (ambient + glow[:, None])).T
    table[17:20, used] = (mesh.color[used] * light.sun).T
    table[20, used] = gloss
    table[21, used] = slot == floor
    return table.astype(np.float32)


_CONTACT_REACH, _CONTACT_SIDE = 28.0, 512
_CONTACT_SCALE = np.float32(_CONTACT_SIDE / _CONTACT_REACH)
_CONTACT_ORIGIN = (np.float32(_CONTACT_SIDE / 2), np.float32(_CONTACT_SIDE / 2))


def contact_map(meshes: list[Mesh], camera: Camera) -> NDArray[np.float32]:
    """How much of the sky things hide from the ground about them, seen from above."""
    image = np.zeros((_CONTACT_SIDE, _CONTACT_SIDE), np.float32)
    for mesh in meshes:
        foot = mesh.points.reshape(-1, 3)
        foot = foot[foot[:, 2] < foot[:, 2].min() + 0.3]
        if foot[:, 2].min() > 0.3:
            continue
        placed = (foot[:, :2] - camera.position[:2]) * _CONTACT_SCALE + _CONTACT_ORIGIN
        hull = cv2.convexHull(placed.astype(np.float32))
        cv2.fillConvexPoly(image, np.rint(hull * 8).astype(np.int32), 0.8, cv2.LINE_AA, 3)
    return cv2.GaussianBlur(image, (0, 0), 2.5)


def _background(picture: Picture, rows: slice, camera: Camera, bank: Bank, light: Light) -> None:
    """The panorama behind everything, at the camera's angles."""
    width = camera.size[0]
    x = np.linspace(0, width - 1, 41)
    y = np.linspace(rows.start, rows.stop - 1, 21)
    (cx, cy), scale = camera.center, camera.scale
    plane = np.broadcast_arrays((x - cx)[None] / scale, (y - cy)[:, None] / scale, 1.0)
    rays = np.stack(plane, -1) @ camera.axes()
    ahead = np.array((np.sin(camera.yaw), np.cos(camera.yaw)))
    right = np.array((ahead[1], -ahead[0]))
    azimuth = np.arctan2(rays[..., :2] @ right, rays[..., :2] @ ahead) + camera.yaw
    elevation = np.arctan2(rays[..., 2], np.hypot(rays[..., 0], rays[..., 1]))
    h, w = bank.panorama.shape[:2]
    size = (width, rows.stop - rows.start)
    # Corner to corner, as the coarse points lie.
    to_fine = np.array([[(width - 1) / 40, 0, 0], [0, (size[1] - 1) / 20, 0]])
    map_x, map_y = (
        cv2.warpAffine(
            m.astype(np.float32),
            to_fine,
            size,
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        for m in (azimuth / (2 * np.pi) * w, h / 2 - elevation / np.pi * h)
    )
    sky = cv2.remap(bank.panorama, map_x, map_y, cv2.INTER_LINEAR, None, cv2.BORDER_WRAP)
    np.multiply(sky, np.float32(0.6 * light.sky.mean() + 0.4 * light.sun.mean()), out=picture[rows])
