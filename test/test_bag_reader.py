# SPDX-License-Identifier: Apache-2.0
"""Bags of all kinds, whole and broken: what can be read is read, and the rest is told."""

from __future__ import annotations

import itertools
import sqlite3
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip('rosbags')

import lz4.frame
from bags import FRONT, REAR, START, STEP, edit, files, raw, split, tear, two_cameras, write
from bags import gray as shade

from trt_perception.core import Frame, FrameError
from trt_perception.replay.bag_reader import BagError, BagReader
from trt_perception.replay.mcap import Message
from trt_perception.replay.sources.bag import choose_topics, image_of, image_topics
from trt_perception.runtime.host.color import to_bgr

STORAGES = ('mcap', 'sqlite3')


def read(path: Path, *topics: str) -> tuple[list[Message], list[str]]:
    """All messages and what was told of those that are not there."""
    damage: list[BagError] = []
    messages = list(BagReader(path).messages(topics or (FRONT, REAR), damage.append))
    assert all('\n' not in str(error) for error in damage)
    return messages, [str(error) for error in damage]


def check(messages: list[Message], first: int = 0, count: int = 6) -> None:
    """They are those of `two_cameras`, and show what they should."""
    assert [(m.topic, m.time) for m in messages] == [
        (topic, time) for topic, time, _ in two_cameras(first, count)
    ]
    for number, message in enumerate(messages):
        frame = image_of(message)
        assert (frame.stamp.nanoseconds, frame.source) == (message.time - 5, message.topic)
        grays = to_bgr(frame).reshape(-1, 3)
        wanted = shade(first + number // 2).reshape(-1, 3)
        assert abs(grays.astype(int) - wanted).max() <= 2


@pytest.mark.parametrize(
    'storage, compression',
    [*itertools.product(STORAGES, ['none', 'message', 'file']), ('mcap', 'storage')],
)
def test_whole_bags(tmp_path: Path, storage: str, compression: str) -> None:
    bag = write(tmp_path / 'bag', two_cameras(), storage, compression)
    messages, damage = read(bag)
    check(messages)
    contents = BagReader(bag).contents()
    assert image_topics(contents) == {FRONT: 6, REAR: 6}
    assert (contents.start, contents.end) == (START, START + 5 * STEP + STEP // 2)
    assert not damage and not contents.damage and not contents.notes
    assert [m.topic for m in read(bag, REAR)[0]] == [REAR] * 6
    # The same without its metadata.yaml, and each file by itself.
    (bag / 'metadata.yaml').unlink()
    check(read(bag)[0])
    check(read(files(bag)[0])[0])
    assert 'metadata.yaml' in BagReader(bag).contents().notes[0]


@pytest.mark.parametrize('storage', STORAGES)
@pytest.mark.parametrize('compression', ['none', 'file'])
def test_split_bags(tmp_path: Path, storage: str, compression: str) -> None:
    """In their order, also beyond ten and without metadata.yaml."""
    parts = [
        write(tmp_path / f'part{n}', two_cameras(n, 1), storage, compression) for n in range(12)
    ]
    bag = split(tmp_path / 'bag', parts)
    check(read(bag)[0], count=12)
    (bag / 'metadata.yaml').unlink()
    check(read(bag)[0], count=12)
    assert image_topics(BagReader(bag).contents()) == {FRONT: 12, REAR: 12}


def repacked(file: Path, compression: str | None) -> None:
    """What is in the chunks of an MCAP file in another compression, or without chunks (None); and
    without index and end, as a recorder that was killed leaves it.
    """
    data = memoryview(file.read_bytes())
    out, at = bytearray(data[:8]), 8
    while data[at] in (1, 6, 7):
        opcode, length = struct.unpack_from('<BQ', data, at)
        record = data[at + 9 : at + 9 + length]
        at += 9 + length
        if opcode == 1:
            out += data[at - 9 - length : at]
        elif opcode == 6 and compression is None:
            out += record[40:]
        elif opcode == 6:
            packed = lz4.frame.compress(bytes(record[40:]))
            name = struct.pack('<I', len(compression)) + compression.encode()
            crc = struct.pack('<I', zlib.crc32(record[40:]))
            chunk = bytes(record[:24]) + crc + name + struct.pack('<Q', len(packed)) + packed
            out += struct.pack('<BQ', 6, len(chunk)) + chunk
    file.write_bytes(out)


@pytest.mark.parametrize('compression', [None, 'lz4'])
def test_what_a_killed_recorder_leaves(tmp_path: Path, compression: str | None) -> None:
    bag = write(tmp_path / 'bag', two_cameras())
    (bag / 'metadata.yaml').unlink()
    repacked(files(bag)[0], compression)
    messages, damage = read(bag)
    check(messages)
    assert len(damage) == 1 and 'ends before its end' in damage[0]
    assert image_topics(BagReader(bag).contents()) == {FRONT: 6, REAR: 6}


def test_a_compression_that_nobody_knows(tmp_path: Path) -> None:
    bag = write(tmp_path / 'bag', two_cameras())
    edit(bag, compression_format='brotli', compression_mode='message')
    assert any("'brotli' is not zstd" in note for note in BagReader(bag).contents().notes)


def test_times_and_stamps_as_they_are(tmp_path: Path) -> None:
    """Recorded out of order, and twice at a time."""
    times = [3, 1, 2, 2]
    messages = [(FRONT, START + t, raw(shade(n), START)) for n, t in enumerate(times)]
    for storage in STORAGES:
        found, damage = read(write(tmp_path / storage, messages, storage))
        assert [m.time - START for m in found] == [1, 2, 2, 3]
        assert not damage


def test_the_topics_that_are_taken(tmp_path: Path) -> None:
    counts = {'/a': 2, '/a/compressed': 2, '/b/compressed': 1, '/c': 0}
    assert choose_topics(counts) == ['/a', '/b/compressed']
    assert choose_topics(counts, ['a/compressed', '/a']) == ['/a/compressed', '/a']


def test_a_message_that_is_none(tmp_path: Path) -> None:
    bag = write(tmp_path / 'bag', [(FRONT, START, b'\0\1\0\0too short')])
    ((message,), _) = read(bag)
    with pytest.raises(FrameError, match='that are no sensor_msgs/msg/Image') as caught:
        image_of(message)
    assert caught.value.kind == 'message'
    frame = Frame.from_array(shade(0))
    assert image_of(message._replace(data=_whole(frame))).width == 64


def _whole(frame: Frame) -> bytes:
    from trt_perception.replay.message_types import RAW, message_types

    return bytes(message_types().serialize_cdr(raw(frame.pixels(), START), RAW))


# Broken ones: what is made, how many messages of 12 are read, and what is told.


def torn(keep: float, storage: str, compression: str = 'none') -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        bag = write(path / 'bag', two_cameras(), storage, compression)
        tear(files(bag)[0], keep)
        return bag

    return make


def torn_part(path: Path, storage: str, keep: float = 0.5) -> Path:
    parts = [write(path / f'p{n}', two_cameras(n * 2, 2), storage) for n in range(3)]
    bag = split(path / 'bag', parts)
    tear(files(bag)[1], keep)
    return bag


def lost_part(path: Path) -> Path:
    parts = [write(path / f'p{n}', two_cameras(n * 2, 2)) for n in range(3)]
    bag = split(path / 'bag', parts)
    files(bag)[1].unlink()
    return bag


def rotten(path: Path, storage: str) -> Path:
    """Bytes in the middle have become others."""
    bag = write(path / 'bag', two_cameras(), storage, 'storage' if storage == 'mcap' else 'none')
    (file,) = files(bag)
    data = bytearray(file.read_bytes())
    at, size = (150, 9) if storage == 'mcap' else (len(data) // 2, 4096)
    data[at : at + size] = b'\xa5' * size
    file.write_bytes(data)
    return bag


def odd_chunks(path: Path) -> Path:
    """Chunks in a compression that nobody knows."""
    bag = write(path / 'bag', two_cameras(), 'mcap', 'storage')
    (file,) = files(bag)
    file.write_bytes(file.read_bytes().replace(b'zstd', b'snap'))
    return bag


def odd_files(path: Path) -> Path:
    bag = write(path / 'bag', two_cameras())
    (file,) = files(bag)
    name = file.rename(file.with_name(file.name + '.lz4')).name
    return edit(bag, relative_file_paths=[name], compression_format='lz4', compression_mode='file')


def with_log(path: Path) -> Path:
    bag = write(path / 'bag', two_cameras(), 'sqlite3')
    (file,) = files(bag)
    file.with_name(f'{file.name}-wal').write_bytes(b'messages')
    return bag


def without_index(path: Path) -> Path:
    """As a recorder leaves an SQLite file whose index was still in the journal."""
    bag = write(path / 'bag', two_cameras(), 'sqlite3')
    with sqlite3.connect(files(bag)[0]) as database:
        database.execute('DROP INDEX timestamp_idx')
    return bag


def renamed(path: Path) -> Path:
    bag = write(path / 'bag', two_cameras(), 'mcap')
    files(bag)[0].rename(bag / 'drive.mcap')
    return bag


def record(opcode: int, content: bytes) -> bytes:
    return struct.pack('<BQ', opcode, len(content)) + content


def with_records_that_are_none(path: Path) -> Path:
    """A topic that is no text, a message of it, and one that is too short."""
    bag = write(path / 'bag', two_cameras(), 'mcap')
    topic = struct.pack('<HHI', 7, 0, 2) + b'\xff\xff'
    message = struct.pack('<HIQQ', 7, 0, 1, 1)
    files(bag)[0].write_bytes(
        b'\x89MCAP0\r\n' + record(4, topic) + record(5, message) + record(5, b'\x07')
    )
    return bag


def without_its_last_bytes(path: Path) -> Path:
    bag = write(path / 'bag', two_cameras(), 'sqlite3')
    (file,) = files(bag)
    with sqlite3.connect(file) as database:
        database.execute('UPDATE messages SET data = zeroblob(2500)')
        database.commit()
        database.execute('VACUUM')
    file.write_bytes(file.read_bytes()[:-4000])
    return bag


def with_nothing_in_a_message(path: Path) -> Path:
    bag = write(path / 'bag', two_cameras(), 'sqlite3')
    with sqlite3.connect(files(bag)[0]) as database:
        database.execute('UPDATE messages SET data = 5 WHERE id = 3')
    return bag


BROKEN: dict[str, tuple[Callable[[Path], Path], range, str]] = {
    'torn mcap': (torn(0.7, 'mcap'), range(0, 1), 'ends before its end'),
    'torn sqlite3': (torn(0.7, 'sqlite3'), range(3, 12), 'is damaged after'),
    'torn zstd': (torn(0.7, 'sqlite3', 'file'), range(0, 12), 'cannot be unpacked to its end'),
    'empty mcap': (torn(0, 'mcap'), range(0, 1), "file 'bag.mcap' is empty"),
    'empty sqlite3': (torn(0, 'sqlite3'), range(0, 1), "file 'bag.db3' is empty"),
    'torn mcap of three': (lambda p: torn_part(p, 'mcap'), range(8, 9), "'bag_1.mcap' ends"),
    'torn sqlite3 of three': (lambda p: torn_part(p, 'sqlite3'), range(8, 12), "'bag_1.db3'"),
    'empty one of three': (lambda p: torn_part(p, 'mcap', 0), range(8, 9), "'bag_1.mcap' is empty"),
    'lost one of three': (lost_part, range(8, 9), "file 'bag_1.mcap' is missing"),
    'rotten mcap': (lambda p: rotten(p, 'mcap'), range(0, 1), 'record before byte'),
    'rotten sqlite3': (lambda p: rotten(p, 'sqlite3'), range(0, 12), 'is damaged'),
    'odd chunks': (odd_chunks, range(0, 1), "compression 'snap' is not one of zstd, lz4"),
    'log': (with_log, range(12, 13), "'bag.db3-wal' is not read"),
    'no index': (without_index, range(12, 13), ''),
    'renamed': (renamed, range(12, 13), "'bag.mcap' is missing"),
    'records that are none': (with_records_that_are_none, range(0, 12), 'whose topic is not known'),
    'no last bytes': (without_its_last_bytes, range(1, 12), 'messages of it are none'),
    'nothing in one': (with_nothing_in_a_message, range(11, 12), 'a message is no bytes'),
}  # fmt: skip

NOT_IN_AN_INDEX = (
    'rotten mcap', 'rotten sqlite3', 'odd chunks', 'nothing in one', 'no last bytes',
)  # fmt: skip


@pytest.mark.parametrize('name', BROKEN)
def test_broken_bags(tmp_path: Path, name: str) -> None:
    make, counts, words = BROKEN[name]
    bag = make(tmp_path)
    messages, damage = read(bag)
    assert len(messages) in counts
    wanted = {(topic, time) for topic, time, _ in two_cameras()}
    assert {(m.topic, m.time) for m in messages} <= wanted
    assert len({(m.topic, m.time) for m in messages}) == len(messages)
    contents = BagReader(bag).contents()
    # What metadata.yaml says is known all the same, so that what is lost can be counted.
    assert image_topics(contents) == {FRONT: 6, REAR: 6}
    if words:
        assert any(words in text for text in damage)
    if words and name not in NOT_IN_AN_INDEX:
        assert any(words in text for text in contents.damage)


@pytest.mark.parametrize(
    'told',
    [
        '[' * 9999,
        'rosbag2_bagfile_information: {relative_file_paths: ["/"], topics_with_message_count: []}',
        'rosbag2_bagfile_information: {relative_file_paths: [], topics_with_message_count: '
        '[{message_count: .inf, topic_metadata: {name: a, type: b}}]}',
    ],
)
def test_metadata_that_is_none(tmp_path: Path, told: str) -> None:
    bag = write(tmp_path / 'bag', two_cameras())
    (bag / 'metadata.yaml').write_text(told)
    check(read(bag)[0])
    (note,) = BagReader(bag).contents().notes
    assert 'metadata.yaml cannot be read' in note


def test_a_file_that_is_named_twice_is_read_once(tmp_path: Path) -> None:
    bag = write(tmp_path / 'bag', two_cameras())
    edit(bag, relative_file_paths=['bag.mcap', '/elsewhere/bag.mcap'])
    check(read(bag)[0])


def test_what_is_no_bag(tmp_path: Path) -> None:
    (tmp_path / 'notes.txt').write_text('hello')
    for path, words in (
        (tmp_path, 'no .mcap or .db3 file'),
        (tmp_path / 'nothing', 'does not exist'),
        (tmp_path / 'notes.txt', 'no folder and no .mcap'),
        (odd_files(tmp_path), "'bag.mcap.lz4' is none that can be unpacked"),
    ):
        with pytest.raises(BagError, match=words) as caught:
            BagReader(path)
        assert str(path) in str(caught.value)
