# SPDX-License-Identifier: Apache-2.0
"""Start several cameras, and a detector for all of them.

ros2 launch trt_perception cameras.launch.py cameras:=front=/dev/video0,left=rtsp://10.0.0.5/1 \
    model:=yolov8n.onnx
"""

from __future__ import annotations

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import ComposableNodeContainer, Node
from launch_ros.descriptions import ComposableNode

from trt_perception.ros.launch_cameras import (
    cameras_arguments,
    cameras_components,
    executable_of,
    in_one_process,
)

PACKAGE = 'trt_perception'


def generate_launch_description() -> LaunchDescription:
    arguments = cameras_arguments()

    def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
        given = {a.name: LaunchConfiguration(a.name).perform(context) for a in arguments}
        nodes, process = cameras_components(given)
        if not in_one_process(given):
            return [Node(package=PACKAGE, **executable_of(node), **process) for node in nodes]
        return [
            ComposableNodeContainer(
                package=PACKAGE,
                executable='perception_container',
                name='cameras',
                namespace=given['namespace'],
                composable_node_descriptions=[
                    ComposableNode(package=PACKAGE, **node) for node in nodes
                ],
                **process,
            )
        ]

    declared = [
        DeclareLaunchArgument(a.name, default_value=a.default, description=a.description)
        for a in arguments
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])
