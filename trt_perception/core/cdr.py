# SPDX-License-Identifier: Apache-2.0
"""``vision_msgs/Detection2DArray`` as CDR bytes, straight from the arrays.

Building the message out of Python objects, and rclpy turning those into bytes, takes most of a
frame's time outside of the network. The bytes that come out have a simple shape, so they are
written here and published as they are.

The format is what ROS 2 sends: XCDR version 1 of OMG DDS-XTypes 1.3, section 7.4.3 (plain CDR),
little-endian, over the fields of vision_msgs 4.1. Behind four bytes of encapsulation, a number
lies at a multiple of its own size, counted from there; a string is its size with the closing NUL,
then its UTF-8 bytes and the NUL; a sequence is its length, then its elements. ::

    Detection2DArray    header | number of records | record | record | ...
    header              int32 sec | uint32 nanosec | string frame_id
    record, Detection2D header | 1 (result) | string class_id | 49 doubles | string id, empty
    49 doubles          score | position x y z | orientation x y z w | covariance, 36 |
                        centre x y | theta | size x y

The doubles begin and end at a multiple of 8 and the empty id takes 5 bytes more, so all records
but the first begin at a multiple of 8, and the part of a record behind its header depends on
nothing but its class and the length of the header. Those parts are kept, joined by the header,
and the five numbers that differ are set in all records at once.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trt_perception.core.detections import Detections
from trt_perception.core.frame import Stamp

_ENCAPSULATION = b'\x00\x01\x00\x00'  # plain CDR, little-endian, no options
_DOUBLES = 49
_ORIENTATION_W = 7
_SET = np.array([0, 44, 45, 47, 48])  # score, centre x, centre y, size x, size y


def detection_array_cdr(
    detections: Detections, stamp: Stamp, frame_id: str, class_names: Sequence[str] = ()
) -> bytes:
    """The bytes for ``Publisher.publish``, as rclpy serialises the same message.

    Padding, which rclpy leaves as it found the memory, is zero.

    The header stands in the array and in each detection. Each detection has one result: its class
    and score, with a pose that says nothing (no rotation, zero covariance).

    Args:
        detections: boxes in source pixels.
        stamp, frame_id: of the image they were found in.
        class_names: what to write as ``class_id``; a class without a name is written as its
            number.
    """
    known = len(class_names)
    names = [class_names[k] if 0 <= k < known else str(k) for k in detections.class_ids.tolist()]
    header = struct.pack('<iI', *stamp) + _string(frame_id)
    header += bytes(-len(header) % 4)
    # The first record follows the array's header and a length: with its own header that makes
    # twice a multiple of 4, and 4.
    parts = [_result(name, len(header) % 8) for name in names]
    if names:
        parts[0] = _result(names[0], 4)
    message = bytearray(header).join([_ENCAPSULATION, struct.pack('<I', len(names)), *parts])
    if not names:
        return bytes(message)
    sizes = np.fromiter(map(len, parts), np.intp, len(parts)) + len(header)
    ends = len(header) + 4 + np.cumsum(sizes)
    starts = ends // 8 - 1 - _DOUBLES  # the id and its padding are the last 8 bytes
    np.frombuffer(message, '<f8', offset=4)[starts[:, np.newaxis] + _SET] = _numbers(detections)
    return bytes(memoryview(message)[:-3])  # nothing follows the last id that it is padded for


class Found(NamedTuple):
    """What a message says.

    Attributes:
        boxes: (N, 4) float32, x1, y1, x2, y2 in source pixels.
        scores: (N,) float32.
        class_ids: N texts, as they stand there.
    """

    stamp: Stamp
    frame_id: str
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: list[str]


def read_detection_array(data: bytes) -> Found:
    """The other way round, for messages in which each detection has one result.

    What `detection_array_cdr` wrote comes back bit for bit, but for sides of a box of which one is
    less than a 2**28th of the other: it passes through centre and size in float64.

    Raises:
        ValueError: it is no such message.
    """
    try:
        if data[:2] != _ENCAPSULATION[:2]:
            raise ValueError('not plain little-endian CDR')
        message = memoryview(data)[4:]
        stamp, frame_id, at = _read_header(message, 0)
        (count,) = struct.unpack_from('<I', message, at)
        at += 4
        numbers = np.empty((count, 5))
        names = []
        for row in range(count):
            _, _, at = _read_header(message, at)
            (results,) = struct.unpack_from('<I', message, at)
            if results != 1:
                raise ValueError(f'a detection with {results} results instead of one')
            name, at = _read_string(message, at + 4)
            at += -at % 8
            numbers[row] = np.frombuffer(message, '<f8', _DOUBLES, at)[_SET]
            _, at = _read_string(message, at + 8 * _DOUBLES)
            at += -at % 4
            names.append(name)
    except (struct.error, UnicodeDecodeError) as error:
        raise ValueError(f'it ends before its end, or is of another type ({error})') from None
    centre, size = numbers[:, 1:3], numbers[:, 3:5]
    boxes = np.hstack((centre - size / 2, centre + size / 2)).astype(np.float32)
    return Found(stamp, frame_id, boxes, numbers[:, 0].astype(np.float32), names)


def _read_header(message: memoryview, at: int) -> tuple[Stamp, str, int]:
    stamp = Stamp(*struct.unpack_from('<iI', message, at))
    frame_id, at = _read_string(message, at + 8)
    return stamp, frame_id, at + -at % 4


def _read_string(message: memoryview, at: int) -> tuple[str, int]:
    (size,) = struct.unpack_from('<I', message, at)
    end = at + 4 + size
    if not size or end > len(message):
        raise ValueError('a text that ends beyond the message')
    return bytes(message[at + 4 : end - 1]).decode(), end


def _numbers(detections: Detections) -> NDArray[np.float64]:
    """(N, 5): score, centre x, centre y, size x, size y."""
    low, high = np.split(detections.boxes.astype(np.float64), 2, axis=1)
    return np.column_stack([detections.scores, (low + high) / 2, high - low])


@lru_cache(maxsize=4096)
def _result(class_id: str, start: int) -> bytes:
    """A record behind its header, which ends at ``start`` (modulo 8), up to the next record."""
    result = struct.pack('<I', 1) + _string(class_id)
    result += bytes(-(start + len(result)) % 8)
    doubles = np.zeros(_DOUBLES, '<f8')
    doubles[_ORIENTATION_W] = 1
    return result + doubles.tobytes() + _string('') + bytes(3)


def _string(text: str) -> bytes:
    # In ROS a string ends at its first NUL.
    data = text.encode().partition(b'\0')[0] + b'\0'
    return struct.pack('<I', len(data)) + data
