# SPDX-License-Identifier: Apache-2.0
"""What may be asked of TensorRT's builder, by name."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any, Literal

from trt_perception.core import PerceptionError

Precision = Literal['int8', 'fp16', 'fp32']
PRECISIONS: tuple[Precision, ...] = ('int8', 'fp16', 'fp32')
TILING = ('none', 'fast', 'moderate', 'full')
COMPATIBILITY = ('none', 'ampere_plus', 'same_compute_capability')
#: ``gpu`` is the first one, which is also ``gpu0`` and ``0``.
_GPU = re.compile(r'(?:gpu)?(\d{1,3})|gpu')
PROFILING = ('detailed', 'layer_names_only', 'none')


class TuningError(PerceptionError):
    """A wish that this TensorRT, GPU or model cannot fulfil."""


@dataclass(frozen=True)
class Tuning:
    """Wishes; None and 'none' leave it to the builder.

    Attributes:
        optimization_level: 0 (fastest build) to 5 (fastest engine); TensorRT's own default is 3.
        workspace_mib: memory that a layer may use while it runs, at most.
        tactic_memory_mib: memory that the builder may use to try kernels, at most.
        tiling: how far to look for tilings that keep data in the cache.
        auxiliary_streams: streams for layers that run side by side, at most.
        hardware_compatibility: other GPUs that the engine must run on as well.
        version_compatible: later releases of TensorRT must run it as well.
        sparsity: use 2:4 sparse kernels where the weights are sparse.
        profiling: how much the engine tells of its layers; costs no speed.
        batch: smallest, usual and largest batch, for a model that leaves it free.
    """

    optimization_level: int | None = None
    workspace_mib: int | None = None
    tactic_memory_mib: int | None = None
    tiling: str = 'none'
    auxiliary_streams: int | None = None
    hardware_compatibility: str = 'none'
    version_compatible: bool = False
    sparsity: bool = False
    profiling: str = 'detailed'
    batch: tuple[int, int, int] = (1, 1, 1)

    def __post_init__(self) -> None:
        if self.optimization_level is not None and not 0 <= self.optimization_level <= 5:
            raise TuningError(f'optimization level {self.optimization_level} is not one of 0 to 5')
        for name, value, choices in (
            ('tiling', self.tiling, TILING),
            ('hardware compatibility', self.hardware_compatibility, COMPATIBILITY),
            ('profiling', self.profiling, PROFILING),
        ):
            if value not in choices:
                raise TuningError(f"{name} '{value}' is not one of {', '.join(choices)}")
        for name in ('workspace_mib', 'tactic_memory_mib', 'auxiliary_streams'):
            value = getattr(self, name)
            if value is not None and value < (0 if name == 'auxiliary_streams' else 1):
                raise TuningError(f'{name} {value} is too small')
        least, usual, most = self.batch
        if not 1 <= least <= usual <= most:
            raise TuningError(f'batch {least},{usual},{most} does not go from small to large')

    def wishes(self) -> dict[str, Any]:
        """What differs from the defaults, for manifests and keys."""
        return {
            field.name: value
            for field in dataclasses.fields(self)
            if (value := getattr(self, field.name)) != field.default
        }


def parse_device(device: str) -> int | None:
    """The number of a DLA core, or None for a GPU.

    Raises:
        TuningError: none of ``gpu``, ``dla0``, ``dla1``, and ``gpu1`` and so on for other GPUs.
    """
    if _GPU.fullmatch(device):
        return None
    if device in ('dla0', 'dla1'):
        return int(device[-1])
    raise TuningError(f"device '{device}' is not one of gpu, dla0, dla1 (gpu1 for a second GPU)")


def gpu_number(device: str) -> int:
    """The GPU of a device that `parse_device` takes, as CUDA counts them; DLAs are beside GPU 0."""
    found = _GPU.fullmatch(device)
    return int(found[1] or 0) if found else 0
