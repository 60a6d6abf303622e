# SPDX-License-Identifier: Apache-2.0
"""What a build gave, for the terminal."""

from __future__ import annotations

from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from trt_perception.build.engine.builder import Builder
from trt_perception.build.engine.layers import Layer, engine_layers
from trt_perception.build.engine.make import Engine, Request
from trt_perception.build.engine.source import check_precision, network_for
from trt_perception.build.engine.tuning import parse_device
from trt_perception.runtime.engine import EngineError
from trt_perception.runtime.tensorrt.gpu import find_gpu
from trt_perception.runtime.tensorrt.plan import load_plan


def explain(request: Request, engine: Engine, notes: list[str]) -> list[Layer]:
    """The engine's layers where there is a GPU, else the network's; unmet ones first.

    Args:
        notes: gets the reason why it is not the engine's.

    Raises:
        PerceptionError: the engine was taken from the cache, and its network cannot be read anew.
    """
    if engine.build is not None:
        layers = engine.build.layers
    else:
        source, core = request.source, parse_device(request.device)
        precision = check_precision(source, request.precision)
        network = network_for(source, precision)
        layers = Builder(network, source.path, precision, core, request.tuning, source.spec).layers
    given = 'layers are those of the network as it was given to the builder'
    if find_gpu() is None:
        notes.append(f'{given}: the inspector needs a GPU')
    else:
        try:
            meant = {layer.name for layer in layers if layer.meant_int8}
            layers = engine_layers(load_plan(engine.path).data, meant)
        except EngineError as error:
            notes.append(f'{given}: {error}')
    return sorted(layers, key=lambda layer: not layer.unmet)


def print_layers(layers: list[Layer]) -> None:
    """A table, a layer a row."""
    table = Table('layer', 'kind', 'runs in', 'shape or kernel', box=SIMPLE)
    for layer in layers:
        precision = f'{layer.precision}, meant: INT8' if layer.unmet else layer.precision
        table.add_row(layer.name, layer.kind, precision, layer.detail)
    Console(markup=False, emoji=False, highlight=False).print(table)


def print_summary(engine: Engine, path: Path, notes: list[str]) -> None:
    """What the engine is, where it is, and what is worth knowing of it."""
    manifest, build = engine.manifest, engine.build
    table = Table(show_header=False, box=None)
    table.add_row('engine', str(path))
    table.add_row('precision', f'{manifest.precision}, {manifest.bytes / 1e6:.1f} MB')
    table.add_row('built with', manifest.library)
    table.add_row('for', f'{manifest.gpu} ({manifest.device})')
    when = f'in {manifest.build_seconds:.1f} s'
    table.add_row(
        'built', when if build is not None else f'{manifest.built}, {when}; from the cache'
    )
    if manifest.gate is not None:
        table.add_row('gate', 'passed' if manifest.gate_passed else 'FAILED, accepted all the same')
    unmet = [layer.name for layer in build.layers if layer.unmet] if build is not None else []
    if unmet:
        shown = ', '.join(unmet[:3]) + (', ...' if len(unmet) > 3 else '')
        table.add_row('in float', f'{len(unmet)} layers that were meant for INT8: {shown}')
    for note in notes:
        table.add_row('note', note)
    Console(markup=False, emoji=False, highlight=False).print(table)
