# SPDX-License-Identifier: Apache-2.0
"""The arguments of the launch files, and the nodes that they ask for. Imports no launch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from trt_perception.core.files import is_file, user_path
from trt_perception.ros.camera_parameters import CAMERA
from trt_perception.ros.detector_parameters import DETECTOR
from trt_perception.ros.fastdds import profile_environment
from trt_perception.ros.parameters import Parameter, ParameterError


class Argument(NamedTuple):
    """What ``ros2 launch ... NAME:=VALUE`` takes."""

    name: str
    default: str
    description: str


class Executable(NamedTuple):
    """One of ours that a launch file starts.

    Attributes:
        name: also of its node, by default.
        topics: that can be renamed, as the node itself calls them.
        table: its parameters.
    """

    name: str
    topics: tuple[Argument, ...]
    table: Sequence[Parameter]


DETECTOR_NODE = Executable(
    'detector',
    (
        Argument('image', 'image', 'Camera topic; compressed images are looked for beside it.'),
        Argument('detections', 'detections', 'Topic of the detections.'),
    ),
    DETECTOR,
)
CAMERA_NODE = Executable(
    'camera',
    (
        Argument('image', 'image', 'Topic of the images; compressed ones go to image/compressed,'
                 ' and the calibration to camera_info beside it.'),
    ),
    CAMERA,
)  # fmt: skip

SIM_TIME = Parameter('use_sim_time', False, 'Take the time from /clock.')
NAMESPACE = Argument('namespace', '', 'Namespace of the node.')
PROCESS = (
    Argument('fastdds_profile', 'auto', 'Fast DDS profile of the process; auto: the one in config/'
             ' for large images, unless the environment names another; none: leave Fast DDS'
             ' alone.'),
    Argument('log_level', 'info', 'One of debug, info, warn, error, fatal.'),
)  # fmt: skip


def node_arguments(executable: Executable) -> list[Argument]:
    """Arguments of a launch file that starts one node: the node's own, then its parameters'.

    A parameter's argument is empty by default, and then not passed on: its default stays the
    node's, and a parameter file is not overridden by it.
    """
    return [
        *executable.topics,
        Argument('name', executable.name, 'Name of the node.'),
        NAMESPACE,
        Argument('params_file', '', 'YAML file of parameters; arguments given here are stronger.'),
        *PROCESS,
        *map(parameter_argument, (*executable.table, SIM_TIME)),
    ]


def node(executable: Executable, given: Mapping[str, str]) -> dict[str, Any]:
    """Keyword arguments for ``launch_ros.actions.Node``.

    Args:
        given: a value for each of `node_arguments`.

    Raises:
        ParameterError: a value that its parameter does not take, or a file that is not there.
    """
    parameters: list[Any] = parameter_files(given, 'params_file')
    if values := parameter_values((*executable.table, SIM_TIME), given):
        parameters.append(values)
    topics = [topic.name for topic in executable.topics]
    return {
        'package': 'trt_perception',
        'executable': executable.name,
        'name': given['name'],
        'namespace': given['namespace'],
        'parameters': parameters,
        'remappings': [(topic, given[topic]) for topic in topics if given[topic] != topic],
        **process(given),
    }


def process(given: Mapping[str, str]) -> dict[str, Any]:
    """Keyword arguments of a process, from a value for each of `PROCESS`.

    Raises:
        ParameterError: the profile is not there.
    """
    return {
        'additional_env': _profile(given['fastdds_profile']),
        'ros_arguments': ['--log-level', given['log_level']],
        'output': 'screen',
    }


def parameter_files(given: Mapping[str, str], name: str) -> list[str]:
    """The file that is given by this argument, if one is.

    Raises:
        ParameterError: it is not there.
    """
    if not given[name]:
        return []
    file = user_path(given[name])
    if not is_file(file):
        raise ParameterError(f"{name}: '{file}' is not a file")
    return [str(file)]


def parameter_values(table: Sequence[Parameter], given: Mapping[str, str]) -> dict[str, Any]:
    """Those parameters for which something is given, each as its own type.

    Raises:
        ParameterError: a value that its parameter does not take.
    """
    return {p.name: p.parse(given[p.name]) for p in table if given.get(p.name)}


def parameter_argument(parameter: Parameter) -> Argument:
    """The launch argument of a parameter."""
    allowed = f', {parameter.constraint}' if parameter.constraint else ''
    told = f'{parameter.type_name}{allowed}; default {parameter.default!r}'
    return Argument(parameter.name, '', f'{parameter.description} ({told})')


def _profile(wanted: str) -> dict[str, str]:
    if wanted == 'none':
        return {}
    if wanted == 'auto':
        return profile_environment()
    if not is_file(Path(wanted)):
        raise ParameterError(f"fastdds_profile: '{wanted}' is not a file, auto or none")
    return profile_environment(wanted)
