# SPDX-License-Identifier: Apache-2.0
"""Ranges that Nsight Systems shows beside what the GPU does, where the nvtx package is installed.

Without it, or without a profiler, they cost less than a microsecond; see docs/profiling.md.
"""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

#: What the ranges are filed under.
DOMAIN = 'trt_perception'


class _Nothing:
    """Where there is no nvtx."""

    def __enter__(self) -> None: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class _Range:
    """A range of one name; holds nothing of its own, so threads share it and it nests."""

    def __init__(self, domain: Any, name: str) -> None:
        self._push, self._pop = domain.push_range, domain.pop_range
        self._attributes = domain.get_event_attributes(message=name)

    def __enter__(self) -> None:
        self._push(self._attributes)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pop()


@functools.cache
def _domain() -> Any:
    try:
        import nvtx
    except ImportError:
        return None
    if not hasattr(nvtx, 'get_domain'):
        return None
    domain = nvtx.get_domain(DOMAIN)
    return domain if hasattr(domain, 'push_range') else None  # as from 0.2.12 on


@functools.lru_cache(maxsize=1024)  # of names: the stages, and the cameras' topics
def stage(name: str) -> AbstractContextManager[None]:
    """A range around what is done under ``with``: a stage, or all that is done for a camera."""
    domain = _domain()
    return _Nothing() if domain is None else _Range(domain, name)
