# SPDX-License-Identifier: Apache-2.0
"""How far a build is, and the way to stop it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from trt_perception.runtime.tensorrt import api as trt

#: Takes the phase and the share (0..1) of the whole that is done.
OnProgress = Callable[[str, float], None]


class Phases:
    """The tree of a builder's phases, as a share of the whole that never goes back."""

    def __init__(self) -> None:
        self._phases: dict[str, tuple[str | None, int, int]] = {}  # parent, steps, steps done
        self._share = 0.0

    def start(self, phase: str, parent: str | None, steps: int) -> float:
        """A phase begins within a step of its parent; gives the share done."""
        self._phases[phase] = (parent, max(steps, 1), 0)
        return self._update(phase)

    def step(self, phase: str, step: int) -> float:
        """A step, counted from 0, is done; gives the share done."""
        if phase in self._phases:
            parent, steps, _ = self._phases[phase]
            self._phases[phase] = (parent, steps, min(step + 1, steps))
        return self._update(phase)

    def finish(self, phase: str) -> float:
        """A phase is over; gives the share done."""
        self._phases.pop(phase, None)
        return self._share

    def _update(self, phase: str | None) -> float:
        share = 0.0
        for _ in range(len(self._phases)):  # a parent that is its own would have no end
            if phase not in self._phases:
                break
            parent, steps, done = self._phases[phase]
            share = min((done + share) / steps, 1.0)
            phase = parent
        self._share = max(self._share, share)
        return self._share


class Monitor(trt.IProgressMonitor):
    """Passes progress on and stops the build when it is told to. Importing this needs TensorRT."""

    def __init__(self, on_progress: OnProgress, cancel: threading.Event) -> None:
        trt.IProgressMonitor.__init__(self)
        self._phases = Phases()
        self._on_progress = on_progress
        self._cancel = cancel

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        """Called by TensorRT."""
        self._on_progress(phase_name, self._phases.start(phase_name, parent_phase, num_steps))

    def step_complete(self, phase_name: str, step: int) -> bool:
        """Called by TensorRT; False stops the build."""
        self._on_progress(phase_name, self._phases.step(phase_name, step))
        return not self._cancel.is_set()

    def phase_finish(self, phase_name: str) -> None:
        """Called by TensorRT."""
        self._on_progress(phase_name, self._phases.finish(phase_name))
