# SPDX-License-Identifier: Apache-2.0
"""The command ``trt-perception``.

Only the standard library is imported before the arguments are read: help must not take the second
that OpenCV and ONNX Runtime take.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence

from trt_perception import __version__

#: Modules beside this one, each with ``add_parser``, in the order of the help.
COMMANDS = (
    'bag', 'benchmark', 'build', 'compare', 'demo', 'doctor', 'engines', 'evaluate', 'quantize',
    'replay',
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run a sub-command.

    Args:
        argv: arguments, without the program's name; None takes the process's own.

    Returns:
        The exit code: 0, 2 for a user's mistake, which is printed in one line, 130 for Ctrl-C, or
        what the command gives.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name that the terminal has no letters for must not cost the results.
        sys.stdout.reconfigure(errors='backslashreplace')
    try:
        code = _run(_parser().parse_args(argv))
        print(end='', flush=True)  # here, where a closed pipe is caught; there may be no stdout
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # who reads has read enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='trt-perception',
        description='Object detection on recorded pictures and videos, without a robot, and what'
        ' makes a model fast. The nodes are started with ros2 run or ros2 launch.',
        epilog='trt-perception COMMAND --help tells what a command takes, with an example.',
    )
    parser.add_argument('--version', action='version', version=f'%(prog)s {__version__}')
    commands = parser.add_subparsers(title='commands', metavar='COMMAND', required=True)
    for name in COMMANDS:
        importlib.import_module(f'trt_perception.cli.{name}').add_parser(commands)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    try:
        code: int = arguments.run(arguments)
    except ModuleNotFoundError as error:
        cure = "where there is no rosdep, pip install '.[desk,host,replay,evaluate]' brings all"
        if error.name == 'rclpy':
            cure = 'this needs ROS 2: source /opt/ros/DISTRO/setup.bash (at the desk make has it)'
        print(f'error: {error}; {cure}', file=sys.stderr)
        return 2
    except Exception as error:
        # Not at the top: it brings NumPy, and the doctor must run where that is broken.
        from trt_perception.core.errors import PerceptionError

        if not isinstance(error, PerceptionError):
            raise
        print(f'error: {error}', file=sys.stderr)
        return 2
    return code


if __name__ == '__main__':
    sys.exit(main())
