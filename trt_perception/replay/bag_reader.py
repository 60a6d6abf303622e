# SPDX-License-Identifier: Apache-2.0
"""The messages of a rosbag2, whole or not.

rosbags reads what is whole. Each file of a bag is opened by itself, so that one that is broken does
not cost the others: of that one, what can be read is read without its index, in the order in which
it was written.
"""

from __future__ import annotations

import reprlib
import shutil
import sqlite3
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

from trt_perception.core import PerceptionError
from trt_perception.core.errors import one_line
from trt_perception.replay.mcap import Message, scan
from trt_perception.runtime.yaml_file import YamlError, read_yaml

STORAGES = ('.mcap', '.db3')
METADATA = 'metadata.yaml'
_ZSTD = ('.zst', '.zstd')
_ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'


class BagError(PerceptionError):
    """A bag, or a part of one, that cannot be read or written."""


Damage = Callable[[BagError], None]


@dataclass
class Topic:
    """A topic of a bag.

    Attributes:
        kinds: types of its messages; one, unless somebody made a mess.
        count: messages that the bag says it has, or that were counted where it does not say.
    """

    kinds: set[str] = field(default_factory=set)
    count: int = 0


@dataclass
class Contents:
    """What a bag says of itself.

    Attributes:
        topics: by name.
        start, end: when its first and last message were received, nanoseconds since the epoch; 0
            where there is none.
        notes: what is odd, but takes nothing away from it.
        damage: what cannot be read.
    """

    topics: dict[str, Topic] = field(default_factory=dict)
    start: int = 0
    end: int = 0
    notes: list[str] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)


