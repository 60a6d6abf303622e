# SPDX-License-Identifier: Apache-2.0
"""Figures that took long to measure, kept so that a rerun goes on where it was stopped."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

from trt_perception.core.files import write_atomically


class Measurements:
    """Figures by name, of one question: the same model, frames and code.

    Attributes:
        resumed: how many were there already.
    """

    def __init__(self, path: Path | None = None, question: str = '') -> None:
        """Take up what is there.

        Args:
            path: a JSON file, written after each figure; None keeps nothing.
            question: what all figures depend on, such as a hash; figures of another are dropped.
        """
        self._path = path
        self._question = question
        self._figures: dict[str, float] = {}
        if path is not None and path.is_file():
            # What cannot be read is measured again.
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                kept = json.loads(path.read_text(encoding='utf-8'))
                if kept['question'] == question:
                    self._figures = {str(k): float(v) for k, v in kept['figures'].items()}
        self.resumed = len(self._figures)

    def get(self, name: str, measure: Callable[[], float]) -> float:
        """The figure of this name, measured only if it is not there."""
        if name not in self._figures:
            self._figures[name] = measure()
            if self._path is not None:
                kept = {'question': self._question, 'figures': self._figures}
                write_atomically(self._path, json.dumps(kept, indent=1) + '\n')
        return self._figures[name]
