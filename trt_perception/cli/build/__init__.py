# SPDX-License-Identifier: Apache-2.0
"""``trt-perception build``: from an ONNX model to a TensorRT engine."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trt_perception.build.engine.tuning import Tuning

_DESCRIPTION = """\
Build a TensorRT engine from an ONNX model, on the machine that is to run it.

  trt-perception build yolov8n.onnx                         FP16, into the cache
  trt-perception build yolov8n_int8.onnx -o yolov8n.engine  INT8, from a quantized model
  trt-perception build yolov8n_int8.onnx --explain          and say what runs in which precision

An engine is kept in a cache under a hash of all that it was made from: the model, the precision,
the calibration, TensorRT's version, the GPU, the device and the wishes below. Asked for again it is
there at once; two processes that want the same one build it once. Beside each engine a JSON
manifest tells what it is and which hash its file must have.

Networks are strongly typed: an engine computes what the model says and nothing else. INT8 needs a
model that trt-perception quantize made, or another with QuantizeLinear and DequantizeLinear. What
is not quantized runs in FP16, but for the parts that FP16 would harm. Inputs and outputs keep their
types. A model whose accuracy gate failed is refused.
"""

_EPILOG = """\
exit codes: 0 done, 2 refused or failed (one line says why), 130 stopped by Ctrl-C, which leaves the
cache as it was. The cache is the folder that --cache or TRT_PERCEPTION_ENGINES names, else
~/.cache/trt_perception/engines; trt-perception engines lists and prunes it.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Tell the command line what this command takes."""
    parser = commands.add_parser(
        'build',
        help='build a TensorRT engine from an ONNX model',
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    add('model', type=Path, metavar='MODEL.onnx', help='ONNX file of the detector')
    add(
        '--precision',
        choices=('int8', 'fp16', 'fp32'),
        help='int8 takes a quantized model (default: int8 for such a model, fp16 for another)',
    )
    add(
        '--device',
        default='gpu',
        metavar='NAME',
        help='gpu, or dla0, dla1 with the GPU for what the DLA cannot run (default: gpu)',
    )
    add('-o', '--output', type=Path, metavar='ENGINE', help='also write it here, with its manifest')
    add(
        '--labels',
        default='',
        metavar='FILE',
        help='class names: a text file with a name a line, a YAML file, or coco',
    )
    add('--accept', action='store_true', help='take a model although its accuracy gate failed')
    add(
        '--explain',
        action='store_true',
        help='print the layers with their precisions, those first that run in float although they'
        ' were meant to run in INT8',
    )
    add(
        '--json',
        default='',
        metavar='FILE',
        help='write all that is known of the engine to a file; - prints it instead of the summary',
    )
    add('--cache', type=Path, metavar='DIR', help='folder of the engines')
    _add_tuning(parser.add_argument_group('wishes (TensorRT decides what is not given)'))


def _add_tuning(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        '--batch',
        type=_batch,
        default=(1, 1, 1),
        metavar='N | MIN,USUAL,MAX',
        help='batch sizes, for a model that leaves its batch free (default: 1)',
    )
    add(
        '--optimization-level',
        type=int,
        metavar='0..5',
        help='0 builds fastest, 5 runs fastest (default: 3)',
    )
    add('--workspace', type=int, metavar='MIB', help='most memory of a layer while it runs')
    add('--tactic-memory', type=int, metavar='MIB', help='most memory for trying kernels')
    add('--tiling', default='none', metavar='HOW', help='none, fast, moderate, full')
    add('--auxiliary-streams', type=int, metavar='N', help='most layers side by side')
    add(
        '--hardware-compatibility',
        default='none',
        metavar='HOW',
        help='none, ampere_plus, same_compute_capability: run on other GPUs too, slower',
    )
    add(
        '--version-compatible',
        action='store_true',
        help='run with later releases of TensorRT too, slower',
    )
    add('--sparsity', action='store_true', help='use 2:4 sparse kernels where weights are sparse')
    add(
        '--profiling',
        default='detailed',
        metavar='HOW',
        help='what the engine tells of its layers: detailed, layer_names_only, none',
    )


def run(arguments: argparse.Namespace) -> int:
    """Build and report.

    Raises:
        PerceptionError: the engine cannot be made; the text says why.
    """
    from trt_perception.build.engine.cache import EngineCache
    from trt_perception.build.engine.make import Request, copy_engine
    from trt_perception.build.engine.source import read_source
    from trt_perception.cli.build.report import explain, print_layers, print_summary
    from trt_perception.cli.build.watch import build_watched
    from trt_perception.core.files import check_writable, write_atomically

    for path in (arguments.output, Path(arguments.json) if arguments.json not in '-' else None):
        if path is not None:
            check_writable(path)
    tuning = _tuning(arguments)
    source = read_source(arguments.model, arguments.labels)
    request = Request(source, arguments.precision, arguments.device, tuning, arguments.accept)
    notes: list[str] = []
    if source.spec is None:
        notes.append(f'the manifest cannot say how to read the outputs: {source.unread}')
    engine = build_watched(request, EngineCache(arguments.cache), notes)
    if arguments.output is not None:
        copy_engine(engine, arguments.output)
    layers = explain(request, engine, notes) if arguments.explain else []
    log = engine.build.log_layers if engine.build is not None else []
    report = {
        'engine': str(arguments.output or engine.path),
        'from_cache': engine.build is None,
        'manifest': json.loads(engine.manifest.to_json()),
        'layers': [dataclasses.asdict(layer) | {'unmet': layer.unmet} for layer in layers],
        'builder_log': log,
        'notes': notes,
    }
    text = json.dumps(report, indent=2) + '\n'
    if arguments.json == '-':
        print(text, end='')
        return 0
    if arguments.json:
        write_atomically(Path(arguments.json), text)
    if layers:
        print_layers(layers)
    print_summary(engine, arguments.output or engine.path, notes)
    return 0


def _tuning(arguments: argparse.Namespace) -> Tuning:
    from trt_perception.build.engine.tuning import Tuning

    return Tuning(
        optimization_level=arguments.optimization_level,
        workspace_mib=arguments.workspace,
        tactic_memory_mib=arguments.tactic_memory,
        tiling=arguments.tiling,
        auxiliary_streams=arguments.auxiliary_streams,
        hardware_compatibility=arguments.hardware_compatibility,
        version_compatible=arguments.version_compatible,
        sparsity=arguments.sparsity,
        profiling=arguments.profiling,
        batch=arguments.batch,
    )


def _batch(text: str) -> tuple[int, ...]:
    sizes: list[Any] = text.split(',')
    if len(sizes) not in (1, 3) or not all(size.isdecimal() for size in sizes):
        raise argparse.ArgumentTypeError(f"'{text}' is neither a number nor three, MIN,USUAL,MAX")
    numbers = tuple(int(size) for size in sizes)
    return numbers * 3 if len(numbers) == 1 else numbers
