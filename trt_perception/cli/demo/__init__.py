# SPDX-License-Identifier: Apache-2.0
"""``trt-perception demo``: play a recording to a detector and keep what it saw."""

from __future__ import annotations

import argparse
from pathlib import Path

from trt_perception.cli.opening import add_backend

_DESCRIPTION = """\
Play a video, a bag or a folder of pictures to the detector and keep what it saw: an annotated
video, a few pictures and a summary. Player, detector and recorder are components of one container,
as on a robot; graph.yaml beside the results says which and how, and can be run again. Without a
model or an input it takes those that the package brings along: a detector of things in a warehouse,
and a rendered drive through one.

  trt-perception demo
  trt-perception demo --model yolov8n.onnx --input drive.mp4
  perception_container --config demo_output/graph.yaml
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Tell the command line what this command takes."""
    parser = commands.add_parser(
        'demo',
        help='detect in a recording and keep an annotated video',
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    add(
        '--model',
        type=Path,
        metavar='FILE',
        help="ONNX file of the detector, or engine (default: the package's own)",
    )
    add(
        '--input',
        type=Path,
        metavar='PATH',
        help='a video, a rosbag2 (folder, .mcap or .db3) or a folder of jpg and png pictures'
        " (default: the package's drive)",
    )
    add(
        '--output',
        type=Path,
        default=Path('demo_output'),
        metavar='DIR',
        help='folder for the results (default: demo_output)',
    )
    add(
        '--labels',
        default='',
        metavar='FILE',
        help='class names: a text file with a name a line, a YAML file, or coco (default: those'
        ' that the model carries)',
    )
    add_backend(parser)
    add('--topic', default='', metavar='NAME', help='of a bag with several image topics')
    add(
        '--domain',
        type=int,
        choices=range(233),
        metavar='ID',
        help='ROS domain, to look on with other tools (default: one of its own)',
    )
    add('--rate', default='0', metavar='HZ', help='images a second (default: as recorded)')


def run(arguments: argparse.Namespace) -> int:
    """Run the demo.

    Returns:
        The exit code: 0, 1 if a node failed, 130 for Ctrl-C.

    Raises:
        PerceptionError: a mistake in the arguments.
    """
    from trt_perception.nodes.main import Stop

    stop = Stop()  # before the imports that take their time
    from trt_perception.cli.demo.running import run_demo

    try:
        return run_demo(arguments, stop)
    finally:
        stop.ignore()
