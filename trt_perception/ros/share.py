# SPDX-License-Identifier: Apache-2.0
"""Where the package's files that are not Python lie: profiles, the model and the drive."""

from __future__ import annotations

import sys
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory


def share() -> Path:
    """The folder that holds ``config/``, ``launch/`` and ``resource/`` of the installed package."""
    try:
        return Path(get_package_share_directory('trt_perception'))
    except (PackageNotFoundError, OSError):
        # pip installs into a prefix that nobody adds to AMENT_PREFIX_PATH.
        return Path(sys.prefix, 'share', 'trt_perception')
