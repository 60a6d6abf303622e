# SPDX-License-Identifier: Apache-2.0
"""What a network wants and what it gives: one description for calibration and run time."""

from __future__ import annotations

import dataclasses
import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from trt_perception.core.errors import PerceptionError
from trt_perception.core.geometry import RESIZE_MODES, ResizeMode

ColorOrder = Literal['rgb', 'bgr']
#: Pixels; a network's input that claims more is a slip.
MAX_SIDE = 16384
#: And as many pixels in all take 200 MB as float32.
MAX_INPUT_PIXELS = 1 << 24
#: So is a scale, mean or deviation beyond this.
_LARGEST = 1e6


class SpecError(PerceptionError):
    """A model, or the YAML beside it, that cannot be understood."""


@dataclass(frozen=True)
class TensorInfo:
    """Name, dtype (NumPy's name) and shape of a network's input or output; None is a free size."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        sizes = 'x'.join('?' if n is None else str(n) for n in self.shape)
        return f'{self.name} {self.dtype} {sizes}'


@dataclass(frozen=True)
class Signature:
    """What a model file says of itself.

    Attributes:
        inputs, outputs: in the file's order.
        metadata: the exporter's own notes (Ultralytics: names, stride, imgsz, task).
        operators: the operator types in the graph; empty where nothing is to be told from them.
    """

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)
    operators: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ModelSpec:
    """Everything that preprocessing and decoding need to know of a network.

    A pixel value v becomes ``(v * scale - mean) / std``.

    Attributes:
        layout: name of the decoder of its outputs.
        input_name: the image input, (1, 3, height, width).
        width, height: of the input, pixels.
        dtype: of the input, ``float32`` or ``float16``.
        outputs: names, in the order that the decoder takes them.
        num_classes: how many classes it tells apart; 0 where neither tensors nor names tell.
        class_names: as many names, or none where nobody gave any.
        color: order of the input's channels.
        scale, mean, std: see above; mean and std per channel in the order of ``color``.
        resize: ``letterbox`` (centred), ``letterbox_top_left`` or ``stretch``.
        pad_value: grey of the letterbox, 0..255.
        nms: the outputs still hold several boxes for one object.
        size_input: name of an extra (1, 2) int64 input that takes width and height, or ''.
    """

    layout: str
    input_name: str
    width: int
    height: int
    dtype: str
    outputs: tuple[str, ...]
    num_classes: int
    class_names: tuple[str, ...] = ()
    color: ColorOrder = 'rgb'
    scale: float = 1 / 255
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    resize: ResizeMode = 'letterbox'
    pad_value: int = 114
    nms: bool = True
    size_input: str = ''

    def __post_init__(self) -> None:
        if self.class_names and len(self.class_names) != self.num_classes:
            raise SpecError(
                f'{len(self.class_names)} class names for a model of {self.num_classes} classes;'
                ' give one name per class (labels)'
            )

    def class_name(self, class_id: int) -> str:
        """The class's name, or its number where it has none."""
        return self.class_names[class_id] if class_id < len(self.class_names) else str(class_id)

    def to_dict(self) -> dict[str, Any]:
        """For JSON and YAML; `from_dict` reads it back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> ModelSpec:
        """The inverse of `to_dict`; lists are taken for tuples."""
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()
        }
        return cls(**values)


#: What the YAML beside a model may say, and how it is read.
_CHOICES: dict[str, tuple[str, ...]] = {
    'color': get_args(ColorOrder),
    'resize': RESIZE_MODES,
}
OVERRIDES = (
    'layout', 'input_size', 'classes', 'outputs', 'color', 'scale', 'mean', 'std', 'resize',
    'pad_value', 'nms',
)  # fmt: skip


def parse_overrides(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Check what a YAML file says of a model.

    Keys: layout, input_size ([width, height]), classes (list, or map of number to name), outputs,
    color, scale (a number or '1/255'), mean, std, resize, pad_value, nms.

    Returns:
        `ModelSpec` fields; ``input_size`` as ``width`` and ``height``.

    Raises:
        SpecError: an unknown key or a value out of its range.
    """
    fields: dict[str, Any] = {}
    for key, value in raw.items():
        if key not in OVERRIDES:
            raise SpecError(f"unknown key '{key}'; known are {', '.join(OVERRIDES)}")
        try:
            fields.update(_parse_override(key, value))
        except (TypeError, ValueError, ArithmeticError) as error:
            raise SpecError(f'{key}: {reprlib.repr(value)} {error}') from None
    return fields


def _parse_override(key: str, value: Any) -> dict[str, Any]:
    if key == 'layout':
        return {key: _string(value)}
    if key in _CHOICES:
        if value not in _CHOICES[key]:
            raise ValueError(f'is not one of {", ".join(_CHOICES[key])}')
        return {key: value}
    if key == 'input_size':
        width, height = (_integer(v, 1, MAX_SIDE) for v in _sequence(value, 2))
        return {'width': width, 'height': height}
    if key == 'classes':
        return {'class_names': parse_names(value)}
    if key == 'outputs':
        return {key: tuple(_string(v) for v in _sequence(value))}
    if key == 'scale':
        return {key: _number(value, above=0)}
    if key in ('mean', 'std'):
        above = 0 if key == 'std' else -math.inf
        return {key: tuple(_number(v, above) for v in _sequence(value, 3))}
    if key == 'pad_value':
        return {key: _integer(value, 0, 255)}
    if not isinstance(value, bool):
        raise ValueError('is not true or false')
    return {key: value}


def parse_names(value: Any) -> tuple[str, ...]:
    """Class names from a list, or from a map of 0, 1, 2, ... to names.

    Raises:
        ValueError: not of this form, a gap in the numbers, no printable name, or a name twice.
    """
    if isinstance(value, Mapping):
        if set(value) != set(range(len(value))):
            raise ValueError('must number the classes 0, 1, 2, ... without a gap')
        value = [value[i] for i in range(len(value))]
    names = tuple(_name(v) for v in _sequence(value))
    if not names:
        raise ValueError('names no class')
    if len(set(names)) != len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise ValueError(f"names the class '{twice}' twice")
    return names


def _sequence(value: Any, length: int | None = None) -> list[Any]:
    if not isinstance(value, (list, tuple)) or (length is not None and len(value) != length):
        raise ValueError(f'is not a list{f" of {length}" if length else ""}')
    return list(value)


def _name(value: Any) -> str:
    # A bare `no` or `~` in YAML is no text. Control characters would break log lines, and lone
    # surrogates every message that carries the name.
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f'names a class {reprlib.repr(value)}; write its name in quotes')
    name = str(value)
    if not name.strip() or not name.isprintable():
        raise ValueError(f'names a class {name!a}, which cannot be printed')
    return name


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError('is not a text')
    return value


def _number(value: Any, above: float) -> float:
    top, _, bottom = str(value).partition('/')
    divisor = float(bottom or 1)
    number = float(top) / divisor if divisor else math.inf
    if not above < number < _LARGEST:
        raise ValueError(f'is not a number from {above:g} to {_LARGEST:g}')
    return number


def _integer(value: Any, low: int, high: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f'is not a whole number from {low} to {high}')
    return value
