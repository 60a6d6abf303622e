# SPDX-License-Identifier: Apache-2.0
"""Waiting for the GPU without a core of the CPU, and without being late."""

from __future__ import annotations

from time import perf_counter_ns, sleep

#: Being woken takes about this long; the end is waited for awake.
_AWAKE = 200_000
#: By how much a longer frame lengthens the next pause,
_PATIENCE = 0.05
#: and for how many times the pause it counts at the most: one that was held up says little.
_LONGEST = 2.0


class Pause:
    """Sleeps through the part of a frame in which it has never been ready.

    A thread that sleeps until the driver wakes it is late by a tenth of a millisecond, sometimes by
    many; one that spins takes a core. This one sleeps for as long as frames have taken at the least
    and then spins for the rest. Times are in nanoseconds.
    """

    def __init__(self) -> None:
        self._shortest = 0.0
        self._first = True
        self._begun = 0

    def begin(self) -> None:
        """The GPU has been given its work."""
        self._begun = perf_counter_ns()

    def left(self) -> float:
        """How much longer it is safe to sleep; 0 or less if it is not."""
        return self._shortest - _AWAKE - (perf_counter_ns() - self._begun)

    def sleep(self) -> None:
        """Sleep for so long."""
        left = self.left()
        if left > 0:
            sleep(left / 1e9)

    def learn(self, took: float) -> None:
        """A frame took so long on the GPU; shorter ones count at once, longer ones slowly.

        The first one says nothing: TensorRT-RTX compiles kernels meanwhile, for a second or two.
        """
        if self._first:
            self._first = False
        elif took < self._shortest or not self._shortest:
            self._shortest = took
        else:
            longer = min(took, _LONGEST * self._shortest) - self._shortest
            self._shortest += _PATIENCE * longer
