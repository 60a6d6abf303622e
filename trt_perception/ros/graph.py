# SPDX-License-Identifier: Apache-2.0
"""A graph of components as a YAML file, checked at the door."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any

from rclpy.parameter import Parameter

from trt_perception.core import PerceptionError
from trt_perception.core.files import is_file, user_path
from trt_perception.ros.components import LOG_LEVELS, Wanted
from trt_perception.runtime.yaml_file import Loader, YamlError, read_yaml

_NAME = re.compile('[A-Za-z_][A-Za-z0-9_]*')
_SCALARS = bool, int, float, str
_KINDS: dict[type, str] = {
    dict: 'a mapping', list: 'a list', str: 'text', type(None): 'empty',
    bool: 'true or false', int: 'a number', float: 'a number',
}  # fmt: skip


class GraphError(PerceptionError):
    """A graph file that cannot be used."""


class StrictLoader(Loader):
    """Refuses what YAML lets pass: the first of two equal keys would be lost."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for name, _ in node.value:
            key = self.construct_object(name, deep=True)
            if not isinstance(key, Hashable):
                break  # as the usual way tells
            if key in seen:
                line = name.start_mark.line + 1
                raise GraphError(f'line {line}: {key!r} is there twice; leave one out')
            seen.add(key)
        return dict(super().construct_mapping(node, deep))


def read_graph(path: Path) -> list[Wanted]:
    """Read the components of a graph, in the order in which they are to come up.

    Paths in it are relative to the file's folder; those among the parameters are left as they are.

    Raises:
        GraphError: the file is not there, or says something that cannot be meant.
    """
    if not is_file(path):
        raise GraphError(f"config: '{path}' is not a file; give a graph of components in YAML")
    try:
        return _graph(read_yaml(path, StrictLoader), path.absolute().parent)
    except YamlError as error:
        raise GraphError(f"'{path}' cannot be read: {error}") from None
    except GraphError as error:
        raise GraphError(f'{path}: {error}') from None


def _graph(content: Any, folder: Path) -> list[Wanted]:
    if not isinstance(content, dict):
        raise GraphError(f'{_kind(content)} is no graph; begin with components:')
    _check_keys(content, {'components'}, '')
    listed = content.get('components')
    if not isinstance(listed, list) or not listed:
        raise GraphError(f'components: {_kind(listed)} is not a list of components')
    wanted = []
    for number, item in enumerate(listed):
        where = f'components[{number}]'
        if not isinstance(item, dict):
            raise GraphError(f'{where}: {_kind(item)} is no component; give plugin: package::Class')
        named = item.get('name') or item.get('plugin')
        wanted.append(_component(item, f'{where} ({named})' if named else where, folder))
    names = [f'{w.namespace}/{w.name}' for w in wanted if w.name]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise GraphError(f"components: two are named '{name}'; give one another name")
    return wanted


def _component(item: Mapping[Any, Any], where: str, folder: Path) -> Wanted:
    _check_keys(item, set(_KEYS), where)
    given: dict[str, Any] = {}
    for key, value in item.items():
        try:
            given[key] = _KEYS[key](value)
        except GraphError as error:
            raise GraphError(f'{where}: {key}: {error}') from None
    if not given.get('plugin'):
        raise GraphError(f'{where}: plugin is missing; give package::Class')
    if file := given.get('params_file'):
        given['params_file'] = str(folder / user_path(file))
        if not is_file(Path(given['params_file'])):
            raise GraphError(f"{where}: params_file: '{given['params_file']}' is not a file")
    return Wanted(**given)


def _check_keys(mapping: Mapping[Any, Any], known: set[str], where: str) -> None:
    for key in mapping:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, 1)
            hint = f"; did you mean '{close[0]}'?" if close else ''
            there = ', '.join(sorted(known))
            raise GraphError(f'{where}: {key!r} is not one of {there}{hint}'.removeprefix(': '))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise GraphError(f'{value!r} is {_kind(value)}; it has to be text')
    return value


def _name(value: Any) -> str:
    if not _NAME.fullmatch(_text(value)):
        raise GraphError(f'{value!r} is no name; take letters, digits and _')
    return str(value)


def _namespace(value: Any) -> str:
    parts = _text(value).strip('/')
    for part in filter(None, parts.split('/')):
        if not _NAME.fullmatch(part):
            raise GraphError(f"{value!r} is no namespace such as '/front'")
    return f'/{parts}'


def _log_level(value: Any) -> int:
    if not isinstance(value, str) or value not in LOG_LEVELS:
        raise GraphError(f'{value!r} is not one of {", ".join(LOG_LEVELS)}')
    return LOG_LEVELS[value]


def _remappings(value: Any) -> tuple[str, ...]:
    if not isinstance(value, dict):
        raise GraphError(f'{_kind(value)}; it has to be such as image: /camera/image_raw')
    return tuple(f'{_text(old)}:={_text(new)}' for old, new in value.items())


def _extra_arguments(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise GraphError(f'{_kind(value)}; it has to be such as use_intra_process_comms: true')
    return {_text(name): given for name, given in value.items()}


def _parameters(value: Any) -> tuple[Parameter[Any], ...]:
    if not isinstance(value, dict):
        raise GraphError(f'{_kind(value)}; it has to be such as max_rate: 10.0')
    return tuple(_flat(value, ''))


def _flat(values: Mapping[Any, Any], above: str) -> list[Parameter[Any]]:
    """Parameters of a mapping; one within another is written with a dot, as ROS does."""
    flat = []
    for key, value in values.items():
        name = f'{above}{_text(key)}'
        if isinstance(value, dict):
            flat += _flat(value, f'{name}.')
        else:
            _check_value(name, value)
            flat.append(Parameter(name, value=value))
    return flat


def _check_value(name: str, value: Any) -> None:
    if isinstance(value, list):
        kinds = {type(item) for item in value}
        if not kinds:
            raise GraphError(f'{name} is [], which has no type; leave it out')
        if len(kinds) > 1 or kinds.pop() not in _SCALARS:
            raise GraphError(
                f"{name}: {value!r} is not a list of values of one type; texts are written '0'"
            )
    elif type(value) not in _SCALARS:
        raise GraphError(f'{name} is {_kind(value)}; give a value or leave it out')


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), type(value).__name__)


#: What a component can have, and what makes an attribute of `Wanted` of it.
_KEYS: dict[str, Callable[[Any], Any]] = {
    'plugin': _text,
    'package': _text,
    'name': _name,
    'namespace': _namespace,
    'parameters': _parameters,
    'params_file': _text,
    'remappings': _remappings,
    'extra_arguments': _extra_arguments,
    'log_level': _log_level,
}
