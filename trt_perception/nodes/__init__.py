# SPDX-License-Identifier: Apache-2.0
"""Floor 4: ROS nodes. They wire, they do not compute."""
