# SPDX-License-Identifier: Apache-2.0
"""Which nodes hand things to each other by reference, and how an input hears them."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from trt_perception.runtime.frame_bus import FrameBus, Reader

if TYPE_CHECKING:
    from rclpy.context import Context
    from rclpy.node import Node

_lock = threading.Lock()
_wanted: ContextVar[bool] = ContextVar('intra_process', default=True)
_decided: weakref.WeakKeyDictionary[Node, bool] = weakref.WeakKeyDictionary()
_buses: weakref.WeakKeyDictionary[Context, FrameBus] = weakref.WeakKeyDictionary()


class Place(NamedTuple):
    """What things travel under, in the process as outside of it.

    Attributes:
        topic: resolved name.
        type: of its messages, as the graph shows it.
    """

    topic: str
    type: str


@contextmanager
def intra_process(use: bool) -> Iterator[None]:
    """Whether the nodes that are made within hand over by reference; without it they do."""
    token = _wanted.set(use)
    try:
        yield
    finally:
        _wanted.reset(token)


def bus_of(node: Node) -> FrameBus | None:
    """The bus that a node shares with the others of its context; None if it is to use none.

    That is decided with the first call for a node. One that opens inputs or outputs later than in
    its constructor calls this there, within reach of `intra_process`.
    """
    with _lock:
        if not _decided.setdefault(node, _wanted.get()):
            return None
        return _buses.setdefault(node.context, FrameBus())


class LocalInput:
    """What other nodes of this process send on the first of several places that is sent on.

    It listens in all of them from `start` on, so that nothing that is sent is missed, however late
    its sender comes.
    """

    def __init__(
        self,
        node: Node,
        places: Sequence[Place],
        take: Callable[[Any], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        """Prepare.

        Args:
            places: the most wanted first.
            take, on_error: as of `FrameBus.reader`: on the thread that sends, and must not wait.
        """
        self._bus = bus_of(node)
        self._places = places
        self._take = take
        self._on_error = on_error
        self._readers: list[Reader] = []

    @property
    def place(self) -> Place | None:
        """Where it hears somebody; None if all is left to the middleware."""
        if self._bus is None:
            return None
        return next(filter(self._bus.sends, self._places), None)

    def start(self) -> None:
        """Listen."""
        if self._bus is not None and not self._readers:
            sends = self._bus.sends

            def take_from(better: Sequence[Place], thing: Any) -> None:
                if not any(map(sends, better)):
                    self._take(thing)

            for number, place in enumerate(self._places):
                better = self._places[:number]
                take = partial(take_from, better) if better else self._take
                self._readers.append(self._bus.reader(place, take, self._on_error))

    def stop(self) -> None:
        """Hear no more; nothing is taken once this returns."""
        for reader in self._readers:
            reader.close()
        self._readers = []
