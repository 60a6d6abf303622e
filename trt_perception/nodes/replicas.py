# SPDX-License-Identifier: Apache-2.0
"""The model on every device that it is to run on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from rclpy.impl.rcutils_logger import RcutilsLogger

from trt_perception.build.engine.serving import Wish, choose
from trt_perception.core import ModelSpec, PerceptionError
from trt_perception.core.files import Watched
from trt_perception.nodes.backend import Backend
from trt_perception.ros.diagnostics import ERROR, WARN, Verdict
from trt_perception.runtime.engine import EngineInfo
from trt_perception.runtime.pipeline import AnyPipeline


class Replicas:
    """A `Backend` for each device; the first that works decides what the model is.

    A device that has nothing to run the model with is left out and said, as long as another has.
    """

    def __init__(self, logger: RcutilsLogger, wish: Wish, devices: Sequence[str]) -> None:
        """Load what is there.

        Args:
            devices: in the place of the wish's own.

        Raises:
            PerceptionError: what was asked for cannot be had on any device.
        """
        self.backends: dict[str, Backend] = {}
        self.absent: dict[str, str] = {}  # device: why it is left out
        first: PerceptionError | None = None
        for device in devices:
            # One processor, one model on it meanwhile: the others wait for their engines.
            wanted = replace(wish, device=device, fallback=wish.fallback and not self.backends)
            try:
                if self.backends and not (choice := choose(wanted)).tensorrt:
                    raise PerceptionError(f'the processor is in use already: {choice.reason}')
                self.backends[device] = Backend(logger, device, wanted)
            except PerceptionError as error:
                first = first or error
                self.absent[device] = str(error)
            except BaseException:
                self.close()
                raise
        if not self.backends:
            assert first is not None
            raise first
        for device, why in self.absent.items():
            logger.error(f'device {device} is left out: {why}')

    @property
    def spec(self) -> ModelSpec:
        """What the model wants and gives."""
        return next(iter(self.backends.values())).spec

    @property
    def file(self) -> Watched:
        """The model's."""
        return next(iter(self.backends.values())).file

    @property
    def info(self) -> EngineInfo | None:
        """What runs, on the first device where something does."""
        return next((b.info for b in self.backends.values() if b.info is not None), None)

    @property
    def busy(self) -> bool:
        """Whether an engine is being built."""
        return any(backend.busy for backend in self.backends.values())

    def start(self, run: Callable[[str, AnyPipeline, bool], None]) -> None:
        """Hand over each device's pipeline, and in `follow` each that replaces it.

        Args:
            run: takes the device, and whether something else may run in the place of this.
        """

        def hand_over(device: str, pipeline: AnyPipeline, instead: bool) -> None:
            run(device, pipeline, not instead and any(b.spare for b in self.backends.values()))

        for device, backend in self.backends.items():
            backend.start(functools.partial(hand_over, device))

    def follow(self, lost: Mapping[str, str], occupied: Callable[[str], bool], alone: bool) -> None:
        """Look what has become of each, and bring back what is lost. Does not wait.

        Args:
            lost: devices, and why they run nothing any more.
            occupied: tells whether what a device ran before is not freed yet.
            alone: something else may take the place of what is lost: nothing runs at all.
        """
        for device, backend in self.backends.items():
            backend.follow(lost.get(device, ''), occupied(device), alone)

    @property
    def losses(self) -> dict[str, str]:
        """Of each device that is lost, or was a moment ago, what is done about it."""
        return {device: b.loss for device, b in self.backends.items() if b.loss}

    def close(self) -> None:
        """Stop what is being built; what was handed over is not touched. Does not wait."""
        for backend in self.backends.values():
            backend.close()

    def join(self) -> None:
        """Wait, after `close`, until nothing is under way any more."""
        for backend in self.backends.values():
            backend.join()

    def __str__(self) -> str:
        if len(self.backends) == 1:
            return str(next(iter(self.backends.values())))
        return '; '.join(f'{device}: {backend}' for device, backend in self.backends.items())

    def judge(self, usual: Verdict) -> Verdict:
        """The usual verdict, unless a device does not run what was asked for."""
        if len(self.backends) + len(self.absent) == 1:
            return next(iter(self.backends.values())).judge(usual)
        told = {device: backend.judge(usual) for device, backend in self.backends.items()}
        told |= {device: Verdict(WARN, why) for device, why in self.absent.items()}
        amiss = {device: verdict for device, verdict in told.items() if verdict != usual}
        if not amiss:
            return usual
        device, verdict = max(amiss.items(), key=lambda each: each[1].level)
        # As long as one runs, the others are missed and no more.
        level = min(verdict.level, WARN) if self.info is not None else verdict.level
        return Verdict(max(level, usual.level), f'device {device}: {verdict.message}')

    def devices(self) -> dict[str, tuple[Verdict, dict[str, object]]]:
        """How it is with each device that was asked for, and what is beside that."""
        told: dict[str, tuple[Verdict, dict[str, object]]] = {
            device: (backend.verdict, backend.values()) for device, backend in self.backends.items()
        }
        return told | {device: (Verdict(ERROR, why), {}) for device, why in self.absent.items()}

    def values(self) -> dict[str, object]:
        """What runs and why, and how far a build is, for diagnostics; by device if several."""
        if len(self.backends) + len(self.absent) == 1:
            return next(iter(self.backends.values())).values()
        values: dict[str, object] = {}
        for device, backend in self.backends.items():
            values |= {f'{device} {name}': value for name, value in backend.values().items()}
        return values | {f'{device} problem': why for device, why in self.absent.items()}
