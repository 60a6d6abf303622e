# SPDX-License-Identifier: Apache-2.0
"""A detector of two cameras that send all the time, and faults that are injected into it.

The tests and ``benchmarks/faults.py`` use it. One camera, ``front``, sends as often as it is told
to; the other, ``rear``, sends its next image when the last one is answered, so that none of its
images is ever dropped for a newer one and every one that is missing was lost to the fault.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from time import monotonic, sleep
from typing import Any, NamedTuple

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.srv import ChangeState
from rclpy.parameter import Parameter
from vision_msgs.msg import Detection2DArray
from world import NO_BUDGET, RELIABLE, Camera, World, values

from trt_perception.core import Frame, Stamp
from trt_perception.health.statistics import FrameCounts
from trt_perception.nodes.detector import DetectorNode
from trt_perception.ros.images import image_msg

CAMERAS = ['front', 'rear']
RATE = 20.0  # of the front camera
#: Seconds after which the rear camera does not wait for an answer any more.
PATIENCE = 1.0
#: Seconds that an answer gets that is under way when all is well again.
UNDER_WAY = 0.3


class Outcome(NamedTuple):
    """What a fault did.

    Attributes:
        named: the message on diagnostics.
        detected: seconds from the injection to that message.
        recovered: seconds from the end of the fault to the first answer to an image sent after it.
        well: seconds from the end of the fault until diagnostics say that all is well.
        blind: the most seconds without an answer for the front camera from the injection to then.
        sent, lost: images of the front camera from the injection to then, and those of them that
            were not answered.
        others_sent, others_lost: of the rear camera.
    """

    named: str
    detected: float
    recovered: float
    well: float
    blind: float
    sent: int
    lost: int
    others_sent: int
    others_lost: int


class Source:
    """A camera that stamps with the present time, and what was answered.

    Attributes:
        rate: images a second; 0 waits for the answer to each.
        clock: what it stamps with, nanoseconds.
        skew: seconds that its clock is ahead.
        frozen: it repeats its last image.
    """

    def __init__(self, world: World, name: str, rate: float) -> None:
        self.name = name
        self.rate = rate
        self.clock: Callable[[], int] = lambda: world.node.get_clock().now().nanoseconds
        self.skew = 0.0
        self.frozen = False
        self.sent: list[int] = []  # stamps
        self.answered: dict[int, float] = {}  # stamp: when
        self._world = world
        self._camera: Camera | None = None
        self._probes: list[int] = []
        self._sent_at = 0.0
        world.node.create_subscription(
            Detection2DArray, f'{name}/detections', self._on_answer, RELIABLE
        )

    def leave(self) -> None:
        """The camera is unplugged."""
        camera, self._camera = self._camera, None
        assert camera is not None
        sleep(0.05)  # for an image that is being sent
        camera.close()

    def come_back(self) -> None:
        """It is plugged in; the first image that is answered shows that all are heard."""
        camera = Camera(self._world, f'{self.name}/image').until_heard()
        first = len(self.sent)
        while not any(stamp in self.answered for stamp in self.sent[first:]):
            self._send(camera, self.clock())
            sleep(0.05)
        self._probes += self.sent[first:]
        self._camera = camera

    @property
    def heard(self) -> range:
        """How many images may have been heard: not all of those that were sent to be heard."""
        unheard = sum(stamp not in self.answered for stamp in self._probes)
        return range(len(self.sent) - unheard, len(self.sent) + 1)

    def blind(self, since: float, until: float) -> float:
        """The most seconds between two answers, or from the beginning to the first."""
        times = sorted(at for at in (*self.answered.values(), since, until) if since <= at <= until)
        return max(later - sooner for sooner, later in pairwise(times))

    def step(self) -> None:
        """Send an image if one is due."""
        now = monotonic()
        if self.rate:
            due = now >= self._sent_at + 1 / self.rate
        else:
            answered = not self.sent or self.sent[-1] in self.answered
            due = now >= self._sent_at + (1 / RATE if answered else PATIENCE)
        if due:
            self._sent_at = now
            self.send()

    def send(self, stamp: int | None = None) -> None:
        """Send an image now.

        Args:
            stamp: nanoseconds, in the place of the present time.
        """
        if self._camera is not None:
            ahead = int(self.skew * 1e9)
            self._send(self._camera, self.clock() + ahead if stamp is None else stamp)

    def _send(self, camera: Camera, stamp: int) -> None:
        number = 0 if self.frozen else len(self.sent) % 251 + 1
        pixels = np.full((64, 64, 3), number, np.uint8)
        self.sent.append(stamp)
        camera.send(image_msg(Frame.from_array(pixels, 'rgb8', stamp=Stamp.of(stamp))))

    def _on_answer(self, message: Detection2DArray) -> None:
        stamp = message.header.stamp
        self.answered[stamp.sec * 1_000_000_000 + stamp.nanosec] = monotonic()


class Rig:
    """The detector, its cameras, and all that is said of them."""

    def __init__(self, world: World, model: Path, node: bool = True, **parameters: Any) -> None:
        """Start them.

        Args:
            node: in this process; else somebody starts one elsewhere.
        """
        self.world = world
        self.said: list[tuple[float, DiagnosticStatus]] = []
        world.node.create_subscription(
            DiagnosticArray, '/diagnostics', self._on_diagnostics, RELIABLE
        )
        self.front, self.rear = (
            Source(world, name, rate) for name, rate in zip(CAMERAS, (RATE, 0.0), strict=True)
        )
        self.node: DetectorNode | None = None
        if node:
            given = {'model': str(model), 'threads': 1, 'cameras': CAMERAS, **NO_BUDGET}
            overrides = [Parameter(n, value=v) for n, v in {**given, **parameters}.items()]
            self.node = DetectorNode(context=world.context, parameter_overrides=overrides)
            world.add(self.node)
        self._sending = True
        self._thread = threading.Thread(target=self._send)
        self._begun = False

    def start(self, sources: Sequence[Source] = ()) -> Rig:
        """Let the cameras send, or some of them, and wait until all is well."""
        for source in sources or (self.front, self.rear):
            source.come_back()
        self._begun = True
        self._thread.start()
        self.until_well(monotonic())
        return self

    def close(self) -> None:
        self._sending = False
        if self._begun:
            self._thread.join()

    def endure(
        self,
        inject: Callable[[], object],
        words: str,
        clear: Callable[[], object] = lambda: None,
        task: str = 'inference',
    ) -> Outcome:
        """Inject a fault, wait until it is named, end it, and wait until all is well.

        Args:
            words: a pattern that the message fits which names it.
            task: whose status says so.
        """
        # From images on that were sent before: whatever is in flight is part of it.
        sent = len(self.front.sent), len(self.rear.sent)
        begun = monotonic()
        inject()
        at, status = self.until_says(task, words, begun)
        ended = monotonic()
        first = len(self.front.sent)
        clear()
        recovered = self.world.until(lambda: self._first_answer(first), 'answers again')
        well = self.until_well(ended)
        return Outcome(
            status.message,
            at - begun,
            recovered - ended,
            well - ended,
            self.front.blind(begun, well),
            *self.lost(self.front, sent[0]),
            *self.lost(self.rear, sent[1]),
        )

    def until_says(self, task: str, words: str, since: float) -> tuple[float, DiagnosticStatus]:
        """The first status of a task from then on with these words, and when it came."""

        def found() -> tuple[float, DiagnosticStatus] | None:
            return next(
                (
                    (at, status)
                    for at, status in tuple(self.said)
                    if at >= since
                    and status.name.endswith(f': {task}')
                    and re.search(words, status.message)
                ),
                None,
            )

        return self.world.until(found, f'{task}: {words!r}; last {self.last(task).message!r}')

    def last(self, task: str) -> DiagnosticStatus:
        """What was said last."""
        said = self._of(task, 0.0)
        return said[-1][1] if said else DiagnosticStatus()

    def until_well(self, since: float) -> float:
        """Wait until the detector and both cameras are well; when they were."""
        return max(self._until_level(task, since) for task in ('inference', *CAMERAS))

    def counts(self, camera: str) -> dict[str, int]:
        """Its counters, once they tell where every image went; the camera must be silent."""

        def complete() -> dict[str, int]:
            told = values(self.last(camera))
            counted = {k: int(v) for k, v in told.items() if v.isdecimal()}
            whole = counted['received'] == sum(counted[f] for f in FrameCounts.FATES)
            return counted if whole else {}

        return self.world.until(complete, f'{camera} accounted for: {values(self.last(camera))}')

    def configure_anew(self) -> None:
        """As the user is told to do, while the cameras go on."""
        for label in ('deactivate', 'cleanup', 'configure', 'activate'):
            request = ChangeState.Request()
            request.transition.label = label
            assert self.world.call(ChangeState, 'detector/change_state', request).success, label

    def finish(self) -> dict[str, dict[str, int]]:
        """Let the cameras be silent; the counters of each once all images are accounted for."""
        self._sending = False
        self._thread.join()
        self._begun = False
        silent = monotonic() + 0.2
        sources = {source.name: source for source in (self.front, self.rear)}
        for name in sources:
            self.until_says(name, '', silent)
        return {name: self.counts(name) for name in sources}

    def lost(self, source: Source, since: int) -> tuple[int, int]:
        """How many images were sent from this one on, and how many of them were not answered."""
        until = len(source.sent)
        give_up = monotonic() + UNDER_WAY
        while monotonic() < give_up and self._missing(source, since, until):
            sleep(0.02)
        return until - since, self._missing(source, since, until)

    @staticmethod
    def _missing(source: Source, since: int, until: int) -> int:
        return sum(stamp not in source.answered for stamp in source.sent[since:until])

    def _first_answer(self, since: int) -> float:
        answers = self.front.answered
        return min((answers[s] for s in self.front.sent[since:] if s in answers), default=0.0)

    def _of(self, task: str, since: float) -> list[tuple[float, DiagnosticStatus]]:
        return [
            (at, status)
            for at, status in tuple(self.said)
            if at >= since and status.name.endswith(f': {task}')
        ]

    def _until_level(self, task: str, since: float) -> float:
        def found() -> float:
            said = self._of(task, since)
            return next((at for at, s in said if s.level == DiagnosticStatus.OK), 0.0)

        return self.world.until(found, f'{task} is well; last {self.last(task).message!r}')

    def _send(self) -> None:
        while self._sending:
            self.front.step()
            self.rear.step()
            sleep(0.004)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self.said += [(monotonic(), status) for status in message.status]
