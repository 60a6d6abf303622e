# SPDX-License-Identifier: Apache-2.0
"""The demo's nodes in one process, from its start to its end."""

from __future__ import annotations

import argparse
import os
from contextlib import nullcontext
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import yaml

from trt_perception.build.engine.serving import Wish
from trt_perception.cli.demo.child import Child
from trt_perception.cli.demo.display import Display
from trt_perception.cli.demo.listener import CONTAINER, Listener
from trt_perception.cli.opening import find_engine
from trt_perception.core import PerceptionError
from trt_perception.core.files import is_file, user_path, write_atomically
from trt_perception.nodes.main import Stop
from trt_perception.replay.recording import SUMMARY
from trt_perception.replay.sources import open_source
from trt_perception.ros.component import FINISHED, RUNNING, STARTING
from trt_perception.ros.domain import free_domain
from trt_perception.ros.fastdds import profile_environment
from trt_perception.ros.recording_parameters import PLAYER
from trt_perception.ros.share import share
from trt_perception.runtime.model_file import load_spec
from trt_perception.runtime.tensorrt.manifest import read_manifest
from trt_perception.runtime.tensorrt.plan import is_engine

FAILED, INTERRUPTED = 1, 130
TOPICS = {'image': '/camera/image_raw'}
#: What there is without --model and --input, below the package's share.
MODEL, INPUT = Path('resource/models/warehouse.onnx'), Path('resource/demo/drive.mp4')
#: The file beside the results that says what was run, and from which it can be run again.
GRAPH = 'graph.yaml'
#: Seconds that the process gets to end when it is asked to. The detector may have an inference
#: under way, the recorder much that still waits to be encoded.
PATIENCE = 190.0
#: Seconds that the detector gets, when all is played, for the frames that are under way.
SETTLE = 60.0
#: Seconds that the nodes get to start, before it is given up.
START = 120.0


class DemoError(PerceptionError):
    """A demo that cannot begin, or go on."""


class Plan(NamedTuple):
    """What is to be done.

    Attributes:
        images: how many there are to play, if known.
        notes: what the user should know before it begins.
        output: folder for the results.
        graph: the nodes, as `read_graph` takes them.
    """

    images: int | None
    notes: list[str]
    output: Path
    graph: dict[str, Any]


def run_demo(arguments: argparse.Namespace, stop: Stop) -> int:
    """Start, watch and stop the nodes.

    Returns:
        The exit code.

    Raises:
        PerceptionError: a mistake in the arguments.
    """
    plan = _check(arguments)
    if stop.requested:
        return INTERRUPTED
    # One that is not the user's robot's, whose camera topic this would be; the child inherits it.
    own = free_domain() if arguments.domain is None else nullcontext(arguments.domain)
    with own as domain:
        os.environ['ROS_DOMAIN_ID'] = str(domain)
        return _run(plan, stop)


def _run(plan: Plan, stop: Stop) -> int:
    with Listener() as listener, Display(plan.images) as display:
        for note in plan.notes:
            display.say(note)
        code = 0
        child = _start(plan, display)
        try:
            _wait_until_up(child, listener, display, stop)
            _follow(child, listener, display, stop)
        except DemoError as error:
            display.say(f'error: {error}')
            code = FAILED
        finally:
            interrupted = stop.requested
            clean = _end(child, display, stop)
    if interrupted:
        code = INTERRUPTED
    elif not clean:
        code = FAILED
    display.report(plan.output)
    return code


