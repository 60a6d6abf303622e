# SPDX-License-Identifier: Apache-2.0
"""The manifest beside an engine: what it is, what it was made from, and the hash that it must have.

``m.engine`` has its manifest in ``m.engine.json``.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trt_perception.core import ModelSpec
from trt_perception.core.errors import one_line
from trt_perception.runtime.engine import EngineError

_FORMAT = 1


@dataclass(frozen=True)
class Manifest:
    """What is known of an engine.

    Attributes:
        sha256, bytes: of the engine's file.
        key: of all that it was made from, see `trt_perception.build.engine.cache`; '' for one that
            was made elsewhere.
        model: path, sha256 and bytes of the ONNX file.
        precision: ``int8``, ``fp16``, ``fp32``, or '' where it was made elsewhere.
        device: ``gpu`` or ``dla0``, ``dla1``.
        tuning: what was asked of the builder beyond its defaults.
        library: name and version.
        gpu: that it was made for.
        spec: what the network wants and gives; None where it was made elsewhere.
        calibration: what the INT8 model says of its calibration, or None.
        gate: what the accuracy gate found, or None where none was run.
        accepted: the gate failed, and the user took the model all the same.
        built: when, ISO 8601 in UTC; build_seconds: how long it took.
        made_with: version of this package.
    """

    sha256: str
    bytes: int
    key: str = ''
    model: dict[str, Any] = dataclasses.field(default_factory=dict)
    precision: str = ''
    device: str = 'gpu'
    tuning: dict[str, Any] = dataclasses.field(default_factory=dict)
    library: str = ''
    gpu: str = ''
    spec: ModelSpec | None = None
    calibration: dict[str, Any] | None = None
    gate: dict[str, Any] | None = None
    accepted: bool = False
    built: str = ''
    build_seconds: float = 0.0
    made_with: str = ''

    @property
    def gate_passed(self) -> bool | None:
        """What the gate found; None where none was run."""
        return None if self.gate is None else self.gate.get('passed') is True

    def to_json(self) -> str:
        """The text of the file."""
        return json.dumps({'format': _FORMAT, **dataclasses.asdict(self)}, indent=2) + '\n'


def manifest_path(engine: Path) -> Path:
    """Where the manifest of an engine is."""
    return engine.with_name(engine.name + '.json')


def read_manifest(engine: Path) -> Manifest:
    """The manifest of an engine.

    Raises:
        EngineError: there is none, or it is not one.
    """
    path = manifest_path(engine)
    try:
        fields = json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError:
        raise EngineError(
            f"engine '{engine}' has no manifest '{path.name}' beside it; build it with"
            ' trt-perception build, or take one of which you know the origin with trt-perception'
            ' engines adopt'
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise EngineError(f"'{path}' is not a readable manifest: {one_line(error)}") from None
    try:
        if fields.pop('format') != _FORMAT:
            raise ValueError('of another format; build the engine again')
        spec = fields.pop('spec')
        manifest = Manifest(**fields, spec=None if spec is None else ModelSpec.from_dict(spec))
        wrong = [
            field.name
            for field in dataclasses.fields(Manifest)
            if not _is(getattr(manifest, field.name), str(field.type))
        ]
        if wrong:
            raise ValueError(f'wrong type of {", ".join(wrong)}')
    except Exception as error:  # whatever a file that is no manifest leads to
        raise EngineError(f"'{path}' is not a manifest: {one_line(error)}") from None
    return manifest


def _is(value: object, annotation: str) -> bool:
    kinds: dict[str, Any] = {'str': str, 'int': int, 'float': (int, float), 'bool': bool}
    kinds |= {'dict': dict, 'ModelSpec': ModelSpec}
    if value is None:
        return annotation.endswith('| None')
    return isinstance(value, kinds[annotation.partition('[')[0].partition(' ')[0]])
