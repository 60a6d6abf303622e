# SPDX-License-Identifier: Apache-2.0
"""The executables ``perception_container`` and ``perception_container_mt``."""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from rclpy.utilities import remove_ros_args

from trt_perception.core.files import user_path
from trt_perception.nodes.container import ContainerNode
from trt_perception.nodes.main import Stop, attempt, begin
from trt_perception.ros.components import ComponentError, Maker, Wanted
from trt_perception.ros.executor import GuardedExecutor
from trt_perception.ros.graph import read_graph

#: Requests that the container works on at the same time.
_REQUESTS = 32
#: Seconds that a signal waits to be seen, at most.
_PERIOD = 0.1

_DESCRIPTION = """\
A process for components: Python nodes of any package that names them in the entry-point group
rclpy_components. Each runs on a thread of its own; one that fails is reported, and the others go
on. It takes components from ros2 launch (ComposableNodeContainer, LoadComposableNodes), from
ros2 component load, and from a file:

  perception_container --config graph.yaml

  components:                                # they come up in this order, and end in reverse
    - plugin: trt_perception::RecorderNode
      parameters: {output: recording}        # relative paths are relative to this file
      remappings: {image: /camera/image_raw}
    - plugin: trt_perception::DetectorNode   # a lifecycle node is configured and activated,
      name: detector                         # unless its parameter autostart is false
      namespace: /front
      parameters: {model: yolov8n.onnx, score_threshold: 0.4}
      params_file: detector.yaml             # the parameters above are stronger
      remappings: {image: /camera/image_raw}
      extra_arguments: {use_intra_process_comms: true}
      log_level: info
"""
_EPILOG = """\
Only plugin is needed. If a component of a file cannot come up, those before it are ended and the
exit code is 1; it is 1, too, if one fails or ends with an error later, when all has ended. It is 2
for a mistake in the file or in the command. ROS arguments (--ros-args ...) are the container's own.
"""


def run_container(name: str, stop: Stop, threads: int) -> int:
    """Run a container until a signal, or until all components of its file have ended.

    Args:
        name: of the command.
        threads: of each component.

    Returns:
        The process's exit code.
    """
    graph_file = attempt(lambda: _read(name))
    if graph_file is None:
        return 2
    if stop.requested:
        return 0
    node = begin(lambda: ContainerNode(threads))
    if node is None:
        return 2
    path, wanted = graph_file
    if path:
        os.chdir(path.parent)  # whichever of the parameters are paths
    executor = GuardedExecutor(node.context, _REQUESTS)
    executor.add_node(node)
    graph = _Graph(node, wanted)
    try:
        while not (stop.requested or executor.over or graph.over):
            executor.spin_once(_PERIOD)
    finally:
        node.close()
        graph.join()
        cut_off = not node.context.ok()
        executor.finish()
        node.destroy_node()
        node.context.try_shutdown()
    if cut_off:
        print('error: a component has called rclpy.shutdown(), which ends all', file=sys.stderr)
    if executor.failure is not None:
        raise executor.failure
    return int(cut_off or not graph.well)


class _Graph:
    """Brings up the components of a file, one after the other."""

    def __init__(self, node: ContainerNode, wanted: Sequence[Wanted]) -> None:
        self._node = node
        self._wanted = wanted
        self._problem = ''
        self._up = False
        self._thread = threading.Thread(target=self._bring_up, name='graph')
        self._thread.start()

    @property
    def over(self) -> bool:
        """Whether there is nothing more to do, ever."""
        ended = self._up and all(c.ended for c in self._node.components())
        return bool(self._problem or (self._wanted and ended))

    @property
    def well(self) -> bool:
        return not self._problem and (
            not self._wanted or all(c.well for c in self._node.components())
        )

    def join(self) -> None:
        self._thread.join()

    def _bring_up(self) -> None:
        for wanted in self._wanted:
            try:
                self._node.load(wanted, bring_up=True)
            except ComponentError as error:
                if not self._node.closing:
                    self._problem = str(error)
                return
        self._up = True
        if self._wanted:
            self._node.get_logger().info('all is up')


def _read(name: str) -> tuple[Path | None, list[Wanted]]:
    """The file that is given, and its components, of which every one is there.

    Raises:
        PerceptionError: a mistake in it.
    """
    parser = argparse.ArgumentParser(
        name,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--config', type=Path, metavar='FILE', help='graph of components to run')
    config: Path | None = parser.parse_args(remove_ros_args(sys.argv)[1:]).config
    if config is None:
        return None, []
    path = user_path(config).absolute()
    wanted = read_graph(path)
    for one in wanted:
        Maker(one)
    return path, wanted
