# SPDX-License-Identifier: Apache-2.0
"""How far a long work has come."""

from __future__ import annotations

from collections.abc import Callable

#: Told the phase and how much of it is done, 0..1; may raise to stop.
Progress = Callable[[str, float], None]


def steps(on_progress: Progress, phase: str, count: int) -> Callable[[], None]:
    """Count steps of a phase."""
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        on_progress(phase, min(done / count, 1.0))

    return step
