# SPDX-License-Identifier: Apache-2.0
"""The frame bus: by reference, to whoever is there; nobody waits for, breaks or keeps another's."""

from __future__ import annotations

import gc
import random
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trt_perception.core import Frame, Stamp
from trt_perception.runtime.frame_bus import FrameBus, Mailbox, Reader, Sender

TIMEOUT = 60.0  # for what takes a moment; a loaded machine takes more of them


def frame(number: int = 0) -> Frame:
    return Frame.from_array(np.zeros((8, 8, 3), np.uint8), stamp=Stamp(number))


def start(run: Callable[..., None], *args: Any) -> threading.Thread:
    thread = threading.Thread(target=run, args=args)
    thread.start()
    return thread


def join(*threads: threading.Thread) -> None:
    for thread in threads:
        thread.join(TIMEOUT)
        assert not thread.is_alive()


def test_every_reader_gets_the_thing_itself() -> None:
    bus = FrameBus()
    seen: list[tuple[str, Frame, threading.Thread]] = []
    early = bus.reader('image', lambda f: seen.append(('early', f, threading.current_thread())))
    sender = bus.sender('image')
    late = bus.reader('image', lambda f: seen.append(('late', f, threading.current_thread())))
    other = bus.reader('other', lambda f: seen.append(('other', f, threading.current_thread())))
    sent = frame()
    assert (sender.readers, sender.send(sent)) == (2, 2)
    assert [name for name, _, _ in seen] == ['early', 'late']
    assert all(f is sent and thread is threading.current_thread() for _, f, thread in seen)
    early.close()
    early.close()
    assert (sender.readers, sender.send(frame(1))) == (1, 1)
    late.close()
    other.close()
    assert (sender.readers, sender.send(frame(2))) == (0, 0)
    assert len(seen) == 3


def test_it_knows_who_sends() -> None:
    bus = FrameBus()
    reader = bus.reader('image', print)
    assert not bus.sends('image')
    one, two = bus.sender('image'), bus.sender('image')
    assert bus.sends('image') and not bus.sends('other')
    one.close()
    one.close()
    assert bus.sends('image')
    assert one.send(frame()) == one.readers == 0
    two.close()
    assert not bus.sends('image')
    reader.close()


@pytest.mark.parametrize('cyclic', [False, True])
def test_who_is_let_go_is_gone(cyclic: bool) -> None:
    """As when a node's constructor fails half-way: nobody is left to close what it had."""
    bus = FrameBus()
    seen: list[Frame] = []

    class Owner:
        def __init__(self) -> None:
            self.me = self if cyclic else None
            self.sender, self.reader = bus.sender('image'), bus.reader('image', seen.append)

    owner = Owner()
    sender = bus.sender('image')
    assert (sender.send(frame()), len(seen)) == (1, 1)
    del owner
    gc.collect()
    assert (sender.readers, sender.send(frame()), len(seen)) == (0, 0, 1)
    sender.close()
    assert not bus.sends('image')


def test_a_frame_lives_as_long_as_its_last_reader() -> None:
    bus = FrameBus()
    kept: dict[str, list[Frame]] = {'first': [], 'last': []}
    readers = [bus.reader('image', held.append) for held in kept.values()]
    sender = bus.sender('image')
    pixels = np.zeros((8, 8, 3), np.uint8)
    alone = sys.getrefcount(pixels)
    sent = Frame.from_array(pixels)
    dead = weakref.ref(sent)
    held = sys.getrefcount(sent)
    assert sender.send(sent) == 2
    assert sys.getrefcount(sent) == held + 2  # the readers', and none of the bus's
    del sent
    kept['first'].clear()
    assert dead() is kept['last'][0] and sys.getrefcount(pixels) > alone
    assert kept['last'][0].data.ctypes.data == pixels.ctypes.data
    kept['last'].clear()
    assert dead() is None and sys.getrefcount(pixels) == alone
    for reader in readers:
        reader.close()


def test_a_reader_breaks_nobody_else(capsys: pytest.CaptureFixture[str]) -> None:
    bus = FrameBus()
    errors: list[Exception] = []
    seen: list[Frame] = []

    def fail(thing: object) -> None:
        raise ValueError('clumsy')

    def fail_too(error: Exception) -> None:
        raise RuntimeError('clumsy twice')

    readers = [
        bus.reader('image', fail, errors.append),
        bus.reader('image', fail, fail_too),
        bus.reader('image', fail),
        bus.reader('image', seen.append),
    ]
    sender = bus.sender('image')
    assert sender.send(frame()) == 4
    assert [str(error) for error in errors] == ['clumsy']
    assert len(seen) == 1
    told = capsys.readouterr().err
    assert 'clumsy twice' in told and told.count('ValueError: clumsy\n') == 2
    for reader in readers:
        reader.close()


