# SPDX-License-Identifier: Apache-2.0
"""From what a model file says of itself to a `ModelSpec`."""

from __future__ import annotations

import ast
import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

from trt_perception.core.decoders import Decoder, decoders
from trt_perception.core.errors import one_line
from trt_perception.core.model_spec import (
    MAX_INPUT_PIXELS,
    MAX_SIDE,
    ModelSpec,
    Signature,
    SpecError,
    TensorInfo,
    parse_names,
)

_FLOATS = ('float32', 'float16')
#: What a decoder may say of a network.
_SPEC_FIELDS = {field.name for field in dataclasses.fields(ModelSpec)} - {'layout'}


def recognise(signature: Signature, overrides: Mapping[str, Any] | None = None) -> ModelSpec:
    """Work out what a network wants and gives.

    Args:
        signature: what its file says; free sizes only where the file leaves them free.
        overrides: `ModelSpec` fields that a user settled (see `parse_overrides`).

    Raises:
        SpecError: not a detector that is known, or several readings are possible. The text gives
            the YAML line that settles it.
    """
    fixed = dict(overrides or {})
    image = _image_input(signature)
    width, height = _input_size(image, signature, fixed)
    check_input_size(width, height)
    signature = _wanted_outputs(signature, fixed.pop('outputs', None))
    names = fixed.get('class_names') or metadata_names(signature.metadata)
    fields: dict[str, Any] = {
        'input_name': image.name,
        'width': width,
        'height': height,
        'dtype': image.dtype,
        'outputs': tuple(o.name for o in signature.outputs),
        'class_names': names,
    }
    fields.update(_layout(signature, width, height, fixed.get('layout'), len(names)))
    fields.update(fixed)
    for extra in signature.inputs:
        if extra.name not in (image.name, fields.get('size_input')):
            raise SpecError(f'nothing to feed the input {extra}; export the model without it')
    if fields['num_classes'] == 0:
        fields['num_classes'] = len(fields['class_names'])
    return ModelSpec(**fields)


def _wanted_outputs(signature: Signature, names: tuple[str, ...] | None) -> Signature:
    if names is None:
        return signature
    have = {o.name: o for o in signature.outputs}
    unknown = sorted(set(names) - set(have))
    if unknown:
        raise SpecError(f'outputs: the model has no {unknown}, it has {", ".join(have)}')
    return dataclasses.replace(signature, outputs=tuple(have[n] for n in names))


def _image_input(signature: Signature) -> TensorInfo:
    images = [i for i in signature.inputs if len(i.shape) == 4]
    if len(images) != 1:
        have = ', '.join(str(i) for i in signature.inputs)
        raise SpecError(f'the model needs one image input of 4 dimensions, it has {have}')
    image = images[0]
    if image.shape[0] not in (1, None):
        raise SpecError(f'input {image}: batch {image.shape[0]}; export it with batch 1')
    if image.shape[1] not in (3, None):
        hint = ' (channels last; export it as NCHW)' if image.shape[3] == 3 else ''
        raise SpecError(f'input {image} is not (1, 3, height, width){hint}')
    if image.dtype not in _FLOATS:
        raise SpecError(f'input {image}: only {" and ".join(_FLOATS)} inputs are supported')
    return image


def input_size(signature: Signature) -> tuple[int, int] | None:
    """Width and height of the image input, from its shape or the exporter's notes, if known."""
    image = _image_input(signature)
    height, width = image.shape[2:]
    if height is None or width is None:
        noted = _literal(signature.metadata.get('imgsz', ''))
        if isinstance(noted, int):
            noted = [noted, noted]
        if not isinstance(noted, (list, tuple)) or len(noted) != 2:
            return None
        if not all(isinstance(n, int) and 1 <= n <= MAX_SIDE for n in noted):
            return None
        height, width = height or noted[0], width or noted[1]
    return width, height


