# SPDX-License-Identifier: Apache-2.0
"""The messages that bags hold, for rosbags."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

RAW, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
DETECTIONS, LABELS = 'vision_msgs/msg/Detection2DArray', 'vision_msgs/msg/LabelInfo'

#: vision_msgs 4.1 (Humble to Kilted), which rosbags does not bring along.
_VISION = {
    DETECTIONS: 'std_msgs/Header header\nvision_msgs/Detection2D[] detections\n',
    'vision_msgs/msg/Detection2D': (
        'std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n'
        'vision_msgs/BoundingBox2D bbox\nstring id\n'
    ),
    'vision_msgs/msg/ObjectHypothesisWithPose': (
        'vision_msgs/ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose\n'
    ),
    'vision_msgs/msg/ObjectHypothesis': 'string class_id\nfloat64 score\n',
    'vision_msgs/msg/BoundingBox2D': (
        'vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y\n'
    ),
    'vision_msgs/msg/Pose2D': 'vision_msgs/Point2D position\nfloat64 theta\n',
    'vision_msgs/msg/Point2D': 'float64 x\nfloat64 y\n',
    LABELS: ('std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold\n'),
    'vision_msgs/msg/VisionClass': 'uint16 class_id\nstring class_name\n',
}


@lru_cache
def message_types() -> Typestore:
    """Images, which are the same in all distributions, and what is found in them."""
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    types = get_typestore(Stores.ROS2_HUMBLE)
    for name, text in _VISION.items():
        types.register(get_types_from_msg(text, name))
    return types
