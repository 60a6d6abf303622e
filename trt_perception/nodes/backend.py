# SPDX-License-Identifier: Apache-2.0
"""What runs a detector's model on a device, and what becomes of it: built, lost, opened again."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from rclpy.impl.rcutils_logger import RcutilsLogger

from trt_perception.build.engine.recovery import Known, Recovery, instead_of, longer
from trt_perception.build.engine.serving import Offer, Serving, Wish
from trt_perception.core.files import Watched
from trt_perception.ros.diagnostics import ERROR, OK, WARN, Verdict
from trt_perception.runtime.engine import EngineInfo
from trt_perception.runtime.pipeline import AnyPipeline

#: Seconds that a device that was lost has to run until it is opened again at once the next time.
STEADY = 60.0
#: Seconds that diagnostics tell of a loss after it is over, however short it was.
RECENT = 5.0

#: Takes a pipeline, and whether it is one that runs in the place of what was lost.
Run = Callable[[AnyPipeline, bool], None]


class Backend:
    """Follows a `Serving`: hands over its pipelines, logs what happens, judges, and brings it back.

    Attributes:
        file: the model's.
        spec: of the model.
        info: what runs it now; None while nothing does.
        losses: how often the device was lost.
    """

    def __init__(self, logger: RcutilsLogger, device: str, wish: Wish) -> None:
        """Load what is there.

        Raises:
            PerceptionError: what was asked for cannot be had.
        """
        self._wish = wish
        self.file = Watched(wish.model)
        self._serving = Serving(wish)
        self._logger = logger
        self._device = device
        self._told = 0
        self._tracked = True
        self._reason = ''
        self._run: Run = lambda pipeline, instead: pipeline.close()
        self._recovery: Recovery | None = None
        self._pause = 0.0  # of the last recovery, when it was over, and what it was about
        self._mended = 0.0
        self._episode = ''
        self.spec = self._serving.spec
        self.info: EngineInfo | None = None
        self.losses = 0

    def start(self, run: Run) -> None:
        """Hand over the pipeline that there is, and in `follow` each that replaces it."""
        self._run = run
        self._tell_notes()
        self._take(self._serving.take())

    def follow(self, lost: str, in_use: bool, alone: bool) -> None:
        """Look what has become of it; to be called a few times a second. Does not wait.

        Args:
            lost: why the device runs nothing any more; '' if it does, or never did.
            in_use: what it ran before is not freed yet.
            alone: nothing runs the model, on whatever device.
        """
        if lost:
            self.info = None
        if self._recovery is not None:
            self._recover(self._recovery, in_use, alone)
        elif lost and not self._serving.building:  # else the engine to come takes its place
            self._lose(lost)
        else:
            self._track()

    def close(self) -> None:
        """Stop a build; what was handed over is not touched. Does not wait; `join` does."""
        self._serving.close()
        if self._recovery is not None:
            self._recovery.close()

    def join(self) -> None:
        """Wait, after `close`, until nothing is under way any more."""
        self._serving.join()
        if self._recovery is not None:
            self._recovery.join()

    @property
    def busy(self) -> bool:
        """Whether a build is under way, were it only to its end."""
        return self._serving.building

    def __str__(self) -> str:
        if self.info is None:
            return 'nothing yet: its engine is being built'
        return f'{self.info} ({self._reason})'

    @property
    def spare(self) -> bool:
        """Whether something else may run in its place."""
        return instead_of(self._wish, self._serving.tensorrt) is not None

    def judge(self, usual: Verdict) -> Verdict:
        """The usual verdict, unless what was asked for does not run."""
        if self._recovery is not None:
            return usual  # `loss` tells
        problem = self._serving.problem
        if self.info is None:
            if problem:
                return Verdict(ERROR, problem)
            how_far = ', '.join(self._serving.progress.values())
            return Verdict(WARN, f'building the engine: {how_far or "done"}')
        if problem and usual.level == OK:
            return Verdict(WARN, f'{problem}; runs on {self.info}')
        return usual

    @property
    def verdict(self) -> Verdict:
        """How it is with the device itself, whatever other devices do."""
        if self._recovery is not None:
            return Verdict(ERROR, self.loss)
        if self.loss:
            return Verdict(WARN, self.loss)
        return self.judge(Verdict(OK, f'runs on {self.info}'))

    @property
    def loss(self) -> str:
        """How the device was lost and what is done about it; '' if it runs, and has for a while."""
        recovery = self._recovery
        if recovery is None:
            return self._episode if monotonic() - self._mended < RECENT else ''
        told = [f'is out of use: {recovery.why}', recovery.plan]
        if self.info is not None:
            told.append(f'runs on {self.info}')
        elif recovery.lack:
            told.append(f'nothing runs in its place: {recovery.lack}')
        return '; '.join(told)

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
        if self.losses:
            values['times lost'] = self.losses
        if self._recovery is not None:
            values['out of use'] = self._recovery.why
            values['out of use s'] = f'{self._recovery.seconds:.1f}'
            values['attempts'] = self._recovery.attempts
        if problem := self._serving.problem:
            values['problem'] = problem
        return values | self._serving.progress

    def _track(self) -> None:
        """Take what the build gives, until it has ended."""
        if not self._tracked:
            return
        ended = not self._serving.building
        self._tell_notes()
        if self._take(self._serving.take()):
            self._logger.info(f'now runs on {self}')
        if ended:
            self._tracked = False
            if self._serving.problem:
                self._logger.error(self._serving.problem)

    def _lose(self, why: str) -> None:
        self.losses += 1
        steady = not self._mended or monotonic() - self._mended > STEADY
        self._pause = 0.0 if steady else longer(self._pause)
        self._logger.error(f'device {self._device} is out of use: {why}')
        known = Known(self.file, self.spec)
        self._recovery = Recovery(self._wish, known, self._serving.tensorrt, why, self._pause)

    def _recover(self, recovery: Recovery, in_use: bool, alone: bool) -> None:
        failure = recovery.failure
        offer = recovery.look(in_use, alone)
        if recovery.failure != failure:
            self._logger.error(f'device {self._device}: {recovery.plan}')
        if recovery.mended is not None:
            self._serving.close()
            self._serving, self._told, self._recovery = recovery.mended, 0, None
            self._pause, self._mended = recovery.pause, monotonic()
            after = f'after {recovery.seconds:.1f} s out of use'
            self._episode = f'runs again {after}: {recovery.why}'
            self._logger.info(f'device {self._device} {self._episode}')
        if self._take(offer) and recovery.mended is None:
            self._logger.warning(f'device {self._device}: {self} runs in its place meanwhile')

    def _take(self, offer: Offer | None) -> bool:
        if offer is not None:
            self.info, self._reason = offer.pipeline.info, offer.reason
            self._run(offer.pipeline, self._recovery is not None)
        return offer is not None

    def _tell_notes(self) -> None:
        notes = self._serving.notes
        for note in notes[self._told :]:
            self._logger.warning(note)
        self._told = len(notes)
