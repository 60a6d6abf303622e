# SPDX-License-Identifier: Apache-2.0
"""A bag played to a detector, from launch arguments. Imports no launch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trt_perception.cli.replaying import Task, plan
from trt_perception.core.files import user_path
from trt_perception.ros.detector_file import read_params_file
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
from trt_perception.ros.parameters import ParameterError
from trt_perception.ros.recording_parameters import REPLAY


def replay_arguments() -> list[Argument]:
    """Arguments of ``replay.launch.py``."""
    return [
        *map(parameter_argument, REPLAY),
        Argument('model', '', 'Model of the detector; stronger than the one of params_file.'),
        Argument('params_file', '', 'YAML file of parameters for the detector.'),
        Argument(
            'start_detector', 'true', 'false: play to one that runs already, with use_sim_time, and'
            " takes the bag's topics for its images.",
        ),
        NAMESPACE,
        *PROCESS,
    ]  # fmt: skip


def replay_nodes(given: Mapping[str, str]) -> list[dict[str, Any]]:
    """Keyword arguments of ``launch_ros.actions.Node``: of the replay, and of the detector.

    Args:
        given: a value for each of `replay_arguments`.

    Raises:
        PerceptionError: a value that its parameter does not take, or a bag that cannot be played.
    """
    own = parameter_values(REPLAY, given)
    if not own.get('bag'):
        raise ParameterError('bag: is empty; give the folder of a rosbag2, or a file of one')
    common = {'package': 'trt_perception', 'namespace': given['namespace'], **process(given)}
    if given['start_detector'].lower() == 'false':
        return [{'executable': 'replay', 'name': 'replay', 'parameters': [own], **common}]
    if given['start_detector'].lower() != 'true':
        raise ParameterError(
            f"start_detector: '{given['start_detector']}' is neither true nor false"
        )
    name = own.get('detector', 'detector')
    if '/' in name:
        raise ParameterError(
            f"detector: '{name}' has a namespace; give it by namespace:=, or start_detector:=false"
        )
    files = parameter_files(given, 'params_file')
    parameters = read_params_file(Path(files[0]), name) if files else {}
    if given['model']:
        parameters['model'] = given['model']
    task = plan(user_path(own['bag']), parameters, own.get('topics', []), lambda text: None)
    own['topics'] = topics_of(task)
    detector = {
        'executable': 'detector',
        'name': name,
        'parameters': [*files, detector_parameters(task)],
        'remappings': list(image_remappings(task).items()),
        **common,
    }
    return [{'executable': 'replay', 'name': 'replay', 'parameters': [own], **common}, detector]


def detector_parameters(task: Task) -> dict[str, Any]:
    """What a detector is told beside its own parameters."""
    told = {'model': task.values['model'], 'fallback': False, 'autostart': True}
    names = [camera for camera in task.cameras.values() if camera]
    return {**told, SIM_TIME.name: True, **({'cameras': names} if names else {})}


def topics_of(task: Task) -> list[str]:
    """The topics, with their cameras, as the replay node takes them."""
    return [f'{camera}={topic}' if camera else topic for topic, camera in task.cameras.items()]


def image_remappings(task: Task) -> dict[str, str]:
    """The topic of each camera's images, by the detector's own name for it."""
    return {
        f'{camera}/image'.lstrip('/'): topic.removesuffix('/compressed')
        for topic, camera in task.cameras.items()
    }
