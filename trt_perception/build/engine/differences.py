# SPDX-License-Identifier: Apache-2.0
"""Where the builders of TensorRT 10.3, 10.16, 11 and TensorRT-RTX differ: a function for each.

Everything else in this package is the same for all of them.
"""

from __future__ import annotations

import contextlib
from typing import Any

from trt_perception.build.engine.tuning import Tuning, TuningError
from trt_perception.runtime.tensorrt import api as trt
from trt_perception.runtime.tensorrt.gpu import find_gpu
from trt_perception.runtime.tensorrt.library import library

#: Architectures that TensorRT-RTX makes engines for where there is no GPU to ask: those that run
#: INT8 convolutions and that the release knows.
_RTX_TARGETS = ('SM80', 'SM86', 'SM89', 'SM120')


def network_flags() -> int:
    """Strongly typed: asked for up to 10, always so from 11 on, which may drop the flag."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, 'STRONGLY_TYPED', None)
    return 0 if flag is None else 1 << int(flag)


def target() -> str:
    """What an engine built now would be made for: this GPU, or what TensorRT-RTX can make without.

    Raises:
        TuningError: there is no GPU, which TensorRT needs to build.
    """
    if (gpu := find_gpu()) is not None:
        return str(gpu)
    if library().is_rtx:
        return ', '.join(_rtx_targets())
    raise TuningError(
        f'there is no usable NVIDIA GPU here, and {library()} builds only on the device that is to'
        ' run the engine; build it there'
    )


def set_target(config: trt.IBuilderConfig) -> None:
    """TensorRT builds for the GPU that it sees; TensorRT-RTX wants to be told."""
    if not library().is_rtx:
        return
    config_: Any = config  # these names are TensorRT-RTX's alone
    capabilities = trt.ComputeCapability  # type: ignore[attr-defined]
    names = ('CURRENT',) if find_gpu() is not None else _rtx_targets()
    config_.num_compute_capabilities = len(names)
    for index, name in enumerate(names):
        config_.set_compute_capability(getattr(capabilities, name), index)


def _rtx_targets() -> tuple[str, ...]:
    capabilities = trt.ComputeCapability  # type: ignore[attr-defined]
    return tuple(name for name in _RTX_TARGETS if hasattr(capabilities, name))


def forbid_tf32(config: trt.IBuilderConfig) -> None:
    """All releases multiply FP32 in TF32, with the digits of FP16, unless told not to."""
    flag = getattr(trt.BuilderFlag, 'TF32', None)
    if flag is not None:
        config.clear_flag(flag)


def keeps_timings() -> bool:
    """Whether a timing cache does anything: TensorRT-RTX times on the device, at run time."""
    return not library().is_rtx


def set_tiling(config: trt.IBuilderConfig, level: str) -> None:
    """Tilings were added after 10.3.

    Raises:
        TuningError: this release has none.
    """
    if not hasattr(config, 'tiling_optimization_level'):
        raise TuningError(f'{library()} knows no tiling; leave it out')
    config.tiling_optimization_level = getattr(trt.TilingOptimizationLevel, level.upper())


def set_hardware_compatibility(config: trt.IBuilderConfig, level: str) -> None:
    """Levels grew over time; TensorRT-RTX has targets instead, and only warns.

    Raises:
        TuningError: this release has not that level.
    """
    known = getattr(trt, 'HardwareCompatibilityLevel', None)
    if library().is_rtx or not hasattr(known, level.upper()):
        raise TuningError(f"{library()} has no hardware compatibility '{level}'; leave it out")
    config.hardware_compatibility_level = getattr(known, level.upper())


def set_version_compatible(config: trt.IBuilderConfig) -> None:
    """The plan carries a lean runtime of its own, which TensorRT-RTX does not have.

    Raises:
        TuningError: it is TensorRT-RTX.
    """
    if library().is_rtx:
        raise TuningError(f'{library()} makes no version compatible engines; leave it out')
    config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)


def set_dla(
    builder: trt.Builder, config: trt.IBuilderConfig, parser: trt.OnnxParser, core: int, int8: bool
) -> None:
    """Run on a DLA core what can run there, the rest on the GPU.

    DLA went after 10.7 and came back with 11.4.1; before that it took no explicitly quantized
    network.

    Raises:
        TuningError: no such core here, or it cannot run this network.
    """
    found, number = library(), library().number
    if found.is_rtx:
        raise TuningError(f'{found} has no DLA; take device gpu')
    if (10, 8) <= number < (11, 4, 1):
        raise TuningError(
            f'{found} has no DLA (10.7 was the last with it, 11.4.1 has it again on AGX Orin); take'
            ' device gpu'
        )
    if core >= builder.num_DLA_cores:
        raise TuningError(
            f'there is no DLA core {core} here (this machine has {builder.num_DLA_cores}); take'
            ' device gpu'
        )
    if int8 and number < (11, 4, 1):
        raise TuningError(
            f'the DLA of {found} takes no network quantized with Q/DQ; take --precision fp16 with'
            ' the float model, or device gpu'
        )
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    # Later releases shape the network to what the DLA likes, if the parser is told.
    with contextlib.suppress(AttributeError):
        parser.set_flag(trt.OnnxParserFlag.ADJUST_FOR_DLA)  # type: ignore[attr-defined]


def set_wishes(config: trt.IBuilderConfig, tuning: Tuning) -> None:
    """Everything that is the same, or told apart by the functions above.

    Raises:
        TuningError: this release cannot fulfil one.
    """
    if tuning.optimization_level is not None:
        config.builder_optimization_level = tuning.optimization_level
    for pool, size in (
        (trt.MemoryPoolType.WORKSPACE, tuning.workspace_mib),
        (trt.MemoryPoolType.TACTIC_DRAM, tuning.tactic_memory_mib),
    ):
        if size is not None:
            config.set_memory_pool_limit(pool, size << 20)
    if tuning.auxiliary_streams is not None:
        config.max_aux_streams = tuning.auxiliary_streams
    if tuning.tiling != 'none':
        set_tiling(config, tuning.tiling)
    if tuning.hardware_compatibility != 'none':
        set_hardware_compatibility(config, tuning.hardware_compatibility)
    if tuning.version_compatible:
        set_version_compatible(config)
    if tuning.sparsity:
        config.set_flag(trt.BuilderFlag.SPARSE_WEIGHTS)
    config.profiling_verbosity = getattr(trt.ProfilingVerbosity, tuning.profiling.upper())
