# SPDX-License-Identifier: Apache-2.0
"""The model that was asked for, and lighter ones that take its place for a while."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from rclpy.impl.rcutils_logger import RcutilsLogger

from trt_perception.build.engine.serving import Wish
from trt_perception.core import ModelSpec, PerceptionError
from trt_perception.core.files import Watched
from trt_perception.nodes.replicas import Replicas
from trt_perception.ros.diagnostics import Verdict
from trt_perception.ros.parameters import ParameterError
from trt_perception.runtime.engine import EngineInfo
from trt_perception.runtime.kept import KeptPipeline
from trt_perception.runtime.pipeline import AnyPipeline
from trt_perception.runtime.worker import InferenceWorker

#: Takes a device, the pipeline that is to run there from now on, which it closes, and whether there
#: is something else to run where that fails again and again.
Run = Callable[[str, AnyPipeline, bool], None]


class _Ready(NamedTuple):
    pipeline: KeptPipeline
    spare: bool  # see `Run`


class _Model:
    """A model on its devices, and what is ready to run there."""

    def __init__(self, path: Path, replicas: Replicas) -> None:
        self.path = path
        self.replicas = replicas
        self.ready: dict[str, _Ready] = {}
        self._freeing: dict[str, threading.Thread] = {}

    def drop(self, device: str) -> None:
        """Free what was ready there."""
        ready = self.ready.pop(device, None)
        if ready is not None:
            # Where a GPU hangs, so does who frees what lies on it.
            thread = threading.Thread(target=ready.pipeline.close, name='freeing', daemon=True)
            self._freeing[device] = thread
            thread.start()

    def occupies(self, device: str) -> bool:
        """Whether what was dropped there is not freed yet."""
        return device in self._freeing and self._freeing[device].is_alive()


class Models:
    """Several models of the same classes, all of them opened beforehand, of which one runs.

    Towards its devices it is as one `Replicas`: that of the model that runs.

    Attributes:
        step: number of the model that runs; 0 is the one that was asked for.
    """

    def __init__(
        self,
        logger: RcutilsLogger,
        wish: Wish,
        devices: Sequence[str],
        lighter: Sequence[Path] = (),
    ) -> None:
        """Load what is there, and begin to build what is not.

        Args:
            wish: of the model that was asked for.
            devices: in the place of the wish's own.
            lighter: models that take less, each less than the one before.

        Raises:
            PerceptionError: what was asked for cannot be had, or a lighter model has other classes.
        """
        self.step = 0
        self._run: Run = lambda device, pipeline, spare: pipeline.close()
        self._lost: set[str] = set()  # devices that `follow` knows of
        self._models = [_Model(wish.model, Replicas(logger, wish, devices))]
        try:
            for path in lighter:
                its_own = logger.get_child(path.stem)
                try:
                    replicas = Replicas(its_own, replace(wish, model=path), devices)
                except PerceptionError as error:
                    raise ParameterError(f'policy.lighter_models: {error}') from None
                self._models.append(_Model(path, replicas))
                _check_classes(path, replicas.spec, wish.model, self.spec)
        except BaseException:
            self.close()
            raise

    @property
    def _running(self) -> _Model:
        return self._models[self.step]

    @property
    def path(self) -> Path:
        """Of the model that runs."""
        return self._running.path

    @property
    def file(self) -> Watched:
        """The same."""
        return self._running.replicas.file

    @property
    def spec(self) -> ModelSpec:
        """What the model that was asked for wants and gives; all give the same classes."""
        return self._models[0].replicas.spec

    @property
    def info(self) -> EngineInfo | None:
        """What runs."""
        return self._running.replicas.info

    @property
    def busy(self) -> bool:
        """Whether an engine is being built."""
        return any(model.replicas.busy for model in self._models)

    @property
    def losses(self) -> dict[str, str]:
        """Of each device that is lost, or was a moment ago, what is done about it."""
        return self._running.replicas.losses

    def start(self, run: Run) -> None:
        """Hand over the pipelines of the model that runs, and in `follow` those to come."""
        self._run = run
        for model in self._models:
            model.replicas.start(partial(self._take, model))

    def follow(self, worker: InferenceWorker) -> None:
        """Look what has become of each, and bring back what is lost. Does not wait.

        A device that is lost is lost to all models: what each of them had there is freed, and
        opened again. Of those that do not run, once: it may be back before the one that runs.
        """
        lost = worker.lost
        new = {device: why for device, why in lost.items() if device not in self._lost}
        self._lost = set(lost)
        for model in self._models:
            for device in lost if model is self._running else new:
                model.drop(device)

        def occupied(device: str) -> bool:
            return worker.occupied(device) or any(m.occupies(device) for m in self._models)

        for model in self._models:
            runs = model is self._running
            its = lost if runs else new
            model.replicas.follow(its, occupied, alone=runs and not worker.serves)

    def use(self, step: int) -> str:
        """Run the model that was asked for (0), or one of the lighter ones (1 and so on).

        Where that is not ready, the last one before it that is. Frames under way are finished by
        the model that they began with, and the next ones run on this: none is lost.

        Returns:
            Why it is not that model; '' if it is.
        """
        wanted, lacks = min(step, len(self._models) - 1), []
        while wanted and (lack := self._lack(self._models[wanted])):
            lacks.append(lack)
            wanted -= 1
        if wanted != self.step:
            self.step = wanted
            for device, (pipeline, spare) in self._running.ready.items():
                self._run(device, pipeline.lend(), spare)
        return lacks[0] if lacks else ''

    def close(self) -> None:
        """Stop what is being built, and free what nobody runs. Does not wait."""
        self._run = lambda device, pipeline, spare: pipeline.close()
        for model in self._models:
            model.replicas.close()
            for pipeline, _ in model.ready.values():
                pipeline.close()
            model.ready = {}

    def join(self) -> None:
        """Wait, after `close`, until nothing is under way any more."""
        for model in self._models:
            model.replicas.join()

    def __str__(self) -> str:
        return str(self._running.replicas)

    def judge(self, usual: Verdict) -> Verdict:
        """The usual verdict, unless a device does not run what was asked for."""
        return self._running.replicas.judge(usual)

    def devices(self) -> dict[str, tuple[Verdict, dict[str, object]]]:
        """How it is with each device, for the model that runs, and what is beside that."""
        return self._running.replicas.devices()

    def values(self) -> dict[str, object]:
        """What runs and why, for diagnostics."""
        return {'model': str(self.path), **self._running.replicas.values()}

    def _take(self, model: _Model, device: str, pipeline: AnyPipeline, spare: bool) -> None:
        before, kept = model.ready.get(device), KeptPipeline(pipeline)
        model.ready[device] = _Ready(kept, spare)
        if model is self._running:
            self._run(device, kept.lend(), spare)
        if before is not None:
            before.pipeline.close()

    def _lack(self, model: _Model) -> str:
        """Why a model cannot take the place of the first; '' if it can."""
        wanted = self._models[0].ready
        why = 'its engine is being built' if model.replicas.busy else 'it has no engine'
        if not model.ready:
            return f'{model.path.name} is not used: {why}'
        for device, (pipeline, _) in wanted.items():
            if device not in model.ready:
                return f'{model.path.name} is not used: {why} on {device}'
            backends = model.ready[device].pipeline.info.backend, pipeline.info.backend
            # On the processor, say, it would be no relief.
            if backends[0] != backends[1]:
                its, other = backends
                return f'{model.path.name} is not used: it would run on {its}, and not on {other}'
        return ''


def _check_classes(lighter: Path, its: ModelSpec, model: Path, wanted: ModelSpec) -> None:
    if (its.num_classes, its.class_names) == (wanted.num_classes, wanted.class_names):
        return
    told = [', '.join(s.class_names[:5]) or f'{s.num_classes} without names' for s in (its, wanted)]
    raise ParameterError(
        f"policy.lighter_models: '{lighter}' has other classes ({told[0]}) than '{model}'"
        f' ({told[1]}); take one that was trained for the same, in the same order'
    )
