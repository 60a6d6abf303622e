# SPDX-License-Identifier: Apache-2.0
"""The encodings that can be asked of a source, and what FFmpeg and GStreamer call them."""

from __future__ import annotations

from typing import NamedTuple


class Format(NamedTuple):
    """One encoding's names elsewhere."""

    ffmpeg: str
    gstreamer: str


FORMATS = {
    'bgr8': Format('bgr24', 'BGR'),
    'rgb8': Format('rgb24', 'RGB'),
    'bgra8': Format('bgra', 'BGRA'),
    'rgba8': Format('rgba', 'RGBA'),
    'mono8': Format('gray', 'GRAY8'),
    'nv12': Format('nv12', 'NV12'),
    'nv21': Format('nv21', 'NV21'),
    'yuv422': Format('uyvy422', 'UYVY'),
    'yuv422_yuy2': Format('yuyv422', 'YUY2'),
}
#: Whoever reads these takes luma to be black at 16. A JPEG, and some a stream, has it at 0.
LUMA_FROM_16 = ('nv12', 'nv21', 'yuv422', 'yuv422_yuy2')
