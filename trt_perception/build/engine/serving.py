# SPDX-License-Identifier: Apache-2.0
"""What runs a model: ONNX Runtime, an engine that is there, or one that has to be built first."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from trt_perception.build.engine.cache import EngineCache
from trt_perception.build.engine.tuning import (
    PRECISIONS,
    Precision,
    Tuning,
    TuningError,
    gpu_number,
    parse_device,
)
from trt_perception.core import ModelSpec, PerceptionError, SpecError
from trt_perception.core.errors import one_line
from trt_perception.runtime.engine import BACKENDS, EngineError
from trt_perception.runtime.gate_result import check_gate
from trt_perception.runtime.pipeline import AnyPipeline, open_pipeline
from trt_perception.runtime.tensorrt.library import library
from trt_perception.runtime.tensorrt.manifest import Manifest, read_manifest
from trt_perception.runtime.tensorrt.plan import is_engine

if TYPE_CHECKING:  # this looks for TensorRT
    from trt_perception.build.engine.background import BackgroundBuild
    from trt_perception.build.engine.make import Engine, Identity, Request


@dataclass(frozen=True)
class Wish:
    """What is to run, and on what.

    Attributes:
        model: an ONNX file, or an engine.
        labels: class names, see `trt_perception.runtime.model_file.read_labels`.
        backend: ``onnxruntime``, ``tensorrt``, or ``auto``: TensorRT where it can be used.
        precision: of an engine that is made from an ONNX file; ``auto`` takes the one that the
            model is made for.
        device: ``gpu``, ``dla0`` or ``dla1``, for TensorRT; ``gpu1`` and so on for other GPUs,
            which must be of the first one's kind.
        fallback: run something else, and say so, until the engine is there and where none can be
            had: an earlier engine of the same model, else ONNX Runtime.
        accept_failed_gate: run a model in INT8 although it lost too much of its accuracy.
        threads: of one inference on the CPU; 0 takes one a core.
        stream_priority: of the CUDA streams; lower is more urgent, 0 the least.
        lanes: frames in flight on the GPU at a time.
        batch: frames that may be looked at together, where the model leaves its batch free.
    """

    model: Path
    labels: str = ''
    backend: str = 'auto'
    precision: str = 'auto'
    device: str = 'gpu'
    fallback: bool = True
    accept_failed_gate: bool = False
    threads: int = 0
    stream_priority: int = 0
    lanes: int = 1
    batch: int = 1

    @property
    def built_precision(self) -> Precision | None:
        """The precision as `Request` takes it."""
        return next((p for p in PRECISIONS if p == self.precision), None)


class Choice(NamedTuple):
    """What a wish comes to on this machine, and why, in a few words."""

    tensorrt: bool
    reason: str


class Offer(NamedTuple):
    """A pipeline that is ready to run, and why it is this one."""

    pipeline: AnyPipeline
    reason: str


def choose(wish: Wish) -> Choice:
    """Decide between TensorRT and ONNX Runtime.

    Raises:
        PerceptionError: what was asked for cannot be had here, or is contradictory.
    """
    if wish.backend not in BACKENDS:
        raise EngineError(f"backend '{wish.backend}' is not one of {', '.join(BACKENDS)}")
    if wish.precision != 'auto' and wish.built_precision is None:
        raise TuningError(
            f"precision '{wish.precision}' is not one of auto, {', '.join(PRECISIONS)}"
        )
    parse_device(wish.device)
    if is_engine(wish.model):
        if wish.backend == 'onnxruntime':
            raise EngineError(
                f"model '{wish.model}' is a TensorRT engine, which backend 'onnxruntime' cannot"
                ' run; take backend tensorrt, or the ONNX file that it was made from'
            )
        if why := why_no_tensorrt():
            raise EngineError(f"engine '{wish.model}' cannot run here: {why}")
        return Choice(True, 'the model is an engine')
    if wish.backend == 'onnxruntime':
        if wish.precision != 'auto' or _kind(wish.device) != 'gpu':
            raise TuningError(
                "backend 'onnxruntime' runs a model on the CPU as it is; leave out precision and"
                ' device, or take backend tensorrt'
            )
        return Choice(False, 'backend is onnxruntime')
    if not (why := why_no_tensorrt()):
        return Choice(True, f'backend is {wish.backend}')
    if wish.backend == 'tensorrt' and not wish.fallback:
        raise EngineError(f"backend 'tensorrt' cannot run '{wish.model}' here: {why}")
    return Choice(False, f'TensorRT cannot run here: {why}')


def why_no_tensorrt() -> str:
    """Why neither TensorRT nor TensorRT-RTX can run here, in one line; '' if one can."""
    from trt_perception.runtime.cuda import compiler
    from trt_perception.runtime.cuda.device import why_absent

    try:
        library()
    except EngineError as error:
        return str(error)
    return why_absent() or compiler.why_absent()


def request_for(wish: Wish) -> Request:
    """The engine that is wanted of an ONNX file; read, and checked as far as that goes at once.

    Raises:
        PerceptionError: the file is missing or not understood, or its gate failed.
    """
    from trt_perception.build.engine.make import Request
    from trt_perception.build.engine.source import read_source

    if not wish.accept_failed_gate:
        check_gate(wish.model)
    source = read_source(wish.model, wish.labels)
    if source.spec is None:
        raise SpecError(source.unread)
    tuning = Tuning()
    if wish.batch > 1 and source.free_batch:
        tuning = Tuning(batch=(1, wish.batch, wish.batch))
    accept = wish.accept_failed_gate
    return Request(source, wish.built_precision, wish.device, tuning, accept)


class Serving:
    """Brings the best pipeline that there is, and a better one once its engine is built.

    Attributes:
        spec: of the model; all pipelines have its classes.
        tensorrt: whether that is what runs it, or is to.
    """

    def __init__(self, wish: Wish, cache: EngineCache | None = None) -> None:
        """Load what is there, and begin to build what is not. Waits for the first alone.

        Raises:
            PerceptionError: what was asked for cannot be had.
        """
        self._wish = wish
        self._cache = EngineCache() if cache is None else cache
        self._build: BackgroundBuild | None = None
        self._notes: list[str] = []
        self._lack = ''
        self._lock = threading.Lock()
        self._ready: Offer | None = None
        self._closed = False
        choice = choose(wish)
        self.tensorrt = choice.tensorrt
        if choice.tensorrt and not is_engine(wish.model):
            self.spec = self._begin(request_for(wish))
            return
        if choice.tensorrt:
            check_engine(wish, read_manifest(wish.model))
        elif wish.backend == 'tensorrt':
            self._lack = choice.reason
        pipeline = self._open(wish.model)
        self.spec = pipeline.spec
        self._offer(Offer(pipeline, choice.reason))

    @property
    def building(self) -> bool:
        """Whether a better pipeline is under way."""
        return self._build is not None and not self._build.join(0)

    @property
    def progress(self) -> dict[str, str]:
        """How far the build is; empty where none is under way."""
        build = self._build
        if build is None or not self.building:
            return {}
        status = build.status
        # Until TensorRT begins there may be something to wait for, which a note tells.
        phase = status.phase or (status.notes[-1] if status.notes else 'reading the model')
        share, seconds = f'{100 * status.share:.0f} %', f'{build.seconds:.0f} s'
        return {'build phase': phase, 'build share': share, 'build time': seconds}

    @property
    def problem(self) -> str:
        """Why what was asked for does not run; '' if it does, or will."""
        if self._build is not None and self._build.join(0):
            try:
                self._build.result()
            except PerceptionError as error:
                return f'there is no engine: {error}'
            except Exception as error:
                return f'there is no engine: {type(error).__name__}: {one_line(error)}'
        return self._lack

    @property
    def notes(self) -> tuple[str, ...]:
        """What is worth knowing so far, a line each; grows at its end."""
        return (*self._notes, *(self._build.status.notes if self._build is not None else ()))

    def take(self) -> Offer | None:
        """What to run from now on, once; None if that has not changed. The taker owns it."""
        with self._lock:
            offer, self._ready = self._ready, None
        return offer

    def close(self) -> None:
        """Stop a build and free what nobody has taken. Does not wait; `join` does."""
        with self._lock:
            self._closed = True
            left, self._ready = self._ready, None
        if self._build is not None:
            self._build.cancel()
        if left is not None:
            left.pipeline.close()

    def join(self) -> None:
        """Wait, after `close`, until nothing is under way any more."""
        if self._build is not None:
            self._build.join()

    def _begin(self, request: Request) -> ModelSpec:
        from trt_perception.build.engine.background import BackgroundBuild
        from trt_perception.build.engine.make import identify

        identity = identify(request)
        entry = self._cache.look_up(identity.key)
        cached = entry.manifest is not None and not entry.fault
        spec = request.source.spec
        assert spec is not None
        if not cached and self._wish.fallback:
            self._serve_meanwhile(identity, spec)
        self._build = BackgroundBuild(request, self._cache, then=self._on_engine)
        if cached:
            self._build.join()  # it only has to be loaded
            if self.problem and not self._wish.fallback:
                self._build.result()
            if self.problem:
                self._serve_meanwhile(identity, spec)
        return spec

    def _on_engine(self, engine: Engine) -> None:
        build = engine.build
        how = 'engine from the cache' if build is None else f'engine built in {build.seconds:.0f} s'
        self._offer(Offer(self._open(engine.path), how))

    def _serve_meanwhile(self, identity: Identity, spec: ModelSpec) -> None:
        for path, manifest in self._earlier(identity, spec):
            try:
                reason = f'engine of {manifest.built} until there is another'
                return self._offer(Offer(self._open(path), reason))
            except PerceptionError as error:
                self._notes.append(str(error))
        try:
            self._offer(Offer(self._open(self._wish.model), 'until there is an engine'))
        except EngineError as error:  # where there is TensorRT there may be no ONNX Runtime
            self._notes.append(f'nothing runs until there is an engine: {error}')

    def _earlier(self, identity: Identity, spec: ModelSpec) -> Iterator[tuple[Path, Manifest]]:
        """Engines of what the model's file held before, or in another precision, newest first."""
        found = [
            (entry.path, entry.manifest)
            for entry in self._cache.entries()
            if entry.manifest is not None
            and not entry.fault
            and entry.manifest.key != identity.key
            and entry.manifest.model.get('path') == str(self._wish.model.absolute())
            and (entry.manifest.library, entry.manifest.gpu) == (str(library()), identity.gpu)
            and entry.manifest.spec is not None
            and entry.manifest.spec.class_names == spec.class_names
            and entry.manifest.spec.num_classes == spec.num_classes
        ]
        yield from sorted(found, key=lambda pair: pair[1].built, reverse=True)

    def _open(self, model: Path) -> AnyPipeline:
        return open_pipeline(
            model,
            labels=self._wish.labels,
            threads=self._wish.threads,
            priority=self._wish.stream_priority,
            accept_failed_gate=self._wish.accept_failed_gate,
            device=gpu_number(self._wish.device),
            lanes=self._wish.lanes,
            batch=self._wish.batch,
        )

    def _offer(self, offer: Offer) -> None:
        with self._lock:
            late = offer if self._closed else self._ready
            if not self._closed:
                self._ready = offer
        if late is not None:
            late.pipeline.close()


def check_engine(wish: Wish, manifest: Manifest) -> None:
    """See that an engine is what was asked for, as far as anything was.

    Raises:
        EngineError: it is of another precision, or for another device.
    """
    for name, asked, usual, made in (
        ('precision', wish.precision, 'auto', manifest.precision),
        ('device', _kind(wish.device), 'gpu', manifest.device),
    ):
        if asked not in (usual, made):
            raise EngineError(
                f"engine '{wish.model}' is of {name} {made or 'unknown'}, not {asked}; leave {name}"
                f' {usual}, or give the ONNX file to have another built'
            )


def _kind(device: str) -> str:
    """A device as manifests name it: an engine is for any GPU of a kind."""
    return 'gpu' if parse_device(device) is None else device
