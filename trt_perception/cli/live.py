# SPDX-License-Identifier: Apache-2.0
"""``trt-perception replay --online``: a bag through the live node, both in this process."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions

from trt_perception.cli.opening import find_engine
from trt_perception.cli.progress import counted, interruptible
from trt_perception.cli.replaying import Task, wish_of
from trt_perception.core import PerceptionError
from trt_perception.nodes.detection import MOST_TOGETHER
from trt_perception.nodes.detector import DetectorNode
from trt_perception.nodes.launch_replay import (
    detector_parameters,
    image_remappings,
    topics_of,
)
from trt_perception.nodes.replay import ReplayNode
from trt_perception.ros.domain import free_domain
from trt_perception.ros.executor import GuardedExecutor

#: Callbacks that run at a time: the detector's are independent of the replay's.
_THREADS = 4


def replay_live(task: Task, output: Path, rate: float) -> None:
    """Play a bag in its own time to a detector of this process, and keep what it found.

    Args:
        output: the folder.
        rate: 0.5 is half the speed.

    Raises:
        PerceptionError: the detector cannot work, or a component of it failed.
        KeyboardInterrupt: after the results until then are written.
    """
    # Built here, where one sees how far it is; the detector finds it in the cache.
    together = min(len(task.cameras), MOST_TOGETHER)
    find_engine(dataclasses.replace(wish_of(task.values), batch=together))
    # One that is not the user's robot's, whose camera topics these would be.
    with free_domain() as domain, _context(domain) as context:
        executor = GuardedExecutor(context, _THREADS)
        nodes: list[Node] = []
        try:
            # Who listens comes up before the one that it listens to.
            for kind, given, remappings in _graph(task, output, rate):
                words = [word for rule in remappings.items() for word in ('-r', ':='.join(rule))]
                nodes.append(
                    kind(
                        context=context,
                        cli_args=['--ros-args', *words],
                        use_global_arguments=False,
                        parameter_overrides=[Parameter(k, value=v) for k, v in given.items()],
                    )
                )
                executor.add_node(nodes[-1])
            _follow(executor, nodes[-1])
        finally:
            executor.stop()
            executor.finish()
            for node in reversed(nodes):
                node.destroy_node()


def _graph(task: Task, output: Path, rate: float) -> Iterator[tuple[Callable[..., Node], Any, Any]]:
    """Class, parameters and remappings of each node."""
    detector = {**task.given, **detector_parameters(task)}
    yield DetectorNode, detector, image_remappings(task)
    replay = {
        'bag': str(task.bag.path),
        'topics': topics_of(task),
        'output': str(output),
        'rate': rate,
    }
    yield ReplayNode, replay, {}


@contextmanager
def _context(domain: int) -> Iterator[Context]:
    context = Context()
    rclpy.init(
        args=[], context=context, domain_id=domain, signal_handler_options=SignalHandlerOptions.NO
    )
    try:
        yield context
    finally:
        rclpy.shutdown(context=context)


def _follow(executor: GuardedExecutor, replay: Node) -> None:
    """Run both until all is played, or until Ctrl-C."""
    assert isinstance(replay, ReplayNode)
    with interruptible() as interrupt, counted(replay.total, 'playing', 'images') as move_on:
        shown = 0
        while not (replay.finished or executor.over):
            executor.spin_once(0.1)
            while shown < replay.sent:
                move_on()
                shown += 1
            interrupt()
    if executor.failure is not None:
        raise executor.failure
    if replay.problem:
        raise PerceptionError(replay.problem)
