# SPDX-License-Identifier: Apache-2.0
"""The arguments of ``container.launch.py``, and what they ask for. Imports no launch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trt_perception.core.files import user_path
from trt_perception.ros.graph import read_graph
from trt_perception.ros.launch_arguments import NAMESPACE, PROCESS, Argument, process
from trt_perception.ros.parameters import ParameterError

_EXECUTABLES = {'false': 'perception_container', 'true': 'perception_container_mt'}


def container_arguments() -> list[Argument]:
    """Arguments of ``container.launch.py``."""
    return [
        Argument('config', '', 'YAML file of components to run; perception_container --help shows'
                 ' one. Empty: a container for others to load components into.'),
        Argument('name', 'perception_container', 'Name of the container.'),
        NAMESPACE,
        Argument('multi_threaded', 'false', 'true: the callbacks of a component run at the same'
                 ' time as far as its callback groups allow; false: one after the other. Components'
                 ' do not wait for each other in either case.'),
        *PROCESS,
    ]  # fmt: skip


def container(given: Mapping[str, str]) -> dict[str, Any]:
    """Keyword arguments for ``launch_ros.actions.ComposableNodeContainer``.

    Args:
        given: a value for each of `container_arguments`.

    Raises:
        GraphError: a file that is not there, or that cannot be understood.
        ParameterError: a value that an argument does not take.
    """
    arguments: list[str] = []
    if given['config']:
        path = user_path(given['config']).absolute()
        read_graph(path)
        arguments = ['--config', str(path)]
    threads = given['multi_threaded'].lower()
    if threads not in _EXECUTABLES:
        raise ParameterError(
            f"multi_threaded: '{given['multi_threaded']}' is neither true nor false"
        )
    return {
        'package': 'trt_perception',
        'executable': _EXECUTABLES[threads],
        'name': given['name'],
        'namespace': given['namespace'],
        'arguments': arguments,
        **process(given),
    }
