# SPDX-License-Identifier: Apache-2.0
"""Engine files: plain plans, and plans behind the JSON header that Ultralytics writes.

A plan is code for the GPU. It is never handed on unless its hash is the one in its manifest, and
nothing in these files is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from trt_perception.core.files import is_file
from trt_perception.runtime.engine import EngineError
from trt_perception.runtime.tensorrt.manifest import Manifest, read_manifest

#: A plan begins with one of these: TensorRT's, TensorRT-RTX's.
_MAGIC = {b'ftrt': 'TensorRT', b'vtrt': 'TensorRT-RTX'}
_LONGEST_HEADER = 1 << 20
_VERSION_AT = 24


class Plan(NamedTuple):
    """An engine that may be deserialised.

    Attributes:
        data: the plan, without a header.
        manifest: what is known of it.
        metadata: Ultralytics' header, or empty.
    """

    data: bytes
    manifest: Manifest
    metadata: dict[str, Any]


def is_engine(path: Path) -> bool:
    """Whether a model is an engine, by its name."""
    return path.suffix == '.engine'


def load_plan(path: Path) -> Plan:
    """Read an engine and see that it is the one that its manifest tells of.

    Raises:
        EngineError: no such file, no manifest, another hash, or no engine at all.
    """
    content = read_engine(path)
    manifest = read_manifest(path)
    if hashlib.sha256(content).hexdigest() != manifest.sha256:
        raise EngineError(
            f"engine '{path}' is not the one that its manifest tells of: it was cut off or changed"
            ' since; build it again'
        )
    data, metadata = split_header(content, path)
    return Plan(data, manifest, metadata)


def read_engine(path: Path) -> bytes:
    """The bytes of an engine file.

    Raises:
        EngineError: no such file, or it cannot be read.
    """
    if not is_file(path):
        raise EngineError(f"engine '{path}' is not a file")
    try:
        return path.read_bytes()
    except OSError as error:
        raise EngineError(f"engine '{path}' cannot be read: {error.strerror}") from None


def split_header(content: bytes, path: Path) -> tuple[bytes, dict[str, Any]]:
    """A plan, and the header before it: four bytes of length, little-endian, then JSON.

    Raises:
        EngineError: neither a plan nor a header and a plan.
    """
    if content[:4] in _MAGIC:
        return content, {}
    length = int.from_bytes(content[:4], 'little')
    plan = content[4 + length :]
    if 0 < length <= _LONGEST_HEADER and plan[:4] in _MAGIC:
        try:
            metadata = json.loads(content[4 : 4 + length])
        except (ValueError, RecursionError):
            metadata = None
        if isinstance(metadata, dict):
            return plan, metadata
    raise EngineError(f"'{path}' is not a TensorRT engine: neither a plan nor an Ultralytics file")


def made_by(plan: bytes) -> str:
    """The library and version that a plan says it was made by, such as ``TensorRT 10.3.0``."""
    name = _MAGIC.get(plan[:4], 'an unknown library')
    return f'{name} {".".join(str(b) for b in plan[_VERSION_AT : _VERSION_AT + 3])}'
