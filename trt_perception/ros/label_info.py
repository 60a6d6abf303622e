# SPDX-License-Identifier: Apache-2.0
"""The latched messages beside the detections: which classes there are, and who tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rclpy.qos import DurabilityPolicy, QoSProfile
from vision_msgs.msg import LabelInfo, VisionClass, VisionInfo

from trt_perception.core import ModelSpec

if TYPE_CHECKING:
    from builtin_interfaces.msg import Time

#: Of `LabelInfo` and `VisionInfo`: a subscriber that comes late gets the last one.
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def label_info(spec: ModelSpec, threshold: float, stamp: Time) -> LabelInfo:
    """Number and name of each class; a class without a name has its number for one.

    Args:
        threshold: the lowest score that is published.
    """
    classes = [
        VisionClass(class_id=k, class_name=spec.class_name(k)) for k in range(spec.num_classes)
    ]
    info = LabelInfo(class_map=classes, threshold=float(threshold))
    info.header.stamp = stamp
    return info


def vision_info(method: str, labels_topic: str, version: int, stamp: Time) -> VisionInfo:
    """Who detects, and where the names of the classes are to be found.

    Args:
        method: model and what runs it.
        labels_topic: full name of the topic of `LabelInfo`.
        version: goes up by one whenever another set of classes may be in use.
    """
    info = VisionInfo(method=method, database_location=labels_topic, database_version=version)
    info.header.stamp = stamp
    return info
