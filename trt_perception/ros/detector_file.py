# SPDX-License-Identifier: Apache-2.0
"""A detector's parameters without the node: from the files and values that it would be given."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trt_perception.core.files import is_file
from trt_perception.ros.detector_parameters import (
    CAMERA_NAME,
    DETECTOR,
    camera_table,
    cameras_of,
)
from trt_perception.ros.parameters import Parameter, ParameterError, did_you_mean
from trt_perception.runtime.yaml_file import YamlError, read_yaml

#: What every node of ROS has beside its own.
_OF_ROS = re.compile(r'use_sim_time|start_type_description_service|qos_overrides\..*')
_LOCAL = 'ros__parameters'


def read_params_file(file: Path, node: str = 'detector') -> dict[str, Any]:
    """The parameters that a file as of ``--params-file`` gives a detector.

    Args:
        node: its name, or its full name with the namespace, which is needed where a file is for
            several detectors.

    Returns:
        Those that are there, by name, as they stand there.

    Raises:
        ParameterError: there is no such file, it is no parameter file, or not one for this node.
    """
    if not is_file(file):
        raise ParameterError(f"params: '{file}' is not a file")
    try:
        content = read_yaml(file)
    except YamlError as error:
        raise ParameterError(f"params: '{file}' cannot be read: {error}") from None
    given = list(_nodes(content, ''))
    if not given:
        raise ParameterError(
            f"params: '{file}' has no {_LOCAL}; it begins with /**: and {_LOCAL}: below it"
        )
    found = [(name, values) for name, values in given if _is_for(name, node)]
    if not found:
        there = ', '.join(name for name, _ in given)
        raise ParameterError(f"params: '{file}' has nothing for a node {node}, only for {there}")
    alone = {name for name, _ in found if '*' not in name}
    if len(alone) > 1:
        raise ParameterError(
            f"params: '{file}' is for {' and '.join(sorted(alone))}; say which node"
        )
    # The last one wins, as with ROS.
    return {name: value for _, values in found for name, value in _flat(values, '')}


def detector_values(given: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters of a detector and of its cameras, as the node would have them.

    Args:
        given: of them, those that are not to have their defaults; texts, numbers and lists.

    Raises:
        ParameterError: one that there is not, or a value that the node would refuse.
    """
    given = {name: value for name, value in given.items() if not _OF_ROS.fullmatch(name)}
    table: list[Parameter] = list(DETECTOR)
    values = {p.name: _value(p, given) for p in table}
    for camera in cameras_of(values):
        own = camera_table(camera, values)
        table += own
        values |= {p.name: _value(p, given) for p in own}
    for name in given:
        if name not in values:
            hint = did_you_mean(name, values)
            raise ParameterError(f"parameter '{name}' is not one of a detector{hint}")
    return values


def named_topics(wanted: Sequence[str]) -> dict[str, str]:
    """Topics and the cameras that they are of; '' where that is not said.

    Args:
        wanted: topics, or ``camera=topic``.
    """
    named = {}
    for text in wanted:
        camera, _, topic = text.rpartition('=')
        named[f'/{topic.lstrip("/")}'] = camera
    return named


def cameras_of_topics(
    topics: Sequence[str], named: Mapping[str, str], cameras: Sequence[str]
) -> dict[str, str]:
    """Which of a detector's cameras each topic of images is.

    A camera has the topic that it was given, else the one that has its name for a part:
    ``/front/image_raw`` is of a camera ``front``.

    Args:
        topics: of a bag.
        named: as of `named_topics`.
        cameras: names of the detector's cameras; empty for one that has none, or before they are
            named.

    Returns:
        A camera for each topic of one. The one topic of a detector without cameras has ''; several
        have names made of theirs.

    Raises:
        ParameterError: a camera without a topic, or with several.
    """
    if not cameras:
        if len(topics) == 1 and not named.get(topics[0]):
            return {topics[0]: ''}
        return {topic: named.get(topic) or name for topic, name in _own_names(topics).items()}
    found: dict[str, str] = {}
    for camera in cameras:
        own = [topic for topic in topics if named.get(topic) == camera]
        own = own or [t for t in topics if not named.get(t) and camera in t.split('/')]
        if len(own) != 1:
            has = 'several topics' if own else 'no topic'
            there = ', '.join(own or topics)
            raise ParameterError(
                f"camera '{camera}' has {has} of {there}; say --topics {camera}=TOPIC"
            )
        found[own[0]] = camera
    return {topic: found[topic] for topic in topics if topic in found}


def _own_names(topics: Sequence[str]) -> dict[str, str]:
    """A name for each, of the parts of the topic that are not those of any camera."""
    names: dict[str, str] = {}
    for number, topic in enumerate(topics):
        parts = [p for p in topic.split('/') if p and p != 'compressed']
        where = parts[:-1] if parts[-1].startswith('image') and parts[1:] else parts
        taken = set(names.values())
        usual = (where[-1], '_'.join(where), '_'.join(parts), f'camera{number}')
        names[topic] = next(
            n for n in usual if n not in taken and (CAMERA_NAME.fullmatch(n) or n == usual[-1])
        )
    return names


def _nodes(content: Any, above: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Full name, or a pattern, and parameters of each node of a file; namespaces may be nested."""
    for name, value in content.items() if isinstance(content, dict) else ():
        path = f'{above}/{str(name).strip("/")}'
        if isinstance(value, dict) and isinstance(value.get(_LOCAL), dict):
            yield path, value[_LOCAL]
        elif isinstance(value, dict):
            yield from _nodes(value, path)


def _is_for(pattern: str, node: str) -> bool:
    if '/' not in node:
        return pattern.rpartition('/')[2] in (node, '*', '**')
    words = {'**': '.*', '*': '[^/]+'}
    parts = [words.get(part, re.escape(part)) for part in pattern.strip('/').split('/')]
    return re.fullmatch('/' + '/'.join(parts), node) is not None


def _flat(values: Mapping[Any, Any], above: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f'{above}{key}.')
        else:
            yield f'{above}{key}', value


def _value(parameter: Parameter, given: Mapping[str, Any]) -> Any:
    if parameter.name not in given:
        return parameter.plain(parameter.default)
    return parameter.plain(parameter.take(given[parameter.name]))
