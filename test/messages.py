# SPDX-License-Identifier: Apache-2.0
"""Messages as everybody else builds them: out of Python objects, field by field."""

from __future__ import annotations

from collections.abc import Sequence

from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseWithCovariance
from std_msgs.msg import Header
from vision_msgs.msg import (
    BoundingBox2D,
    Detection2D,
    Detection2DArray,
    ObjectHypothesis,
    ObjectHypothesisWithPose,
    Point2D,
    Pose2D,
)

from trt_perception.core import Detections, Stamp


def detection_array_msg(
    detections: Detections, stamp: Stamp, frame_id: str, class_names: Sequence[str] = ()
) -> Detection2DArray:
    """The message whose bytes `detection_array_cdr` writes."""
    header = Header(stamp=Time(sec=stamp.sec, nanosec=stamp.nanosec), frame_id=frame_id)
    unknown = PoseWithCovariance()
    found = []
    for (x1, y1, x2, y2), score, number in zip(
        detections.boxes.tolist(),
        detections.scores.tolist(),
        detections.class_ids.tolist(),
        strict=True,
    ):
        named = 0 <= number < len(class_names)
        class_id = class_names[number] if named else str(number)
        hypothesis = ObjectHypothesis(class_id=class_id, score=score)
        center = Pose2D(position=Point2D(x=(x1 + x2) / 2, y=(y1 + y2) / 2))
        found.append(
            Detection2D(
                header=header,
                results=[ObjectHypothesisWithPose(hypothesis=hypothesis, pose=unknown)],
                bbox=BoundingBox2D(center=center, size_x=x2 - x1, size_y=y2 - y1),
            )
        )
    return Detection2DArray(header=header, detections=found)
