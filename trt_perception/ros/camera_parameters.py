# SPDX-License-Identifier: Apache-2.0
"""The camera's parameters: the one place that knows their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trt_perception.ros.lifecycle_parameters import LIFECYCLE
from trt_perception.ros.parameters import MAX_IMAGE_PIXELS, Parameter
from trt_perception.runtime.capture import Wish
from trt_perception.runtime.capture.formats import FORMATS

CAMERA = (
    Parameter('source', '', 'What to take images from: /dev/video0, an rtsp:// or http:// address,'
              ' a video file, a folder of jpg and png pictures, or pattern, a test pattern.'),
    Parameter('pipeline', '', 'A pipeline of GStreamer instead of a source. It ends in an appsink,'
              ' or one is added, after videoconvert where pixels are wanted. Fixed once the node'
              ' has started, for a pipeline can write files.', fixed=True),
    Parameter('frame_id', 'camera', 'frame_id of the images: the optical frame of the camera.'),
    Parameter('camera_info_url', '', 'Calibration, as camera_calibration writes it: a path, or'
              ' package://package/path. Empty: camera_info says not calibrated.'),
    Parameter('image_transport', 'raw', 'Publish image as raw, or as compressed on'
              ' image/compressed. A source that sends JPEGs is then published as it is.',
              choices=('raw', 'compressed')),
    Parameter('encoding', 'bgr8', 'Of raw images. The one that the source decodes to, often nv12 or'
              ' yuv422_yuy2, costs no conversion; the detector takes them all.',
              choices=tuple(FORMATS)),
    Parameter('jpeg_quality', 90, 'Of compressed images that have to be made.', 1, 100),
    Parameter('width', 0, 'Pixels, asked of a V4L2 device or the pattern; 0 leaves it to them.', 0,
              16384),
    Parameter('height', 0, 'Pixels, asked of a V4L2 device or the pattern; 0 leaves it to them.', 0,
              16384),
    MAX_IMAGE_PIXELS,
    Parameter('rate', 0.0, 'Images a second: asked of a V4L2 device, given to the pattern and to'
              ' pictures, and the most that is published of anything. 0 is what the source gives,'
              ' 30 for the pattern and 10 for pictures.', 0.0, 1000.0),
    Parameter('device_format', '', 'What a V4L2 device is to send, as FFmpeg calls it: mjpeg,'
              ' yuyv422, h264 and so on. Empty: mjpeg for compressed images, else as it likes.'),
    Parameter('rtsp_transport', 'tcp', 'How RTSP streams come; tcp loses nothing.',
              choices=('tcp', 'udp')),
    Parameter('timeout', 5.0, 'Seconds without an image after which a live source is given up and'
              ' opened anew.', 0.1, 600.0),
    Parameter('longest_pause', 10.0, 'Seconds between two attempts to open the source, at most; the'
              ' first come after 0.5, 1, 2 and so on.', 0.5, 3600.0),
    Parameter('loop', False, 'Begin a video or a folder again at its end.'),
    Parameter('decoder_threads', 1, 'CPU threads of the decoder, if it can share its work without'
              ' delay.', 1, 64),
    Parameter('reliability', 'reliable', 'Reliability offered to subscribers.',
              choices=('reliable', 'best_effort')),
    *LIFECYCLE,
)  # fmt: skip


def wish(values: Mapping[str, Any]) -> Wish:
    """What the parameters ask of the source."""
    return Wish(
        source=values['source'],
        pipeline=values['pipeline'],
        compressed=values['image_transport'] == 'compressed',
        encoding=values['encoding'],
        jpeg_quality=values['jpeg_quality'],
        width=values['width'],
        height=values['height'],
        max_pixels=values['max_image_pixels'],
        rate=values['rate'],
        device_format=values['device_format'],
        rtsp_transport=values['rtsp_transport'],
        timeout=values['timeout'],
        threads=values['decoder_threads'],
    )
