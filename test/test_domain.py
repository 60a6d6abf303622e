# SPDX-License-Identifier: Apache-2.0
"""A domain that is found free is nobody else's: not another finder's, and no robot is in it."""

from __future__ import annotations

import contextlib
import itertools
import socket

import pytest

from trt_perception.core import PerceptionError
from trt_perception.ros import domain
from trt_perception.ros.domain import free_domain


def next_is(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Make a domain the next to be looked at."""
    monkeypatch.setattr(domain, '_candidates', itertools.count(number - 1))


def test_it_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    with free_domain() as mine:
        next_is(monkeypatch, mine)
        with free_domain() as other:
            assert other != mine
            assert {mine, other} <= set(range(1, 102))


def test_a_domain_with_somebody_in_it_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip('rclpy')
    from world import World

    with free_domain() as mine:
        world = World(mine)
    try:
        # Only the node is there by now.
        next_is(monkeypatch, mine)
        with free_domain() as other:
            assert other != mine
    finally:
        world.close()


def test_all_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(domain, '_LAST', 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as port:
        with contextlib.suppress(OSError):  # somebody has it, which is as good
            port.bind(('', 7650))
        with pytest.raises(PerceptionError, match='1 to 1 are all in use'), free_domain():
            pass
