# SPDX-License-Identifier: Apache-2.0
"""A process of nodes, started, watched and stopped by a command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from time import monotonic

#: How many of a child's lines are kept, to be shown when it dies.
_LAST_LINES = 20
# The command that ros2 run finds is not on every PATH. Without the folder that this is started in:
# its files would be taken for modules.
_MAIN = (
    'import sys; sys.path = [p for p in sys.path if p]; from trt_perception.nodes.main import {0};'
    ' sys.exit({0}())'
)


class Child:
    """One executable of `trt_perception.nodes.main`, its output read line by line."""

    def __init__(
        self,
        executable: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        on_line: Callable[[str], None],
    ) -> None:
        """Start it.

        Args:
            executable: such as ``perception_container``.
            environment: what it has beside this process's own.
            on_line: takes each line that it prints, on another thread.
        """
        self.name = executable
        self._last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._on_line = on_line
        command = [sys.executable, '-c', _MAIN.format(executable), *arguments]
        self._process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors='replace',
        )
        self._reader = threading.Thread(target=self._read, name=f'{executable} output', daemon=True)
        self._reader.start()

    @property
    def code(self) -> int | None:
        """The exit code; None while it runs."""
        return self._process.poll()

    def last_lines(self) -> list[str]:
        """What it has printed last."""
        return list(self._last_lines)

    def epitaph(self) -> str:
        """With what exit code it ended, and its last lines."""
        self._reader.join(1)
        return '\n  '.join([f'{self.name} ended with exit code {self.code}', *self.last_lines()])

    def interrupt(self) -> None:
        """Ask it to finish, if it still runs."""
        if self.code is None:
            self._process.send_signal(signal.SIGINT)

    def wait(self, seconds: float, hurry: Callable[[], bool]) -> bool:
        """Wait for its end; kill it when it takes too long.

        Args:
            hurry: asked again and again; True kills at once.

        Returns:
            Whether it ended by itself.
        """
        give_up = monotonic() + seconds
        while self.code is None and monotonic() < give_up and not hurry():
            try:
                self._process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
        ended = self.code is not None
        self._process.kill()
        self._process.wait()
        return ended

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._last_lines.append(line.rstrip())
            self._on_line(line.rstrip())
