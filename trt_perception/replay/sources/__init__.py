# SPDX-License-Identifier: Apache-2.0
"""Recorded images: a video, a rosbag2 or a folder of pictures, each as frames with their times."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from trt_perception.replay.sources.base import Source, SourceError, TimedFrame, refuse, timeline

__all__ = ['Source', 'SourceError', 'TimedFrame', 'open_source', 'timeline']

_BAG_FILES = ('.mcap', '.db3')


def open_source(
    path: Path, topic: str = '', skip: Callable[[SourceError], None] = refuse
) -> Source:
    """Open recorded images, and prove that the first one can be read.

    Args:
        path: a video file; a rosbag2, as its folder or as a single .mcap or .db3 file; or a folder
            of jpg and png pictures.
        topic: of a bag with several image topics.
        skip: as for `Source.frames`, until the first one that can be read.

    Raises:
        SourceError: not there, not one of these, unreadable, or without images.
    """
    try:
        source = _source(path, topic)
        if next(source.frames(skip), None) is None:
            raise SourceError(f"input '{path}' holds no images")
    except OSError as error:
        raise SourceError(f"input '{path}' cannot be read: {error.strerror}") from None
    return source


def _source(path: Path, topic: str) -> Source:
    if not path.exists():
        raise SourceError(
            f"input '{path}' does not exist; give a video, a rosbag2 or a folder of pictures"
        )
    if path.suffix == '.bag' and path.is_file():
        raise SourceError(
            f"input '{path}' is a bag of ROS 1; convert it with rosbags-convert --src {path} --dst"
            f' {path.with_suffix("")}'
        )
    if _is_bag(path):
        from trt_perception.replay.sources.bag import BagSource

        return BagSource(path, topic)
    if topic:
        raise SourceError(f"topic '{topic}': input '{path}' is no bag and has no topics")
    if path.is_dir():
        from trt_perception.replay.sources.pictures import PictureSource

        return PictureSource(path)
    from trt_perception.replay.sources.video import VideoSource

    return VideoSource(path)


def _is_bag(path: Path) -> bool:
    if not path.is_dir():
        return path.suffix in _BAG_FILES
    # A bag may have lost its metadata.yaml, or be compressed as a whole: .db3.zstd.
    return (path / 'metadata.yaml').exists() or any(
        set(file.suffixes) & set(_BAG_FILES) for file in path.iterdir()
    )
