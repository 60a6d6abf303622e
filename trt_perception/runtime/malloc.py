# SPDX-License-Identifier: Apache-2.0
"""How glibc hands out memory to a process of many threads."""

from __future__ import annotations

import contextlib
import ctypes
import os

#: Of glibc's malloc.h.
_M_ARENA_MAX = -8
_ARENAS = 2


def few_arenas() -> None:
    """Let all threads share two pools of memory, unless the environment says how many.

    glibc has eight for each core, gives one to each thread in turn, and keeps in each the most that
    was ever needed there. Threads come and go with every model that is loaded and every camera that
    connects: without this a detector that is restarted now and then grows for days. With another C
    library nothing is done, and nothing is needed.
    """
    if 'MALLOC_ARENA_MAX' not in os.environ:
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)
