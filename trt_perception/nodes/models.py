# SPDX-License-Identifier: Apache-2.0
"""The model that was asked for, and lighter ones that take its place for a while."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from rclpy.clock import Clock
from rclpy.node import Node

from trt_perception.build.engine.serving import Wish
from trt_perception.core import ModelSpec, PerceptionError
from trt_perception.nodes.replicas import Replicas
from trt_perception.ros.diagnostics import Verdict
from trt_perception.ros.parameters import ParameterError
from trt_perception.runtime.engine import EngineInfo
from trt_perception.runtime.kept import KeptPipeline
from trt_perception.runtime.pipeline import AnyPipeline


class _Model:
    """A model on its devices, and the pipelines that are ready there."""

    def __init__(self, path: Path, replicas: Replicas) -> None:
        self.path = path
        self.replicas = replicas
        self.pipelines: dict[str, KeptPipeline] = {}


class Models:
    """Several models of the same classes, all of them opened beforehand, of which one runs.

    Towards its devices it is as one `Replicas`: that of the model that runs.

    Attributes:
        step: number of the model that runs; 0 is the one that was asked for.
    """

    def __init__(
        self,
        node: Node,
        clock: Clock,
        wish: Wish,
        devices: Sequence[str],
        lighter: Sequence[Path] = (),
    ) -> None:
        """Load what is there, and begin to build what is not.

        Args:
            clock: that ticks whatever the node's does.
            wish: of the model that was asked for.
            devices: in the place of the wish's own.
            lighter: models that take less, each less than the one before.

        Raises:
            PerceptionError: what was asked for cannot be had, or a lighter model has other classes.
        """
        self._run: Callable[[str, AnyPipeline], None] = lambda device, pipeline: pipeline.close()
        self.step = 0
        self._models = [_Model(wish.model, Replicas(node, clock, wish, devices))]
        try:
            for path in lighter:
                try:
                    replicas = Replicas(node, clock, replace(wish, model=path), devices)
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

    def start(self, run: Callable[[str, AnyPipeline], None]) -> None:
        """Hand over the pipelines of the model that runs, on the executor.

        Args:
            run: takes a device, and the pipeline that is to run there from now on, which it closes.
        """
        self._run = run
        for model in self._models:
            model.replicas.start(partial(self._take, model))

    def use(self, step: int, lost: Collection[str] = ()) -> str:
        """Run the model that was asked for (0), or one of the lighter ones (1 and so on).

        Where that is not ready, the last one before it that is. Frames under way are finished by
        the model that they began with, and the next ones run on this: none is lost.

        Args:
            lost: devices that are out of use, and stay so.

        Returns:
            Why it is not that model; '' if it is.
        """
        wanted, lacks = min(step, len(self._models) - 1), []
        while wanted and (lack := self._lack(self._models[wanted])):
            lacks.append(lack)
            wanted -= 1
        if wanted != self.step:
            self.step = wanted
            for device, pipeline in self._running.pipelines.items():
                if device not in lost:
                    self._run(device, pipeline.lend())
        return lacks[0] if lacks else ''

    def close(self) -> None:
        """Stop what is being built, and free what nobody runs. Does not wait."""
        self._run = lambda device, pipeline: pipeline.close()
        for model in self._models:
            model.replicas.close()
            for pipeline in model.pipelines.values():
                pipeline.close()
            model.pipelines = {}

    def join(self) -> None:
        """Wait, after `close`, until nothing is under way any more."""
        for model in self._models:
            model.replicas.join()

    def __str__(self) -> str:
        return str(self._running.replicas)

    def judge(self, usual: Verdict) -> Verdict:
        """The usual verdict, unless a device does not run what was asked for."""
        return self._running.replicas.judge(usual)

    def values(self) -> dict[str, object]:
        """What runs and why, for diagnostics."""
        return {'model': str(self.path), **self._running.replicas.values()}

    def _take(self, model: _Model, device: str, pipeline: AnyPipeline) -> None:
        before, kept = model.pipelines.get(device), KeptPipeline(pipeline)
        model.pipelines[device] = kept
        if model is self._running:
            self._run(device, kept.lend())
        if before is not None:
            before.close()

    def _lack(self, model: _Model) -> str:
        """Why a model cannot take the place of the first; '' if it can."""
        wanted = self._models[0].pipelines
        for device, pipeline in wanted.items():
            ready = model.pipelines.get(device)
            if ready is None:
                why = 'its engine is being built' if model.replicas.busy else 'it has no engine'
                return f'{model.path.name} is not used on {device}: {why}'
            # On the processor, say, it would be no relief.
            if ready.info.backend != pipeline.info.backend:
                return (
                    f'{model.path.name} is not used: it would run on {ready.info.backend}, and not'
                    f' on {pipeline.info.backend}'
                )
        return '' if wanted else f'{model.path.name} is not used: no model is ready yet'


def _check_classes(lighter: Path, its: ModelSpec, model: Path, wanted: ModelSpec) -> None:
    if (its.num_classes, its.class_names) == (wanted.num_classes, wanted.class_names):
        return
    told = [', '.join(s.class_names[:5]) or f'{s.num_classes} without names' for s in (its, wanted)]
    raise ParameterError(
        f"policy.lighter_models: '{lighter}' has other classes ({told[0]}) than '{model}'"
        f' ({told[1]}); take one that was trained for the same, in the same order'
    )