class BagReader:
    """A rosbag2.

    Attributes:
        path: its folder, or one of its files.
        files: those that hold its messages, in their order.
    """

    def __init__(self, path: Path) -> None:
        """Find its files; `contents` and `messages` open them.

        Raises:
            BagError: there is no bag.
        """
        self.path = path
        self._metadata: dict[str, Any] = {}
        self._notes: list[str] = []
        self._lost: list[str] = []
        try:
            self.files = self._find()
        except OSError as error:
            raise self._error(f'it cannot be read: {error.strerror}') from None
        if not self.files:
            raise self._error('; '.join(['it has no .mcap or .db3 file', *self._lost]))

    def _find(self) -> list[Path]:
        path = self.path
        if not path.exists():
            raise self._error('it does not exist')
        if not path.is_dir():
            if path.suffix == '.bag':
                raise self._error(
                    f'it is of ROS 1; rosbags-convert --src {path} --dst {path.with_suffix("")}'
                )
            if not is_storage(path):
                raise self._error('it is no folder and no .mcap or .db3 file')
            return [path]
        there = sorted(
            (file for file in path.iterdir() if is_storage(file) and not file.is_dir()), key=_place
        )
        self._read_metadata()
        named = [path / name for name in self._metadata.get('files', [])]
        # What a recorder that was killed had not yet moved to where rosbags looks.
        self._lost += [
            f"file '{log.name}' is not read; sqlite3 {file} 'PRAGMA wal_checkpoint' brings what it"
            f" holds into '{file.name}'"
            for file in there
            if (log := file.with_name(f'{file.name}-wal')).exists() and log.stat().st_size
        ]
        self._lost += [
            f"file '{f.name}' is " + ('none that can be unpacked' if f.exists() else 'missing')
            for f in named
            if f not in there
        ]
        # None at all where they were given other names.
        if not (files := [file for file in named if file in there]):
            return there
        self._notes += [
            f"file '{f.name}' is not in {METADATA} and not read" for f in there if f not in named
        ]
        return files

    def _read_metadata(self) -> None:
        file = self.path / METADATA
        if not file.exists():
            self._notes.append(
                f'it has no {METADATA}, as when recording was cut off; its files are read all the'
                f' same (ros2 bag reindex {self.path} writes one)'
            )
            return
        try:
            told = read_yaml(file)['rosbag2_bagfile_information']
            self._metadata = {
                # Those in the folder, whatever place else a path names.
                'files': list(dict.fromkeys(map(_name_of, told['relative_file_paths']))),
                'topics': [
                    (
                        str(t['topic_metadata']['name']),
                        str(t['topic_metadata']['type']),
                        int(t['message_count']),
                    )
                    for t in told['topics_with_message_count']
                ],
                'format': str(told.get('compression_format') or ''),
            }
        except (YamlError, LookupError, TypeError, ValueError, OverflowError) as error:
            self._notes.append(
                f'its {METADATA} cannot be read ({one_line(error)}); its files are read all the'
                ' same'
            )
            return
        if (packed := self._metadata['format']) not in ('', 'zstd'):
            self._notes.append(f"its compression '{packed}' is not zstd and cannot be undone")

    def contents(self) -> Contents:
        """What is inside, by the files' indices; a file without one is read from end to end."""
        found = Contents(notes=list(self._notes), damage=list(self._lost))

        def note(error: BagError) -> None:
            found.damage.append(str(error))

        times = []
        for file in self.files:
            with self._unpacked(file, note) as unpacked:
                times += _look_into(file, unpacked, found.topics, note)
        if times:
            found.start, found.end = min(times), max(times)
        told: dict[str, Topic] = {}
        for name, kind, count in self._metadata.get('topics', []):
            topic = told.setdefault(name, Topic())
            topic.kinds.add(kind)
            topic.count += count
        for name, topic in told.items():
            there = found.topics.setdefault(name, topic)
            there.count = max(there.count, topic.count)
        return found

    def messages(
        self, topics: Collection[str], on_damage: Damage
    ) -> Generator[Message, None, None]:
        """All messages of these topics, file after file, each by the times of their receipt.

        Args:
            on_damage: told of what cannot be read; what it does not raise is left out.
        """
        for reason in self._lost:
            on_damage(BagError(reason))
        for file in self.files:
            with self._unpacked(file, on_damage) as unpacked:
                for message in _messages(file, unpacked, topics, on_damage):
                    whole = _decompressed(message, on_damage)
                    if whole is not None:
                        yield whole

    def at(self, wanted: Collection[tuple[str, int]]) -> Iterator[Message]:
        """The messages that came on a topic at a time, nanoseconds; what is not there is left out.

        A file without an index is read from end to end, and some may come twice then.
        """
        for file in self.files:
            with self._unpacked(file, lambda error: None) as unpacked:
                for message in _at(file, unpacked, wanted):
                    whole = _decompressed(message, lambda error: None)
                    if whole is not None:
                        yield whole

    @contextmanager
    def _unpacked(self, file: Path, on_damage: Damage) -> Iterator[Path]:
        """The file, or where it was unpacked to meanwhile."""
        if file.suffix not in _ZSTD:
            yield file
            return
        from backports import zstd

        with TemporaryDirectory(prefix='trt_perception-bag-') as folder:
            unpacked = Path(folder, file.stem)
            try:
                with unpacked.open('wb') as out, zstd.open(file, 'rb') as packed:
                    shutil.copyfileobj(packed, out, 1 << 20)
            except (EOFError, zstd.ZstdError) as error:
                on_damage(
                    BagError(f"file '{file.name}' cannot be unpacked to its end: {one_line(error)}")
                )
            except OSError as error:
                raise self._error(
                    f"'{file.name}' cannot be unpacked to {folder}: {error.strerror}; TMPDIR names"
                    ' a folder with room'
                ) from None
            yield unpacked

    def _error(self, reason: str) -> BagError:
        return BagError(f"bag '{self.path}': {reason}")


def is_storage(file: Path) -> bool:
    """Whether a file is one that holds messages, by its name: a.mcap, a.db3, a.db3.zstd."""
    packed = file.suffix in _ZSTD
    return (Path(file.stem).suffix if packed else file.suffix) in STORAGES


def _name_of(path: object) -> str:
    """The name of a file of the bag, by what ``metadata.yaml`` calls it."""
    if not isinstance(path, str) or not (name := PurePath(path).name):
        raise ValueError(f'{reprlib.repr(path)} is no name of a file')
    return name


def _place(file: Path) -> tuple[int, str]:
    """Files of a bag are numbered: bag_0, bag_1, ..., bag_10."""
    number = file.name.partition('.')[0].rpartition('_')[2]
    return int(number) if number.isdecimal() else 0, file.name


def _look_into(
    file: Path, unpacked: Path, topics: dict[str, Topic], on_damage: Damage
) -> list[int]:
    """Add the topics of a file; the times of its first and last message, if any."""
    from rosbags.rosbag2 import Reader

    with suppress(Exception), Reader(unpacked) as reader:
        for connection in reader.connections:
            topic = topics.setdefault(connection.topic, Topic())
            topic.kinds.add(connection.msgtype)
            topic.count += connection.msgcount
        return [reader.start_time, reader.end_time - 1] if reader.message_count else []
    times: list[int] = []
    for message in _salvaged(file, unpacked, on_damage):
        topic = topics.setdefault(message.topic, Topic())
        topic.kinds.add(message.kind)
        topic.count += 1
        times = [min([*times[:1], message.time]), max([*times[1:], message.time])]
    return times


