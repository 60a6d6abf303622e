# SPDX-License-Identifier: Apache-2.0
"""A pipeline on a device of the worker: how fast it is, and whether it still is any good."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from trt_perception.core import Frame, FrameError, Selection
from trt_perception.core.errors import one_line
from trt_perception.runtime.pipeline import AnyPipeline, Result

if TYPE_CHECKING:
    from trt_perception.runtime.worker import _Look

#: Frames one after another that a device fails with, until it is left to the others.
FAILURES = 5
#: Of a new measurement in what a look at so many frames usually takes.
_NEWS = 0.2
#: Of what a look at several is known to take, forgotten each time that it is not worth it.
_FORGOTTEN = 0.002


def takes_out(outcome: object) -> bool:
    """Whether nothing works any more where this came from: the CUDA context is lost, say."""
    return bool(getattr(outcome, 'sticky', False))


class Replica:
    """A pipeline and what is known of its speed."""

    def __init__(self, pipeline: AnyPipeline, spare: bool = False) -> None:
        self.pipeline = pipeline
        self.spare = spare
        self.lanes = int(getattr(pipeline, 'lanes', 1))
        self.batch = int(getattr(pipeline, 'batch', 1))
        self.looks: list[_Look] = []
        self.ended = False
        self._failures = 0  # one after the other
        self._seconds: dict[int, float] = {}

    @property
    def free(self) -> bool:
        return len(self.looks) < self.lanes

    def worth_together(self, waiting: int) -> int:
        """How many of so many frames to look at together.

        One after the other, the last of n is done after n looks at one, and they are done after
        (n + 1) / 2 of them on average; together all are done after one look at n. What was too slow
        is tried again much later: it may have been the first, or something else was in the way.
        """
        most = min(waiting, self.batch)
        one, many = self._seconds.get(1), self._seconds.get(most)
        if most < 2 or one is None or many is None:
            return 1 if one is None else max(most, 1)  # once, to know it
        if many < one * (most + 1) / 2:
            return most
        self._seconds[most] = many * (1 - _FORGOTTEN)
        return 1

    def judge(self, outcomes: Sequence[Result | Exception], others: bool) -> Exception | None:
        """Why it should run no more; None if it may go on.

        It is out of use where nothing works any more, and where it fails with frame after frame
        while there are others: it would be free first each time, and take most of what they could
        look at. So it is where something else can be had instead. What is wrong with a frame itself
        is not its fault.
        """
        for outcome in outcomes:
            if not isinstance(outcome, Exception):
                self._failures = 0
            elif takes_out(outcome):
                return outcome
            elif not isinstance(outcome, FrameError):
                self._failures += 1
                if self._failures >= FAILURES and (others or self.spare):
                    return outcome
        return None

    def learn(self, frames: int, seconds: float) -> None:
        known = self._seconds.get(frames, seconds)
        self._seconds[frames] = known + _NEWS * (seconds - known)

    def look(self, wishes: Sequence[tuple[Frame, Selection]]) -> list[Result | Exception]:
        """What comes of each frame; the threads must outlive whatever one does to them."""
        if len(wishes) > 1:
            try:
                return list(self.pipeline.many(wishes))  # type: ignore[attr-defined]
            except Exception as error:
                if getattr(error, 'sticky', False):
                    return [error] * len(wishes)
        return [self._one(frame, selection) for frame, selection in wishes]

    def give_up(self) -> None:
        """Let the end of the process not wait for the pipeline, where it could."""
        getattr(self.pipeline, 'give_up', lambda: None)()

    def close(self) -> None:
        """Free the pipeline; one that fails in that, as after its device is lost, is let be."""
        try:
            self.pipeline.close()
        except Exception as error:
            logging.getLogger(__name__).warning('a pipeline was not freed: %s', one_line(error))

    def _one(self, frame: Frame, selection: Selection) -> Result | Exception:
        try:
            return self.pipeline(frame, selection)
        except Exception as error:
            return error
