# SPDX-License-Identifier: Apache-2.0
"""Which camera's frame is looked at next, where there are more of them than can be looked at."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar('T')

#: Frames that a camera may fall behind its share before it goes first whatever its frame's age.
CREDIT = 8.0
#: Demand over capacity from which on it is better to wait for a fresh frame than to take an old
#: one: on average the next comes within half a service time.
WAITS_ABOVE = 2.0
#: Service times up to which a frame is fresh: with the look at it, it is done before two are over,
#: and a tenth is left for threads to wake.
FRESH = 0.9
#: Of a new measurement of an interval or a service time in the mean.
_NEWS = 0.1
#: Mean intervals that one interval counts for, at most: a camera that comes back after an hour.
_LONGEST = 4.0


class _Camera(Generic[T]):
    """One slot and its account."""

    def __init__(self, weight: float, virtual_time: float) -> None:
        self.weight = weight
        self.thing: T | None = None
        self.came = 0.0  # of what waits
        self.last = -math.inf  # when the last one came
        self.interval = math.inf  # mean seconds between two
        self.tag = virtual_time

    def rate(self, now: float) -> float:
        """Frames a second, less where it has fallen silent."""
        return 1 / max(self.interval, now - self.last, 1e-6) if self.interval < math.inf else 0.0


class Scheduler(Generic[T]):
    """A slot for the latest frame of each camera, and the order in which they are taken.

    It holds no lock, starts no thread and reads no clock: ``now`` is always the caller's, seconds.

    **Priority** is a positive weight: a camera of priority 2 is due twice as often as one of 1.
    **Service time** is how long one look takes, the mean of what `served` was told.
    **Demand** is the number of frames a second that all cameras bring, over the number that the
    runners can do.
    **Deadline** of a frame is when its camera's next one is due and would overtake it: its arrival
    and the camera's mean interval, divided by its priority.
    **Share** of a camera is its priority over the sum of the priorities of all cameras that want
    more than that; one that wants less gets what it wants, and the others divide the rest alike.

    While demand is at most 1, the earliest deadline goes first, which loses no frame that any other
    order would keep (EDF: Liu and Layland, 1973).

    Above, deadlines cannot all be kept, and EDF would favour whom it likes. Each camera then has a
    virtual time, which advances by one over its priority with each frame taken from it, and the
    one furthest behind goes first (stride scheduling: Waldspurger, 1995; start-time fair queueing:
    Goyal, 1996, which needs to know no speeds); the deadline decides between equals. Of cameras
    that are about even the *fresh* frames are taken, those younger than `FRESH` says, and beyond
    a demand of 2 an old one is left for a fresh one, if one is due within a service time, for two
    service times after the last arrival at most. Cameras that send evenly spaced, each in its turn,
    so have their frames published less than two service times after they came. Where they send in
    bunches, or all at the same moments, no order can keep shares, ages and the runners busy: then a
    camera that has fallen behind by `CREDIT` frames goes first, with a frame that is older, though
    never older than its camera's interval when it is taken.

    Nobody starves: whoever waits is behind everybody else after at most ``CREDIT + 1`` frames of
    each other camera, by their priorities, and then goes first.
    """

    def __init__(self) -> None:
        self._cameras: dict[Hashable, _Camera[T]] = {}
        self._virtual_time = 0.0
        self._last_arrival = -math.inf
        self._service: dict[Hashable, tuple[float, float]] = {}  # runner: seconds, of one frame

    def add(self, camera: Hashable, priority: float = 1.0) -> None:
        """Make a slot, or give its camera another priority."""
        if camera in self._cameras:
            self._cameras[camera].weight = priority
        else:
            self._cameras[camera] = _Camera(priority, self._virtual_time)

    def offer(self, camera: Hashable, thing: T, now: float) -> T | None:
        """Put a frame into its slot; the one that it overtakes."""
        slot = self._cameras[camera]
        if now > slot.last > -math.inf:
            news = now - slot.last
            if slot.interval < math.inf:  # silence is not slowness: it counts for a little
                news = min(news, _LONGEST * slot.interval)
                slot.interval += _NEWS * (news - slot.interval)
            else:
                slot.interval = news
        slot.last = self._last_arrival = now
        # What a quiet camera has not used it cannot claim later, but for a little.
        slot.tag = max(slot.tag, self._virtual_time - CREDIT / slot.weight)
        overtaken, slot.thing, slot.came = slot.thing, thing, now
        return overtaken

    def put_back(self, camera: Hashable, thing: T, came: float) -> bool:
        """Let a frame that was taken wait again; False where a newer one does."""
        slot = self._cameras[camera]
        if slot.thing is not None:
            return False
        slot.thing, slot.came = thing, came
        slot.tag -= 1 / slot.weight
        return True

    def take(self, now: float, number: int = 1) -> list[T]:
        """The frames to look at now, of as many cameras at most; none if it is better to wait."""
        taken: list[T] = []
        while len(taken) < number and (slot := self._next(now)) is not None:
            assert slot.thing is not None
            self._virtual_time = max(self._virtual_time, slot.tag)
            slot.tag += 1 / slot.weight
            taken.append(slot.thing)
            slot.thing = None
        return taken

    def look_again(self, now: float) -> float | None:
        """In how many seconds `take` gives one of those that wait if nothing else comes."""
        if not self.waiting:
            return None
        return max(1e-4, self._last_arrival + 2 * self.service_time - now)

    def withdraw(self, camera: Hashable) -> T | None:
        """Empty a slot; what waited in it."""
        slot = self._cameras[camera]
        thing, slot.thing = slot.thing, None
        return thing

    def served(self, runner: Hashable, seconds: float, frames: int = 1, beside: int = 1) -> None:
        """A runner took so long for one look at so many frames.

        Args:
            beside: looks that it had under way at a time, this one included.
        """
        one = seconds / frames / beside
        whole, each = self._service.get(runner, (seconds, one))
        self._service[runner] = (
            whole + _NEWS * (seconds - whole),
            each + _NEWS * (one - each),
        )

    def retire(self, runner: Hashable) -> None:
        """A runner is gone, and its capacity with it."""
        self._service.pop(runner, None)

    @property
    def waiting(self) -> int:
        """How many frames wait."""
        return sum(slot.thing is not None for slot in self._cameras.values())

    @property
    def service_time(self) -> float:
        """Mean seconds of one look; 0 before there was one."""
        if not self._service:
            return 0.0
        return sum(whole for whole, _ in self._service.values()) / len(self._service)

    def demand(self, now: float) -> float:
        """What the cameras bring over what the runners can do; 0 before both are known."""
        capacity = sum(1 / each for _, each in self._service.values() if each > 0)
        wanted = sum(slot.rate(now) for slot in self._cameras.values())
        return wanted / capacity if capacity else 0.0

    def _next(self, now: float) -> _Camera[T] | None:
        waiting = [slot for slot in self._cameras.values() if slot.thing is not None]
        if not waiting:
            return None
        demand = self.demand(now)
        if demand <= 1:
            return min(waiting, key=_deadline)
        first = min(waiting, key=lambda slot: (slot.tag, _deadline(slot)))
        if first.tag <= self._virtual_time - CREDIT / first.weight:
            return first
        service = self.service_time
        fresh = [slot for slot in waiting if now - slot.came <= FRESH * service]
        if fresh:
            return min(fresh, key=lambda slot: (slot.tag, _deadline(slot)))
        due = min(slot.last + slot.interval for slot in self._cameras.values())
        soon = due <= now + service and now < self._last_arrival + 2 * service
        return None if demand > WAITS_ABOVE and soon else first


def _deadline(slot: _Camera[T]) -> float:
    return slot.came + slot.interval / slot.weight if slot.interval < math.inf else slot.came
