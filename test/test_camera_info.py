# SPDX-License-Identifier: Apache-2.0
"""Calibration files as camera_calibration writes them, and the messages made of them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip('sensor_msgs')

from builtin_interfaces.msg import Time
from std_msgs.msg import Header

from trt_perception.ros.camera_info import CalibrationError, camera_info, read_calibration

#: As the Python tool writes it, down to the empty line and the order.
OF_CAMERA_CALIBRATION = """\
image_width: 640
image_height: 480
camera_name: narrow_stereo
camera_matrix:
  rows: 3
  cols: 3
  data: [431.38739, 0.     , 312.83017,
           0.     , 430.51461, 242.43101,
           0.     , 0.     , 1.     ]
distortion_model: plumb_bob
distortion_coefficients:
  rows: 1
  cols: 5
  data: [-0.342165, 0.134251, 0.000723, -0.000115, 0.000000]
rectification_matrix:
  rows: 3
  cols: 3
  data: [1., 0., 0.,
         0., 1., 0.,
         0., 0., 1.]
projection_matrix:
  rows: 3
  cols: 4
  data: [349.96347, 0.     , 310.05103, 0.     ,
           0.     , 387.25256, 243.70061, 0.     ,
           0.     , 0.     , 1.     , 0.     ]
"""


def write(path: Path, **changes: Any) -> Path:
    """A calibration with other values; None leaves one out."""
    content = copy.deepcopy(yaml.safe_load(OF_CAMERA_CALIBRATION))
    content |= changes
    path.write_text(yaml.safe_dump({k: v for k, v in content.items() if v is not None}))
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / 'front.yaml'
    path.write_text(OF_CAMERA_CALIBRATION)
    return path


def test_file_of_camera_calibration(file: Path) -> None:
    calibration = read_calibration(str(file))
    assert calibration == read_calibration(f'file://{file}')
    header = Header(stamp=Time(sec=3, nanosec=4), frame_id='optical')
    info = camera_info(calibration, header, 640, 480)
    assert (info.header, info.width, info.height) == (header, 640, 480)
    assert info.distortion_model == 'plumb_bob'
    assert list(info.d) == [-0.342165, 0.134251, 0.000723, -0.000115, 0.0]
    assert list(info.k) == [431.38739, 0, 312.83017, 0, 430.51461, 242.43101, 0, 0, 1]
    assert list(info.r) == [1, 0, 0, 0, 1, 0, 0, 0, 1]
    assert list(info.p) == [
        349.96347, 0, 310.05103, 0, 0, 387.25256, 243.70061, 0, 0, 0, 1, 0,
    ]  # fmt: skip
    # No binning and no region: the whole image.
    assert (info.binning_x, info.binning_y, info.roi.width, info.roi.do_rectify) == (0, 0, 0, False)


def test_not_calibrated(file: Path) -> None:
    for calibration, width in ((None, 640), (read_calibration(str(file)), 641)):
        info = camera_info(calibration, Header(frame_id='optical'), width, 480)
        assert (info.header.frame_id, info.width, info.height) == ('optical', width, 480)
        # What REP-104 takes for a camera that is not calibrated.
        assert not any(info.k) and not any(info.p) and not info.d and not info.distortion_model


@pytest.mark.parametrize(
    ('model', 'number'),
    [
        ('plumb_bob', 4), ('plumb_bob', 5), ('rational_polynomial', 8), ('rational_polynomial', 12),
        ('rational_polynomial', 14), ('equidistant', 4),
    ],
)  # fmt: skip
def test_distortion_models(tmp_path: Path, model: str, number: int) -> None:
    data = [k / 10 for k in range(number)]
    path = write(
        tmp_path / 'a.yaml', distortion_model=model, distortion_coefficients={'data': data}
    )
    info = camera_info(read_calibration(str(path)), Header(), 640, 480)
    assert (info.distortion_model, list(info.d)) == (model, data)


def test_as_other_tools_write_it(tmp_path: Path) -> None:
    """yaml-cpp writes 1e-05, which is a text to YAML 1.1; no model means plumb_bob."""
    data = ['1e-05', 0, 1, -2, '3E+2']
    path = write(tmp_path / 'a.yaml', distortion_model=None, distortion_coefficients={'data': data})
    calibration = read_calibration(str(path))
    assert calibration.distortion == (1e-05, 0, 1, -2, 300)
    assert calibration.model == 'plumb_bob'


def test_in_a_package(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = tmp_path / 'share/ament_index/resource_index/packages'
    index.mkdir(parents=True)
    (index / 'my_robot').touch()
    share = tmp_path / 'share/my_robot/calibration'
    share.mkdir(parents=True)
    file.rename(share / 'front.yaml')
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path))
    assert read_calibration('package://my_robot/calibration/front.yaml').name == 'narrow_stereo'
    with pytest.raises(CalibrationError) as caught:
        read_calibration('package://no_robot/front.yaml')
    assert "there is no package 'no_robot'; source its workspace" in str(caught.value)


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'image_width': None}, 'image_width is None and has to be a number of pixels'),
        ({'image_height': '480'}, "image_height is '480' and has to be a number of pixels"),
        ({'image_height': -1}, 'image_height is -1 and'),
        ({'distortion_model': 'fisheye'}, "distortion_model 'fisheye' is not one of plumb_bob, r"),
        ({'distortion_coefficients': {'data': [0] * 6}}, 'distortion_coefficients holds 6 numbers'
         ' and has to hold 4 or 5'),
        ({'camera_matrix': None}, 'camera_matrix has no data, a list of numbers'),
        ({'distortion_model': ['plumb_bob']}, "distortion_model ['plumb_bob'] is not one of"),
        ({'camera_matrix': {'data': [10**400] * 9}}, 'camera_matrix holds 1000'),
        ({'camera_matrix': [1, 0, 0]}, 'camera_matrix has no data, a list of numbers'),
        ({'camera_matrix': {'data': [0] * 9}}, 'camera_matrix [0.0, 0.0,'),
        ({'rectification_matrix': {'data': [0] * 8}}, 'rectification_matrix holds 8 numbers and'),
        ({'projection_matrix': {'data': [0] * 11 + ['one']}}, "projection_matrix holds 'one',"),
        ({'projection_matrix': {'data': [0] * 11 + [float('nan')]}}, 'projection_matrix holds nan'),
        ({'projection_matrix': {'data': [0] * 11 + [True]}}, 'projection_matrix holds True, which'),
    ],
)  # fmt: skip
def test_what_is_no_calibration(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    path = write(tmp_path / 'a.yaml', **changes)
    with pytest.raises(CalibrationError) as caught:
        read_calibration(str(path))
    text = str(caught.value)
    assert text.startswith(f"calibration '{path}': {words}") and '\n' not in text
    assert text.endswith('; write it with camera_calibration, or leave camera_info_url empty')


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (None, 'cannot be read: No such file or directory'),
        (b'\xff\xfe', 'cannot be read: '),
        (b'a: [', 'cannot be read: '),
        (b'a: 2026-13-99', 'cannot be read: month must be in 1..12'),
        (b'', 'it holds no calibration'),
        (b'# oST version 5.0 parameters\n[image]\n', 'it holds no calibration'),
    ],
)
def test_what_is_no_file(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / 'a.yaml'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CalibrationError) as caught:
        read_calibration(str(path))
    assert f"calibration '{path}'" in str(caught.value) and words in str(caught.value)
    assert '\n' not in str(caught.value)


def test_another_kind_of_address() -> None:
    with pytest.raises(CalibrationError, match="'http' is neither file nor package; give a path"):
        read_calibration('http://robot/front.yaml')
