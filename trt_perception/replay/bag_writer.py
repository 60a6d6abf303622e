# SPDX-License-Identifier: Apache-2.0
"""Images into a rosbag2."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import cv2

from trt_perception.core import Frame
from trt_perception.replay.bag_reader import BagError
from trt_perception.replay.message_types import COMPRESSED, RAW, message_types
from trt_perception.replay.sources.base import TimedFrame
from trt_perception.runtime.host.color import to_bgr

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

Storage = Literal['mcap', 'sqlite3']


def write_bag(
    path: Path,
    frames: Iterable[TimedFrame],
    storage: Storage = 'mcap',
    topic: str = '/camera/image_raw',
    compressed: bool = False,
) -> int:
    """Write frames as one image topic. The bag appears under its name when it is whole.

    A frame's time in the bag is its offset from the first frame's stamp; that is its stamp too if
    it has none.

    Args:
        path: folder to make; it must not exist yet.
        frames: in the order of their offsets.
        topic: of the messages, as it is: image_transport's ending is not added.
        compressed: write ``CompressedImage``, pixels as JPEG; else ``Image``, pictures decoded to
            bgr8.

    Returns:
        How many were written.

    Raises:
        BagError: there is something at the path already, or no frame came.
        FrameError: a picture cannot be decoded.
    """
    from rosbags.rosbag2 import StoragePlugin, Writer

    if path.exists():
        raise BagError(f"bag '{path}' exists already; give another name or remove it")
    types = message_types()
    kind = COMPRESSED if compressed else RAW
    start, number = 0, 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=f'.{path.name}-') as folder:
        # The files inside are named after the bag.
        unfinished = Path(folder, path.name)
        plugin = StoragePlugin[storage.upper()]
        with Writer(unfinished, version=8, storage_plugin=plugin) as writer:
            connection = writer.add_connection(topic, kind, typestore=types)
            for offset, frame in frames:
                start = start if number else frame.stamp.nanoseconds
                time = start + offset
                message = _message(frame, kind, time, types)
                writer.write(connection, time, types.serialize_cdr(message, kind))
                number += 1
        if not number:
            raise BagError(f"bag '{path}': no frames to write")
        unfinished.rename(path)
    return number


def _message(frame: Frame, kind: str, time: int, types: Typestore) -> Any:
    known = types.types
    sec, nanosec = frame.stamp if frame.stamp.nanoseconds else divmod(time, 1_000_000_000)
    header = known['std_msgs/msg/Header'](
        stamp=known['builtin_interfaces/msg/Time'](sec=sec, nanosec=nanosec),
        frame_id=frame.frame_id,
    )
    if kind == COMPRESSED:
        encoding, data = frame.encoding, frame.data
        if not frame.compressed:
            encoding, data = 'jpeg', cv2.imencode('.jpg', to_bgr(frame))[1].reshape(-1)
        return known[kind](header=header, format=encoding, data=data)
    if frame.compressed:
        frame = Frame.from_array(to_bgr(frame))
    return known[kind](
        header=header,
        height=frame.height,
        width=frame.width,
        encoding=frame.encoding,
        is_bigendian=0,
        step=frame.step,
        data=frame.data,
    )
