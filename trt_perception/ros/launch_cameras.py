# SPDX-License-Identifier: Apache-2.0
"""Several cameras, and a detector for all of them, from one launch argument. Imports no launch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from trt_perception.core.files import user_path
from trt_perception.ros.camera_parameters import CAMERA
from trt_perception.ros.detector_parameters import cameras_of
from trt_perception.ros.graph import GraphError, StrictLoader
from trt_perception.ros.launch_arguments import (
    NAMESPACE,
    PROCESS,
    SIM_TIME,
    Argument,
    parameter_argument,
    parameter_files,
    parameter_values,
    process,
)
from trt_perception.ros.lifecycle_parameters import LIFECYCLE
from trt_perception.ros.parameters import ParameterError, did_you_mean
from trt_perception.runtime.capture.base import without_passwords
from trt_perception.runtime.yaml_file import YamlError, read_yaml

#: Parameters that are each camera's own.
OWN = ('source', 'pipeline', 'frame_id', 'camera_info_url')
_COMMON = tuple(p for p in CAMERA if p.name not in OWN)
#: Of those that are given to all, what the detector has too.
_OF_THE_DETECTOR = {p.name for p in (*LIFECYCLE, SIM_TIME)}
_CURE = 'write front=/dev/video0,left=rtsp://10.0.0.5/1, or give a YAML file'


class Components(NamedTuple):
    """What is to run.

    Attributes:
        nodes: keyword arguments of ``launch_ros.descriptions.ComposableNode`` each; ``plugin`` is
            ``trt_perception::CameraNode`` or ``trt_perception::DetectorNode``.
        process: keyword arguments of the process, or of each of them.
    """

    nodes: list[dict[str, Any]]
    process: dict[str, Any]


def cameras_arguments() -> list[Argument]:
    """Arguments of ``cameras.launch.py``; a camera's parameter is given to all cameras.

    Who manages their lifecycle manages the detector's.
    """
    return [
        Argument(
            'cameras', '', 'Cameras by name, each with its source: front=/dev/video0,'
            'left=rtsp://10.0.0.5/1; or a YAML file that says the same, or gives a camera any of'
            ' its parameters. Topics are front/image, front/camera_info and so on; frame_id is'
            ' the name, unless the file says otherwise.',
        ),
        Argument('model', '', 'Model of a detector for all the cameras; empty: only cameras.'),
        Argument('detector_params_file', '', 'YAML file of parameters for the detector.'),
        Argument(
            'container', 'true', 'All in one process, where images go by reference; false: a'
            ' process each.',
        ),
        NAMESPACE,
        *PROCESS,
        *map(parameter_argument, (*_COMMON, SIM_TIME)),
    ]  # fmt: skip


def cameras_components(given: Mapping[str, str]) -> Components:
    """What the arguments ask for.

    Args:
        given: a value for each of `cameras_arguments`.

    Raises:
        ParameterError: cameras that cannot be understood, a value that its parameter does not
            take, or a file that is not there.
    """
    cameras = read_cameras(given['cameras'])
    namespace = given['namespace'].strip('/')
    common = parameter_values((*_COMMON, SIM_TIME), given)
    nodes = [
        {
            'plugin': 'trt_perception::CameraNode',
            'name': 'camera',
            'namespace': f'{namespace}/{name}'.lstrip('/'),
            'parameters': [{'frame_id': name, **common, **own}],
        }
        for name, own in cameras.items()
    ]
    if given['model']:
        detector = {'model': given['model'], 'cameras': cameras_of({'cameras': list(cameras)})}
        detector |= {k: v for k, v in common.items() if k in _OF_THE_DETECTOR}
        nodes.append(
            {
                'plugin': 'trt_perception::DetectorNode',
                'name': 'detector',
                'namespace': namespace,
                'parameters': [*parameter_files(given, 'detector_params_file'), detector],
            }
        )
    return Components(nodes, process(given))


def executable_of(node: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments of ``launch_ros.actions.Node`` for one of the components."""
    name = str(node['plugin']).removeprefix('trt_perception::').removesuffix('Node').lower()
    return {'executable': name, **{k: v for k, v in node.items() if k != 'plugin'}}


def in_one_process(given: Mapping[str, str]) -> bool:
    """Whether that is asked for.

    Raises:
        ParameterError: neither true nor false.
    """
    text = given['container'].lower()
    if text not in ('true', 'false'):
        raise ParameterError(f"container: '{given['container']}' is neither true nor false")
    return text == 'true'


def read_cameras(text: str) -> dict[str, dict[str, Any]]:
    """The parameters of each camera, by its name.

    Args:
        text: ``name=source,name=source``, or the path of a YAML file.

    Raises:
        ParameterError: it is neither, or names a parameter that a camera does not have.
    """
    if not text:
        raise ParameterError(f'cameras: is empty; {_CURE}')
    content = _file(text) if text.endswith(('.yaml', '.yml')) and '=' not in text else _list(text)
    return {name: _camera(name, value) for name, value in content.items()}


def _list(text: str) -> dict[str, Any]:
    cameras: dict[str, Any] = {}
    # An address may hold commas and equals signs; what stands before a name's is a name.
    for part in re.split(r',(?=[A-Za-z]\w*=)', text):
        name, separator, source = part.partition('=')
        if not separator or not source:
            raise ParameterError(
                f"cameras: '{without_passwords(part)}' is not name=source; {_CURE}"
            )
        if name in cameras:
            raise ParameterError(f"cameras: there are two of the name '{name}'")
        cameras[name] = source
    return cameras


def _file(text: str) -> dict[str, Any]:
    path = user_path(text)
    try:
        content = read_yaml(path, StrictLoader)
    except (GraphError, YamlError) as error:
        raise ParameterError(f"cameras: '{path}' cannot be read: {error}") from None
    if not isinstance(content, dict) or not content:
        raise ParameterError(f"cameras: '{path}' is not a list of name: source; {_CURE}")
    return content


def _camera(name: Any, value: Any) -> dict[str, Any]:
    if not isinstance(name, str) or not re.fullmatch(r'[A-Za-z]\w*', name, re.ASCII):
        raise ParameterError(
            f'cameras: {name!r} cannot be a name of topics; take letters, digits and _'
        )
    given = value if isinstance(value, dict) else {'source': value}
    # A line with nothing after its colon says nothing.
    given = {key: item for key, item in given.items() if item is not None}
    known = {p.name: p for p in CAMERA}
    for key in given:
        if key not in known:
            raise ParameterError(
                f"cameras: {name} has '{key}', which is no parameter of a camera"
                f'{did_you_mean(str(key), known)}'
            )
    try:
        own = {key: known[key].parse(str(item)) for key, item in given.items()}
    except ParameterError as error:
        raise ParameterError(f'cameras: {name}: {error}') from None
    if not own.get('source') and not own.get('pipeline'):
        raise ParameterError(f'cameras: {name} has no source; {_CURE}')
    return own
