# SPDX-License-Identifier: Apache-2.0
"""The demo's processes, from their start to their end."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from time import monotonic
from typing import NamedTuple

from trt_perception.build.engine.serving import Wish
from trt_perception.cli.demo.child import Child
from trt_perception.cli.demo.display import Display
from trt_perception.cli.demo.listener import Listener
from trt_perception.cli.opening import find_engine
from trt_perception.core import PerceptionError
from trt_perception.core.files import user_path
from trt_perception.nodes.main import Stop
from trt_perception.replay.recording import SUMMARY
from trt_perception.replay.sources import open_source
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
#: Seconds that a process gets to end when it is asked to, the first to be asked first. The detector
#: may have an inference under way, the recorder much that still waits to be encoded.
PATIENCE = {'player': 10.0, 'detector': 60.0, 'recorder': 120.0}
#: Seconds that the detector gets, when all is played, for the frames that are under way.
SETTLE = 60.0
#: Seconds that the others get to start and to find each other, before it is given up.
DISCOVERY = 120.0


class DemoError(PerceptionError):
    """A demo that cannot begin, or go on."""


class Plan(NamedTuple):
    """What is to be done.

    Attributes:
        images: how many there are to play, if known.
        notes: what the user should know before it begins.
        output: folder for the results.
        parameters: of each process.
    """

    images: int | None
    notes: list[str]
    output: Path
    parameters: dict[str, dict[str, object]]


def run_demo(arguments: argparse.Namespace, stop: Stop) -> int:
    """Start, watch and stop the processes.

    Returns:
        The exit code.

    Raises:
        PerceptionError: a mistake in the arguments.
    """
    plan = _check(arguments)
    if stop.requested:
        return INTERRUPTED
    # One that is not the user's robot's, whose camera topic this would be; the children inherit it.
    own = free_domain() if arguments.domain is None else nullcontext(arguments.domain)
    with own as domain:
        os.environ['ROS_DOMAIN_ID'] = str(domain)
        return _run(plan, stop)


def _run(plan: Plan, stop: Stop) -> int:
    children: list[Child] = []
    with Listener() as listener, Display(plan.images) as display:
        for note in plan.notes:
            display.say(note)
        code = 0
        try:
            for name in reversed(PATIENCE):
                if name == 'player':
                    # What is detected before the recorder is found is lost to it.
                    _wait_for_each_other(children, listener, display, stop)
                    if stop.requested:
                        break
                children.insert(0, _start(name, plan, display))
            _follow(children, listener, display, stop)
        except DemoError as error:
            display.say(f'error: {error}')
            code = FAILED
        finally:
            interrupted = stop.requested
            clean = _end(children, display, stop)
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
    parameters: dict[str, dict[str, object]] = {
        'player': {'input': str(recording), 'rate': rate, 'wait_for_subscribers': 2},
        'detector': {
            'model': str(model),
            'backend': arguments.backend,
            'precision': arguments.precision,
            'fallback': False,
        },
        'recorder': {'output': str(output), 'idle_timeout': 0.0},
    }
    # An empty text is no YAML value.
    if arguments.topic:
        parameters['player']['topic'] = arguments.topic
    if arguments.labels:
        parameters['detector']['labels'] = arguments.labels
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
    return Plan(source.count, notes, output, parameters)


def _start(name: str, plan: Plan, display: Display) -> Child:
    # It takes 64 MiB of /dev/shm, and only who publishes images needs it.
    environment = profile_environment() if name == 'player' else {}
    # The recorder must not take from the detector what it measures.
    nice = 10 if name == 'recorder' else 0
    return Child(name, plan.parameters[name], TOPICS, environment, display.line, nice)


def _wait_for_each_other(
    children: Sequence[Child], listener: Listener, display: Display, stop: Stop
) -> None:
    """Wait until the detector knows that the recorder listens, or until Ctrl-C.

    Raises:
        DemoError: a process has died, the detector cannot work, or they do not find each other.
    """
    give_up = monotonic() + DISCOVERY
    while not stop.requested and not listener.status.get('subscribers'):
        if monotonic() > give_up:
            raise DemoError(
                f'detector and recorder did not find each other in {DISCOVERY:.0f} s; see that the'
                ' nodes of this machine reach one another (firewall, loopback, ROS_LOCALHOST_ONLY)'
            )
        _look(children, listener, display)


def _follow(children: Sequence[Child], listener: Listener, display: Display, stop: Stop) -> None:
    """Wait until all is played and detected, or until Ctrl-C.

    Raises:
        DemoError: a process has died, or the detector cannot work.
    """
    player = children[0]
    give_up = 0.0
    while not stop.requested:
        if player.code is None:
            listener.forget()
            give_up = monotonic() + SETTLE
        elif listener.settled():
            return
        elif monotonic() > give_up:
            raise DemoError(f'the detector is not done {SETTLE:.0f} s after the last image')
        _look(children, listener, display)


def _look(children: Sequence[Child], listener: Listener, display: Display) -> None:
    """Listen for a moment, show what is heard, and see that all are well.

    Raises:
        DemoError: a process has died, or the detector cannot work.
    """
    listener.spin()
    display.update(listener.status)
    for child in children:
        if child.code is not None and not (child.name == 'player' and child.code == 0):
            raise DemoError(f'{child.epitaph()}')
    if listener.status.get('state') == 'unconfigured' and listener.status['level'] == 'error':
        raise DemoError(f'detector {listener.status["message"]}')


def _end(children: Sequence[Child], display: Display, stop: Stop) -> bool:
    """Ask each process to end, kill those that do not; whether all ended well."""
    stop.requested = False  # another Ctrl-C means: at once
    clean = True
    for child in children:
        running = child.code is None
        child.interrupt()
        if not child.wait(PATIENCE[child.name], hurry=lambda: stop.requested):
            display.say(f'error: {child.name} did not end when asked to and was killed')
            clean = False
        elif running and child.code:
            display.say(f'error: {child.epitaph()}')
            clean = False
    return clean
