# SPDX-License-Identifier: Apache-2.0
"""Components: what is asked for, where it is found, how it is made.

A component is a class of a node that a package names in the entry-point group ``rclpy_components``
as ``package::Class``. It is called with keyword arguments of ``rclpy.node.Node`` only.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

import rclpy.logging
from rclpy.parameter import Parameter

from trt_perception.core import PerceptionError
from trt_perception.core.errors import one_line

if TYPE_CHECKING:
    from composition_interfaces.srv import LoadNode
    from rclpy.context import Context
    from rclpy.node import Node

GROUP = 'rclpy_components'
LOG_LEVELS = {'debug': 10, 'info': 20, 'warn': 30, 'error': 40, 'fatal': 50}
_SHOWN = 10  # names of components in a message


class ComponentError(PerceptionError):
    """A component that cannot be had, or has failed."""


@dataclass(frozen=True)
class Wanted:
    """A component that is asked for.

    Attributes:
        plugin: ``package::Class``, or ``Class`` alone.
        package: its package; '' looks in all.
        name, namespace: of the node; '' leaves them to the class.
        remappings: rules, as ``from:=to``.
        params_file: YAML file of parameters; '' is none. `parameters` are stronger.
        log_level: of the node's logger; 0 leaves it alone.
        extra_arguments: those that rclcpp's component manager knows.
    """

    plugin: str
    package: str = ''
    name: str = ''
    namespace: str = ''
    remappings: tuple[str, ...] = ()
    parameters: tuple[Parameter[Any], ...] = ()
    params_file: str = ''
    log_level: int = 0
    extra_arguments: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        where = '/'.join(part.strip('/') for part in (self.namespace, self.name) if part.strip('/'))
        return f'{self.plugin} as /{where}' if where else self.plugin


def wanted_from(request: LoadNode.Request) -> Wanted:
    """What a request of the service ``load_node`` asks for."""
    return Wanted(
        plugin=request.plugin_name,
        package=request.package_name,
        name=request.node_name,
        namespace=request.node_namespace,
        remappings=tuple(request.remap_rules),
        parameters=tuple(map(Parameter.from_parameter_msg, request.parameters)),
        log_level=request.log_level,
        extra_arguments={
            a.name: Parameter.from_parameter_msg(a).value for a in request.extra_arguments
        },
    )


class Maker:
    """Makes a node of a component that is asked for.

    Attributes:
        use_intra_process: whether the node may hand messages over within the process.
    """

    def __init__(self, wanted: Wanted) -> None:
        """Look for the class, and at the arguments.

        Raises:
            ComponentError: there is none, it cannot be imported, or an argument cannot be honoured.
        """
        options = _options(wanted.extra_arguments)
        if wanted.log_level not in (0, *LOG_LEVELS.values()):
            levels = ', '.join(f'{number} {name}' for name, number in LOG_LEVELS.items())
            raise ComponentError(f'log_level: {wanted.log_level} is not one of {levels}')
        self.use_intra_process = bool(options.pop('use_intra_process', True))
        self._options = options
        self._wanted = wanted
        self._class = _load(find(wanted.package, wanted.plugin))

    def __call__(self, context: Context) -> Node:
        """Make it. Whatever its constructor raises is passed on.

        Raises:
            ComponentError: what was made is no node.
        """
        wanted = self._wanted
        rules = [*wanted.remappings]
        if wanted.name:
            rules.append(f'__node:={wanted.name}')
        if wanted.namespace:
            rules.append(f'__ns:={wanted.namespace}')
        arguments = [word for rule in rules for word in ('-r', rule)]
        if wanted.params_file:
            arguments += ['--params-file', wanted.params_file]
        if wanted.name and wanted.log_level:
            # What the constructor says counts too, and the node's logger is known by its name.
            path = f'{wanted.namespace}/{wanted.name}'.strip('/').replace('/', '.')
            _set_log_level(path, wanted.log_level)
        node = self._class(
            context=context,
            cli_args=['--ros-args', *arguments],
            parameter_overrides=list(wanted.parameters),
            **{'use_global_arguments': False, **self._options},
        )
        from rclpy.node import Node

        if not isinstance(node, Node):
            raise ComponentError(f'{wanted.plugin} makes a {type(node).__name__}, which is no node')
        if wanted.log_level:
            _set_log_level(node.get_logger().name, wanted.log_level)
        return node


def find(package: str, plugin: str) -> EntryPoint:
    """Where a component's class is to be imported from.

    Args:
        package: '' looks in all packages.
        plugin: ``package::Class``, or ``Class`` alone.

    Raises:
        ComponentError: there is none, or there are several.
    """
    known = sorted(entry_points(group=GROUP), key=lambda e: (e.name, e.value))
    names = {plugin, f'{package}::{plugin}'} if package else {plugin}
    short = plugin.rpartition('::')[2]
    package = package or plugin.rpartition('::')[0]
    found = [e for e in known if e.name in names]
    # A bare name belongs to the package that registers it.
    found = found or [e for e in known if e.name == short and package in ('', _package(e))]
    if not found and not package:
        found = [e for e in known if e.name.rpartition('::')[2] == plugin]
    # An installation may be listed twice, by pip and by colcon.
    different = {e.value: e for e in found}
    if len(different) > 1:
        told = ', '.join(f'{_package(e)} ({value})' for value, e in different.items())
        raise ComponentError(f"component '{plugin}' is in {told}; say in which package")
    if not different:
        raise ComponentError(_not_found(known, package, plugin))
    return found[0]


def _not_found(known: Iterable[EntryPoint], package: str, plugin: str) -> str:
    names = list(dict.fromkeys(e.name for e in known))
    of_package = [n for n in names if n.startswith(f'{package}::')] if package else []
    wanted = plugin if '::' in plugin or not package else f'{package}::{plugin}'
    close = difflib.get_close_matches(wanted, names, 1)
    hint = f"; did you mean '{close[0]}'?" if close else ''
    shown = (of_package or names)[:_SHOWN]
    there = f'there are {", ".join(shown)}' if shown else 'no installed package has any'
    return (
        f"no component '{wanted}' in the entry-point group {GROUP}; {there}{hint}"
        ' (C++ components need the container of rclcpp_components)'
    )


def _package(entry: EntryPoint) -> str:
    distribution = getattr(entry, 'dist', None)
    name = distribution.metadata['Name'] if distribution else entry.module.partition('.')[0]
    return re.sub('[-.]+', '_', name)


def _load(entry: EntryPoint) -> Callable[..., Any]:
    try:
        loaded: Callable[..., Any] = entry.load()
    except (Exception, SystemExit) as error:
        raise ComponentError(
            f'{entry.name}: {entry.value} cannot be imported: {type(error).__name__}:'
            f' {one_line(error)}'
        ) from error
    return loaded


#: Extra argument: the option it sets and, of what rclpy has no option for, the only value it has.
_EXTRA: dict[str, tuple[str, bool | None]] = {
    'forward_global_arguments': ('use_global_arguments', None),
    'use_global_arguments': ('use_global_arguments', None),
    'enable_rosout': ('enable_rosout', None),
    'start_parameter_services': ('start_parameter_services', None),
    'use_intra_process_comms': ('use_intra_process', None),
    'enable_logger_service': ('enable_logger_service', None),
    'start_parameter_event_publisher': ('', True),
    'enable_topic_statistics': ('', False),
    'use_clock_thread': ('', False),
}
_HUMBLE_LACKS = 'enable_logger_service'


def _options(extra_arguments: Mapping[str, Any]) -> dict[str, bool]:
    """Keyword arguments for the node.

    Raises:
        ComponentError: one that is not known, not a boolean, or asks for what rclpy does not have.
    """
    options: dict[str, bool] = {}
    for name, value in extra_arguments.items():
        if name not in _EXTRA:
            close = difflib.get_close_matches(name, _EXTRA, 1)
            hint = f"; did you mean '{close[0]}'?" if close else ''
            raise ComponentError(f"extra argument '{name}' is not supported{hint}")
        if not isinstance(value, bool):
            raise ComponentError(f"extra argument '{name}' must be true or false, not {value!r}")
        option, only = _EXTRA[name]
        if option == _HUMBLE_LACKS and not _node_takes(option):
            option, only = '', False
        if only is not None and value != only:
            raise ComponentError(
                f"extra argument '{name}': rclpy knows it as {str(only).lower()} only; leave it out"
            )
        if option:
            options[option] = value
    return options


def _node_takes(option: str) -> bool:
    import inspect

    from rclpy.node import Node

    return option in inspect.signature(Node.__init__).parameters


def _set_log_level(logger: str, level: int) -> None:
    rclpy.logging.set_logger_level(logger, rclpy.logging.LoggingSeverity(level))
