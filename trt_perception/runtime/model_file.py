# SPDX-License-Identifier: Apache-2.0
"""A model on disk: the network, the YAML beside it that may override, and its class names."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trt_perception.core import ModelSpec, Signature, SpecError, recognise
from trt_perception.core.files import is_file, user_path
from trt_perception.core.labels import COCO
from trt_perception.core.model_spec import parse_names, parse_overrides
from trt_perception.runtime.onnx_file import ModelFileError, read_signature
from trt_perception.runtime.yaml_file import YamlError, read_yaml


def load_spec(model: Path, labels: str = '') -> ModelSpec:
    """What a model wants and gives, from its file, the YAML beside it and its labels.

    Args:
        model: an ONNX file; ``model.yaml`` beside ``model.onnx`` overrides what it says.
        labels: class names, stronger than both: see `read_labels`. Empty: theirs.

    Raises:
        ModelFileError: a file is missing or unreadable.
        SpecError: the model is not understood; the text says what settles it.
    """
    with _named(model):
        overrides = _overrides(model, labels)
        size = (overrides['width'], overrides['height']) if 'width' in overrides else None
        return recognise(read_signature(model, size), overrides)


def engine_spec(
    engine: Path, signature: Signature, built: ModelSpec | None, labels: str = ''
) -> ModelSpec:
    """As `load_spec`, of an engine.

    Args:
        engine: its file; a YAML beside it overrides what is known of it.
        signature: what the engine says of itself.
        built: what its manifest knows, if this package made it.
        labels: class names, see `read_labels`.

    Raises:
        ModelFileError, SpecError: as `load_spec`.
    """
    with _named(engine):
        overrides = _overrides(engine, labels)
        if built is None:
            return recognise(signature, overrides)
        if not built.num_classes:
            overrides['num_classes'] = len(overrides.get('class_names', built.class_names))
        # An engine of a float model may take halves.
        overrides['dtype'] = {t.name: t.dtype for t in signature.inputs}[built.input_name]
        return dataclasses.replace(built, **overrides)


def _beside(model: Path) -> Path:
    return model.parent / f'{model.stem}.yaml'  # with_suffix refuses '.', an empty parameter


def _overrides(model: Path, labels: str) -> dict[str, Any]:
    overrides = _read_overrides(_beside(model))
    if labels:
        overrides['class_names'] = read_labels(labels)
    return overrides


@contextlib.contextmanager
def _named(model: Path) -> Iterator[None]:
    """Say of which model something is not understood."""
    try:
        yield
    except SpecError as error:
        beside = _beside(model)
        also = f' (with {beside.name} beside it)' if is_file(beside) else ''
        raise SpecError(f"model '{model}'{also}: {error}") from None


def _read_overrides(path: Path) -> dict[str, Any]:
    if not is_file(path):
        return {}
    raw = _read_yaml(path)
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise ModelFileError(f"'{path}' is not a map of keys to values")
    return parse_overrides(raw)


def read_labels(labels: str) -> tuple[str, ...]:
    """Class names.

    Args:
        labels: ``coco`` (80 names), a text file with a name a line, or a YAML file that is a list
            of names or holds one under ``names`` (as Ultralytics data sets do).

    Raises:
        ModelFileError: not there, or not of this form.
    """
    if labels == 'coco':
        return COCO
    path = user_path(labels)
    if not is_file(path):
        raise ModelFileError(f"labels '{labels}' is neither a file nor 'coco'")
    try:
        if path.suffix in ('.yaml', '.yml'):
            raw = _read_yaml(path)
            return parse_names(raw.get('names') if isinstance(raw, dict) else raw)
        lines = path.read_text(encoding='utf-8-sig').splitlines()
        return parse_names([line.strip() for line in lines if line.strip()])
    except UnicodeDecodeError:
        raise ModelFileError(f"labels '{labels}' is not UTF-8; save it as such") from None
    except (ValueError, OSError) as error:
        raise ModelFileError(f"labels '{labels}': {error}") from None


def _read_yaml(path: Path) -> Any:
    try:
        return read_yaml(path)
    except YamlError as error:
        raise ModelFileError(f"'{path}' is not readable YAML: {error}") from None
