# SPDX-License-Identifier: Apache-2.0
"""What a model in INT8 lost against its floats, as it is noted in its own file."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trt_perception.core import PerceptionError
from trt_perception.core.errors import one_line
from trt_perception.runtime.onnx_file import load_graph

#: Key of the note among an ONNX file's ``metadata_props``.
METADATA_KEY = 'trt_perception.gate'

#: What may be compared, and how it is told.
MEASURES = {'map': 'mAP50-95', 'agreement': 'detections in common'}


class GateError(PerceptionError):
    """A model whose gate failed, or whose note of it cannot be read."""


@dataclass(frozen=True)
class GateResult:
    """A comparison of a model in INT8 with its floats.

    Attributes:
        measure: key of `MEASURES`: accuracy on labelled pictures, as a share of the floats', or the
            share of the detections of both, by score, that the other one makes too.
        figure: of the measure; 1 is no loss.
        target: the lowest figure that passes.
        interval: in which the figure lies with 95 % confidence, as far as the frames tell; None
            where they are too few to tell.
        frames: how many were compared.
        objects: annotated in them, or detected by the floats.
        figures: all that was measured, by name.
        measured_on: the frames, in words.
        measured_with: what ran the model in INT8.
        float_sha256: of the float model's file.
        accepted: somebody took the model although its gate failed.
        warnings: what weakens the claim.
    """

    measure: str
    figure: float
    target: float
    interval: tuple[float, float] | None
    frames: int
    objects: int
    figures: Mapping[str, float]
    measured_on: str
    measured_with: str
    float_sha256: str
    accepted: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the figure reaches the target."""
        return self.figure >= self.target

    def __str__(self) -> str:
        return (
            f'INT8 keeps {rounded_down(self.figure)} of FP32 ({MEASURES[self.measure]},'
            f' {self.frames} frames), asked were {self.target:g}'
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON; `from_dict` reads it back."""
        return {**dataclasses.asdict(self), 'passed': self.passed}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> GateResult:
        """The inverse of `to_dict`.

        Raises:
            GateError: fields are missing or of other types.
        """
        try:
            interval = fields['interval']
            measure = str(fields['measure'])
            if measure not in MEASURES:
                raise ValueError(f"measure '{measure}' is not one of {', '.join(MEASURES)}")
            return cls(
                measure,
                float(fields['figure']),
                float(fields['target']),
                None if interval is None else (float(interval[0]), float(interval[1])),
                int(fields['frames']),
                int(fields['objects']),
                {str(k): float(v) for k, v in fields['figures'].items()},
                str(fields['measured_on']),
                str(fields['measured_with']),
                str(fields['float_sha256']),
                fields['accepted'] is True,
                tuple(str(w) for w in fields['warnings']),
            )
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise GateError(f'{type(error).__name__}: {one_line(error)}') from None


def rounded_down(figure: float) -> str:
    """To three places, never up: what missed its target must not look as if it met it."""
    return f'{math.floor(1000 * figure + 1e-9) / 1000:.3f}'


def read_gate(model: Path) -> GateResult | None:
    """The note in an ONNX file, or None where there is none.

    Raises:
        ModelFileError: no readable ONNX file.
        GateError: the note cannot be read.
    """
    for prop in load_graph(model).metadata_props:
        if prop.key == METADATA_KEY:
            try:
                return GateResult.from_dict(json.loads(prop.value))
            except (GateError, ValueError, RecursionError) as error:
                raise GateError(
                    f"model '{model}': its note of what INT8 cost cannot be read"
                    f' ({one_line(error)}); quantize it anew'
                ) from None
    return None


def check_gate(model: Path) -> None:
    """Let only pass what has no gate or has passed it.

    Raises:
        ModelFileError: no readable ONNX file.
        GateError: the gate failed; the text says by how much.
    """
    gate = read_gate(model)
    if gate is not None and not gate.passed:
        raise GateError(
            f"model '{model}' failed its gate: {gate}; quantize it anew, use the float model, or"
            ' set accept_failed_gate to run it all the same'
        )
