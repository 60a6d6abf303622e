# SPDX-License-Identifier: Apache-2.0
"""A strip of frames that enlarge: each picture is in the page once, its boxes are drawn onto it.

Enlarging takes no script: a small picture is a link to the large ones, which the style shows while
they are what the address names.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from trt_perception.build.report import page

#: Kinds of boxes, as classes of the style, and what they are.
KINDS = {
    'found': 'found, where nothing is compared',
    'same': 'as before',
    'changed': 'moved or of another score',
    'lost': 'lost',
    'new': 'new',
}


class Box(NamedTuple):
    """A box on a picture.

    Attributes:
        corners: x1, y1, x2, y2 in source pixels.
        name: of the class.
        kind: of `KINDS`.
        label: what stands on it.
        told: what is told where the pointer rests on it.
    """

    corners: tuple[float, float, float, float]
    name: str
    kind: str
    label: str
    told: str


class Pane(NamedTuple):
    """A picture as one of those that are compared saw it."""

    title: str
    boxes: Sequence[Box]


class Shot(NamedTuple):
    """A frame of the strip.

    Attributes:
        jpeg: its picture; None where there is none.
        size: width and height that the boxes are in, source pixels.
        panes: what was found in it, side by side.
        title: when and where it is.
        told: what is to be seen.
    """

    jpeg: bytes | None
    size: tuple[int, int]
    panes: Sequence[Pane]
    title: str
    told: str

    @property
    def classes(self) -> list[str]:
        """That it has something to show of: what differs, or, where all is the same, everything."""
        every = [box for pane in self.panes for box in pane.boxes]
        return sorted({b.name for b in every if b.kind != 'same'} or {b.name for b in every})


def strip(shots: Sequence[Shot], kinds: Sequence[tuple[str, str]]) -> str:
    """The frames in a row.

    Args:
        shots: in their order.
        kinds: of boxes that are there, and their names, for the key.
    """
    images = ''.join(_image(number, shot) for number, shot in enumerate(shots))
    tiles = ''.join(_tile(number, shot) for number, shot in enumerate(shots))
    large = ''.join(_large(number, shot, len(shots), kinds) for number, shot in enumerate(shots))
    return (
        f'<svg class="store" aria-hidden="true"><defs>{images}</defs></svg>'
        f'{page.key(*kinds)}<div class="strip" tabindex="-1">{tiles}</div>{large}'
    )


def _image(number: int, shot: Shot) -> str:
    if shot.jpeg is None:
        return ''
    data = base64.b64encode(shot.jpeg).decode()
    width, height = shot.size
    return (
        f'<image id="picture-{number}" width="{width}" height="{height}"'
        f' href="data:image/jpeg;base64,{data}"/>'
    )


def _tile(number: int, shot: Shot) -> str:
    """What the last pane shows, and what it no longer does."""
    classes = escape('\n'.join(shot.classes))
    lost = [box for pane in shot.panes[:-1] for box in pane.boxes if box.kind == 'lost']
    small = shot.panes[-1]._replace(boxes=[*shot.panes[-1].boxes, *lost])
    return (
        f'<a class="tile" href="#frame-{number}" data-classes="{classes}">'
        f'{_drawn(number, shot, small)}'
        f'<b>{escape(shot.title)}</b><span>{escape(shot.told)}</span></a>'
    )


def _large(number: int, shot: Shot, count: int, kinds: Sequence[tuple[str, str]]) -> str:
    panes = ''.join(
        f'<figure>{_drawn(number, shot, pane)}<figcaption>{escape(pane.title)}</figcaption>'
        '</figure>'
        for pane in shot.panes
    )
    before, after = (number - 1) % count, (number + 1) % count
    kind = 'two' if len(shot.panes) > 1 else ''
    return (
        f'<div class="large" id="frame-{number}" role="dialog" aria-modal="true"'
        f' aria-label="{escape(shot.title)}"><header><div><b>{escape(shot.title)}</b>'
        f'<span>{escape(shot.told)}</span></div><nav>'
        f'<a href="#frame-{before}" aria-label="the frame before" rel="prev">&lsaquo;</a>'
        f'<a href="#frame-{after}" aria-label="the next frame" rel="next">&rsaquo;</a>'
        f'<a href="#frames" aria-label="close" class="close">&times;</a></nav></header>'
        f'<div class="panes {kind}">{panes}</div>{page.key(*kinds)}</div>'
    )


def _drawn(number: int, shot: Shot, pane: Pane) -> str:
    width, height = shot.size
    # Text and lines are as large on a picture of 4K as on one of VGA.
    unit = width / 960
    picture = (
        f'<use href="#picture-{number}"/>'
        if shot.jpeg
        else f'<rect class="blank" width="{width}" height="{height}"/>'
    )
    # What differs is drawn last, on top.
    ordered = sorted(pane.boxes, key=lambda box: list(KINDS).index(box.kind))
    boxes = ''.join(_box(box, shot.size, unit) for box in ordered)
    told = f'{pane.title}: {len(pane.boxes)} detections'
    return (
        f'<svg class="shot" viewBox="0 0 {width} {height}" style="--u:{unit:.3g}px" role="img"'
        f' aria-label="{escape(told)}">{picture}{boxes}</svg>'
    )


def _box(box: Box, size: tuple[int, int], unit: float) -> str:
    x1, y1, x2, y2 = box.corners
    x1, x2 = (min(max(x, 0), size[0]) for x in (x1, x2))
    y1, y2 = (min(max(y, 0), size[1]) for y in (y1, y2))
    # Above the box, or inside where there is no room above it.
    base = y1 - 5 * unit if y1 > 22 * unit else y1 + 18 * unit
    anchor, at = ('end', x2) if x1 > 0.8 * size[0] else ('start', x1)
    return (
        f'<g class="{box.kind}" data-class="{escape(box.name)}"><title>{escape(box.told)}</title>'
        f'<rect x="{x1:.1f}" y="{y1:.1f}" width="{x2 - x1:.1f}" height="{y2 - y1:.1f}"/>'
        f'<text x="{at:.1f}" y="{base:.1f}" text-anchor="{anchor}">{escape(box.label)}</text></g>'
    )
