# SPDX-License-Identifier: Apache-2.0
"""Pictures of a few frames of a replay, out of the bag that it was made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from trt_perception.core import Frame, FrameError, PerceptionError
from trt_perception.replay.bag_reader import METADATA, BagReader
from trt_perception.replay.sources.bag import image_of


class Wanted(NamedTuple):
    """A frame: its topic, its header's stamp and when it was recorded, nanoseconds."""

    topic: str
    stamp: int
    time: int


def find_images(
    summary: dict[str, Any], wanted: Iterable[Wanted], drawn: Callable[[Frame], bytes]
) -> tuple[dict[int, bytes], str]:
    """Read frames again.

    Args:
        summary: ``replay.json``.
        wanted: in any order.
        drawn: makes of a frame what is kept of it: a dozen of 4K would fill the memory.

    Returns:
        What was made of those that were found, by their place in ``wanted``; and, where some were
        not, why.
    """
    path = Path(summary['bag']['path'])
    try:
        bag = BagReader(path)
        now = {file.name: file.stat().st_size for file in bag.files}
    except (PerceptionError, OSError):
        return {}, f"the bag '{path}' is gone"
    # Its hash would take as long as the replay did.
    then = {f['name']: f['bytes'] for f in summary['bag']['files'] if f['name'] != METADATA}
    if now != then:
        return {}, f"the bag '{path}' is another one now"
    places = {frame: place for place, frame in enumerate(wanted)}
    found: dict[int, bytes] = {}
    for message in bag.at({(frame.topic, frame.time) for frame in places}):
        with suppress(FrameError):
            frame = image_of(message)
            place = places.get(Wanted(message.topic, frame.stamp.nanoseconds, message.time))
            if place is not None:
                found[place] = drawn(frame)
    return found, '' if len(found) == len(places) else f"some are not found in '{path}' again"
