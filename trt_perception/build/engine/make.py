# SPDX-License-Identifier: Apache-2.0
"""An engine for a model: the one that is there, or a new one."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

from trt_perception import __version__
from trt_perception.build.engine import store
from trt_perception.build.engine.builder import Build, BuildCancelledError, Builder
from trt_perception.build.engine.cache import EngineCache, key_of
from trt_perception.build.engine.differences import keeps_timings, target
from trt_perception.build.engine.progress import OnProgress
from trt_perception.build.engine.source import (
    Source,
    check_gate,
    check_precision,
    network_for,
)
from trt_perception.build.engine.tuning import Precision, Tuning, parse_device
from trt_perception.core.files import FileError
from trt_perception.runtime.tensorrt.library import library
from trt_perception.runtime.tensorrt.manifest import Manifest, manifest_path


@dataclass(frozen=True)
class Request:
    """What is wanted.

    Attributes:
        precision: None takes the one that the model is made for.
        device: ``gpu``, ``dla0`` or ``dla1``.
        accept: also a model whose accuracy gate failed.
    """

    source: Source
    precision: Precision | None = None
    device: str = 'gpu'
    tuning: Tuning = Tuning()
    accept: bool = False


@dataclass(frozen=True)
class Engine:
    """What came of it; ``build`` is None where the engine was there already."""

    path: Path
    manifest: Manifest
    build: Build | None


class Identity(NamedTuple):
    """The engine that a request comes to on this machine.

    Attributes:
        key: its name in the cache.
        dla_core: None for the GPU.
        gpu: that it is made for.
    """

    key: str
    precision: Precision
    dla_core: int | None
    gpu: str


def identify(request: Request) -> Identity:
    """Find out which engine is meant, without making it.

    Raises:
        PerceptionError: the model is not the one for it, or there is no GPU that TensorRT needs.
    """
    source = request.source
    precision = check_precision(source, request.precision)
    check_gate(source, request.accept)
    core = parse_device(request.device)
    gpu = target()
    key = key_of(
        {
            'onnx': source.digest,
            'precision': precision,
            'calibration': source.calibration,
            'library': str(library()),
            'gpu': gpu,
            'device': core,
            'tuning': request.tuning.wishes(),
            'made_with': __version__,  # it shapes the network: FP16, biases
        }
    )
    return Identity(key, precision, core, gpu)


def make_engine(
    request: Request,
    cache: EngineCache,
    *,
    on_note: Callable[[str], None] = lambda text: None,
    on_progress: OnProgress = lambda phase, share: None,
    cancel: threading.Event | None = None,
) -> Engine:
    """Take the engine from the cache, or build it and put it there.

    Two processes that want the same build once: the second waits and takes it.

    Args:
        on_note: hears, in a line each, what is worth knowing: a broken engine, a wait.
        on_progress: see `trt_perception.build.engine.progress`.
        cancel: set it to stop.

    Raises:
        PerceptionError: it cannot be made; `BuildCancelledError` if it was stopped.
    """
    source = request.source
    key, precision, core, gpu = identify(request)
    path = cache.path(key)
    lock = cache.lock_path(path)

    def on_wait() -> None:
        on_note(f"another process builds the engine of '{source.path}'; waiting for it")

    try:
        with store.locked(lock, on_wait, cancel):
            entry = cache.look_up(key)
            if entry.fault:
                on_note(f'{entry.fault}; building it anew')
            elif entry.manifest is not None:
                return Engine(path, cache.refresh(entry, source.spec), None)
            cache.tidy(path)
            builder = Builder(
                network_for(source, precision), source.path, precision, core, request.tuning,
                source.spec,
            )  # fmt: skip
            timings = cache.timings_path(str(library()), gpu)
            build = builder.build(_read(timings), on_progress, cancel)
            manifest = Manifest(
                sha256=hashlib.sha256(build.plan).hexdigest(),
                bytes=len(build.plan),
                key=key,
                model={
                    'path': str(source.path.absolute()),
                    'sha256': source.sha256,
                    'bytes': source.path.stat().st_size,
                },
                precision=precision,
                device='gpu' if core is None else f'dla{core}',
                tuning=request.tuning.wishes(),
                library=str(library()),
                gpu=gpu,
                spec=source.spec,
                calibration=source.calibration,
                gate=source.gate,
                accepted=source.gate is not None and source.gate.get('passed') is not True,
                built=datetime.now(timezone.utc).isoformat(timespec='seconds'),
                build_seconds=round(build.seconds, 3),
                made_with=__version__,
            )
            cache.write(key, build.plan, manifest)
    except store.CancelledError:
        raise BuildCancelledError(f"building '{source.path}' was stopped") from None
    _keep_timings(builder, timings, on_note)
    return Engine(path, manifest, build)


def copy_engine(engine: Engine, path: Path) -> None:
    """Write an engine and its manifest where the user wants them.

    Raises:
        FileError: the system refuses; what was there stays.
    """
    try:
        plan = engine.path.read_bytes()
    except OSError as error:
        raise FileError(f"'{engine.path}' cannot be read: {error.strerror}") from None
    store.write_together({path: plan, manifest_path(path): engine.manifest.to_json().encode()})


def _keep_timings(builder: Builder, path: Path, on_note: Callable[[str], None]) -> None:
    if not keeps_timings():
        return
    try:
        with store.locked(path.with_name(f'.{path.name}.lock')):
            timings = builder.timings(_read(path))
            if timings:
                store.write_together({path: timings})
    except FileError as error:  # the engine is there; the next build only takes longer
        on_note(str(error))


def _read(path: Path) -> bytes:
    with contextlib.suppress(OSError):
        return path.read_bytes()
    return b''
