# SPDX-License-Identifier: Apache-2.0
"""Parameters as tables: declaration, launch arguments, YAML and README all read the same one."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from trt_perception.core import PerceptionError
from trt_perception.core.frame import MAX_PIXELS

if TYPE_CHECKING:
    from rcl_interfaces.msg import ParameterDescriptor
    from rclpy.node import Node

Value = bool | int | float | str | list[int] | list[str]


class ParameterError(PerceptionError):
    """A parameter whose value cannot be used."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a node.

    Attributes:
        default: its type is the parameter's type.
        low, high: range of a number.
        choices: the only values allowed, for a text.
        live: a change takes effect at once; else the next time the node is configured.
        numbers: of texts, that a list of numbers is one, too: [0, 1] is ['0', '1'].
        fixed: the value of the start is kept, and another one refused.
    """

    name: str
    default: Value
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    live: bool = False
    numbers: bool = False
    fixed: bool = False

    @property
    def type_name(self) -> str:
        """As ROS calls it."""
        if isinstance(self.default, list):
            return 'string array' if isinstance(self.default[0], str) else 'integer array'
        names = {bool: 'bool', int: 'integer', float: 'double', str: 'string'}
        return names[type(self.default)]

    @property
    def constraint(self) -> str:
        """The values allowed, in words; '' for any."""
        if self.choices:
            return 'one of ' + ', '.join(self.choices)
        return '' if self.low is None else f'{self.low:g} to {self.high:g}'

    def check(self, value: Any) -> None:
        """Check the part of a value that ROS does not check itself.

        Raises:
            ParameterError: not one of the choices, or of another type where ROS takes any.
        """
        if self.numbers and not _is_list_of(value, str) and not _is_list_of(value, int):
            raise _wrong_type(self, value)
        if self.choices and value not in self.choices:
            raise ParameterError(f'{self.name}: {value!r} is not {self.constraint}')

    def plain(self, value: Any) -> Any:
        """A value that ROS gives, as its own type."""
        value = _plain(value)
        return [str(item) for item in value] if self.numbers else value

    def parse(self, text: str) -> Value:
        """A value from a launch argument, as the parameter's own type: 1 is a fine double.

        Raises:
            ParameterError: not of this type, out of range or not one of the choices.
        """
        try:
            value = _PARSE[self.type_name](text)
        except (ValueError, TypeError, RecursionError, yaml.YAMLError):
            raise _wrong_type(self, text) from None
        self._check_range(value, text)
        self.check(value)
        return value

    def take(self, value: Any) -> Value:
        """A value from a YAML file or from Python, as the node would take it.

        Raises:
            ParameterError: not of this type, out of range or not one of the choices.
        """
        value = _plain(value)
        if isinstance(self.default, float):
            # YAML of ROS takes 1e-3 for a number, and PyYAML for a text.
            with suppress(ValueError):
                value = float(value) if isinstance(value, str) else value
        kinds: tuple[type, ...] = ()
        if isinstance(self.default, list):
            kinds = (str, int) if self.numbers else (type(self.default[0]),)
        fits = any(value and _is_list_of(value, kind) for kind in kinds) or (
            not kinds and type(value) is type(self.default)
        )
        if not fits:
            raise _wrong_type(self, value)
        self._check_range(value, value)
        self.check(value)
        return value

    def _check_range(self, value: Any, shown: object) -> None:
        if self.low is not None and self.high is not None and not self.low <= value <= self.high:
            raise ParameterError(f'{self.name}: {shown} is not in {self.constraint}')

    def descriptor(self, fixed: bool = False) -> ParameterDescriptor:
        """As others see it.

        Args:
            fixed: the value of the start is kept, and another one refused.
        """
        from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

        effect = 'at once' if self.live else 'when the node is configured'
        fixed = fixed or self.fixed
        if fixed:
            effect = 'when the node starts'
        descriptor = ParameterDescriptor(
            description=self.description,
            additional_constraints='; '.join(filter(None, [self.constraint, f'effect {effect}'])),
            read_only=fixed,
            dynamic_typing=self.numbers,
        )
        if self.low is not None and self.high is not None:
            if isinstance(self.default, float):
                descriptor.floating_point_range = [
                    FloatingPointRange(from_value=float(self.low), to_value=float(self.high))
                ]
            elif isinstance(self.default, int):
                descriptor.integer_range = [
                    IntegerRange(from_value=int(self.low), to_value=int(self.high))
                ]
        return descriptor


#: Of every node that takes images from outside.
MAX_IMAGE_PIXELS = Parameter('max_image_pixels', MAX_PIXELS, 'Pixels of the largest image that is'
                             ' taken; a larger one is refused before it is decoded. Of bytes it'
                             ' may hold 8 for each of them.', 1, 1 << 30)  # fmt: skip


def declare(
    node: Node, table: Sequence[Parameter], *, more: bool = False, fixed: bool = False
) -> None:
    """Declare a table's parameters on a node, with what YAML and command line override.

    Args:
        more: other tables follow, and `tell_unknown` after them.
        fixed: for a node that looks at them only once; a change would pass for one and be none.

    Raises:
        ParameterError: an override of the wrong type, out of range or not one of the choices.
    """
    from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException

    for parameter in table:
        name = parameter.name
        override = node._parameter_overrides.get(name)
        given = _plain(override.value) if override else parameter.default
        if given is None:  # what becomes of [] in a YAML file, for it has no type
            raise _wrong_type(parameter, [])
        try:
            node.declare_parameter(name, parameter.default, parameter.descriptor(fixed))
        except InvalidParameterTypeException:
            raise _wrong_type(parameter, given) from None
        except InvalidParameterValueException:
            raise ParameterError(f'{name}: {given!r} is not in {parameter.constraint}') from None
        parameter.check(given)
    if not more:
        tell_unknown(node, table)


def tell_unknown(node: Node, known: Sequence[Parameter]) -> None:
    """Warn of each override that no parameter takes.

    ROS drops these without a word, and a mistyped threshold looks as if it had no effect.
    """
    for name in sorted(node._parameter_overrides):
        if not node.has_parameter(name) and not name.startswith('qos_overrides.'):
            hint = did_you_mean(name, [p.name for p in known])
            node.get_logger().warning(f"parameter '{name}' is not known and has no effect{hint}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint at the name that is likely meant; '' if none is."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean '{close[0]}'?" if close else ''


def values(node: Node, table: Sequence[Parameter]) -> dict[str, Any]:
    """The present values of a table's parameters."""
    return {p.name: p.plain(node.get_parameter(p.name).value) for p in table}