def _messages(
    file: Path, unpacked: Path, topics: Collection[str], on_damage: Damage
) -> Iterator[Message]:
    from rosbags.rosbag2 import Reader

    last, told = -1, False

    def tell(error: BagError) -> None:
        nonlocal told
        told = True
        on_damage(error)

    try:
        with Reader(unpacked) as reader:
            wanted = [c for c in reader.connections if c.topic in topics]
            # Of no connection at all rosbags would give all.
            for connection, time, data in reader.messages(wanted) if wanted else ():
                yield Message(connection.topic, connection.msgtype, time, data)
                last = time
        return
    except Exception as error:  # of a broken file rosbags passes on whatever its parts raise
        why = one_line(error)
    for message in _salvaged(file, unpacked, tell):
        if message.topic in topics and message.time > last:
            yield message
    if last >= 0 and not told:
        on_damage(BagError(f"file '{file.name}' is damaged: {why}"))


def _at(file: Path, unpacked: Path, wanted: Collection[tuple[str, int]]) -> Iterator[Message]:
    from rosbags.rosbag2 import Reader

    with suppress(Exception), Reader(unpacked) as reader:
        for topic, time in wanted:
            connections = [c for c in reader.connections if c.topic == topic]
            if connections and reader.start_time <= time < reader.end_time:
                for connection, at, data in reader.messages(connections, time, time + 1):
                    yield Message(connection.topic, connection.msgtype, at, data)
        return
    for message in _salvaged(file, unpacked, lambda error: None):
        if (message.topic, message.time) in wanted:
            yield message


def _salvaged(file: Path, unpacked: Path, on_damage: Damage) -> Iterator[Message]:
    """What a file holds, as far as it can be read."""

    def tell(error: PerceptionError) -> None:
        on_damage(BagError(str(error).replace(f"'{unpacked}'", f"file '{file.name}'")))

    try:
        if not unpacked.stat().st_size:
            tell(BagError(f"'{unpacked}' is empty"))
        elif unpacked.suffix == '.mcap':
            yield from scan(unpacked, tell)
        else:
            yield from _rows(unpacked, tell)
    except PerceptionError as error:
        tell(error)
    except OSError as error:
        tell(BagError(f"'{unpacked}' cannot be read: {error.strerror}"))


def _rows(file: Path, tell: Callable[[PerceptionError], None]) -> Iterator[Message]:
    """The messages of an SQLite file, by their numbers; without its index, which may be gone."""
    count = strange = 0
    address = f'file:{quote(str(file))}?immutable=1'
    with closing(sqlite3.connect(address, uri=True)) as database:
        try:
            # SQLite opens a file that is shorter than it should be only for those who mend it.
            database.execute('PRAGMA writable_schema = ON')
            topics = {
                number: (str(name), str(kind))
                for number, name, kind in database.execute('SELECT id, name, type FROM topics')
            }
            for number, time, data in database.execute(
                'SELECT topic_id, timestamp, data FROM messages NOT INDEXED'
            ):
                # What is missing at the end of the file is read as zeros.
                if number in topics:
                    yield Message(*topics[number], time, data)
                    count += 1
                else:
                    strange += 1
            if strange:
                tell(BagError(f"'{file}' is damaged: {strange} messages of it are none"))
        except sqlite3.DatabaseError as error:
            after = f'is damaged after {count} messages' if count else 'cannot be read'
            tell(BagError(f"'{file}' {after}: {one_line(error)}"))


def _decompressed(message: Message, on_damage: Damage) -> Message | None:
    # SQLite holds anything in any column.
    if not isinstance(message.data, bytes) or not isinstance(message.time, int):
        on_damage(BagError(f'topic {message.topic}: a message is no bytes, or has no time'))
        return None
    if message.data[:4] != _ZSTD_MAGIC:  # no CDR begins so
        return message
    from backports import zstd

    try:
        return message._replace(data=zstd.decompress(message.data))
    except zstd.ZstdError as error:
        on_damage(BagError(f'topic {message.topic}: a message cannot be unpacked: {error}'))
        return None
