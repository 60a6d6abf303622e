# SPDX-License-Identifier: Apache-2.0
"""What runs a detector's model, and what becomes of an engine that is built for it meanwhile."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.clock import Clock
from rclpy.node import Node
from rclpy.timer import Timer

from trt_perception.build.engine.serving import Serving, Wish
from trt_perception.ros.diagnostics import ERROR, OK, WARN, Verdict
from trt_perception.runtime.engine import EngineInfo
from trt_perception.runtime.pipeline import AnyPipeline

#: Seconds between two looks at a build.
PERIOD = 0.2


class Backend:
    """Follows a `Serving`: hands over its pipelines, logs what happens, judges.

    Attributes:
        spec: of the model.
        info: what runs it now; None while nothing does.
    """

    def __init__(self, node: Node, clock: Clock, wish: Wish) -> None:
        """Load what is there.

        Args:
            clock: that ticks whatever the node's does.

        Raises:
            PerceptionError: what was asked for cannot be had.
        """
        self._serving = Serving(wish)
        self._node = node
        self._clock = clock
        self._told = 0
        self._reason = ''
        self._timer: Timer | None = None
        self._run: Callable[[AnyPipeline], None] = lambda pipeline: pipeline.close()
        self.spec = self._serving.spec
        self.info: EngineInfo | None = None

    def start(self, run: Callable[[AnyPipeline], None]) -> None:
        """Hand over the pipeline that there is, and each that replaces it, on the executor."""
        self._run = run
        self._tell_notes()
        self._take()
        self._timer = self._node.create_timer(PERIOD, self._follow, clock=self._clock)

    def close(self) -> None:
        """Stop a build; what was handed over is not touched. Does not wait; `join` does."""
        self._serving.close()
        if self._timer is not None:
            self._node.destroy_timer(self._timer)

    def join(self) -> None:
        """Wait, after `close`, until nothing is under way any more."""
        self._serving.join()

    @property
    def busy(self) -> bool:
        """Whether a build is under way, were it only to its end."""
        return self._serving.building

    def __str__(self) -> str:
        if self.info is None:
            return 'nothing yet: its engine is being built'
        return f'{self.info} ({self._reason})'

    def judge(self, usual: Verdict) -> Verdict:
        """The usual verdict, unless what was asked for does not run."""
        problem = self._serving.problem
        if self.info is None:
            if problem:
                return Verdict(ERROR, problem)
            how_far = ', '.join(self._serving.progress.values())
            return Verdict(WARN, f'building the engine: {how_far or "done"}')
        if problem and usual.level == OK:
            return Verdict(WARN, f'{problem}; runs on {self.info}')
        return usual

    def values(self) -> dict[str, object]:
        """What runs and why, and how far a build is, for diagnostics."""
        values: dict[str, object] = {}
        if self.info is not None:
            values = {
                'backend': self.info.backend,
                'device': self.info.device,
                'precision': self.info.precision,
                'reason': self._reason,
            }
        if problem := self._serving.problem:
            values['problem'] = problem
        return values | self._serving.progress

    def _follow(self) -> None:
        ended = not self._serving.building
        self._tell_notes()
        if self._take():
            self._node.get_logger().info(f'now runs on {self}')
        if ended and self._timer is not None:
            self._timer.cancel()
            if self._serving.problem:
                self._node.get_logger().error(self._serving.problem)

    def _take(self) -> bool:
        offer = self._serving.take()
        if offer is not None:
            self.info, self._reason = offer.pipeline.info, offer.reason
            self._run(offer.pipeline)
        return offer is not None

    def _tell_notes(self) -> None:
        notes = self._serving.notes
        for note in notes[self._told :]:
            self._node.get_logger().warning(note)
        self._told = len(notes)
