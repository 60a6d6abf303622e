# SPDX-License-Identifier: Apache-2.0
"""Models for commands: with the backend that was asked for, whose engine is waited for."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from trt_perception.build.engine.serving import Offer, Wish


def add_backend(parser: argparse.ArgumentParser) -> None:
    """The options of what is to run a model."""
    parser.add_argument(
        '--backend',
        default='auto',
        metavar='NAME',
        help='what runs the network: onnxruntime, tensorrt, or auto, which is TensorRT where it can'
        ' run (default: auto)',
    )
    parser.add_argument(
        '--precision',
        default='auto',
        metavar='NAME',
        help='of the engine that TensorRT builds: int8, fp16, fp32, or auto, which is int8 for a'
        ' quantized model and fp16 for another (default: auto)',
    )


def open_watched(wish: Wish) -> Offer:
    """Load a model; an engine that has to be built first is waited for, with a progress bar.

    Raises:
        PerceptionError: what was asked for cannot be had.
        KeyboardInterrupt: the build was stopped.
    """
    from trt_perception.build.engine.serving import Offer
    from trt_perception.runtime.pipeline import open_pipeline

    engine, reason = find_engine(wish)
    pipeline = open_pipeline(
        engine or wish.model,
        labels=wish.labels,
        threads=wish.threads,
        accept_failed_gate=wish.accept_failed_gate,
        lanes=wish.lanes,
    )
    return Offer(pipeline, reason)


def find_engine(wish: Wish) -> tuple[Path | None, str]:
    """The engine that is to run, from the cache or built, or None; and why.

    Raises:
        PerceptionError: what was asked for cannot be had.
        KeyboardInterrupt: the build was stopped.
    """
    from trt_perception.build.engine.cache import EngineCache
    from trt_perception.build.engine.serving import check_engine, choose, request_for
    from trt_perception.runtime.tensorrt.manifest import read_manifest
    from trt_perception.runtime.tensorrt.plan import is_engine

    choice = choose(wish)
    if not choice.tensorrt:
        return None, choice.reason
    if is_engine(wish.model):
        check_engine(wish, read_manifest(wish.model))
        return wish.model, choice.reason
    from trt_perception.cli.build.watch import build_watched

    return build_watched(request_for(wish), EngineCache(), []).path, choice.reason
