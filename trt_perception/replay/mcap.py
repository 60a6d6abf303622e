# SPDX-License-Identifier: Apache-2.0
"""The messages of an MCAP file from its first byte on, without its index.

rosbags reads a file by the index at its end, which a recording that was cut off does not have, and
orders what it reads by time. This reads what is there, in the order in which it was written, and
holds one chunk in memory at a time.

The format is that of https://mcap.dev/spec: after a magic number records follow, each an opcode of
one byte, its length (uint64, all numbers little-endian) and so many bytes. A chunk is a record that
holds records, compressed. ::

    schema 3    uint16 id | string name | ...
    channel 4   uint16 id | uint16 schema | string topic | string message encoding | ...
    message 5   uint16 channel | uint32 sequence | uint64 log time | uint64 publish time | data
    chunk 6     uint64 start | uint64 end | uint64 size | uint32 CRC-32 or 0 | string compression
                | uint64 length | records
    data end 15, footer 2
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from trt_perception.core import PerceptionError
from trt_perception.core.errors import one_line

_MAGIC = b'\x89MCAP0\r\n'
_FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _DATA_END = 2, 3, 4, 5, 6, 15


class McapError(PerceptionError):
    """A file that is no MCAP, or of which a part cannot be read."""


class Message(NamedTuple):
    """A message as it was recorded.

    Attributes:
        kind: its type, as ``sensor_msgs/msg/Image``.
        time: when it was received, nanoseconds since the epoch.
        data: CDR.
    """

    topic: str
    kind: str
    time: int
    data: bytes


def scan(path: Path, on_damage: Callable[[McapError], None]) -> Iterator[Message]:
    """All messages that can be read.

    Args:
        on_damage: told of a chunk that is damaged, and of the end if the file is not whole; what
            it does not raise is left out.

    Raises:
        McapError: it is no MCAP file.
        OSError: the system refuses.
    """
    size = path.stat().st_size
    with path.open('rb') as file:
        if (magic := file.read(len(_MAGIC))) != _MAGIC:
            what = 'is empty' if not magic else 'is no MCAP file'
            raise McapError(f"'{path}' {what}")
        reading = _Reading()
        for opcode, record in _records(file, size):
            if opcode in (_FOOTER, _DATA_END):
                return
            place = f"'{path}', record before byte {file.tell()}"
            try:
                parts = _parts(_unpacked(record)) if opcode == _CHUNK else [(opcode, record)]
            except Exception as error:  # whatever a decompressor raises
                on_damage(McapError(f'{place}: {one_line(error)}'))
                continue
            for inner, part in parts:
                try:
                    message = reading.take(inner, part)
                except (McapError, struct.error, UnicodeDecodeError) as error:
                    on_damage(McapError(f'{place}: {one_line(error)}'))
                    continue
                if message is not None:
                    yield message
        on_damage(McapError(f"'{path}' ends before its end, after {size} bytes"))


class _Reading:
    """What the records so far say of those to come."""

    def __init__(self) -> None:
        self._schemas: dict[int, str] = {}
        self._channels: dict[int, tuple[str, str]] = {}
        self._unknown: set[int] = set()

    def take(self, opcode: int, record: memoryview) -> Message | None:
        """The message that a record is, if it is one.

        Raises:
            McapError: of the first message of a channel that was not described.
            struct.error, UnicodeDecodeError: the record is broken.
        """
        if opcode == _MESSAGE:
            channel, _, time, _ = struct.unpack_from('<HIQQ', record)
            if channel in self._channels:
                return Message(*self._channels[channel], time, bytes(record[22:]))
            if channel not in self._unknown:
                self._unknown.add(channel)
                raise McapError(f'messages of channel {channel}, whose topic is not known')
        elif opcode == _SCHEMA:
            (number,) = struct.unpack_from('<H', record)
            self._schemas[number] = _string(record, 2)
        elif opcode == _CHANNEL:
            number, schema = struct.unpack_from('<HH', record)
            self._channels[number] = _string(record, 4), self._schemas.get(schema, '')
        return None


def _records(file: BinaryIO, size: int) -> Iterator[tuple[int, memoryview]]:
    """Opcode and content of each whole record."""
    while len(head := file.read(9)) == 9:
        opcode, length = struct.unpack('<BQ', head)
        if length > size - file.tell():
            return
        yield opcode, memoryview(file.read(length))


def _parts(chunk: memoryview) -> Iterator[tuple[int, memoryview]]:
    at = 0
    while at + 9 <= len(chunk):
        opcode, length = struct.unpack_from('<BQ', chunk, at)
        at += 9 + length
        yield opcode, chunk[at - length : at]


def _unpacked(record: memoryview) -> memoryview:
    size, crc = struct.unpack_from('<QI', record, 16)
    compression = _string(record, 28)
    packed = record[28 + 4 + len(compression) + 8 :]
    chunk = memoryview(decompress(packed, compression))
    if len(chunk) != size:
        raise McapError(f'{len(chunk)} bytes instead of {size}')
    if crc and zlib.crc32(chunk) != crc:
        raise McapError('its checksum is wrong')
    return chunk


def decompress(data: bytes | memoryview, compression: str) -> bytes | memoryview:
    """Unpack with what rosbags unpacks with.

    Args:
        compression: ``zstd``, ``lz4``, or '' for none.

    Raises:
        McapError: there is no other.
    """
    if not compression:
        return data
    if compression == 'lz4':
        from lz4.frame import decompress as unpack

        return bytes(unpack(data))
    if compression == 'zstd':
        from backports import zstd

        return bytes(zstd.decompress(data))
    raise McapError(f"compression '{compression}' is not one of zstd, lz4")


def _string(record: memoryview, at: int) -> str:
    (size,) = struct.unpack_from('<I', record, at)
    return bytes(record[at + 4 : at + 4 + size]).decode()
