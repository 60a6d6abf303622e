# SPDX-License-Identifier: Apache-2.0
"""The parameters of the overlay: the one place that knows their defaults."""

from __future__ import annotations

from trt_perception.ros.lifecycle_parameters import LIFECYCLE
from trt_perception.ros.parameters import Parameter

OVERLAY = (
    Parameter('image_transport', 'auto', 'Subscribe to image as raw or compressed; auto takes what'
              ' is published, raw first.', choices=('auto', 'raw', 'compressed')),
    Parameter('image_reliability', 'auto', 'Reliability asked of the camera; auto matches it.',
              choices=('auto', 'reliable', 'best_effort')),
    Parameter('image_depth', 10, 'Images that the middleware may hold back.', 1, 1000),
    *LIFECYCLE,
)  # fmt: skip