def changed(
    table: Sequence[Parameter], present: Mapping[str, Any], proposed: Sequence[Any]
) -> dict[str, Any]:
    """The values that a set of ``rclpy.Parameter`` would lead to.

    Raises:
        ParameterError: one of them is not one of its choices.
    """
    known = {p.name: p for p in table}
    result = dict(present)
    for parameter in proposed:
        if parameter.name in known:
            known[parameter.name].check(_plain(parameter.value))
            result[parameter.name] = known[parameter.name].plain(parameter.value)
    return result


def _is_list_of(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(type(item) is kind for item in value)


def _bool(text: str) -> bool:
    # What YAML 1.1, and so every ROS command line, takes for one.
    value = yaml.safe_load(text)
    if not isinstance(value, bool):
        raise ValueError
    return value


def _list(kind: Callable[[Any], Any]) -> Callable[[str], list[Any]]:
    """Parse ``[a, b]``, or one item alone."""

    def parse(text: str) -> list[Any]:
        # Item by item as text: 'off' and '1' may be names of classes.
        raw = yaml.load(text, yaml.BaseLoader)
        return [kind(item) for item in (raw if isinstance(raw, list) else [raw])]

    return parse


_PARSE: dict[str, Callable[[str], Value]] = {
    'bool': _bool,
    'integer': int,
    'double': float,
    'string': str,
    'string array': _list(str),
    'integer array': _list(int),
}


def _wrong_type(parameter: Parameter, given: Any) -> ParameterError:
    kind = parameter.type_name
    article = 'an' if kind[0] in 'aeiou' else 'a'
    example = ['a', 'b'] if parameter.default == [''] else parameter.default
    return ParameterError(
        f'{parameter.name}: {given!r} is not {article} {kind}, such as {example!r}'
    )


def _plain(value: Any) -> Any:
    # Arrays come as array.array or list, depending on the way that they were set.
    return list(value) if hasattr(value, '__iter__') and not isinstance(value, str) else value
