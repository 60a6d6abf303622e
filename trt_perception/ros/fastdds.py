# SPDX-License-Identifier: Apache-2.0
"""The Fast DDS profile that carries large images between processes."""

from __future__ import annotations

import os
from pathlib import Path

from trt_perception.ros.share import share

#: The name that Kilted's Fast DDS reads, and the one of those before, which Kilted warns of.
VARIABLES = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')
_BEFORE_KILTED = ('humble', 'iron', 'jazzy')


def default_profile() -> Path:
    """``config/fastdds_large_images.xml`` of the installed package; the file says what it does."""
    return share() / 'config' / 'fastdds_large_images.xml'


def profile_environment(profile: str = '') -> dict[str, str]:
    """Environment variables for a process that publishes images.

    Args:
        profile: an XML file. Empty: the package's own, or none where the environment names one.
    """
    if not profile and any(name in os.environ for name in VARIABLES):
        return {}
    names = variables_for(os.environ.get('ROS_DISTRO', ''))
    return dict.fromkeys(names, profile or str(default_profile()))


def variables_for(distro: str) -> tuple[str, ...]:
    """What a distribution's Fast DDS reads; both where the distribution is not known, ''."""
    if not distro:
        return VARIABLES
    return VARIABLES[1:] if distro in _BEFORE_KILTED else VARIABLES[:1]
