# SPDX-License-Identifier: Apache-2.0
"""Detections as CDR bytes: the same bytes that rclpy makes of the same message."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

pytest.importorskip('vision_msgs.msg')

from messages import detection_array_msg
from rclpy.serialization import deserialize_message, serialize_message
from vision_msgs.msg import Detection2DArray
from world import World

from trt_perception.core import Detections, Stamp
from trt_perception.core.cdr import detection_array_cdr, read_detection_array

FLOAT32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
LARGEST = float(np.finfo(np.float32).max)
SMALLEST = float(np.finfo(np.float32).smallest_subnormal)
STAMPS = st.builds(Stamp, st.integers(-(2**31), 2**31 - 1), st.integers(0, 2**32 - 1))
TEXTS = st.text(max_size=12)


def found(boxes: Any, scores: Any, class_ids: Any) -> Detections:
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.array(class_ids, np.int32),
    )


@st.composite
def detections(draw: st.DrawFn) -> Detections:
    n = draw(st.integers(0, 12))
    numbers = draw(arrays.arrays(np.float32, (n, 5), elements=FLOAT32))
    # Few, so that names repeat; beyond the names, and beyond all sense.
    class_ids = st.one_of(st.integers(0, 6), st.sampled_from([-1, 999, 2**31 - 1, -(2**31)]))
    drawn = draw(st.lists(class_ids, min_size=n, max_size=n))
    return found(numbers[:, :4], numbers[:, 4], drawn)


def rclpy_bytes(message: Detection2DArray) -> bytes:
    """What rclpy makes of a message, with its padding set to zero.

    rclpy leaves in the padding whatever stood in memory; nobody reads it.
    """
    data = bytearray(serialize_message(message))
    layout = Layout()
    padding = list(layout.walk('/', message))
    assert layout.end == len(data)
    for position in padding:
        data[position] = 0
    return bytes(data)


class Layout:
    """Where plain CDR puts the fields of a message, one after the other."""

    SIZES = {'int32': 4, 'uint32': 4, 'double': 8}  # noqa: RUF012

    def __init__(self) -> None:
        self.end = 4  # behind the encapsulation

    def walk(self, kind: str, value: Any) -> Iterator[int]:
        """Give the position of each byte of padding."""
        if kind == 'string':
            yield from self._take(4)
            self.end += len(value.partition('\0')[0].encode()) + 1
        elif kind.startswith('sequence<'):
            yield from self._take(4)
            for item in value:
                yield from self.walk(kind[9:-1], item)
        elif '[' in kind:
            for item in value:
                yield from self.walk(kind.partition('[')[0], item)
        elif '/' in kind:
            for name, field in value.get_fields_and_field_types().items():
                yield from self.walk(field, getattr(value, name))
        else:
            yield from self._take(self.SIZES[kind])

    def _take(self, size: int) -> Iterator[int]:
        while (self.end - 4) % size:
            yield self.end
            self.end += 1
        self.end += size


BOX = [[1, 2, 30, 40]]


@given(
    seen=detections(),
    stamp=STAMPS,
    frame_id=TEXTS,
    names=st.lists(TEXTS, max_size=6),
)
@example(Detections.empty(), Stamp(0, 0), '', [])
@example(Detections.empty(), Stamp(-1, 999_999_999), 'カメラ/前 📷', ['car'])
@example(found(BOX, [1], [0]), Stamp(-(2**31), 2**32 - 1), '', [''])
@example(found(BOX, [0], [7]), Stamp(2**31 - 1, 0), 'camera', ['car'])
@example(found(BOX * 2, [1, 1], [1, 0]), Stamp(), 'frame\0hidden', ['a\0b', '\0'])
@example(
    found([[-LARGEST, -LARGEST, LARGEST, LARGEST]], [SMALLEST], [0]), Stamp(1, 1), 'x', ['größe']
)
@example(
    found([[LARGEST] * 4, [-LARGEST] * 4, [SMALLEST] * 4, [-0.0] * 4], [0, 1, -0.0, 0.5], [0] * 4),
    Stamp(1, 1), 'x', ['y'],
)  # fmt: skip
@settings(max_examples=300)
def test_bytes_are_those_of_rclpy(
    seen: Detections, stamp: Stamp, frame_id: str, names: list[str]
) -> None:
    message = detection_array_msg(seen, stamp, frame_id, names)
    data = detection_array_cdr(seen, stamp, frame_id, names)
    assert data == rclpy_bytes(message)


@pytest.mark.parametrize('frame', range(9))
@pytest.mark.parametrize('name', range(9))
def test_every_alignment(frame: int, name: int) -> None:
    """The first record and the later ones begin differently, whatever the header's length."""
    seen = found(np.arange(12), [0.5, 0.25, 0.125], [0, 1, 0])
    names = ['n' * name, 'm' * ((name + 3) % 9)]
    message = detection_array_msg(seen, Stamp(1, 2), 'f' * frame, names)
    assert detection_array_cdr(seen, Stamp(1, 2), 'f' * frame, names) == rclpy_bytes(message)