def test_nothing_is_taken_once_a_reader_is_closed() -> None:
    """Whoever takes may be destroyed then: one that is being taken is waited for."""
    bus = FrameBus()
    inside, leave = threading.Event(), threading.Event()
    order: list[str] = []

    def take(thing: object) -> None:
        inside.set()
        leave.wait(TIMEOUT)
        order.append('taken')

    def close() -> None:
        reader.close()
        order.append('closed')

    reader, sender = bus.reader('image', take), bus.sender('image')
    sending = start(sender.send, frame())
    assert inside.wait(TIMEOUT)
    closing = start(close)
    closing.join(0.2)  # what would return too early does so now
    leave.set()
    join(sending, closing)
    assert order == ['taken', 'closed']
    assert sender.send(frame()) == 0 and order == ['taken', 'closed']


def test_a_reader_may_close_itself_while_it_takes() -> None:
    bus = FrameBus()
    sender = bus.sender('image')
    reader = bus.reader('image', lambda thing: reader.close())
    assert [sender.send(frame()), sender.send(frame())] == [1, 0]


# Mailbox


def test_a_mailbox_holds_the_latest() -> None:
    box: Mailbox[int] = Mailbox()
    assert [box.put(n) for n in (1, 2, 3)] == [None, 1, 2]
    assert box.get() == 3
    assert box.put(4) is None
    assert box.close() == 4
    assert (box.get(), box.put(5), box.get(), box.close()) == (None, 5, None, None)


def test_who_waits_at_a_mailbox_is_woken() -> None:
    box: Mailbox[int] = Mailbox()
    got: list[int | None] = []
    handed = threading.Semaphore(0)

    def wait() -> None:
        while (thing := box.get()) is not None:
            got.append(thing)
            handed.release()
        got.append(None)

    waiting = start(wait)
    for number in (1, 2):
        box.put(number)
        assert handed.acquire(timeout=TIMEOUT)
    box.close()
    join(waiting)
    assert got == [1, 2, None]


def test_a_slow_reader_holds_nobody() -> None:
    """It looks at the latest that there is when it is free; the others are let go at once."""
    bus = FrameBus()
    box: Mailbox[Frame] = Mailbox()
    overtaken: list[int] = []
    fast: list[int] = []
    begun, go_on = threading.Semaphore(0), threading.Semaphore(0)
    looked_at: list[int] = []

    def leave(thing: Frame) -> None:
        old = box.put(thing)
        if old is not None:
            overtaken.append(old.stamp.sec)

    def look() -> None:
        while (thing := box.get()) is not None:
            looked_at.append(thing.stamp.sec)
            del thing
            begun.release()
            assert go_on.acquire(timeout=TIMEOUT)

    slow = start(look)
    readers = [bus.reader('image', leave), bus.reader('image', lambda f: fast.append(f.stamp.sec))]
    sender = bus.sender('image')
    sender.send(frame(0))
    assert begun.acquire(timeout=TIMEOUT)
    alive = []
    for number in range(1, 100):
        sent = frame(number)
        alive.append(weakref.ref(sent))
        sender.send(sent)
        del sent
    assert fast == list(range(100))
    assert [ref().stamp.sec for ref in alive if ref() is not None] == [99]
    go_on.release()
    assert begun.acquire(timeout=TIMEOUT)
    go_on.release()
    box.close()
    join(slow)
    assert (looked_at, overtaken) == ([0, 99], list(range(1, 99)))
    for reader in readers:
        reader.close()


# All at once


@pytest.mark.parametrize('seed', range(3))
def test_all_come_and_go_while_all_send(seed: int) -> None:
    """What was handed over, as the senders count it, is what the readers took."""
    bus = FrameBus()
    handed, taken = Counter[str](), Counter[str]()
    counting = threading.Lock()
    closed_too_early: list[str] = []

    def send(chance: random.Random) -> None:
        sender: Sender | None = None
        while not done.is_set():
            if sender is None or chance.random() < 0.05:
                if sender is not None and chance.random() < 0.5:
                    sender.close()  # else it is only let go
                topic = chance.choice('ab')
                sender = bus.sender(topic)
                assert bus.sends(topic)
            number = sender.send(topic)
            with counting:
                handed[topic] += number
            pause.wait(0.0005)

    def read(chance: random.Random) -> None:
        for _ in range(60):
            topic = chance.choice('ab')
            closed = threading.Event()

            def take(thing: str, topic: str = topic, closed: threading.Event = closed) -> None:
                if thing != topic or closed.is_set():
                    closed_too_early.append(thing)
                with counting:
                    taken[topic] += 1

            reader: Reader = bus.reader(topic, take)
            bus.sends(topic)
            pause.wait(0.002 * chance.random())
            reader.close()
            closed.set()

    pause, done = threading.Event(), threading.Event()  # the first is never set
    senders = [start(send, random.Random(10 * seed + k)) for k in range(3)]
    join(*(start(read, random.Random(10 * seed + k)) for k in range(3, 5)))
    done.set()
    join(*senders)
    assert handed == taken and handed.total() > 0
    assert closed_too_early == []
    assert not bus.sends('a') and not bus.sends('b')
