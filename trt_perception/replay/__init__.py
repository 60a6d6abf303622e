# SPDX-License-Identifier: Apache-2.0
"""Floor 3: recorded data through a pipeline, and what came of it. No ROS."""
