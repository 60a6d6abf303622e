# SPDX-License-Identifier: Apache-2.0
"""The parameters that all of our lifecycle nodes have."""

from __future__ import annotations

from trt_perception.ros.parameters import Parameter

AUTOSTART = Parameter('autostart', True, 'Configure and activate at start. Turn off where a'
                      ' lifecycle manager does it.')  # fmt: skip
BOND = Parameter('bond', False, "Keep a bond with Nav2's lifecycle manager while active, by which"
                 ' it notices that the node has died. Needed where its bond_timeout is not'
                 ' 0.')  # fmt: skip
LIFECYCLE = (AUTOSTART, BOND)
