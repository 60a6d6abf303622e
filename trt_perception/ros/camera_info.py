# SPDX-License-Identifier: Apache-2.0
"""A camera's calibration, from the file that camera_calibration writes, as CameraInfo."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trt_perception.core import PerceptionError
from trt_perception.core.files import user_path
from trt_perception.runtime.yaml_file import YamlError, read_yaml

if TYPE_CHECKING:
    from sensor_msgs.msg import CameraInfo
    from std_msgs.msg import Header

#: Coefficients of each distortion model of REP-104 and sensor_msgs; OpenCV's longer rational models
#: go by the same name.
MODELS = {
    'plumb_bob': (4, 5),
    'rational_polynomial': (8, 12, 14),
    'equidistant': (4,),
}
_CURE = 'write it with camera_calibration, or leave camera_info_url empty'


class CalibrationError(PerceptionError):
    """A calibration that is not there or cannot be used."""


@dataclass(frozen=True)
class Calibration:
    """What is known of a camera's optics.

    Attributes:
        name: of the camera, as the file says.
        width, height: of the images that it was calibrated with, pixels.
        model: key of `MODELS`.
        distortion: its coefficients.
        camera: 3x3, row by row: K of CameraInfo.
        rectification: 3x3, row by row: R.
        projection: 3x4, row by row: P.
    """

    name: str
    width: int
    height: int
    model: str
    distortion: tuple[float, ...]
    camera: tuple[float, ...]
    rectification: tuple[float, ...]
    projection: tuple[float, ...]

    def fits(self, width: int, height: int) -> bool:
        """Whether it is for images of this size."""
        return (self.width, self.height) == (width, height)


def read_calibration(url: str) -> Calibration:
    """Read a calibration file.

    Args:
        url: a path, ``file://`` and a path, or ``package://`` and a package's name and a path in
            its share, as camera_info_manager takes it.

    Raises:
        CalibrationError: it is not there, or does not hold a calibration.
    """
    path = _path(url)
    try:
        content = read_yaml(path)
    except YamlError as error:
        raise CalibrationError(f"calibration '{path}' cannot be read: {error}; {_CURE}") from None
    try:
        return _calibration(content)
    except CalibrationError as error:
        raise CalibrationError(f"calibration '{path}': {error}; {_CURE}") from None


def camera_info(
    calibration: Calibration | None, header: Header, width: int, height: int
) -> CameraInfo:
    """The message for an image.

    Without a calibration for its size K is all zeros, by which REP-104 marks a camera that is not
    calibrated.

    Args:
        header: the image's own.
        width, height: the image's.
    """
    from sensor_msgs.msg import CameraInfo

    info = CameraInfo(header=header, width=width, height=height)
    if calibration is not None and calibration.fits(width, height):
        info.distortion_model = calibration.model
        info.d = list(calibration.distortion)
        info.k = list(calibration.camera)
        info.r = list(calibration.rectification)
        info.p = list(calibration.projection)
    return info


def _path(url: str) -> Path:
    scheme, separator, rest = url.partition('://')
    if not separator:
        return user_path(url)
    if scheme == 'file':
        return user_path(rest)
    if scheme != 'package':
        raise CalibrationError(
            f"calibration '{url}': '{scheme}' is neither file nor package; give a path"
        )
    from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

    package, _, inside = rest.partition('/')
    try:
        return Path(get_package_share_directory(package), inside)
    except (PackageNotFoundError, OSError, ValueError):
        raise CalibrationError(
            f"calibration '{url}': there is no package '{package}'; source its workspace, or give a"
            ' path'
        ) from None


def _calibration(content: Any) -> Calibration:
    if not isinstance(content, Mapping):
        raise CalibrationError('it holds no calibration')
    # What camera_calibration_parsers takes where nothing is said.
    model = content.get('distortion_model', 'plumb_bob')
    if not isinstance(model, str) or model not in MODELS:
        raise CalibrationError(f'distortion_model {model!r} is not one of {", ".join(MODELS)}')
    camera = _matrix(content, 'camera_matrix', (9,))
    if camera[0] <= 0 or camera[4] <= 0 or camera[8] != 1:
        raise CalibrationError(f'camera_matrix {list(camera)} is not fx 0 cx 0 fy cy 0 0 1')
    return Calibration(
        name=str(content.get('camera_name', '')),
        width=_size(content, 'image_width'),
        height=_size(content, 'image_height'),
        model=model,
        distortion=_matrix(content, 'distortion_coefficients', MODELS[model]),
        camera=camera,
        rectification=_matrix(content, 'rectification_matrix', (9,)),
        projection=_matrix(content, 'projection_matrix', (12,)),
    )


def _size(content: Mapping[str, Any], name: str) -> int:
    value = content.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 1 << 32:
        raise CalibrationError(f'{name} is {value!r} and has to be a number of pixels')
    return value


def _matrix(content: Mapping[str, Any], name: str, lengths: Sequence[int]) -> tuple[float, ...]:
    value = content.get(name)
    data = value.get('data') if isinstance(value, Mapping) else None
    if not isinstance(data, list):
        raise CalibrationError(f'{name} has no data, a list of numbers')
    if len(data) not in lengths:
        wanted = ' or '.join(map(str, lengths))
        raise CalibrationError(f'{name} holds {len(data)} numbers and has to hold {wanted}')
    return tuple(_number(name, number) for number in data)


def _number(name: str, value: Any) -> float:
    try:
        # As text too: to YAML 1.1 is 1e-05 no number, and yaml-cpp writes it so.
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise CalibrationError(f'{name} holds {value!r}, which is no number')
    return number
