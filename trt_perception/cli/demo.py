# SPDX-License-Identifier: Apache-2.0
"""``trt-perception demo``: play a recording to a detector and keep what it saw.

Player, detector and recorder are processes of their own that talk over DDS, as on a robot.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from trt_perception.cli.child import Child
from trt_perception.core import PerceptionError
from trt_perception.nodes.main import Stop

if TYPE_CHECKING:
    from trt_perception.cli.demo_display import Display
    from trt_perception.cli.demo_listener import Listener

FAILED, MISTAKE, INTERRUPTED = 1, 2, 130
TOPICS = {'image': '/camera/image_raw'}
#: Seconds that a process gets to end when it is asked to, the first to be asked first. The detector
#: may have an inference under way, the recorder much that still waits to be encoded.
PATIENCE = {'player': 10.0, 'detector': 60.0, 'recorder': 120.0}
#: Seconds that the detector gets, when all is played, for the frames that are under way.
SETTLE = 60.0


class DemoError(PerceptionError):
    """A demo that cannot begin, or go on."""


class Plan(NamedTuple):
    """What is to be done.

    Attributes:
        images: how many there are to play, if known.
        named: the model's classes have names.
        parameters: of each process.
    """

    images: int | None
    named: bool
    parameters: dict[str, dict[str, object]]


def add_parser(subparsers: Any) -> None:
    """Add the command to what ``ArgumentParser.add_subparsers`` gave; ``func`` of it runs it."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        'demo',
        help='detect in a video, bag or folder of pictures, and keep an annotated video',
        description='Plays a recording to the detector over DDS and writes an annotated video, a'
        ' few pictures and a summary.',
    )
    add = parser.add_argument
    add('--model', type=Path, required=True, help='ONNX detector')
    add('--input', type=Path, required=True, help='video, rosbag2 or folder of pictures')
    add('--output', type=Path, default=Path('demo_output'), help='folder for the results')
    add('--labels', default='', help='class names: a file with a name a line, a YAML file, or coco')
    add('--topic', default='', help='of a bag with several image topics')
    add('--rate', default='0', help='images a second; 0 (default) plays them as recorded')
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the demo.

    Returns:
        The exit code: 0, 1 for a process that failed, 2 for a mistake, 130 for Ctrl-C.
    """
    stop = Stop()
    try:
        plan = _check(args)
    except PerceptionError as error:
        print(f'error: {error}', file=sys.stderr)
        return MISTAKE
    if stop.requested:
        return INTERRUPTED
    # These take a while to import, and a mistake should be told at once.
    from trt_perception.cli.demo_display import Display
    from trt_perception.cli.demo_listener import Listener
    from trt_perception.ros.fastdds import profile_environment

    # One that is not the user's robot's; the children inherit it.
    os.environ.setdefault('ROS_DOMAIN_ID', str(os.getpid() % 101 + 1))
    children: list[Child] = []
    with Listener() as listener, Display(plan.images) as display:
        if not plan.named:
            display.say(
                'the model does not name its classes: --labels does, coco for those of COCO'
            )
        code = 0
        try:
            for name in reversed(PATIENCE):
                # It takes 64 MiB of /dev/shm, and only who publishes images needs it.
                environment = profile_environment() if name == 'player' else {}
                # The recorder must not take from the detector what it measures.
                nice = 10 if name == 'recorder' else 0
                child = Child(name, plan.parameters[name], TOPICS, environment, display.line, nice)
                children.insert(0, child)
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
    display.report(args.output)
    return code


def _check(args: argparse.Namespace) -> Plan:
    """Look at all that was given.

    Raises:
        PerceptionError: a mistake in the arguments.
    """
    from trt_perception.replay.sources import open_source
    from trt_perception.ros.recording_parameters import PLAYER
    from trt_perception.runtime.model_file import load_spec

    rate = next(p for p in PLAYER if p.name == 'rate').parse(args.rate)
    model, recording, output = (
        p.expanduser().absolute() for p in (args.model, args.input, args.output)
    )
    spec = load_spec(model, args.labels)
    source = open_source(recording, args.topic)
    try:
        output.mkdir(parents=True, exist_ok=True)
        # That of an earlier demo would be taken for this one's.
        (output / 'summary.json').unlink(missing_ok=True)
    except OSError as error:
        raise DemoError(f"output '{output}' cannot be written to: {error.strerror}") from None
    detector = {'model': str(model), 'labels': args.labels}
    player = {'input': str(recording), 'topic': args.topic, 'rate': rate, 'wait_for_subscribers': 2}
    parameters: dict[str, dict[str, object]] = {
        'detector': {k: v for k, v in detector.items() if v != ''},
        'player': {k: v for k, v in player.items() if v != ''},
        'recorder': {'output': str(output), 'idle_timeout': 0.0},
    }
    return Plan(source.count, bool(spec.class_names), parameters)


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
        listener.spin()
        display.update(listener.status)
        for child in children:
            if child.code is not None and not (child is player and child.code == 0):
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
