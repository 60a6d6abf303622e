# SPDX-License-Identifier: Apache-2.0
"""What TensorRT says while it works: it returns None where others raise, and the reason is here."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Sequence

from trt_perception.runtime.tensorrt import api as trt
from trt_perception.runtime.tensorrt.library import library

_KEPT = 100


class Log(trt.ILogger):
    """Keeps the last errors and warnings, and the table of layers that ends a build.

    Importing this module looks for TensorRT.
    """

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.errors: deque[str] = deque(maxlen=_KEPT)
        self.warnings: deque[str] = deque(maxlen=_KEPT)
        self.layers: list[str] = []
        self._here = threading.local()

    @property
    def here(self) -> deque[str]:
        """The last errors that were told on the thread that asks."""
        errors: deque[str] = self._here.__dict__.setdefault('errors', deque(maxlen=_KEPT))
        return errors

    def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
        """Called by TensorRT, on any thread."""
        if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
            text = ' '.join(msg.split())
            self.errors.append(text)
            self.here.append(text)
        elif severity == trt.ILogger.Severity.WARNING:
            if (text := ' '.join(msg.split())) not in self.warnings:
                self.warnings.append(text)
        elif msg.startswith('Engine Layer Information:'):
            self.layers = msg.splitlines()[1:]

    def why(self, errors: Sequence[str] = ()) -> str:
        """The last of these errors, or of all that were told, in one line."""
        told = list(errors or self.errors)
        if not told:
            return 'it gave no reason'
        return '; '.join(_explained(text) for text in told[-3:])


def _explained(text: str) -> str:
    """An error with the cure, where its text alone has cost others a day."""
    unknown = re.search(r'SM (\d+)\D.*not supported', text) or re.search(
        r'compute capability (\d+\.\d+).*not supported', text
    )
    if unknown:
        return (
            f'{library()} does not know GPUs of architecture SM {unknown[1]}; install a release'
            f' that does ({text})'
        )
    if 'driver version is insufficient' in text or 'no CUDA-capable device' in text:
        return f'there is no usable NVIDIA GPU or driver here ({text})'
    return text
