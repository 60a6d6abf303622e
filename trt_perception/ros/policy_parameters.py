# SPDX-License-Identifier: Apache-2.0
"""The parameters of the detector's degradation policy: the one place that knows their defaults."""

from __future__ import annotations

from trt_perception.ros.parameters import Parameter

LEVELS = ('warm', 'hot', 'critical')
_FROM = (*LEVELS, 'never')

POLICY = (
    Parameter('policy.enabled', True, 'Do less as the board comes close to slowing itself down, and'
              ' when it has: docs/health_policy.md. Off: look at all that comes, whatever happens.',
              live=True),
    Parameter('policy.warm_margin', 6.0, 'Degrees Celsius below the trip point, at which the board'
              ' slows itself down, where the level warm begins.', 0.0, 60.0, live=True),
    Parameter('policy.hot_margin', 4.0, 'The same for the level hot.', 0.0, 60.0, live=True),
    Parameter('policy.critical_margin', 2.0, 'The same for the level critical.', 0.0, 60.0,
              live=True),
    Parameter('policy.hysteresis', 3.0, 'Degrees Celsius more than its margin that it takes until a'
              ' level ends.', 0.0, 30.0, live=True),
    Parameter('policy.horizon', 20.0, 'Seconds that the trend of as many seconds is carried on: a'
              ' level begins as soon as its margin will be reached within them. 0: not before.',
              0.0, 600.0, live=True),
    Parameter('policy.hold', 30.0, 'Seconds that a level could have ended before it does, one level'
              ' after the other.', 0.0, 3600.0, live=True),
    Parameter('policy.warm_load', 0.8, "Share of all cameras' images that is looked at in the level"
              ' warm. The cameras of the highest priority are the last to give any.', 0.1, 1.0,
              live=True),
    Parameter('policy.hot_load', 0.6, 'The same in the level hot.', 0.1, 1.0, live=True),
    Parameter('policy.critical_load', 0.3, 'The same in the level critical.', 0.1, 1.0, live=True),
    Parameter('policy.lighter_models', [''], 'Models that take less, each less than the one before:'
              ' of a smaller input, say. With the same classes. They are opened when the node is'
              ' configured, and built where an engine is missing.'),
    Parameter('policy.lighter_from', 'hot', 'The level in which the first of the lighter models'
              ' runs; in the next level the second.', choices=_FROM, live=True),
    Parameter('policy.pause_overlay_from', 'warm', 'The level from which on nothing is drawn.',
              choices=_FROM, live=True),
    Parameter('policy.shed_from', 'critical', 'The level from which on a camera for which less than'
              ' a tenth of its images is left is not looked at at all. One of the highest priority'
              ' always is.', choices=_FROM, live=True),
)  # fmt: skip
