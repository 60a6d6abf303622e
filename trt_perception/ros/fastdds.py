# SPDX-License-Identifier: Apache-2.0
"""The Fast DDS profile that carries large images between processes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

#: The name that Kilted's Fast DDS reads, and the one of Humble and Jazzy.
VARIABLES = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')


def default_profile() -> Path:
    """``config/fastdds_large_images.xml`` of the installed package; the file says what it does."""
    try:
        share = Path(get_package_share_directory('trt_perception'))
    except (PackageNotFoundError, OSError):
        # pip installs into a prefix that nobody adds to AMENT_PREFIX_PATH.
        share = Path(sys.prefix, 'share', 'trt_perception')
    return share / 'config' / 'fastdds_large_images.xml'


def profile_environment() -> dict[str, str]:
    """Environment variables for a process that publishes images; none where the user set theirs."""
    if any(name in os.environ for name in VARIABLES):
        return {}
    return dict.fromkeys(VARIABLES, str(default_profile()))
