# SPDX-License-Identifier: Apache-2.0
"""How well something goes, in one word."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Level(IntEnum):
    """As in ``diagnostic_msgs/DiagnosticStatus``."""

    OK = 0
    WARN = 1
    ERROR = 2
    STALE = 3


class Judgement(NamedTuple):
    """How it goes, and what to say of it."""

    level: Level
    message: str
