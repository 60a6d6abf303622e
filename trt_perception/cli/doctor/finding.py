# SPDX-License-Identifier: Apache-2.0
"""What a check has to say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from trt_perception.cli.doctor.machine import Machine

#: ok: as it should be. note: worth knowing. warning: works, but not well. problem: does not work.
Level = Literal['ok', 'note', 'warning', 'problem']


class Finding(NamedTuple):
    """One line, and the command that mends what it tells of; '' where none does."""

    level: Level
    text: str
    cure: str = ''


#: Looks at one thing. What is not applicable to the machine is not mentioned.
Check = Callable[['Machine'], Iterator[Finding]]
