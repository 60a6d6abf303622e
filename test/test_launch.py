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
from rclpy.node import Node

from trt_perception.core import PerceptionError
from trt_perception.nodes.camera import CameraNode
from trt_perception.nodes.detector import DetectorNode
from trt_perception.nodes.launch_replay import replay_arguments, replay_nodes
from trt_perception.ros.camera_parameters import CAMERA
from trt_perception.ros.fastdds import VARIABLES, default_profile, profile_environment
from trt_perception.ros.launch_arguments import (
    CAMERA_NODE,
    DETECTOR_NODE,
    Argument,
    Executable,
    node,
    node_arguments,
)
from trt_perception.ros.launch_cameras import (
    OWN,
    cameras_arguments,
    cameras_components,
    executable_of,
    in_one_process,
    read_cameras,
)
from trt_perception.ros.launch_container import container, container_arguments
from trt_perception.ros.parameters import ParameterError

ROOT = Path(__file__).resolve().parents[1]
#: Arguments that are not parameters of the node.
OF_THE_LAUNCH = {'name', 'namespace', 'params_file', 'fastdds_profile', 'log_level'}
#: The node of each executable, and what it needs to start.
NODES = {
    'detector': (DetectorNode, []),
    'camera': (CameraNode, ['-p', 'source:=pattern']),
}
LAUNCHES = {
    'detector.launch.py': node_arguments(DETECTOR_NODE),
    'camera.launch.py': node_arguments(CAMERA_NODE),
    'cameras.launch.py': cameras_arguments(),
    'container.launch.py': container_arguments(),
    'replay.launch.py': replay_arguments(),
}
both = pytest.mark.parametrize(
    'executable', [DETECTOR_NODE, CAMERA_NODE], ids=lambda executable: executable.name
)


def node_with(domain_id: int, executable: Executable, *ros_args: str) -> Node:
    kind, needed = NODES[executable.name]
    context = Context()
    import rclpy

    args = ['--ros-args', *needed, *ros_args]
    rclpy.init(context=context, args=args, domain_id=domain_id)
    return kind(context=context)


def close(node: Node) -> None:
    context = node.context
    node.destroy_node()
    context.shutdown()


def defaults(arguments: list[Argument], **values: str) -> dict[str, str]:
    """The arguments' values when a user gives these."""
    return {a.name: a.default for a in arguments} | values


def detector_node(**values: str) -> dict[str, Any]:
    """What the launch file starts when a user gives these."""
    return node(DETECTOR_NODE, defaults(node_arguments(DETECTOR_NODE), **values))


@both
def test_every_argument_is_a_parameter(executable: Executable, domain_id: int) -> None:
    arguments = node_arguments(executable)
    names = [a.name for a in arguments]
    assert len(names) == len(set(names))
    of_the_node = set(names) - OF_THE_LAUNCH - {t.name for t in executable.topics}
    subject = node_with(domain_id, executable)
    try:
        assert all(subject.has_parameter(name) for name in of_the_node)
        # And no parameter lacks one.
        ros_own = {'start_type_description_service'}
        declared = {p for p in subject._parameters if not p.startswith('qos_overrides.')}
        assert declared - ros_own == of_the_node
    finally:
        close(subject)
    assert all(a.description for a in arguments)


@both
def test_parameter_files_load(executable: Executable, domain_id: int, capfd: Any) -> None:
    """In a real node, under a name and namespace of its own, with nothing unknown."""
    file = ROOT / 'config' / f'{executable.name}.yaml'
    values = yaml.safe_load(file.read_text(encoding='utf-8'))['/**']['ros__parameters']
    assert set(values) == {p.name for p in executable.table}
    # What stands in the way of its start.
    values = {k: v for k, v in values.items() if k != 'source'}
    subject = node_with(
        domain_id, executable,
        '--params-file', str(file), '-p', 'source:=pattern',
        '-r', '__ns:=/front', '-r', '__node:=cam',
    )  # fmt: skip
    try:
        assert {k: v for k, v in values.items() if subject.get_parameter(k).value != v} == {}
    finally:
        close(subject)
    unknown = [x for x in capfd.readouterr().err.splitlines() if 'is not known' in x]
    assert [x for x in unknown if "'source'" not in x] == []