def check_input_size(width: int, height: int) -> None:
    """See that an input of this size can be meant, before memory is had for it.

    Raises:
        SpecError: it is larger than `MAX_SIDE` or `MAX_INPUT_PIXELS`.
    """
    if max(width, height) > MAX_SIDE or width * height > MAX_INPUT_PIXELS:
        raise SpecError(
            f'an input of {width}x{height} is larger than {MAX_SIDE} on a side or'
            f' {MAX_INPUT_PIXELS} pixels; export the model for smaller images'
        )


def _input_size(
    image: TensorInfo, signature: Signature, fixed: Mapping[str, Any]
) -> tuple[int, int]:
    known = input_size(signature)
    if 'width' in fixed:
        wanted = fixed['width'], fixed['height']
        sides = zip(image.shape[:1:-1], wanted, strict=True)
        if any(have not in (None, want) for have, want in sides):
            raise SpecError(
                f'input_size: {list(wanted)} does not fit the input {image};'
                ' remove the line or export the model with free sizes'
            )
        return wanted
    if known is None:
        raise SpecError(
            f'input {image} leaves its size free; settle it with "input_size: [640, 640]"'
            ' (width, height) in the YAML beside the model'
        )
    return known


def _layout(
    signature: Signature, width: int, height: int, wanted: str | None, named: int
) -> dict[str, Any]:
    known = decoders()
    outputs = ', '.join(str(o) for o in signature.outputs)
    if wanted is not None:
        if wanted not in known:
            raise SpecError(f"layout: '{wanted}' is not one of {', '.join(known)}")
        # The operators only hint; who names the layout knows better.
        signature = dataclasses.replace(signature, operators=frozenset())
        fields = _ask(known[wanted], signature, width, height)
        if fields is None:
            raise SpecError(f'layout: {wanted} does not fit the outputs {outputs}')
        return {'layout': wanted, **fields}
    task = signature.metadata.get('task', 'detect')
    if task != 'detect':
        raise SpecError(f"the model's task is '{task}'; only detection models are supported")
    fits = {}
    for layout, decoder in known.items():
        fields = _ask(decoder, signature, width, height)
        if fields is not None:
            fits[layout] = fields
    # Names settle it where only one reading has as many classes (0: the layout cannot tell).
    if len(fits) > 1 and named:
        agreeing = {k: f for k, f in fits.items() if f['num_classes'] in (0, named)}
        fits = agreeing or fits
    if not fits:
        raise SpecError(
            f'no known layout fits the outputs {outputs} of a {width}x{height} input;'
            f' known are {", ".join(known)}; see "A decoder of your own" in the README'
        )
    if len(fits) > 1:
        lines = ' or '.join(f'"layout: {layout}"' for layout in fits)
        raise SpecError(
            f'the outputs {outputs} can be read in several ways; settle it with {lines}'
            ' in the YAML beside the model'
        )
    ((layout, fields),) = fits.items()
    return {'layout': layout, **fields}


def _ask(decoder: Decoder, signature: Signature, width: int, height: int) -> dict[str, Any] | None:
    """What a decoder recognises. One that fails at it must not take the others with it."""
    try:
        fields = decoder.recognise(signature, width, height)
        if fields is not None and not {'num_classes'} <= set(fields) <= _SPEC_FIELDS:
            raise ValueError(
                f'recognise gave {sorted(fields)}; it must give num_classes and may give'
                f' {", ".join(sorted(_SPEC_FIELDS))}'
            )
    except Exception as error:  # whatever a package's own decoder does
        logging.getLogger(__name__).warning(
            "decoder '%s' left out: %s: %s", decoder.layout, type(error).__name__, one_line(error)
        )
        return None
    return fields


def metadata_names(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """Class names that Ultralytics writes into a model, or none.

    Raises:
        SpecError: there is such a note, but no names can be read from it.
    """
    names = _literal(metadata.get('names', '{}'))
    if names in ({}, []):  # of nobody's making
        return ()
    try:
        return parse_names(names)
    except ValueError as error:
        raise SpecError(
            f'names in the model metadata: {metadata["names"][:60]!r} {error};'
            ' settle it with a labels file'
        ) from None


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
