# SPDX-License-Identifier: Apache-2.0
"""Frames per second and time of each stage, from image topic to detections, on this machine.

A player sends images faster than the detector can take them; both are processes of their own. The
detector always takes the latest, so its rate is what it can do.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

from trt_perception.cli.demo.child import Child
from trt_perception.cli.demo.listener import Listener
from trt_perception.ros.domain import free_domain
from trt_perception.ros.fastdds import profile_environment


def arguments(values: dict[str, Any]) -> list[str]:
    """A node's parameters on its command line; quoted: a folder may be called 2024."""
    given = [f'{name}:={json.dumps(value)}' for name, value in values.items()]
    return ['--ros-args', *(word for pair in given for word in ('-p', pair))]


def measure(
    model: Path, labels: str, recording: Path, rate: float, seconds: float, threads: int
) -> dict[str, Any]:
    """Run player and detector, and take what the detector says of the last seconds.

    Returns:
        Frames a second, and the detector's last diagnostics.
    """
    player = {'input': str(recording), 'rate': rate, 'loop': True, 'wait_for_subscribers': 1}
    # What the machine can do, however hot it gets.
    detector = {
        'model': str(model), 'labels': labels, 'threads': threads, 'policy.enabled': False,
    }  # fmt: skip
    plan = {'detector': ({}, detector), 'player': (profile_environment(), player)}
    children = []
    counted: list[tuple[float, int]] = []

    def ignore(line: str) -> None:
        """Let a child's lines pass; the last are kept in case it dies."""

    with Listener() as listener:
        try:
            for name, (environment, values) in plan.items():
                children.append(Child(name, arguments(values), environment, ignore))
            heard = listener.status
            # The first second warms caches and discovery up.
            while len(counted) < 3 or counted[-1][0] - counted[1][0] < seconds:
                listener.spin()
                for child in children:
                    if child.code is not None:
                        sys.exit(f'error: {child.epitaph()}')
                if listener.status is not heard:
                    heard = listener.status
                    if heard['published']:
                        counted.append((time.perf_counter(), heard['published']))
        finally:
            for child in children:
                child.interrupt()
                child.wait(30, hurry=lambda: False)
    (begun, first), (ended, last) = counted[1], counted[-1]
    return {'frames a second': (last - first) / (ended - begun), 'detector': heard}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--model', type=Path, required=True, help='ONNX detector')
    parser.add_argument('--labels', default='', help='class names, where the model has none')
    parser.add_argument('--input', type=Path, required=True, help='video, bag or folder')
    parser.add_argument('--rate', type=float, default=60.0, help='images a second (default: 60)')
    parser.add_argument('--seconds', type=float, default=20.0, help='to measure (default: 20)')
    parser.add_argument('--threads', type=int, default=0, help='of an inference; 0: all cores')
    parser.add_argument('--json', action='store_true', help='print JSON instead of a table')
    given = parser.parse_args()
    with free_domain() as domain:
        os.environ.setdefault('ROS_DOMAIN_ID', str(domain))
        found = measure(
            given.model.absolute(), given.labels, given.input.absolute(), given.rate,
            given.seconds, given.threads,
        )  # fmt: skip
    status = found['detector']
    machine = {
        'device': status['device'],
        'cores': os.cpu_count(),
        'backend': status['backend'],
        'python': platform.python_version(),
    }
    if given.json:
        print(json.dumps({'machine': machine, **found}, indent=2))
        return
    print(', '.join(f'{key}: {value}' for key, value in machine.items()))
    print(f'{found["frames a second"]:.1f} frames a second, {status["images"]}')
    print(', '.join(f'{key} {status[key]}' for key in ('received', 'published', 'dropped', 'lost')))
    print(f'\n{"milliseconds":18}{"p50":>10}{"p95":>10}')
    for stage, times in status['stages'].items():
        print(f'{stage:18}{times["p50_ms"]:10.2f}{times["p95_ms"]:10.2f}')


if __name__ == '__main__':
    main()