@both
def test_defaults_are_left_to_the_node(executable: Executable) -> None:
    asked = node(executable, defaults(node_arguments(executable)))
    assert asked['parameters'] == [] and asked['remappings'] == []
    assert (asked['package'], asked['executable']) == ('trt_perception', executable.name)


def test_given_arguments(tmp_path: Path) -> None:
    file = tmp_path / 'mine.yaml'
    file.write_text('/**:\n  ros__parameters:\n    score_threshold: 0.1\n')
    asked = detector_node(
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
        detector_node(**wrong)
    assert words in str(caught.value)


def test_profile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (*VARIABLES, 'ROS_DISTRO'):
        monkeypatch.delenv(name, raising=False)

    def profile(**values: str) -> set[str]:
        env = detector_node(**values)['additional_env']
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


# Several cameras


def cameras(**values: str) -> list[dict[str, Any]]:
    """The components that the launch file starts when a user gives these."""
    return cameras_components(defaults(cameras_arguments(), **values)).nodes


def test_cameras_of_one_argument() -> None:
    """Commas and equals signs may be in an address."""
    text = 'front=/dev/video0,left=rtsp://me:a=b@10.0.0.5/1?x=1,2&y=3,rear=pattern'
    assert read_cameras(text) == {
        'front': {'source': '/dev/video0'},
        'left': {'source': 'rtsp://me:a=b@10.0.0.5/1?x=1,2&y=3'},
        'rear': {'source': 'pattern'},
    }


def test_cameras_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / 'cameras.yaml'
    file.write_text(
        'front: /dev/video0\n'
        'left:\n  source: rtsp://10.0.0.5/1\n  rate: 15\n  frame_id: left_optical\n  loop: yes\n'
        'rear:\n  pipeline: videotestsrc ! appsink\n'
    )
    front, left, rear = cameras(cameras=str(file), rate='30', encoding='nv12', namespace='/robot')
    assert front == {
        'plugin': 'trt_perception::CameraNode',
        'name': 'camera',
        'namespace': 'robot/front',
        'parameters': [
            {'frame_id': 'front', 'source': '/dev/video0', 'rate': 30.0, 'encoding': 'nv12'}
        ],
    }
    # What a camera says of itself is stronger than what is said of all.
    assert left['parameters'] == [
        {
            'frame_id': 'left_optical', 'source': 'rtsp://10.0.0.5/1', 'rate': 15.0,
            'encoding': 'nv12', 'loop': True,
        }
    ]  # fmt: skip
    assert rear['parameters'][0]['pipeline'] == 'videotestsrc ! appsink'


def test_a_detector_for_all_cameras(tmp_path: Path) -> None:
    file = tmp_path / 'mine.yaml'
    file.touch()
    *_, detector = cameras(
        cameras='front=pattern,left=pattern', model='m.onnx', detector_params_file=str(file),
        use_sim_time='true', autostart='false', rate='5',
    )  # fmt: skip
    assert detector == {
        'plugin': 'trt_perception::DetectorNode',
        'name': 'detector',
        'namespace': '',
        'parameters': [
            str(file),
            {
                'model': 'm.onnx', 'cameras': ['front', 'left'], 'use_sim_time': True,
                'autostart': False,
            },
        ],
    }  # fmt: skip
    assert executable_of(detector) == {
        'executable': 'detector', **{k: v for k, v in detector.items() if k != 'plugin'},
    }  # fmt: skip


@pytest.mark.parametrize(
    ('given', 'words'),
    [
        ({'detector_params_file': 'no.yaml'}, "detector_params_file: 'no.yaml' is not a file"),
        ({'cameras': 'model=pattern'}, "cameras: 'model' cannot be the name of a camera"),
    ],
)
def test_what_no_detector_for_all_can_take(given: dict[str, str], words: str) -> None:
    with pytest.raises(ParameterError) as caught:
        cameras(**{'cameras': 'front=pattern', 'model': 'm.onnx', **given})
    assert str(caught.value).startswith(words)


def test_arguments_of_the_cameras() -> None:
    names = [a.name for a in cameras_arguments()]
    assert len(names) == len(set(names))
    assert {p.name for p in CAMERA} - set(names) == set(OWN)
    assert in_one_process({'container': 'true'}) and not in_one_process({'container': 'False'})
    with pytest.raises(ParameterError, match="container: 'maybe' is neither true nor false"):
        in_one_process({'container': 'maybe'})


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('', 'cameras: is empty; write front=/dev/video0'),
        ('/dev/video0', "cameras: '/dev/video0' is not name=source; write"),
        ('front=', "cameras: 'front=' is not name=source"),
        ('a=pattern,a=pattern', "cameras: there are two of the name 'a'"),
        ('front-left=pattern', "cameras: 'front-left' cannot be a name of topics"),
        ('absent.yaml', "cameras: 'absent.yaml' cannot be read"),
        ({}, "cameras.yaml' is not a list of name: source"),
        ({'a': {'loop': True}}, 'cameras: a has no source'),
        ({'a': {'sauce': 'pattern'}}, "a has 'sauce', which is no parameter of a camera; did you"
         " mean 'source'?"),
        ({'a': {'source': 'pattern', 'rate': 'high'}}, "cameras: a: rate: 'high' is not a double"),
        ({'a': None}, 'cameras: a has no source'),
        ('a: pattern\na: /dev/video0\n', "cannot be read: line 2: 'a' is there twice"),
        ('a: 2026-13-99\n', 'cannot be read: month must be in 1..12'),
        ({1: 'pattern'}, 'cameras: 1 cannot be a name of topics'),
    ],
)  # fmt: skip
def test_wrong_cameras(text: str | dict[Any, Any], words: str, tmp_path: Path) -> None:
    if isinstance(text, dict) or text.endswith('\n'):
        file = tmp_path / 'cameras.yaml'
        file.write_text(text if isinstance(text, str) else yaml.safe_dump(text))
        text = str(file)
    with pytest.raises(ParameterError) as caught:
        read_cameras(text)
    assert words in str(caught.value) and '\n' not in str(caught.value)


