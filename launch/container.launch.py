# SPDX-License-Identifier: Apache-2.0
"""Start a container, with the components of a file or for others to load into.

ros2 launch trt_perception container.launch.py config:=graph.yaml
"""

from __future__ import annotations

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import ComposableNodeContainer

from trt_perception.ros.launch_container import container, container_arguments


def generate_launch_description() -> LaunchDescription:
    arguments = container_arguments()

    def start(context: LaunchContext) -> list[ComposableNodeContainer]:
        given = {a.name: LaunchConfiguration(a.name).perform(context) for a in arguments}
        return [ComposableNodeContainer(**container(given))]

    declared = [
        DeclareLaunchArgument(a.name, default_value=a.default, description=a.description)
        for a in arguments
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])
