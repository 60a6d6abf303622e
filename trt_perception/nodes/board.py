# SPDX-License-Identifier: Apache-2.0
"""Heat and power of the board, read beside everything else and told on diagnostics."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from time import monotonic

from rclpy.impl.rcutils_logger import RcutilsLogger
from rclpy.node import Node

from trt_perception.core.errors import one_line
from trt_perception.health.board import Judge, Reading, board_values
from trt_perception.health.observer import Observer
from trt_perception.ros.diagnostics import (
    ERROR,
    OK,
    WARN,
    Diagnostics,
    ThrottledErrors,
    Verdict,
)
from trt_perception.runtime.machine import board_model
from trt_perception.runtime.sensors import Sensors

PERIOD = 1.0
#: Seconds after which the sensors are said to hang.
PATIENCE = 5.0
_ROOT = Path('/')


class Board:
    """Reads the sensors once a second, on a thread of its own: some take milliseconds, or hang."""

    def __init__(self, gpus: Sequence[int], logger: RcutilsLogger, root: Path = _ROOT) -> None:
        """Begin to read.

        Args:
            gpus: numbers of those to watch, as CUDA counts them.
            root: where the system's files lie.
        """
        self._logger = logger
        self._errors = ThrottledErrors(logger)
        self._lock = threading.Lock()
        self._reading: Reading | None = None
        self._verdict = Verdict(OK, 'not read yet')
        self._since = monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(gpus, root), name='board', daemon=True
        )
        self._thread.start()

    def latest(self) -> Reading | None:
        """The last reading; None before the first."""
        with self._lock:
            return self._reading

    def verdict(self) -> Verdict:
        """How the board is."""
        with self._lock:
            seconds = monotonic() - self._since
            verdict = self._verdict
        if seconds > PATIENCE:
            return Verdict(WARN, f'the sensors have not answered for {seconds:.0f} s')
        return verdict

    def close(self) -> None:
        """Read no more. A sensor that hangs is not waited for."""
        self._stop.set()
        self._thread.join(PATIENCE)

    def _run(self, gpus: Sequence[int], root: Path) -> None:
        observer, judge = None, Judge()
        while not self._stop.is_set():
            try:
                observer = observer or self._find(gpus, root)
                reading = observer.read()
                level, message = judge.judge(reading)
            except Exception as error:  # of a driver; the next reading may work
                self._errors.error('board', f'board not read: {one_line(error)}')
            else:
                with self._lock:
                    self._reading, self._since = reading, reading.at
                    self._verdict = Verdict(bytes([level]), message)
            self._stop.wait(PERIOD)

    def _find(self, gpus: Sequence[int], root: Path) -> Observer:
        sensors = Sensors(gpus, root)
        if sensors.absent:
            self._logger.info(f'board: not here, and left out: {", ".join(sensors.absent)}')
        return Observer(sensors)


class BoardMonitor:
    """The status ``board`` of a node.

    Used from the executor.

    Attributes:
        model: of the board; '' where it tells none.
    """

    def __init__(self, node: Node, diagnostics: Diagnostics, root: Path = _ROOT) -> None:
        self._node = node
        self._diagnostics = diagnostics
        self._root = root
        self.model = board_model(root)
        self._gpus: Sequence[int] | None = None
        self._board: Board | None = None
        self._level = OK
        self._counted: tuple[float, float, int] | None = None  # when, joules, frames
        self._joules_per_frame: float | None = None

    def watch(self, gpus: Sequence[int] | None) -> None:
        """Watch these GPUs and the board from now on, or nothing.

        Args:
            gpus: their numbers, as CUDA counts them; None for nothing at all.
        """
        if gpus == self._gpus:
            return
        self.close()
        self._gpus = gpus
        if gpus is not None:
            self._board = Board(gpus, self._node.get_logger(), self._root)

    @property
    def watches(self) -> bool:
        """Whether there is to be any reading."""
        return self._board is not None

    def latest(self) -> Reading | None:
        """The last reading; None before the first, and where nothing is watched."""
        return None if self._board is None else self._board.latest()

    def report(self, frames: int) -> None:
        """Tell how the board is.

        Args:
            frames: published so far.
        """
        if self._board is None:
            return
        verdict, reading = self._board.verdict(), self._board.latest()
        values: dict[str, object] = {}
        if reading is not None:
            self._share(reading, frames)
            values = board_values(reading)
            if self._joules_per_frame is not None:
                values['energy J per frame'] = f'{self._joules_per_frame:.3f}'
        if verdict.level != self._level:
            self._log(verdict)
            self._level = verdict.level
        self._diagnostics.publish('board', verdict, self.model, values)

    def close(self) -> None:
        """Watch nothing any more."""
        if self._board is not None:
            self._board.close()
            self._diagnostics.forget('board')
        self._board = self._gpus = self._counted = self._joules_per_frame = None

    def _share(self, reading: Reading, frames: int) -> None:
        """Share the energy between two readings among the frames that came meanwhile."""
        if reading.energy_j is None:
            return
        if self._counted is not None:
            at, energy, counted = self._counted
            if reading.at == at:
                return
            new = frames - counted
            self._joules_per_frame = (reading.energy_j - energy) / new if new > 0 else None
        self._counted = reading.at, reading.energy_j, frames

    def _log(self, verdict: Verdict) -> None:
        logger, line = self._node.get_logger(), f'board: {verdict.message}'
        if verdict.level == ERROR:
            logger.error(line)
        elif verdict.level == WARN:
            logger.warning(line)
        else:
            logger.info(f'board: all is well: {verdict.message}')