# The launch files


def calls(file: str) -> list[str]:
    tree = ast.parse((ROOT / 'launch' / file).read_text(encoding='utf-8'))
    return [ast.unparse(n) for n in ast.walk(tree) if isinstance(n, ast.Call)]


@both
def test_launch_files_are_thin(executable: Executable) -> None:
    """They start what `node` asks for."""
    started = [c for c in calls(f'{executable.name}.launch.py') if c.startswith('Node(')]
    assert started == [f'Node(**node({executable.name.upper()}_NODE, given))']


@pytest.mark.parametrize('file', LAUNCHES)
def test_launch_files_declare_what_is_listed(file: str) -> None:
    declared = [c for c in calls(file) if c.startswith('DeclareLaunchArgument(')]
    assert declared == [
        'DeclareLaunchArgument(a.name, default_value=a.default, description=a.description)'
    ]


@pytest.mark.parametrize('file', LAUNCHES)
def test_launch_files_with_ros_launch(file: str) -> None:
    """Where ROS 2 is installed: the description builds and declares the same arguments."""
    launch = pytest.importorskip('launch', reason='no package index has launch; robots do')
    pytest.importorskip('launch_ros')
    from launch.launch_description_sources import get_launch_description_from_python_launch_file

    description = get_launch_description_from_python_launch_file(str(ROOT / 'launch' / file))
    assert isinstance(description, launch.LaunchDescription)
    declared = {a.name for a in description.get_launch_arguments()}
    assert declared == {a.name for a in LAUNCHES[file]}


