# SPDX-License-Identifier: Apache-2.0
"""From senders to readers in one process, by reference: no copy, no serialisation, no queue.

What travels belongs to all who hold it: it must not change any more once it is sent. It lives as
long as the last of them keeps it; the bus itself keeps nothing.
"""

from __future__ import annotations

import threading
import traceback
import weakref
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

T = TypeVar('T')


class FrameBus:
    """Brings senders and readers of one topic together, whichever of them comes first.

    Senders and readers belong to who asked for them: one that is let go is gone, closed or not, so
    that nothing which failed half-way stays behind as a sender that never sends.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # A topic is there while it has a sender or a reader.
        self._topics: weakref.WeakValueDictionary[Hashable, _Topic] = weakref.WeakValueDictionary()

    def sender(self, topic: Hashable) -> Sender:
        """A new sender; there may be several on one topic."""
        return Sender(self._topic(topic))

    def reader(
        self,
        topic: Hashable,
        take: Callable[[Any], None],
        on_error: Callable[[Exception], None] = traceback.print_exception,
    ) -> Reader:
        """A new reader.

        Args:
            take: takes each thing that is sent, on the thread that sends it and from one thread at
                a time: it must not wait. Who needs time puts it into a `Mailbox`.
            on_error: takes what `take` raises; no sender and no other reader sees it.
        """
        return Reader(self._topic(topic), take, on_error)

    def sends(self, topic: Hashable) -> bool:
        """Whether there is a sender now, whether or not it has sent anything."""
        found = self._topics.get(topic)
        return found is not None and any(sender() is not None for sender in found.senders)

    def _topic(self, topic: Hashable) -> _Topic:
        with self._lock:
            found = self._topics.get(topic)
            if found is None:
                found = self._topics[topic] = _Topic()
            return found


class Sender:
    """Sends on one topic."""

    def __init__(self, topic: _Topic) -> None:
        self._topic: _Topic | None = topic
        self._ref = weakref.ref(self)
        with topic.lock:
            topic.senders = _with(topic.senders, self._ref)

    @property
    def readers(self) -> int:
        """How many there are now."""
        topic = self._topic
        return 0 if topic is None else sum(reader() is not None for reader in topic.readers)

    def send(self, thing: object) -> int:
        """Hand a thing to each reader, one after the other; to nobody once this is closed.

        Returns:
            How many readers there were.
        """
        topic = self._topic
        if topic is None:
            return 0
        handed = 0
        for ref in topic.readers:
            reader = ref()
            handed += reader is not None and reader._hand(thing)
        return handed

    def close(self) -> None:
        """Send no more; what is being sent still arrives."""
        topic, self._topic = self._topic, None
        if topic is not None:
            with topic.lock:
                topic.senders = _without(topic.senders, self._ref)


class Reader:
    """Reads one topic."""

    def __init__(
        self,
        topic: _Topic,
        take: Callable[[Any], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._topic = topic
        self._take: Callable[[Any], None] | None = take
        self._on_error = on_error
        self._lock = threading.RLock()  # so that `take` may close it
        self._ref = weakref.ref(self)
        with topic.lock:
            topic.readers = _with(topic.readers, self._ref)

    def close(self) -> None:
        """Take no more. One that is being taken is waited for: none comes once this returns."""
        with self._topic.lock:
            self._topic.readers = _without(self._topic.readers, self._ref)
        with self._lock:
            self._take = None

    def _hand(self, thing: object) -> bool:
        with self._lock:
            if self._take is None:
                return False
            try:
                self._take(thing)
            except Exception as error:
                self._fail(error)
            return True

    def _fail(self, error: Exception) -> None:
        try:
            self._on_error(error)
        except Exception:
            traceback.print_exc()


class Mailbox(Generic[T]):
    """Room for the latest thing, between a reader's `take` and a thread that takes its time."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._thing: T | None = None
        self._closed = False

    def put(self, thing: T) -> T | None:
        """Leave a thing; never waits.

        Returns:
            What nobody will get any more: the one that it overtakes, or itself after `close`. None
            in the usual case.
        """
        with self._changed:
            if self._closed:
                return thing
            overtaken, self._thing = self._thing, thing
            self._changed.notify()
            return overtaken

    def get(self) -> T | None:
        """Wait for a thing and take it; None once closed."""
        with self._changed:
            while self._thing is None and not self._closed:
                self._changed.wait()
            thing, self._thing = self._thing, None
            return thing

    def close(self) -> T | None:
        """Send away who waits, for good; what nobody has taken."""
        with self._changed:
            self._closed = True
            thing, self._thing = self._thing, None
            self._changed.notify_all()
            return thing


class _Topic:
    """Who is there; replaced whole, so that no sender waits for who comes and goes."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.senders: tuple[weakref.ref[Sender], ...] = ()
        self.readers: tuple[weakref.ref[Reader], ...] = ()


def _with(refs: tuple[weakref.ref[T], ...], added: weakref.ref[T]) -> tuple[weakref.ref[T], ...]:
    return (*(ref for ref in refs if ref() is not None), added)


def _without(refs: tuple[weakref.ref[T], ...], gone: weakref.ref[T]) -> tuple[weakref.ref[T], ...]:
    return tuple(ref for ref in refs if ref is not gone and ref() is not None)
