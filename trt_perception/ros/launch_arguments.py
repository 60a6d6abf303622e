# SPDX-License-Identifier: Apache-2.0
"""The arguments of the launch files, and the node that they ask for. Imports no launch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from trt_perception.core.files import is_file, user_path
from trt_perception.ros.detector_parameters import DETECTOR
from trt_perception.ros.fastdds import profile_environment
from trt_perception.ros.parameters import Parameter, ParameterError


class Argument(NamedTuple):
    """What ``ros2 launch ... NAME:=VALUE`` takes."""

    name: str
    default: str
    description: str


#: Topics that can be renamed, as the node itself calls them.
TOPICS = ('image', 'detections')

_SIM_TIME = Parameter('use_sim_time', False, 'Take the time from /clock.')
_OF_THE_NODE = (
    Argument('image', 'image', 'Camera topic; compressed images are looked for beside it.'),
    Argument('detections', 'detections', 'Topic of the detections.'),
    Argument('name', 'detector', 'Name of the node.'),
    Argument('namespace', '', 'Namespace of the node.'),
    Argument('params_file', '', 'YAML file of parameters; arguments given here are stronger.'),
    Argument('fastdds_profile', 'auto', 'Fast DDS profile of the node; auto: the one in config/ for'
             ' large images, unless the environment names another; none: leave Fast DDS alone.'),
    Argument('log_level', 'info', 'One of debug, info, warn, error, fatal.'),
)  # fmt: skip


def detector_arguments() -> list[Argument]:
    """Arguments of ``detector.launch.py``: the node's own, then one for each parameter.

    A parameter's argument is empty by default, and then not passed on: its default stays the
    node's, and a parameter file is not overridden by it.
    """
    return [*_OF_THE_NODE, *map(_argument, (*DETECTOR, _SIM_TIME))]


def detector_node(given: Mapping[str, str]) -> dict[str, Any]:
    """Keyword arguments for ``launch_ros.actions.Node``.

    Args:
        given: a value for each of `detector_arguments`.

    Raises:
        ParameterError: a value that its parameter does not take, or a file that is not there.
    """
    parameters: list[Any] = []
    if given['params_file']:
        file = user_path(given['params_file'])
        if not is_file(file):
            raise ParameterError(f"params_file: '{file}' is not a file")
        parameters.append(str(file))
    values = {p.name: p.parse(given[p.name]) for p in (*DETECTOR, _SIM_TIME) if given[p.name]}
    if values:
        parameters.append(values)
    return {
        'package': 'trt_perception',
        'executable': 'detector',
        'name': given['name'],
        'namespace': given['namespace'],
        'parameters': parameters,
        'remappings': [(topic, given[topic]) for topic in TOPICS if given[topic] != topic],
        'additional_env': _profile(given['fastdds_profile']),
        'ros_arguments': ['--log-level', given['log_level']],
        'output': 'screen',
    }


def _argument(parameter: Parameter) -> Argument:
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
