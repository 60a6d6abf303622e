# SPDX-License-Identifier: Apache-2.0
"""ROS 2 object detection: camera image in, ``vision_msgs/Detection2DArray`` out."""

__version__ = '0.1.0'
