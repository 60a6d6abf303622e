# SPDX-License-Identifier: Apache-2.0
"""A pipeline that stays loaded while nobody runs it."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from trt_perception.core import Frame, ModelSpec, Selection
from trt_perception.runtime.engine import EngineInfo
from trt_perception.runtime.pipeline import AnyPipeline, Result


class KeptPipeline:
    """A pipeline that is freed by the last `close`: of its keeper, and of each who was lent it.

    So a worker, which frees what it has no use for, can be given the same one again.

    Attributes:
        lanes, batch: of the pipeline; 1 where it has none.
    """

    def __init__(self, pipeline: AnyPipeline) -> None:
        self._pipeline = pipeline
        self._lock = threading.Lock()
        self._holders = 1
        self.lanes = int(getattr(pipeline, 'lanes', 1))
        self.batch = int(getattr(pipeline, 'batch', 1))

    @property
    def spec(self) -> ModelSpec:
        """What the model wants and gives."""
        return self._pipeline.spec

    @property
    def info(self) -> EngineInfo:
        """What runs it."""
        return self._pipeline.info

    def lend(self) -> KeptPipeline:
        """Give it to one who closes it."""
        with self._lock:
            self._holders += 1
        return self

    def __call__(self, frame: Frame, selection: Selection) -> Result:
        """Detect; the arguments and errors are the pipeline's."""
        return self._pipeline(frame, selection)

    def many(self, wishes: Sequence[tuple[Frame, Selection]]) -> list[Result]:
        """Detect in several frames together, where `batch` allows for it."""
        found: list[Result] = self._pipeline.many(wishes)  # type: ignore[attr-defined]
        return found

    def warm_up(self) -> None:
        """Run once."""
        self._pipeline.warm_up()

    def give_up(self) -> None:
        """It hangs: the end of the process does not wait for it, where that is known how."""
        getattr(self._pipeline, 'give_up', lambda: None)()

    def close(self) -> None:
        """Hold it no more; once for each who does."""
        with self._lock:
            self._holders -= 1
            last = not self._holders
        if last:
            self._pipeline.close()
