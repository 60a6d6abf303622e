# SPDX-License-Identifier: Apache-2.0
"""One camera image on its way through the package: a view of its pixels and its header."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trt_perception.core.compressed import check_chunks, check_scans, compressed_size
from trt_perception.core.errors import FrameError


class Encoding(NamedTuple):
    """How the pixels of an uncompressed image lie in memory.

    Attributes:
        name: canonical name, as in ``sensor_msgs/image_encodings.hpp``.
        pixel_bytes: bytes of one pixel in a row (of the luma plane for nv12 and nv21).
        even_width: chroma is shared by two columns, so the width must be even.
        half_planes: a chroma plane of half the height follows the luma plane.
    """

    name: str
    pixel_bytes: int
    even_width: bool = False
    half_planes: bool = False


_ENCODINGS = (
    Encoding('rgb8', 3),
    Encoding('bgr8', 3),
    Encoding('rgba8', 4),
    Encoding('bgra8', 4),
    Encoding('mono8', 1),
    Encoding('mono16', 2),
    Encoding('yuv422', 2, even_width=True),
    Encoding('yuv422_yuy2', 2, even_width=True),
    Encoding('nv12', 1, even_width=True, half_planes=True),
    Encoding('nv21', 1, even_width=True, half_planes=True),
    Encoding('bayer_rggb8', 1),
    Encoding('bayer_bggr8', 1),
    Encoding('bayer_gbrg8', 1),
    Encoding('bayer_grbg8', 1),
)
#: Encodings read natively. ``uyvy`` and ``yuyv`` are the names newer sensor_msgs give to yuv422*.
ENCODINGS: dict[str, Encoding] = {e.name: e for e in _ENCODINGS}
ENCODINGS['uyvy'] = ENCODINGS['yuv422']
ENCODINGS['yuyv'] = ENCODINGS['yuv422_yuy2']

#: Pixels of the largest image that is taken, unless more or fewer are asked for.
MAX_PIXELS = 1 << 26
#: And bytes, for each pixel that is allowed: 64-bit ones, or rows that are mostly padding.
_BYTES_PER_PIXEL = 8

#: Compressed formats, decoded by the preprocessor. Width, height and step of such a frame are 0.
COMPRESSED = frozenset({'jpeg', 'png'})


class Stamp(NamedTuple):
    """``builtin_interfaces/Time``, kept as its two numbers so that it is copied bit for bit."""

    sec: int = 0
    nanosec: int = 0

    @classmethod
    def of(cls, nanoseconds: int) -> Stamp:
        """The stamp of a time since the epoch."""
        return cls(*divmod(nanoseconds, 1_000_000_000))

    @property
    def nanoseconds(self) -> int:
        return self.sec * 1_000_000_000 + self.nanosec


@dataclass(frozen=True)
class Frame:
    """A view of one image, never a copy of it.

    Attributes:
        data: 1-D uint8, the bytes as they came. The frame keeps them alive.
        width, height: pixels (0 for a compressed frame).
        encoding: key of `ENCODINGS`, or one of `COMPRESSED`.
        step: bytes from one row to the next.
        stamp, frame_id: of the message header.
        source: the camera (its topic), for logs and several cameras in one process.
    """

    data: NDArray[np.uint8]
    width: int
    height: int
    encoding: str
    step: int
    stamp: Stamp = Stamp()
    frame_id: str = ''
    source: str = ''

    @property
    def compressed(self) -> bool:
        return self.encoding in COMPRESSED

    @classmethod
    def checked(
        cls,
        data: NDArray[np.uint8],
        width: int,
        height: int,
        encoding: str,
        step: int,
        *,
        big_endian: bool = False,
        max_pixels: int = MAX_PIXELS,
        stamp: Stamp = Stamp(),
        frame_id: str = '',
        source: str = '',
    ) -> Frame:
        """The one door for uncompressed pixels.

        Raises:
            FrameError: the numbers contradict each other or the encoding is not known.
        """
        layout = ENCODINGS.get(encoding)
        if layout is None:
            known = ', '.join(ENCODINGS)
            raise FrameError('encoding', f"encoding '{encoding}' is not one of {known}")
        if big_endian:
            raise FrameError(
                'big_endian', f'{encoding} image is flagged big-endian; publish little-endian'
            )
        if width <= 0 or height <= 0:
            raise FrameError('empty', f'image of {width}x{height} pixels is empty')
        odd_height = layout.half_planes and height % 2
        if (layout.even_width and width % 2) or odd_height:
            raise FrameError(
                'odd_size', f'{width}x{height} image: {encoding} shares chroma, sizes must be even'
            )
        row = width * layout.pixel_bytes
        if step < row:
            raise FrameError(
                'step', f'step {step} is shorter than a row of {width} {encoding} pixels ({row})'
            )
        rows = height * 3 // 2 if layout.half_planes else height
        # The last row need not carry its padding.
        needed = step * (rows - 1) + row
        if data.size < needed:
            raise FrameError(
                'truncated',
                f'{width}x{height} {encoding} image with step {step} needs {needed} bytes,'
                f' got {data.size}',
            )
        _check_size(width, height, data, max_pixels)
        return cls(data, width, height, layout.name, step, stamp, frame_id, source)

    @classmethod
    def from_compressed(
        cls,
        data: NDArray[np.uint8],
        *,
        max_pixels: int = MAX_PIXELS,
        stamp: Stamp = Stamp(),
        frame_id: str = '',
        source: str = '',
    ) -> Frame:
        """A JPEG or PNG, told by its first bytes: ``CompressedImage.format`` is free text.

        Raises:
            FrameError: neither of them, one without its end, or one that would take more memory
                or time to decode than an image may: a few bytes can stand for gigabytes.
        """
        head = data[:8].tobytes()
        if head[:3] == b'\xff\xd8\xff':
            encoding = 'jpeg'
            # Some decoders fill what is missing with grey and say nothing. The end marker must
            # follow the last scan: a thumbnail before it has one of its own.
            whole = data.tobytes()
            check_scans(whole)
            if whole.rfind(b'\xff\xd9') <= whole.rfind(b'\xff\xda'):
                raise FrameError(
                    'truncated', f'JPEG of {data.size} bytes ends before its end marker'
                )
        elif head == b'\x89PNG\r\n\x1a\n':
            encoding = 'png'
            check_chunks(data)
        elif not head:
            raise FrameError('empty', 'compressed image holds no bytes')
        else:
            raise FrameError(
                'encoding',
                f'compressed image starts with {head[:4].hex(" ")}: neither JPEG nor PNG',
            )
        _check_size(*compressed_size(data), data, max_pixels)
        return cls(data, 0, 0, encoding, 0, stamp, frame_id, source)

    @classmethod
    def from_array(
        cls,
        image: NDArray[np.uint8],
        encoding: str = 'bgr8',
        *,
        max_pixels: int | None = None,
        stamp: Stamp = Stamp(),
        frame_id: str = '',
        source: str = '',
    ) -> Frame:
        """A frame on an (H, W) or (H, W, C) uint8 array; copied only if it is not contiguous.

        It has its memory already, so that nothing limits its size unless asked to.

        Raises:
            FrameError: as `checked`, or the array holds other pixels than the encoding's.
        """
        image = np.ascontiguousarray(image)
        height, width = image.shape[:2]
        frame = cls.checked(
            image.reshape(-1),
            width,
            height,
            encoding,
            image.size // height if height else 0,
            max_pixels=image.size if max_pixels is None else max_pixels,
            stamp=stamp,
            frame_id=frame_id,
            source=source,
        )
        if frame.pixels().nbytes != image.nbytes:
            raise FrameError(
                'shape', f'{image.dtype} array of shape {image.shape} holds no {encoding} pixels'
            )
        return frame

    def pixels(self) -> NDArray[Any]:
        """View of the pixels, row padding left out.

        Returns:
            (H, W, C) uint8 for 2 to 4 bytes a pixel, (H, W) uint8 for mono8 and bayer,
            (H, W) uint16 for mono16, (H * 3 / 2, W) uint8 for nv12 and nv21.
        """
        layout = ENCODINGS[self.encoding]
        rows = self.height * 3 // 2 if layout.half_planes else self.height
        channels = layout.pixel_bytes
        shape: tuple[int, ...] = (rows, self.width)
        strides: tuple[int, ...] = (self.step, channels)
        if self.encoding == 'mono16':
            # A view by bytes: the start of a message's data need not be aligned to 2.
            return np.ndarray(shape, np.dtype('<u2'), self.data.data, strides=strides)
        if channels > 1:
            shape, strides = (*shape, channels), (*strides, 1)
        return np.ndarray(shape, np.uint8, self.data.data, strides=strides)


def _check_size(width: int, height: int, data: NDArray[np.uint8], max_pixels: int) -> None:
    if width * height > max_pixels:
        raise FrameError(
            'too_large',
            f'{width}x{height} image has more than the {max_pixels} pixels that are taken'
            ' (max_image_pixels)',
        )
    if data.size > _BYTES_PER_PIXEL * max_pixels:
        raise FrameError(
            'too_large',
            f'{width}x{height} image of {data.size} bytes is more than {_BYTES_PER_PIXEL} bytes for'
            f' each of the {max_pixels} pixels that are taken (max_image_pixels)',
        )
