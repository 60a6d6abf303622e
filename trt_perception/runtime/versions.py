# SPDX-License-Identifier: Apache-2.0
"""The versions that a result depends on."""

from __future__ import annotations

import contextlib
import platform
import sys
from importlib import metadata

from trt_perception import __version__

_MODULES = ('numpy', 'cv2', 'onnx', 'onnxruntime', 'pycocotools')


def versions() -> dict[str, str]:
    """Of Python, of this package, and of those libraries that this process has loaded."""
    found = {'python': platform.python_version(), 'trt_perception': __version__}
    for name in _MODULES:
        if name in sys.modules:
            # OpenCV's package has a name that differs from system to system; its module knows.
            version = getattr(sys.modules[name], '__version__', None)
            with contextlib.suppress(metadata.PackageNotFoundError):
                found[name] = version or metadata.version(name)
    return found