def test_many_detections() -> None:
    rng = np.random.default_rng(1)
    names = [f'class {"x" * k}' for k in range(80)]
    seen = found(rng.uniform(0, 4000, (5000, 4)), rng.random(5000), rng.integers(0, 90, 5000))
    message = detection_array_msg(seen, Stamp(1_800_000_000, 5), 'camera', names)
    assert detection_array_cdr(seen, Stamp(1_800_000_000, 5), 'camera', names) == rclpy_bytes(
        message
    )


@given(detections(), STAMPS, TEXTS, st.lists(TEXTS, max_size=6))
@settings(max_examples=50)
def test_it_reads_back(seen: Detections, stamp: Stamp, frame_id: str, names: list[str]) -> None:
    frame_id, names = frame_id.replace('\0', ''), [n.replace('\0', '') for n in names]
    data = detection_array_cdr(seen, stamp, frame_id, names)
    message = detection_array_msg(seen, stamp, frame_id, names)
    assert deserialize_message(data, Detection2DArray) == message
    got = read_detection_array(data)
    assert (got.stamp, got.frame_id) == (stamp, frame_id)
    assert got.class_ids == [d.results[0].hypothesis.class_id for d in message.detections]
    assert np.array_equal(got.scores, seen.scores)
    sides = seen.boxes.astype(np.float64)
    off = np.abs(sides - got.boxes).max(initial=0)
    assert off <= np.abs(sides).max(initial=0) * 2**-50
    for end in range(0, len(data), len(data) // 8):
        with pytest.raises(ValueError, match=r'.'):
            read_detection_array(data[:end])


def test_fields() -> None:
    """What stands where, told without the reference."""
    seen = found([[10, 20, 110, 70], [0, 0, 1, 3]], [0.75, 0.5], [1, 4])
    data = detection_array_cdr(seen, Stamp(12, 34), 'camera', ['person', 'car'])
    message = deserialize_message(data, Detection2DArray)
    first, second = message.detections
    for header in (message.header, first.header, second.header):
        assert (header.stamp.sec, header.stamp.nanosec, header.frame_id) == (12, 34, 'camera')
    (result,) = first.results
    assert (result.hypothesis.class_id, result.hypothesis.score) == ('car', 0.75)
    assert result.pose.pose.orientation.w == 1
    assert not np.any(result.pose.covariance)
    assert (first.bbox.center.position.x, first.bbox.center.position.y) == (60, 45)
    assert (first.bbox.size_x, first.bbox.size_y, first.bbox.center.theta) == (100, 50, 0)
    assert first.id == second.id == ''
    assert second.results[0].hypothesis.class_id == '4'
    assert second.bbox.center.position.x == 0.5


def test_it_arrives(world: World) -> None:
    """Published as bytes, it comes as the message to whoever subscribes."""
    arguments = (found(BOX * 3, [0.9, 0.8, 0.7], [0, 1, 2]), Stamp(-5, 6), 'カメラ', ['car'])
    got = world.subscribe(Detection2DArray, 'detections')
    publisher = world.node.create_publisher(Detection2DArray, 'detections', 10)
    world.until(publisher.get_subscription_count)
    publisher.publish(detection_array_cdr(*arguments))
    world.until(lambda: got)
    assert got == [detection_array_msg(*arguments)]
