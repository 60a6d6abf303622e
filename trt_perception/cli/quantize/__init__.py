# SPDX-License-Identifier: Apache-2.0
"""``trt-perception quantize``: a model in INT8 that keeps its accuracy, or none at all."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from trt_perception.cli.arguments import share, whole
from trt_perception.cli.progress import interruptible, phases

if TYPE_CHECKING:
    from trt_perception.build.report.quantization import QuantizeRun

#: The exit code where the model lost too much, and was not written.
GATE_FAILED = 3

_DESCRIPTION = """\
Make a model that multiplies in INT8: see what its layers are given by the frames of a camera,
choose which of them may be in INT8, and compare the result with the float model on frames that it
was not made with. A model that lost too much is not written.

  trt-perception quantize yolov8n.onnx --calibration drive.mcap
  trt-perception quantize yolov8n.onnx --calibration train/ --eval val.json --images val/
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Tell the command line what this command takes."""
    parser = commands.add_parser(
        'quantize',
        help='make a model multiply in INT8 and see that it keeps its accuracy',
        description=_DESCRIPTION,
        epilog=f'Exit code {GATE_FAILED}: too much accuracy was lost, no model was written. Ctrl-C'
        ' loses nothing: the same command goes on where it was.',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    add('model', type=Path, metavar='MODEL', help='ONNX file of the detector, in floats')
    add(
        '--calibration',
        type=Path,
        required=True,
        metavar='PATH',
        help='what the robot sees: a folder of jpg and png pictures, a rosbag2 (folder, .mcap or'
        ' .db3) or a video',
    )
    add('--topic', default='', metavar='NAME', help='of a bag with several image topics')
    add(
        '--frames',
        type=whole(1, 4096),
        metavar='N',
        help='frames to calibrate with, at most (default: 128)',
    )
    add(
        '--eval',
        type=Path,
        metavar='FILE',
        help="compare by mAP on labelled pictures, COCO's instances_*.json (default: by the"
        ' detections in frames of the calibration that are held out)',
    )
    add('--images', type=Path, metavar='DIR', help='folder of the labelled pictures')
    add(
        '--labels',
        default='',
        metavar='FILE',
        help='class names, as for evaluate (default: those that the model carries)',
    )
    add(
        '-o',
        '--output',
        type=Path,
        metavar='FILE',
        help='ONNX file to write (default: MODEL_int8.onnx beside the model)',
    )
    add(
        '--target',
        type=share,
        default=0.98,
        metavar='S',
        help='share of the accuracy that must be kept (default: 0.98)',
    )
    add(
        '--method',
        choices=('auto', 'minmax', 'entropy', 'percentile', 'mse'),
        default='auto',
        help='how ranges are taken from what was seen (default: auto, the best by measurement)',
    )
    add(
        '--accept',
        action='store_true',
        help='write the model, marked, although it lost too much; a node then refuses it unless'
        ' accept_failed_gate is set',
    )
    add(
        '--report',
        type=Path,
        metavar='DIR',
        help='folder for report.html and report.json (default: OUTPUT.quantize, where the'
        ' measurements are kept too)',
    )
    add('--json', default='', metavar='FILE', help='write the report in JSON there; - prints it')
    add(
        '--threads',
        type=whole(0, 256),
        default=0,
        metavar='N',
        help='CPU threads of one inference (default: one a core)',
    )


def run(arguments: argparse.Namespace) -> int:
    """Quantize, compare, report, and write what passed.

    Returns:
        The exit code: 0, or `GATE_FAILED`.

    Raises:
        PerceptionError: a file is missing or wrong, or the frames do not suffice.
    """
    from trt_perception.cli.quantize.running import Files, quantized
    from trt_perception.core.files import write_atomically

    files = Files(arguments)
    try:
        with files.folders(), interruptible() as interrupt, phases() as show:

            def on_progress(phase: str, part: float) -> None:
                show(phase, part)
                interrupt()

            done = quantized(arguments, files, on_progress)
    except KeyboardInterrupt:
        kept = 'nothing was measured yet'
        if files.measurements.exists():
            kept = (
                f"what was measured is kept in '{files.work}', and the same command goes on from"
                ' there'
            )
        print(f'stopped; {kept}', file=sys.stderr)
        raise
    text = json.dumps(done.to_dict(), indent=2) + '\n'
    if arguments.json == '-':
        print(text, end='')
    elif arguments.json:
        write_atomically(Path(arguments.json), text)
    gate = done.comparison.result
    for warning in done.warnings:
        print(f'warning: {warning}', file=sys.stderr)
    if arguments.json != '-':
        _print_table(done, files.report)
    if done.written:
        return 0
    before = ' (what is there is of an earlier run)' if files.output.exists() else ''
    if gate.passed or arguments.accept:
        print(
            f"no layer bears INT8 within the target: '{files.output}' was not written{before}; take"
            ' the float model, which becomes FP16 in an engine, or a lower --target',
            file=sys.stderr,
        )
        return GATE_FAILED
    print(
        f"gate failed: {gate}; '{files.output}' was not written{before}. More frames, of more that"
        ' the robot sees, may help, as may another --method; --target takes a lower share, and'
        ' --accept writes it, marked',
        file=sys.stderr,
    )
    return GATE_FAILED


def _print_table(done: QuantizeRun, report: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from trt_perception.runtime.gate_result import rounded_down

    gate, quantized = done.comparison.result, done.quantization
    table = Table(show_header=False, box=None)
    kept = f'{rounded_down(gate.figure)} of FP32'
    if gate.interval is not None:
        kept += f' ({gate.interval[0]:.3f} to {gate.interval[1]:.3f} with 95 % confidence)'
    state = 'passed' if gate.passed else 'failed, accepted' if gate.accepted else 'failed'
    table.add_row('gate', f'{state}, target {gate.target:g}')
    table.add_row('keeps', kept)
    for name, value in gate.figures.items():
        table.add_row('', f'{name.replace("_", " ")} {value:.4f}')
    table.add_row('on', f'{gate.frames} frames, {gate.objects} objects: {gate.measured_on}')
    floats = sum(not layer.int8 for layer in quantized.layers)
    table.add_row(
        'INT8',
        f'{100 * quantized.int8_share:.1f} % of the multiply-adds; {floats} of'
        f' {len(quantized.layers)} layers stay in float; ranges by {quantized.method}',
    )
    chosen = done.calibration
    table.add_row(
        'calibrated', f'with {len(chosen.frames)} of {chosen.seen} images of {chosen.source}'
    )
    table.add_row('took', f'{done.seconds:.0f} s on {done.device}')
    if done.written:
        table.add_row('model', str(done.output))
    table.add_row('report', str(report / 'report.html'))
    Console(markup=False, emoji=False, highlight=False).print(table)
