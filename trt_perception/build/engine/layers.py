# SPDX-License-Identifier: Apache-2.0
"""The layers of a network or an engine, and those that run in float although meant for INT8."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from trt_perception.core.errors import one_line
from trt_perception.runtime.engine import EngineError
from trt_perception.runtime.tensorrt import api as trt
from trt_perception.runtime.tensorrt.log import Log

#: Layers that only arrange values: what is quantized before is so after.
_ARRANGING = {'SHUFFLE', 'SLICE', 'CONCATENATION', 'IDENTITY', 'SQUEEZE', 'UNSQUEEZE', 'GATHER'}
_MULTIPLYING = {'CONVOLUTION', 'DECONVOLUTION', 'MATRIX_MULTIPLY', 'EINSUM'}


@dataclass(frozen=True)
class Layer:
    """One layer.

    Attributes:
        kind: such as CONVOLUTION; for an engine's layer the kind of kernel.
        precision: in which it runs; of a layer that multiplies, INT8 if all it multiplies is.
        meant_int8: its weights are quantized, or all that it multiplies.
        detail: shapes, or the kernel (tactic) of an engine's layer.
    """

    name: str
    kind: str
    precision: str
    meant_int8: bool = False
    detail: str = ''

    @property
    def unmet(self) -> bool:
        """Whether it runs in float although it was meant to run in INT8."""
        return self.meant_int8 and self.precision != 'INT8'


def network_layers(network: trt.INetworkDefinition) -> list[Layer]:
    """The layers of a parsed network; without constants, quantizers and shapes."""
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    makers = {layer.get_output(i).name: layer for layer in layers for i in range(layer.num_outputs)}
    found = []
    for layer in layers:
        kind = layer.type.name
        if kind in ('CONSTANT', 'QUANTIZE', 'DEQUANTIZE') or not layer.num_outputs:
            continue
        output = layer.get_output(0)
        if output.dtype.name in ('INT32', 'INT64', 'BOOL'):
            continue
        shape = 'x'.join(str(n) for n in sizes(output))
        precision, meant = output.dtype.name, False
        if kind in _MULTIPLYING:
            operands = [
                _quantized(tensor, makers)
                for i in range(min(2, layer.num_inputs))
                if (tensor := layer.get_input(i)) is not None
            ]
            whole = len(operands) == 2 and all(operands)
            # A quantized activation alone may only be there for a neighbour.
            meant = whole or 'weight' in operands
            precision = 'INT8' if whole else precision
        found.append(Layer(layer.name, kind, precision, meant, shape))
    return found


def sizes(tensor: trt.ITensor) -> list[int]:
    """The shape of a tensor; -1 is a free size."""
    shape = tensor.shape
    return [shape[i] for i in range(len(shape))]


def _quantized(tensor: trt.ITensor, makers: dict[str, trt.ILayer]) -> str:
    """What quantized values a tensor carries: ``weight``, ``activation`` or none, ''."""
    dequantized = False
    kind = ''
    for _ in range(len(makers)):
        maker = makers.get(tensor.name)
        kind = '' if maker is None else maker.type.name
        if maker is None or kind not in (*_ARRANGING, 'QUANTIZE', 'DEQUANTIZE'):
            break
        if kind == 'QUANTIZE' and not dequantized:
            break
        dequantized = dequantized or kind == 'DEQUANTIZE'
        tensor = maker.get_input(0)
    if not dequantized:
        return ''
    return 'weight' if kind == 'CONSTANT' else 'activation'


def engine_layers(plan: bytes, meant: set[str]) -> list[Layer]:
    """The layers of an engine, from its inspector, which needs the GPU.

    Args:
        plan: one that was just built here.
        meant: names of the network's layers that are meant for INT8.

    Raises:
        EngineError: there is no GPU for it.
    """
    log = Log()
    try:
        runtime = trt.Runtime(log)
    except Exception as error:
        raise EngineError(f'the inspector has no GPU: {one_line(error)}') from None
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise EngineError(f'the inspector cannot load the engine: {log.why()}')
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    return parse_engine_information(text, meant)


def parse_engine_information(text: str, meant: set[str]) -> list[Layer]:
    """The inspector's JSON; with little profiling its layers are bare names.

    Raises:
        EngineError: it is none.
    """
    try:
        raw = json.loads(text)['Layers']
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(f'the inspector gave no layers: {one_line(error)}') from None
    found = []
    for layer in raw:
        if isinstance(layer, str):
            found.append(Layer(layer, '', '', bool(_parts(layer) & meant)))
            continue
        name = str(layer.get('Name', ''))
        # Several layers of the network become one of the engine: '[ONNX Layer: a]' in the notes,
        # 'a + b' in the name.
        known = _parts(name) | _parts(str(layer.get('Metadata', '')))
        found.append(
            Layer(
                name,
                str(layer.get('LayerType', '')),
                _precision(layer),
                bool(known & meant),
                str(layer.get('TacticName') or layer.get('TacticValue') or ''),
            )
        )
    return found


def _parts(text: str) -> set[str]:
    for mark in ('[ONNX Layer:', ']', '+', '||', '\x1e', '\x1f'):
        text = text.replace(mark, '\n')
    return {part.strip() for part in text.splitlines() if part.strip()}


def _precision(layer: dict[str, Any]) -> str:
    """Of what a layer reads first, as 'Int8 NC/32HW32' tells it."""
    for tensor in layer.get('Inputs') or layer.get('Outputs') or ():
        word = str(tensor.get('Format/Datatype', tensor.get('Format', ''))).split()
        for text in word:
            for name in ('INT8', 'FP16', 'HALF', 'FP32', 'FLOAT'):
                if text.upper().startswith(name):
                    return {'FP16': 'HALF', 'FP32': 'FLOAT'}.get(name, name)
    return ''
