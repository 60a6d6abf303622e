# SPDX-License-Identifier: Apache-2.0
"""Cameras of this machine, /dev/video*, as FFmpeg opens them."""

from __future__ import annotations

import errno
from pathlib import Path

from trt_perception.runtime.capture.base import Wish


def v4l2_options(wish: Wish) -> dict[str, str]:
    """What to ask of a device.

    Stamps are the kernel's own, of CLOCK_MONOTONIC. Reads do not block, for FFmpeg's time-out does
    not reach into the driver; 4 is AVFMT_FLAG_NONBLOCK, which has no name among the options.
    """
    options = {'timestamps': 'default', 'fflags': '+4'}
    if wish.width and wish.height:
        options['video_size'] = f'{wish.width}x{wish.height}'
    if wish.rate:
        options['framerate'] = f'{wish.rate:g}'
    # Sent as it is, it need not be decoded and encoded again.
    kind = wish.device_format or ('mjpeg' if wish.compressed else '')
    if kind:
        options['input_format'] = kind
    return options


def v4l2_advice(device: str) -> dict[int, str]:
    """What errors of a device mean, and what helps."""
    there = ', '.join(str(path) for path in sorted(Path('/dev').glob('video*')))
    there = there or 'no /dev/video* at all: plug it in, or docker run --device'
    return {
        errno.ENOENT: f'there is no such device; there is {there}',
        errno.ENODEV: f'there is no such device; there is {there}',
        errno.ENXIO: f'there is no such device; there is {there}',
        errno.EACCES: 'may not be opened; sudo usermod -aG video $USER, then log in again',
        errno.EPERM: 'may not be opened; sudo usermod -aG video $USER, then log in again',
        errno.EBUSY: f'is in use; fuser {device} tells by whom',
        errno.ENOTTY: 'is not a camera',
        errno.EINVAL: 'does not do what was asked of it; v4l2-ctl --list-formats-ext -d'
        f' {device} lists what it does',
        errno.EIO: 'gives no images; another program may hold the USB port, or the cable be loose',
    }