def test_documents_are_up_to_date() -> None:
    script = ROOT / 'tools' / 'parameter_docs.py'
    done = subprocess.run(
        [sys.executable, str(script), '--check'], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


# The container


def container_of(**values: str) -> dict[str, Any]:
    return container(defaults(container_arguments(), **values))


def test_a_container(tmp_path: Path) -> None:
    graph = tmp_path / 'graph.yaml'
    graph.write_text('components: [{plugin: hello::Talker}]')
    asked = container_of(name='eyes', namespace='front', fastdds_profile='none')
    assert (asked['package'], asked['executable']) == ('trt_perception', 'perception_container')
    assert (asked['name'], asked['namespace'], asked['arguments']) == ('eyes', 'front', [])
    asked = container_of(config=str(graph), multi_threaded='True')
    assert asked['executable'] == 'perception_container_mt'
    assert asked['arguments'] == ['--config', str(graph)]


def test_what_a_container_refuses(tmp_path: Path) -> None:
    with pytest.raises(PerceptionError, match=r"none\.yaml' is not a file"):
        container_of(config='none.yaml')
    (tmp_path / 'g.yaml').write_text('components: 3')
    with pytest.raises(PerceptionError, match='a number is not a list of components'):
        container_of(config=str(tmp_path / 'g.yaml'))
    with pytest.raises(PerceptionError, match="multi_threaded: '2' is neither true nor false"):
        container_of(multi_threaded='2')


# A replay


def replay_of(**values: str) -> list[dict[str, Any]]:
    return replay_nodes(defaults(replay_arguments(), **values))


def test_a_replay(tmp_path: Path) -> None:
    pytest.importorskip('rosbags')
    from bags import FRONT, REAR, two_cameras, write

    bag = str(write(tmp_path / 'bag', two_cameras()))
    params = tmp_path / 'detector.yaml'
    params.write_text(
        '/**:\n  ros__parameters:\n    cameras: [rear]\n    model: of_the_file.onnx\n'
    )
    replay, detector = replay_of(bag=bag, model='m.onnx', rate='2', fastdds_profile='none')
    assert [n['executable'] for n in (replay, detector)] == ['replay', 'detector']
    assert replay['parameters'] == [
        {'bag': bag, 'rate': 2.0, 'topics': [f'front={FRONT}', f'rear={REAR}']}
    ]
    (given,) = detector['parameters']
    assert given['cameras'] == ['front', 'rear'] and given['use_sim_time'] is True
    assert (given['model'], given['fallback']) == ('m.onnx', False)
    assert detector['remappings'] == [
        ('front/image', '/front/image_raw'), ('rear/image', '/rear/image_raw'),
    ]  # fmt: skip
    # The cameras of the file, one topic without a name, and a detector that runs already.
    replay, detector = replay_of(bag=bag, params_file=str(params))
    assert replay['parameters'][0]['topics'] == [f'rear={REAR}']
    assert detector['parameters'] == [
        str(params), {**given, 'model': 'of_the_file.onnx', 'cameras': ['rear']},
    ]  # fmt: skip
    replay, detector = replay_of(bag=bag, model='m.onnx', topics=FRONT)
    assert replay['parameters'][0]['topics'] == [FRONT]
    assert detector['remappings'] == [('image', FRONT)]
    (replay,) = replay_of(bag=bag, start_detector='false', output='live')
    assert replay['parameters'] == [{'bag': bag, 'output': 'live'}]
    for values, words in (
        ({}, 'bag: is empty'),
        ({'bag': bag}, 'model: is empty'),
        ({'bag': bag, 'model': 'm.onnx', 'rate': '0'}, 'rate: 0 is not in'),
        ({'bag': bag, 'model': 'm.onnx', 'start_detector': '2'}, 'neither true nor false'),
        ({'bag': bag, 'model': 'm.onnx', 'detector': '/a/b'}, 'has a namespace'),
    ):
        with pytest.raises(PerceptionError, match=words):
            replay_of(**values)


def test_the_launch_of_a_replay_ends_with_either() -> None:
    started = [c for c in calls('replay.launch.py') if c.startswith('Node(')]
    assert started == ['Node(**node, on_exit=Shutdown())']
