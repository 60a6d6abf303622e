# SPDX-License-Identifier: Apache-2.0
"""A detector's parameters from files and values, and the cameras of a bag's topics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trt_perception.ros.detector_file import (
    cameras_of_topics,
    detector_values,
    named_topics,
    read_params_file,
)
from trt_perception.ros.detector_parameters import DETECTOR
from trt_perception.ros.parameters import ParameterError

ROOT = Path(__file__).resolve().parents[1]


def file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / 'params.yaml'
    path.write_text(text)
    return path


def refusal(call: Any, *args: Any) -> str:
    with pytest.raises(ParameterError) as caught:
        call(*args)
    assert '\n' not in str(caught.value)
    return str(caught.value)


def test_the_shipped_file_is_the_defaults() -> None:
    given = read_params_file(ROOT / 'config' / 'detector.yaml')
    assert set(given) == {p.name for p in DETECTOR}
    assert detector_values(given) == detector_values({})


def test_which_part_is_the_detector_s(tmp_path: Path) -> None:
    path = file(
        tmp_path,
        """
/**: {ros__parameters: {threads: 1, use_sim_time: true}}
/camera: {ros__parameters: {rate: 3.0}}
front: {detector: {ros__parameters: {threads: 2, policy: {enabled: false}, max_rate: 1e1}}}
/rear/detector: {ros__parameters: {threads: 3}}
""",
    )
    told = refusal(read_params_file, path)
    assert told.endswith('is for /front/detector and /rear/detector; say which node')
    given = read_params_file(path, '/front/detector')
    assert given == {
        'threads': 2, 'use_sim_time': True, 'policy.enabled': False, 'max_rate': '1e1',
    }  # fmt: skip
    values = detector_values(given)
    assert (values['threads'], values['max_rate'], values['policy.enabled']) == (2, 10.0, False)
    assert read_params_file(path, '/other/detector')['threads'] == 1
    assert read_params_file(path, 'camera') == {'threads': 1, 'use_sim_time': True, 'rate': 3.0}
    narrow = file(tmp_path, '/front/*: {ros__parameters: {threads: 4}}')
    assert read_params_file(narrow, '/front/detector') == {'threads': 4}
    assert 'only for /front/*' in refusal(read_params_file, narrow, '/a/front/detector')


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('a: [', 'cannot be read'),
        ('threads: 1', 'has no ros__parameters'),
        ('', 'has no ros__parameters'),
        ('camera: {ros__parameters: {rate: 1.0}}', 'nothing for a node detector, only for /camera'),
    ],
)
def test_files_that_are_none(tmp_path: Path, text: str, words: str) -> None:
    assert words in refusal(read_params_file, file(tmp_path, text))
    assert 'is not a file' in refusal(read_params_file, tmp_path / 'none.yaml')


@pytest.mark.parametrize(
    ('given', 'words'),
    [
        ({'score_treshold': 0.1}, "not one of a detector; did you mean 'score_threshold'?"),
        ({'score_threshold': 1}, 'score_threshold: 1 is not a double'),
        ({'score_threshold': 1.5}, 'score_threshold: 1.5 is not in 0 to 1'),
        ({'threads': True}, 'threads: True is not an integer'),
        ({'threads': 0.5}, 'threads: 0.5 is not an integer'),
        ({'classes': 'person'}, "classes: 'person' is not a string array"),
        ({'classes': []}, 'classes: [] is not a string array'),
        ({'classes': [1]}, 'classes: [1] is not a string array'),
        ({'backend': 'cuda'}, "backend: 'cuda' is not one of auto"),
        ({'max_rate': 'much'}, "max_rate: 'much' is not a double"),
        ({'front.threads': 2}, "'front.threads' is not one of a detector"),
        ({'cameras': ['a', 'a']}, "'a' is there twice"),
    ],
)
def test_values_that_the_node_would_refuse(given: dict[str, Any], words: str) -> None:
    assert words in refusal(detector_values, given)


def test_cameras_begin_with_the_detector_s_values() -> None:
    values = detector_values(
        {
            'cameras': ['front', 'rear'], 'score_threshold': 0.4, 'front.score_threshold': 0.1,
            'devices': [0, 1], 'qos_overrides./x.depth': 3,
        }
    )  # fmt: skip
    found = [values[f'{camera}.score_threshold'] for camera in ('front', 'rear')]
    assert (found, values['devices'], values['rear.priority']) == ([0.1, 0.4], ['0', '1'], 1.0)


FRONT, REAR, TOP = '/front/image_raw', '/robot/rear/image/compressed', '/image_raw'


def test_names_of_cameras_out_of_topics() -> None:
    assert cameras_of_topics([FRONT], {}, []) == {FRONT: ''}
    assert cameras_of_topics([FRONT, REAR, TOP], {}, []) == {
        FRONT: 'front', REAR: 'rear', TOP: 'image_raw',
    }  # fmt: skip
    twice = ['/a/cam/image', '/b/cam/image', '/b/cam/image/compressed']
    assert list(cameras_of_topics(twice, {}, []).values()) == ['cam', 'b_cam', 'b_cam_image']
    assert cameras_of_topics(['/__/image', TOP], {}, []) == {
        '/__/image': 'camera0',
        TOP: 'image_raw',
    }
    named = named_topics(['eye=front/image_raw', REAR])
    assert named == {FRONT: 'eye', REAR: ''}
    assert cameras_of_topics([FRONT, REAR], named, []) == {FRONT: 'eye', REAR: 'rear'}
    assert cameras_of_topics([FRONT], named, []) == {FRONT: 'eye'}


def test_topics_of_named_cameras() -> None:
    assert cameras_of_topics([TOP, FRONT, REAR], {}, ['rear', 'front']) == {
        FRONT: 'front', REAR: 'rear',
    }  # fmt: skip
    assert cameras_of_topics([TOP, FRONT], {TOP: 'front'}, ['front']) == {TOP: 'front'}
    told = refusal(cameras_of_topics, [FRONT, TOP], {}, ['left'])
    assert told == (
        "camera 'left' has no topic of /front/image_raw, /image_raw; say --topics left=TOPIC"
    )
    assert 'has several topics' in refusal(
        cameras_of_topics, [FRONT, '/front/depth'], {}, ['front']
    )
