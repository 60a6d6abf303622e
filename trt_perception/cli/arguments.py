# SPDX-License-Identifier: Apache-2.0
"""Values of options that several commands take, checked as argparse wants it."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable


def whole(low: int, high: int) -> Callable[[str], int]:
    """A type of whole numbers from ``low`` to ``high``."""

    def parse(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of {low} to {high}")
        return int(text)

    return parse


def share(text: str) -> float:
    """A type of numbers from 0 to 1."""
    with contextlib.suppress(ValueError):
        if 0 <= (number := float(text)) <= 1:
            return number
    raise argparse.ArgumentTypeError(f"'{text}' is not a number from 0 to 1")


def percentage(text: str) -> float:
    """A type of shares that are written in percent, with the sign: ``1%`` is 0.01."""
    with contextlib.suppress(ValueError):
        if text.endswith('%') and 0 <= (number := float(text[:-1])) < 1e6:
            return number / 100
    raise argparse.ArgumentTypeError(f"'{text}' is not a percentage, as 1% or 0.5% is")
