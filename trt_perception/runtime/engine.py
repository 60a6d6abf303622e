# SPDX-License-Identifier: Apache-2.0
"""What runs the tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from trt_perception.core import PerceptionError

#: What a user may ask for; `trt_perception.build.engine.serving` decides what ``auto`` is.
BACKENDS = ('auto', 'onnxruntime', 'tensorrt')


class EngineError(PerceptionError):
    """A backend that is absent, or a model that it cannot load or run."""


@dataclass(frozen=True)
class EngineInfo:
    """What really runs, to be said in the log once and in diagnostics always.

    Attributes:
        backend: library and version.
        device: the processor's own name.
        precision: of the layers that multiply: ``float32``, ``float16``, ``int8``, or a mixture
            with its counts.
    """

    backend: str
    device: str
    precision: str

    def __str__(self) -> str:
        return f'{self.backend}, {self.precision}, on {self.device}'


class Engine(Protocol):
    """A loaded network. Used by one thread at a time."""

    info: EngineInfo

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run the network once.

        Returns:
            The outputs in the order of ``ModelSpec.outputs``.

        Raises:
            EngineError: the backend failed.
        """

    def close(self) -> None:
        """Free the network. Safe to call twice."""
