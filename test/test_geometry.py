# SPDX-License-Identifier: Apache-2.0
"""Where an image lies in a network's input, and the way back, for every shape of image."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trt_perception.core import FrameError, Geometry, Region, place

# A hair more: the ratio is a float.
HALF = Fraction(1, 2) + Fraction(1, 10**9)
RESIZE = st.sampled_from(['letterbox', 'letterbox_top_left', 'stretch'])
SOURCE = st.one_of(st.integers(1, 40), st.integers(1, 8000), st.sampled_from([1, 5000, 65536]))
NETWORK = st.one_of(st.integers(1, 40), st.sampled_from([320, 416, 640, 352, 1280]))


@pytest.mark.parametrize(
    ('source', 'network', 'placed'),
    [
        # width, height, left, top
        ((640, 640), (640, 640), (640, 640, 0, 0)),
        ((1280, 720), (640, 640), (640, 360, 0, 140)),
        ((720, 1280), (640, 640), (360, 640, 140, 0)),
        ((960, 540), (640, 640), (640, 360, 0, 140)),
        ((100, 50), (640, 640), (640, 320, 0, 160)),
        ((1279, 719), (640, 640), (640, 360, 0, 140)),
        ((500, 333), (640, 640), (640, 426, 0, 107)),
        ((641, 480), (640, 640), (640, 479, 0, 80)),  # the odd row of padding at the bottom
        ((480, 641), (640, 640), (479, 640, 80, 0)),
        ((1920, 1080), (640, 384), (640, 360, 0, 12)),
        ((1, 1), (640, 640), (640, 640, 0, 0)),
        ((1, 5000), (640, 640), (1, 640, 319, 0)),
        ((5000, 1), (640, 640), (640, 1, 0, 319)),
        ((20000, 15000), (640, 640), (640, 480, 0, 80)),
        ((65536, 65535), (640, 640), (640, 640, 0, 0)),
    ],
)
def test_letterbox(source, network, placed):
    geometry = place(*source, *network, 'letterbox')
    assert (geometry.width, geometry.height, geometry.left, geometry.top) == placed
    assert geometry.region == Region(0, 0, *source)
    corner = place(*source, *network, 'letterbox_top_left')
    assert (corner.width, corner.height, corner.left, corner.top) == (*placed[:2], 0, 0)
    stretched = place(*source, *network, 'stretch')
    assert (stretched.width, stretched.height) == network
    assert (stretched.left, stretched.top) == (0, 0)


@given(SOURCE, SOURCE, NETWORK, NETWORK)
def test_letterbox_by_exact_arithmetic(source_width, source_height, width, height):
    geometry = place(source_width, source_height, width, height, 'letterbox')
    ratio = min(Fraction(width, source_width), Fraction(height, source_height))
    # Half a pixel either way, and never nothing; the tighter side is filled.
    assert abs(geometry.width - max(1, source_width * ratio)) <= HALF
    assert abs(geometry.height - max(1, source_height * ratio)) <= HALF
    assert geometry.width == width or geometry.height == height
    right = width - geometry.width - geometry.left
    bottom = height - geometry.height - geometry.top
    assert right - geometry.left in (0, 1)
    assert bottom - geometry.top in (0, 1)
    assert min(geometry.left, geometry.top) >= 0


def to_network(geometry: Geometry, boxes: np.ndarray) -> np.ndarray:
    """The way forward, in exact arithmetic: the region's corners lie on its place's corners."""
    x, y, width, height = geometry.region
    begin, shift = (x, y), (geometry.left, geometry.top)
    scale = Fraction(geometry.width, width), Fraction(geometry.height, height)
    exact = [
        [(Fraction(v) - begin[i % 2]) * scale[i % 2] + shift[i % 2] for i, v in enumerate(box)]
        for box in boxes.tolist()
    ]
    return np.array(exact, np.float64).reshape(-1, 4)


@given(st.data(), SOURCE, SOURCE, NETWORK, NETWORK, RESIZE)
def test_to_the_network_and_back(data, source_width, source_height, width, height, resize):
    x = data.draw(st.integers(0, source_width - 1))
    y = data.draw(st.integers(0, source_height - 1))
    size = data.draw(st.tuples(st.integers(1, source_width), st.integers(1, source_height)))
    region = data.draw(st.sampled_from([Region(), Region(x, y, *size)]))
    geometry = place(source_width, source_height, width, height, resize, region)

    unit = data.draw(st.lists(st.tuples(*[st.floats(0, 1)] * 4), max_size=4))
    boxes = np.array(unit, np.float64).reshape(-1, 4) * ([source_width, source_height] * 2)

    back = geometry.to_source(to_network(geometry, boxes))
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, boxes, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('resize', ['letterbox', 'letterbox_top_left', 'stretch'])
@pytest.mark.parametrize('source', [(1279, 719), (1, 1), (1, 5000), (5000, 1), (33, 7), (8191, 1)])
def test_the_whole_place_is_the_whole_image(source, resize):
    """An odd size is rounded to whole pixels; its far corner must not drift for that."""
    geometry = place(*source, 640, 352, resize)
    left, top = geometry.left, geometry.top
    whole = np.array([[left, top, left + geometry.width, top + geometry.height]], np.float32)
    assert geometry.to_source(whole).tolist() == [[0, 0, *source]]


def test_boxes_are_clipped_to_the_image():
    geometry = place(1280, 720, 640, 640, 'letterbox')
    boxes = np.array([[-50, 0, 700, 640], [10, 150, 20, 160], [-9, -9, -5, -5]], np.float32)
    before = boxes.copy()
    assert geometry.to_source(boxes).tolist() == [
        [0, 0, 1280, 720],
        [20, 20, 40, 40],
        [0, 0, 0, 0],
    ]
    assert (boxes == before).all()
    assert geometry.to_source(boxes[:0]).shape == (0, 4)


# Region of interest


@pytest.mark.parametrize(
    ('region', 'used'),
    [
        (Region(), (0, 0, 100, 60)),
        (Region(10, 20, 30, 40), (10, 20, 30, 40)),
        (Region(0, 0, 100, 60), (0, 0, 100, 60)),
        (Region(90, 50, 30, 40), (90, 50, 10, 10)),
        (Region(0, 0, 5000, 5000), (0, 0, 100, 60)),
        (Region(-10, -20, 30, 40), (0, 0, 20, 20)),
        (Region(99, 59, 1, 1), (99, 59, 1, 1)),
    ],
)
@pytest.mark.parametrize('resize', ['letterbox', 'letterbox_top_left', 'stretch'])
def test_region_inside_and_partly_outside(region, used, resize):
    geometry = place(100, 60, 64, 64, resize, region)
    assert geometry.region == used
    x, y, width, height = used
    # The image of the region's corners, found by the way back.
    left, top = geometry.left, geometry.top
    place_of = np.array([[left, top, left + geometry.width, top + geometry.height]], np.float32)
    assert geometry.to_source(place_of).tolist() == [[x, y, x + width, y + height]]


@pytest.mark.parametrize(
    'region',
    [
        Region(100, 0, 10, 10),
        Region(0, 60, 10, 10),
        Region(500, 500, 10, 10),
        Region(-10, 0, 10, 10),
        Region(10, 10, -5, 5),
    ],
)
def test_region_outside(region):
    with pytest.raises(FrameError, match=r'lies outside of the 100x60 image') as caught:
        place(100, 60, 64, 64, 'letterbox', region)
    assert caught.value.kind == 'region'
    assert str(list(region)) in str(caught.value)


def test_a_box_may_leave_the_region_but_not_the_image():
    geometry = place(100, 60, 64, 64, 'stretch', Region(50, 20, 32, 32))
    boxes = np.array([[-40, -10, 32, 32], [0, 0, 200, 200]], np.float32)
    assert geometry.to_source(boxes).tolist() == [[30, 15, 66, 36], [50, 20, 100, 60]]


def test_what_the_padding_alone_shows():
    geometry = place(64, 32, 64, 64, 'letterbox')  # rows 16 to 48
    boxes = np.array(
        [
            [0, 0, 64, 16],  # the padding above, up to the image
            [0, 0, 64, 17],
            [0, 48, 64, 64],
            [0, 47, 64, 64],
            [64, 20, 80, 30],  # right of the input
            [10, 20, 10, 30],  # no area
            [20, 20, 10, 30],  # inside out
            [10, 20, 11, 21],
        ],
        np.float32,
    )
    assert geometry.shows(boxes).tolist() == [False, True] * 2 + [False] * 3 + [True]
    assert geometry.shows(boxes[:0]).shape == (0,)


def test_the_padding_of_a_region_shows_nothing_of_the_image_around():
    geometry = place(640, 640, 64, 64, 'letterbox', Region(100, 200, 64, 32))
    boxes = np.array([[0, 2, 64, 14], [0, 18, 64, 30]], np.float32)
    # The first would lie in the image, but those pixels were never looked at.
    assert geometry.to_source(boxes)[0].tolist() == [100, 186, 164, 198]
    assert geometry.shows(boxes).tolist() == [False, True]