def _check(arguments: argparse.Namespace) -> Plan:
    """Look at all that was given.

    Raises:
        PerceptionError: a mistake in the arguments.
    """
    rate = next(p for p in PLAYER if p.name == 'rate').parse(arguments.rate)
    model, recording, output = (
        user_path(path).absolute()
        for path in (
            arguments.model or share() / MODEL,
            arguments.input or share() / INPUT,
            arguments.output,
        )
    )
    spec = read_manifest(model).spec if is_engine(model) else load_spec(model, arguments.labels)
    source = open_source(recording, arguments.topic)
    try:
        output.mkdir(parents=True, exist_ok=True)
        # That of an earlier demo would be taken for this one's.
        (output / SUMMARY).unlink(missing_ok=True)
    except OSError as error:
        raise DemoError(f"output '{output}' cannot be written to: {error.strerror}") from None
    player: dict[str, object] = {
        'input': str(recording),
        'rate': rate,
        'wait_for_subscribers': 2,
    }
    detector: dict[str, object] = {
        'model': str(model),
        'backend': arguments.backend,
        'precision': arguments.precision,
        'fallback': False,
        # It shows what the machine can do, and expects nothing; no picture is to be missing.
        'latency_budget_ms': 0.0,
        'rate_min_hz': 0.0,
        'policy.enabled': False,
    }
    # An empty text says nothing.
    if arguments.topic:
        player['topic'] = arguments.topic
    if arguments.labels:
        detector['labels'] = _absolute(arguments.labels)
    # Who listens comes up before the one that it listens to.
    nodes = (
        ('RecorderNode', {'output': '.', 'idle_timeout': 0.0}),
        ('DetectorNode', detector),
        ('PlayerNode', player),
    )
    graph = {
        'components': [
            {'plugin': f'trt_perception::{plugin}', 'parameters': given, 'remappings': dict(TOPICS)}
            for plugin, given in nodes
        ]
    }
    notes = []
    if arguments.input and not arguments.model:
        notes.append(f'{model} has never seen a photograph; --model takes a detector of yours')
    if arguments.model and not arguments.input:
        notes.append(f'{recording} shows a rendered warehouse; --input takes a recording of yours')
    if spec is not None and not spec.class_names and not arguments.labels:
        notes.append('the model has no class names; --labels gives them, as in --labels coco')
    wish = Wish(model, arguments.labels, arguments.backend, arguments.precision, fallback=False)
    engine, reason = find_engine(wish)  # the detector finds it in the cache
    if engine is None and wish.backend == 'auto':
        notes.append(f'ONNX Runtime runs the model: {reason}')
    return Plan(source.count, notes, output, graph)


def _absolute(labels: str) -> str:
    """Labels as the detector will find them, which works in another folder."""
    path = user_path(labels)
    return str(path.absolute()) if is_file(path) else labels


def _start(plan: Plan, display: Display) -> Child:
    file = plan.output / GRAPH
    write_atomically(file, yaml.safe_dump(plan.graph, sort_keys=False, allow_unicode=True))
    arguments = ['--config', str(file), '--ros-args', '-r', f'__node:={CONTAINER}']
    return Child('perception_container', arguments, profile_environment(), display.line)


def _wait_until_up(child: Child, listener: Listener, display: Display, stop: Stop) -> None:
    """Wait until the last of the nodes runs, or until Ctrl-C.

    Raises:
        DemoError: a node has died, the detector cannot work, or nothing is heard.
    """
    give_up = monotonic() + START
    while not stop.requested and '/player' not in listener.components:
        if monotonic() > give_up:
            raise DemoError(
                f'the nodes did not start in {START:.0f} s, or are not heard; see that the nodes of'
                ' this machine reach one another (firewall, loopback, ROS_LOCALHOST_ONLY)'
            )
        _look(child, listener, display)


def _follow(child: Child, listener: Listener, display: Display, stop: Stop) -> None:
    """Wait until all is played and detected, or until Ctrl-C.

    Raises:
        DemoError: a node has died, or the detector cannot work.
    """
    give_up = monotonic() + SETTLE
    while not stop.requested:
        if listener.components['/player'] != FINISHED:
            listener.forget()
            give_up = monotonic() + SETTLE
        elif listener.settled():
            return
        elif monotonic() > give_up:
            raise DemoError(f'the detector is not done {SETTLE:.0f} s after the last image')
        _look(child, listener, display)


def _look(child: Child, listener: Listener, display: Display) -> None:
    """Listen for a moment, show what is heard, and see that all are well.

    Raises:
        DemoError: a node has died, or the detector cannot work.
    """
    listener.spin()
    display.update(listener.status)
    if child.code is not None:
        raise DemoError(child.epitaph())
    for name, told in listener.components.items():
        if told not in (STARTING, RUNNING) and not (name == '/player' and told == FINISHED):
            raise DemoError('\n  '.join([f'{name.strip("/")} {told}', *child.last_lines()]))
    if listener.status.get('state') == 'unconfigured' and listener.status['level'] == 'error':
        raise DemoError(f'detector {listener.status["message"]}')


def _end(child: Child, display: Display, stop: Stop) -> bool:
    """Ask the process to end, and kill it if it does not; whether it has ended well."""
    stop.requested = False  # another Ctrl-C means: at once
    running = child.code is None
    child.interrupt()
    if not child.wait(PATIENCE, hurry=lambda: stop.requested):
        display.say(f'error: {child.name} did not end when asked to and was killed')
        return False
    if running and child.code:
        display.say(f'error: {child.epitaph()}')
        return False
    return True
