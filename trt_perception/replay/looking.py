# SPDX-License-Identifier: Apache-2.0
"""Recorded images through a pipeline, as fast as the machine allows and in their order."""

from __future__ import annotations

import dataclasses
import os
import queue
import threading
from collections.abc import Generator, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from time import perf_counter_ns
from typing import NamedTuple

import numpy as np

from trt_perception.core import Detections, Frame, FrameError, Selection
from trt_perception.replay.mcap import Message
from trt_perception.replay.sources.bag import image_of
from trt_perception.runtime.host.color import to_pixels
from trt_perception.runtime.pipeline import AnyPipeline, Result

#: Images that are decoded at a time, at most: each takes its size in memory.
MOST_DECODERS = 16
#: Images that are read ahead, or wait to be written, for each thread that looks at one.
_AHEAD = 2
_NOTHING = np.zeros(0, np.uint8)  # no view: that would keep the image


class Look(NamedTuple):
    """What came of one image.

    Attributes:
        frame: its header and size, without its pixels; None if it could not even be read.
        encoding: as it was recorded.
        detections: what was found, or why nothing could be.
        latencies_ms: by stage, see `trt_perception.replay.result`.
    """

    topic: str
    time: int
    frame: Frame | None
    encoding: str
    detections: Detections | FrameError
    latencies_ms: dict[str, float]


def look_at(
    messages: Iterable[Message], pipeline: AnyPipeline, selections: Mapping[str, Selection]
) -> Generator[Look, None, None]:
    """Look at every image, several at a time; what came of them is given in their order.

    One thread reads, several decode and run the pipeline, and whoever asks for the results writes
    them meanwhile. All of them wait for the slowest, so that few images are in memory.

    Args:
        messages: iterated by a thread of its own.
        selections: what is wanted of the images of each topic.

    Raises:
        EngineError, DecodeError: the network could not be run, or its decoder is wrong.
        PerceptionError: what reading the messages raises.
    """
    lanes = int(getattr(pipeline, 'lanes', 1))
    threads = lanes + min(os.cpu_count() or 1, MOST_DECODERS)
    flow = _Flow(pipeline, selections, lanes)
    room = threading.Semaphore(threads * _AHEAD)
    # Bounded by the room that there is.
    pending: queue.SimpleQueue[Future[Look] | BaseException | None] = queue.SimpleQueue()
    stop = threading.Event()

    def read() -> None:
        try:
            for message in messages:
                room.acquire()
                if stop.is_set():
                    return
                pending.put(pool.submit(flow.look, message))
                del message  # the next one takes its time
            pending.put(None)
        except BaseException as error:
            pending.put(error)
        finally:
            if isinstance(messages, Generator):
                messages.close()  # in the thread that has opened what it reads

    with ThreadPoolExecutor(threads, 'look') as pool:
        reader = threading.Thread(target=read, name='read')
        reader.start()
        try:
            while (waiting := pending.get()) is not None:
                if isinstance(waiting, BaseException):
                    raise waiting
                yield waiting.result()
                room.release()
        finally:
            stop.set()
            room.release()
            reader.join()
            pool.shutdown(cancel_futures=True)


class _Flow:
    """A pipeline that several threads use, each with an image that it decodes itself."""

    def __init__(
        self, pipeline: AnyPipeline, selections: Mapping[str, Selection], lanes: int
    ) -> None:
        self._pipeline = pipeline
        self._selections = selections
        self._lanes = threading.Semaphore(lanes)

    def look(self, message: Message) -> Look:
        latencies: dict[str, float] = {}
        encoding, header = '', None
        found: Detections | FrameError
        try:
            begun = perf_counter_ns()
            frame = image_of(message)
            encoding, header = frame.encoding, _header(frame)
            frame = _decoded(frame)
            header = _header(frame)
            decoded = perf_counter_ns()
            result, taken = self._run(frame, self._selections[message.topic])
            found = result.detections
            latencies = {
                'image': (decoded - begun) / 1e6,
                **{stage: ns / 1e6 for stage, ns in result.times._asdict().items()},
                'total': (decoded - begun + taken) / 1e6,
            }
        except FrameError as error:
            found = error
        return Look(message.topic, message.time, header, encoding, found, latencies)

    def _run(self, frame: Frame, selection: Selection) -> tuple[Result, int]:
        """Detect; and the nanoseconds that it took once it was this frame's turn."""
        with self._lanes:
            begun = perf_counter_ns()
            result = self._pipeline(frame, selection)
            return result, perf_counter_ns() - begun


def _decoded(frame: Frame) -> Frame:
    """With the pixels that the pipeline would decode a JPEG or PNG to, and by the same function."""
    if not frame.compressed:
        return frame
    return Frame.from_array(
        to_pixels(frame).image, stamp=frame.stamp, frame_id=frame.frame_id, source=frame.source
    )


def _header(frame: Frame) -> Frame:
    return dataclasses.replace(frame, data=_NOTHING)
