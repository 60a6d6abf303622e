# SPDX-License-Identifier: Apache-2.0
"""Launch arguments, parameter file and README say what the node declares."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip('rclpy')

from rclpy.context import Context

from trt_perception.nodes.detector import DetectorNode
from trt_perception.ros.detector_parameters import DETECTOR
from trt_perception.ros.fastdds import VARIABLES, default_profile, profile_environment
from trt_perception.ros.launch_arguments import (
    TOPICS,
    detector_arguments,
    detector_node,
)
from trt_perception.ros.parameters import ParameterError

ROOT = Path(__file__).resolve().parents[1]
#: Arguments that are not parameters of the node.
OF_THE_LAUNCH = {
    *TOPICS, 'name', 'namespace', 'params_file', 'fastdds_profile', 'log_level',
}  # fmt: skip


def node_with(domain_id: int, *ros_args: str) -> DetectorNode:
    context = Context()
    import rclpy

    rclpy.init(context=context, args=['--ros-args', *ros_args], domain_id=domain_id)
    return DetectorNode(context=context)


def close(node: DetectorNode) -> None:
    context = node.context
    node.destroy_node()
    context.shutdown()


def given(**values: str) -> dict[str, str]:
    """The arguments' values when a user gives these."""
    return {a.name: a.default for a in detector_arguments()} | values


def test_every_argument_is_a_parameter(domain_id: int) -> None:
    names = [a.name for a in detector_arguments()]
    assert len(names) == len(set(names))
    node = node_with(domain_id)
    try:
        assert all(node.has_parameter(name) for name in set(names) - OF_THE_LAUNCH)
        # And no parameter lacks one.
        ros_own = {'start_type_description_service'}
        declared = {p for p in node._parameters if not p.startswith('qos_overrides.')}
        assert declared - ros_own == set(names) - OF_THE_LAUNCH
    finally:
        close(node)
    assert all(a.description for a in detector_arguments())


@pytest.mark.parametrize('file', sorted((ROOT / 'config').glob('*.yaml')), ids=lambda f: f.name)
def test_parameter_files_load(file: Path, domain_id: int, capfd: Any) -> None:
    """In a real node, under a name and namespace of its own, with nothing unknown."""
    node = node_with(
        domain_id, '--params-file', str(file), '-r', '__ns:=/front', '-r', '__node:=cam'
    )
    try:
        values = yaml.safe_load(file.read_text(encoding='utf-8'))['/**']['ros__parameters']
        assert {k: v for k, v in values.items() if node.get_parameter(k).value != v} == {}
        assert set(values) == {p.name for p in DETECTOR}
    finally:
        close(node)
    assert 'is not known' not in capfd.readouterr().err


def test_defaults_are_left_to_the_node(domain_id: int) -> None:
    asked = detector_node(given())
    assert asked['parameters'] == [] and asked['remappings'] == []
    assert (asked['package'], asked['executable']) == ('trt_perception', 'detector')


def test_given_arguments(tmp_path: Path) -> None:
    file = tmp_path / 'mine.yaml'
    file.write_text('/**:\n  ros__parameters:\n    score_threshold: 0.1\n')
    asked = detector_node(
        given(
            model='m.onnx',
            score_threshold='1',
            labels='off',
            classes='[car, "1", no]',
            region_of_interest='[1, 2, 3, 4]',
            autostart='False',
            use_sim_time='true',
            params_file=str(file),
            image='/camera/image_raw',
            namespace='front',
        )
    )
    # What is given comes after the file, and so is stronger.
    assert asked['parameters'] == [
        str(file),
        {
            'model': 'm.onnx',
            'labels': 'off',
            'autostart': False,
            'score_threshold': 1.0,
            'classes': ['car', '1', 'no'],
            'region_of_interest': [1, 2, 3, 4],
            'use_sim_time': True,
        },
    ]
    assert isinstance(asked['parameters'][1]['score_threshold'], float)
    assert asked['remappings'] == [('image', '/camera/image_raw')]
    assert asked['namespace'] == 'front'


@pytest.mark.parametrize(
    ('wrong', 'words'),
    [
        ({'score_threshold': 'high'}, "score_threshold: 'high' is not a double, such as 0.25"),
        ({'score_threshold': '2'}, 'score_threshold: 2 is not in 0 to 1'),
        ({'max_detections': '1.5'}, "max_detections: '1.5' is not an integer"),
        ({'autostart': '7'}, "autostart: '7' is not a bool"),
        ({'backend': 'cuda'}, "'cuda' is not one of auto, onnxruntime"),
        ({'region_of_interest': '[1, a]'}, 'is not an integer array'),
        ({'classes': '[a'}, 'is not a string array'),
        ({'params_file': 'absent.yaml'}, "params_file: 'absent.yaml' is not a file"),
        ({'fastdds_profile': 'absent.xml'}, "'absent.xml' is not a file, auto or none"),
    ],
)
def test_wrong_arguments(wrong: dict[str, str], words: str) -> None:
    with pytest.raises(ParameterError) as caught:
        detector_node(given(**wrong))
    assert words in str(caught.value)


def test_profile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (*VARIABLES, 'ROS_DISTRO'):
        monkeypatch.delenv(name, raising=False)

    def profile(**values: str) -> set[str]:
        env = detector_node(given(**values))['additional_env']
        return set(env.values())

    assert profile() == {str(default_profile())}
    assert default_profile().is_file()
    assert profile(fastdds_profile='none') == set()
    mine = tmp_path / 'mine.xml'
    mine.touch()
    assert profile(fastdds_profile=str(mine)) == {str(mine)}
    for distro, names in (
        ('', set(VARIABLES)),
        ('humble', {'FASTRTPS_DEFAULT_PROFILES_FILE'}),
        ('jazzy', {'FASTRTPS_DEFAULT_PROFILES_FILE'}),
        ('kilted', {'FASTDDS_DEFAULT_PROFILES_FILE'}),
        ('lyrical', {'FASTDDS_DEFAULT_PROFILES_FILE'}),
    ):
        monkeypatch.setenv('ROS_DISTRO', distro)
        assert set(profile_environment()) == names
    monkeypatch.setenv(VARIABLES[1], str(mine))
    assert profile() == set()


def test_launch_file_is_thin() -> None:
    """It declares what `detector_arguments` lists and starts what `detector_node` asks for."""
    tree = ast.parse((ROOT / 'launch' / 'detector.launch.py').read_text(encoding='utf-8'))
    calls = [ast.unparse(n) for n in ast.walk(tree) if isinstance(n, ast.Call)]
    assert [c for c in calls if c.startswith('Node(')] == ['Node(**detector_node(given))']
    declared = [c for c in calls if c.startswith('DeclareLaunchArgument(')]
    assert declared == [
        'DeclareLaunchArgument(a.name, default_value=a.default, description=a.description)'
    ]


def test_launch_file_with_ros_launch() -> None:
    """Where ROS 2 is installed: the description builds and declares the same arguments."""
    launch = pytest.importorskip('launch', reason='no package index has launch; robots do')
    pytest.importorskip('launch_ros')
    from launch.launch_description_sources import get_launch_description_from_python_launch_file

    description = get_launch_description_from_python_launch_file(
        str(ROOT / 'launch' / 'detector.launch.py')
    )
    assert isinstance(description, launch.LaunchDescription)
    declared = {a.name for a in description.get_launch_arguments()}
    assert declared == {a.name for a in detector_arguments()}


def test_documents_are_up_to_date() -> None:
    script = ROOT / 'tools' / 'parameter_docs.py'
    done = subprocess.run(
        [sys.executable, str(script), '--check'], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
