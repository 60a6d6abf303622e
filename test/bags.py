# SPDX-License-Identifier: Apache-2.0
"""Bags as recorders write them: of several cameras and files, compressed, and broken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from trt_perception.replay.message_types import COMPRESSED, RAW, message_types

START = 1_700_000_000 * 1_000_000_000
STEP = 100_000_000
FRONT, REAR = '/front/image_raw', '/rear/image_raw/compressed'


def gray(number: int) -> np.ndarray:
    """(48, 64, 3) uint8; 12 of them of another shade."""
    return np.full((48, 64, 3), 16 + 20 * (number % 12), np.uint8)


def header(time: int, frame_id: str = 'camera') -> Any:
    types = message_types().types
    stamp = types['builtin_interfaces/msg/Time'](*divmod(time, 1_000_000_000))
    return types['std_msgs/msg/Header'](stamp=stamp, frame_id=frame_id)


def raw(image: np.ndarray, time: int, encoding: str = 'bgr8') -> Any:
    """``Image`` as it is published."""
    height, width = image.shape[:2]
    return message_types().types[RAW](
        header=header(time), height=height, width=width, encoding=encoding, is_bigendian=0,
        step=image.nbytes // height, data=image.reshape(-1).view(np.uint8),
    )  # fmt: skip


def packed(image: np.ndarray, time: int, kind: str = '.jpg') -> Any:
    """``CompressedImage`` as it is published."""
    data = cv2.imencode(kind, image)[1].reshape(-1)
    return message_types().types[COMPRESSED](header=header(time), format='jpeg', data=data)


def two_cameras(first: int = 0, count: int = 6) -> Iterator[tuple[str, int, Any]]:
    """Topic, time and message of a raw camera and a compressed one, taking turns."""
    for number in range(first, first + count):
        time = START + number * STEP
        yield FRONT, time, raw(gray(number), time - 5)
        yield REAR, time + STEP // 2, packed(gray(number), time + STEP // 2 - 5)


def write(
    path: Path,
    messages: Any,
    storage: str = 'mcap',
    compression: str = 'none',
) -> Path:
    """A bag of these messages: topic, time, message (or the bytes that stand for an ``Image``)."""
    types = message_types()
    plugin = StoragePlugin[storage.upper()]
    writer = Writer(path, version=8, storage_plugin=plugin)
    writer.set_compression(CompressionMode[compression.upper()], CompressionFormat.ZSTD)
    connections: dict[tuple[str, str], Any] = {}
    with writer:
        for topic, time, message in messages:
            kind = RAW if isinstance(message, bytes) else message.__msgtype__
            if (topic, kind) not in connections:
                connections[topic, kind] = writer.add_connection(topic, kind, typestore=types)
            data = message if isinstance(message, bytes) else types.serialize_cdr(message, kind)
            writer.write(connections[topic, kind], time, data)
    return path


def split(path: Path, parts: Sequence[Path]) -> Path:
    """One bag of several files, as the recorder splits it."""
    whole: dict[str, Any] = {}
    path.mkdir()
    for number, part in enumerate(parts):
        told = yaml.safe_load((part / 'metadata.yaml').read_text())
        info = told['rosbag2_bagfile_information']
        (name,) = info['relative_file_paths']
        new = f'{path.name}_{number}{name[name.index(".") :]}'
        (part / name).rename(path / new)
        info['relative_file_paths'] = [new]
        if not whole:
            whole = told
            continue
        before = whole['rosbag2_bagfile_information']
        before['relative_file_paths'].append(new)
        for topic, other in zip(
            before['topics_with_message_count'], info['topics_with_message_count'], strict=True
        ):
            topic['message_count'] += other['message_count']
    (path / 'metadata.yaml').write_text(yaml.safe_dump(whole))
    return path


def files(bag: Path) -> list[Path]:
    """Those that hold its messages."""
    return sorted(file for file in bag.iterdir() if file.name != 'metadata.yaml')


def edit(bag: Path, **told: Any) -> Path:
    """Change what its metadata.yaml says."""
    file = bag / 'metadata.yaml'
    whole = yaml.safe_load(file.read_text())
    whole['rosbag2_bagfile_information'].update(told)
    file.write_text(yaml.safe_dump(whole))
    return bag


def tear(file: Path, keep: float) -> None:
    """Cut a file off."""
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * keep)])
