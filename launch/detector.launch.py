# SPDX-License-Identifier: Apache-2.0
"""Start one detector.

ros2 launch trt_perception detector.launch.py model:=yolov8n.onnx image:=/camera/image_raw
"""

from __future__ import annotations

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from trt_perception.ros.launch_arguments import DETECTOR_NODE, node, node_arguments


def generate_launch_description() -> LaunchDescription:
    arguments = node_arguments(DETECTOR_NODE)

    def start(context: LaunchContext) -> list[Node]:
        given = {a.name: LaunchConfiguration(a.name).perform(context) for a in arguments}
        return [Node(**node(DETECTOR_NODE, given))]

    declared = [
        DeclareLaunchArgument(a.name, default_value=a.default, description=a.description)
        for a in arguments
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])
