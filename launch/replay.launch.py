# SPDX-License-Identifier: Apache-2.0
"""Play a bag to a detector in the bag's own time, and keep what it makes of it.

ros2 launch trt_perception replay.launch.py bag:=drive/ params_file:=detector.yaml output:=live
"""

from __future__ import annotations

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from trt_perception.nodes.launch_replay import replay_arguments, replay_nodes


def generate_launch_description() -> LaunchDescription:
    arguments = replay_arguments()

    def start(context: LaunchContext) -> list[Node]:
        given = {a.name: LaunchConfiguration(a.name).perform(context) for a in arguments}
        # Each of them ends it: the replay when all is written, the detector if it has died.
        return [Node(**node, on_exit=Shutdown()) for node in replay_nodes(given)]

    declared = [
        DeclareLaunchArgument(a.name, default_value=a.default, description=a.description)
        for a in arguments
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])
