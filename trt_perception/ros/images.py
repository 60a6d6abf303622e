# SPDX-License-Identifier: Apache-2.0
"""Between ``sensor_msgs`` images and frames."""

from __future__ import annotations

import array
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from trt_perception.core import Frame, FrameError, Stamp
from trt_perception.core.errors import one_line
from trt_perception.core.frame import ENCODINGS, MAX_PIXELS


def frame_from_image(msg: Image, source: str = '', max_pixels: int = MAX_PIXELS) -> Frame:
    """A view of an image message's pixels.

    An encoding that is not read natively goes through cv_bridge where that is installed.

    Raises:
        FrameError: the message contradicts itself, nothing here reads its encoding, or it is larger
            than an image may be.
    """
    header = {**_header(msg, source), 'max_pixels': max_pixels}
    if msg.encoding not in ENCODINGS:
        image = _through_cv_bridge(msg)
        return Frame.from_array(image, 'bgr8', **header)
    return Frame.checked(
        _bytes(msg.data),
        msg.width,
        msg.height,
        msg.encoding,
        msg.step,
        big_endian=bool(msg.is_bigendian),
        **header,
    )


def frame_from_compressed(
    msg: CompressedImage, source: str = '', max_pixels: int = MAX_PIXELS
) -> Frame:
    """A view of a compressed image message's bytes; decoded later, by the preprocessor.

    Raises:
        FrameError: neither JPEG nor PNG, or it stands for more than an image may be.
    """
    return Frame.from_compressed(_bytes(msg.data), max_pixels=max_pixels, **_header(msg, source))


def image_msg(frame: Frame) -> Image:
    """An ``Image`` of an uncompressed frame (one copy of its bytes)."""
    return Image(
        header=header_msg(frame),
        height=frame.height,
        width=frame.width,
        encoding=frame.encoding,
        is_bigendian=0,
        step=frame.step,
        data=_array(frame.data),
    )


def compressed_msg(frame: Frame) -> CompressedImage:
    """A ``CompressedImage`` of a JPEG or PNG frame (one copy of its bytes)."""
    return CompressedImage(header=header_msg(frame), format=frame.encoding, data=_array(frame.data))


def header_msg(frame: Frame) -> Header:
    """The header that the frame came with."""
    stamp = Time(sec=frame.stamp.sec, nanosec=frame.stamp.nanosec)
    return Header(stamp=stamp, frame_id=frame.frame_id)


def _header(msg: Image | CompressedImage, source: str) -> dict[str, Any]:
    stamp = msg.header.stamp
    return {
        'stamp': Stamp(stamp.sec, stamp.nanosec),
        'frame_id': msg.header.frame_id,
        'source': source,
    }


def _bytes(data: Any) -> NDArray[np.uint8]:
    # The message holds an array.array: its buffer is viewed and kept alive, not copied.
    return np.frombuffer(data, np.uint8)


def _array(data: NDArray[np.uint8]) -> array.array[int]:
    # What rclpy's setter takes as it is; anything else is checked byte by byte, for 80 to 650 ms.
    copy = array.array('B')
    copy.frombytes(np.ascontiguousarray(data).data)
    return copy


def _through_cv_bridge(msg: Image) -> NDArray[np.uint8]:
    try:
        from cv_bridge import CvBridge

        image: NDArray[np.uint8] = CvBridge().imgmsg_to_cv2(msg, 'bgr8')
    except ImportError as error:
        known = ', '.join(ENCODINGS)
        raise FrameError(
            'encoding',
            f"encoding '{msg.encoding}' is not one of {known}; install cv_bridge for others"
            f' ({one_line(error)})',
        ) from None
    except Exception as error:  # cv_bridge, OpenCV and NumPy each raise their own
        raise FrameError(
            'encoding', f"encoding '{msg.encoding}': cv_bridge gives no bgr8: {one_line(error)}"
        ) from None
    return image
