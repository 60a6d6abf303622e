# SPDX-License-Identifier: Apache-2.0
"""What a benchmark found out; `BenchmarkResult.to_dict` is the format of its JSON file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

#: Name and version of the JSON file's format.
SCHEMA = 'trt_perception.benchmark/1'


class Spread(NamedTuple):
    """Milliseconds: the median, what 95 and 99 of 100 frames stay below, and the longest."""

    p50: float
    p95: float
    p99: float
    max: float


def spread(nanoseconds: Sequence[int]) -> Spread:
    """Of so many durations, one at least."""
    values = np.percentile(np.asarray(nanoseconds, np.float64) / 1e6, (50, 95, 99, 100))
    return Spread(*(round(float(ms), 4) for ms in values))


@dataclass(frozen=True)
class CameraResult:
    """One camera of several.

    Attributes:
        frames: that it sent and got detections of.
        host_ms: what the thread that serves it sees of a frame: ``total``; on a GPU also
            ``submit`` (until the frame is on its way) and ``wait`` (for its detections).
        stage_ms: preprocess, infer, decode, as the pipeline tells them.
    """

    frames: int
    host_ms: Mapping[str, Spread]
    stage_ms: Mapping[str, Spread]


@dataclass(frozen=True)
class BenchmarkResult:
    """All cameras together.

    Attributes:
        backend, device, precision: what ran, and where.
        image: width, height, encoding, bytes, memory (``pageable`` or ``pinned``) and picture.
        seconds: measured, without the warm-up.
        detections: found in all frames.
        cameras: each of them.
        host_ms, stage_ms: as for `CameraResult`, over all cameras' frames.
        driver_calls: CUDA driver calls by name while it measured; None where CUDA is not used.
        allocations: those of them that allocate memory of the GPU or pinned memory.
        cpu_share: cores that the process kept busy: its CPU time over the time that passed.
        memory: bytes: ``resident`` and ``peak`` of the process, ``gpu_used`` of the GPU (by all
            processes together).
        sensors: what could be read: median and highest by name.
    """

    backend: str
    device: str
    precision: str
    image: Mapping[str, Any]
    seconds: float
    detections: int
    cameras: Sequence[CameraResult]
    host_ms: Mapping[str, Spread]
    stage_ms: Mapping[str, Spread]
    driver_calls: Mapping[str, int] | None
    allocations: Mapping[str, int] | None
    cpu_share: float
    memory: Mapping[str, int]
    sensors: Mapping[str, Mapping[str, float]]

    @property
    def frames(self) -> int:
        """Of all cameras."""
        return sum(camera.frames for camera in self.cameras)

    @property
    def frames_per_second(self) -> float:
        """Of all cameras."""
        return self.frames / self.seconds

    def calls_per_frame(self) -> dict[str, float]:
        """CUDA driver calls by name, for one frame; empty where CUDA is not used."""
        return {name: n / self.frames for name, n in (self.driver_calls or {}).items()}

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            'schema': SCHEMA,
            'ran': {
                'backend': self.backend, 'device': self.device, 'precision': self.precision,
            },
            'image': dict(self.image),
            'seconds': round(self.seconds, 3),
            'frames': self.frames,
            'frames_per_second': round(self.frames_per_second, 2),
            'detections_per_frame': round(self.detections / self.frames, 3),
            'host_ms': _spreads(self.host_ms),
            'stage_ms': _spreads(self.stage_ms),
            'cameras': [
                {
                    'frames': camera.frames,
                    'frames_per_second': round(camera.frames / self.seconds, 2),
                    'host_ms': _spreads(camera.host_ms),
                    'stage_ms': _spreads(camera.stage_ms),
                }
                for camera in self.cameras
            ],
            'driver_calls_per_frame': None
            if self.driver_calls is None
            else {name: round(n, 3) for name, n in self.calls_per_frame().items()},
            'allocations': None if self.allocations is None else dict(self.allocations),
            'cpu_share': round(self.cpu_share, 3),
            'memory_bytes': dict(self.memory),
            'sensors': {name: dict(values) for name, values in self.sensors.items()},
        }  # fmt: skip


def _spreads(spreads: Mapping[str, Spread]) -> dict[str, dict[str, float]]:
    return {name: times._asdict() for name, times in spreads.items()}


def merged(cameras: Sequence[Mapping[str, Sequence[int]]]) -> dict[str, Spread]:
    """Spreads by name over the durations of several cameras."""
    names = dict.fromkeys(name for camera in cameras for name in camera)
    return {name: spread([ns for c in cameras for ns in c.get(name, ())]) for name in names}
