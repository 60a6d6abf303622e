# SPDX-License-Identifier: Apache-2.0
"""The run of ``trt-perception quantize``: from a model and frames to a model in INT8."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx

from trt_perception.build.calibration import CALIBRATION_KEY, FRAMES, Calibration, collect
from trt_perception.build.gate import (
    AccuracyGate,
    AgreementGate,
    Claim,
    Comparison,
)
from trt_perception.build.quantization.measurements import Measurements
from trt_perception.build.quantization.mixing import Accuracy
from trt_perception.build.quantization.quantize import quantize
from trt_perception.build.report.quantization import QuantizeRun
from trt_perception.core import ModelSpec, PerceptionError
from trt_perception.core.files import FileError, check_writable, is_file, sha256, write_atomically
from trt_perception.replay.coco import CocoDataset
from trt_perception.runtime.gate_result import METADATA_KEY
from trt_perception.runtime.pipeline import AnyPipeline, open_pipeline
from trt_perception.runtime.precision import read_precision
from trt_perception.runtime.versions import versions

#: Frames to compare on where there are no labels.
_HELD_OUT = 64


class Files:
    """Where everything goes; seen to before the long work begins."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        model: Path = arguments.model
        if read_precision(model, 'float32').startswith('int8'):
            raise PerceptionError(f"model '{model}' is in INT8 already; give the float model")
        if (arguments.eval is None) != (arguments.images is None):
            raise PerceptionError('--eval and --images belong together; give both or none')
        self.output: Path = arguments.output or model.with_name(f'{model.stem}_int8.onnx')
        if self.output.suffix != '.onnx':
            raise FileError(f"output '{self.output}' must end in .onnx")
        if self.output.exists() and self.output.samefile(model):
            raise FileError(f"output '{self.output}' is the model itself; give another name")
        check_writable(self.output)
        yaml, beside = model.with_suffix('.yaml'), self.output.with_suffix('.yaml')
        self.overrides = yaml.read_bytes() if is_file(yaml) else None
        if is_file(beside) and self.overrides is None:
            raise FileError(
                f"'{beside}' would override what the output says of itself, and there is no such"
                f" file beside '{model}'; remove it or give another -o"
            )
        if arguments.json not in ('', '-'):
            check_writable(Path(arguments.json))
        self.work = self.output.with_suffix('.quantize')
        self.measurements = self.work / 'measurements.json'
        self.report: Path = arguments.report or self.work

    @contextlib.contextmanager
    def folders(self) -> Iterator[None]:
        """Make the folders; those in which nothing is in the end are taken away again.

        Raises:
            FileError: one cannot be made or written to.
        """
        made: list[Path] = []
        try:
            for folder in (self.work, self.report):
                made += _make(folder)
                check_writable(folder / 'report.html')
            yield
        finally:
            for folder in reversed(made):
                with contextlib.suppress(OSError):  # something is in it
                    folder.rmdir()


def quantized(
    arguments: argparse.Namespace, files: Files, on_progress: Callable[[str, float], None]
) -> QuantizeRun:
    """The whole work; writes the model if it may be written, and the report in any case."""
    begun = time.monotonic()
    with (
        contextlib.closing(
            open_pipeline(arguments.model, labels=arguments.labels, threads=arguments.threads)
        ) as floats,
        _scratch(files.work) as folder,
    ):
        calibration = collect(
            arguments.calibration,
            Path(folder),
            topic=arguments.topic,
            count=arguments.frames or FRAMES,
            held_out=0 if arguments.eval else _HELD_OUT,
            on_progress=_of(on_progress, 'choose frames'),
        )
        gate, claim = _gate(arguments, floats, calibration, on_progress)
        model = onnx.load(str(arguments.model))

        def opened(result: onnx.ModelProto) -> contextlib.closing[AnyPipeline]:
            known = {prop.key for prop in result.metadata_props}
            result.metadata_props.extend(p for p in model.metadata_props if p.key not in known)
            path = Path(folder, 'int8.onnx')
            write_atomically(path, result.SerializeToString())
            if files.overrides is not None:
                write_atomically(path.with_suffix('.yaml'), files.overrides)
            return contextlib.closing(
                open_pipeline(path, labels=arguments.labels, threads=arguments.threads)
            )

        comparisons: list[Comparison] = []

        def score(result: onnx.ModelProto) -> float:
            with opened(result) as int8:
                told = _of(on_progress, 'compare INT8 with it')
                comparisons.append(gate.judge(int8, claim, told))
            return comparisons[-1].result.figure

        accuracy = None
        if isinstance(gate, AccuracyGate):

            def measure(result: onnx.ModelProto, told: Callable[[float], None]) -> float:
                with opened(result) as int8:
                    return gate.sample(int8, told)

            accuracy = Accuracy(_pictures(arguments), gate.sampled, measure)

        quantization = quantize(
            model,
            floats.spec,
            calibration.frames,
            Measurements(files.measurements, _question(model, floats.spec, calibration)),
            target=arguments.target,
            method=arguments.method,
            on_progress=on_progress,
            score=score,
            accuracy=accuracy,
            threads=arguments.threads,
        )
        result = quantization.model
        comparison = comparisons[-1]
        refused = len(comparisons) - 1
        verdict = dataclasses.replace(
            comparison.result,
            accepted=arguments.accept and not comparison.result.passed,
            warnings=(*comparison.result.warnings, *_of_tries(refused, comparison.result.passed)),
        )
        comparison = dataclasses.replace(comparison, result=verdict)
        # Without INT8 it is the float model under another name.
        written = (verdict.passed or verdict.accepted) and quantization.int8_share > 0
        notes = {
            METADATA_KEY: verdict.to_dict(),
            CALIBRATION_KEY: {'method': quantization.method, **calibration.to_dict()},
        }
        for key, value in notes.items():
            result.metadata_props.add(key=key, value=json.dumps(value))
        content = result.SerializeToString()
        if written:
            # First what overrides: the model is never there without it.
            if files.overrides is not None:
                write_atomically(files.output.with_suffix('.yaml'), files.overrides)
            write_atomically(files.output, content)
        done = QuantizeRun(
            model=arguments.model,
            output=files.output,
            written=written,
            spec=floats.spec,
            calibration=calibration,
            quantization=quantization,
            comparison=comparison,
            float_bytes=arguments.model.stat().st_size,
            int8_bytes=len(content),
            seconds=time.monotonic() - begun,
            device=floats.info.device,
            versions=versions(),
        )
        write_atomically(files.report / 'report.json', json.dumps(done.to_dict(), indent=2) + '\n')
        write_atomically(files.report / 'report.html', done.to_html())
    return done


def _gate(
    arguments: argparse.Namespace,
    floats: AnyPipeline,
    calibration: Calibration,
    on_progress: Callable[[str, float], None],
) -> tuple[AccuracyGate | AgreementGate, Claim]:
    """Run the floats now, so that mistakes show early; gives what judges the model in INT8."""
    reference = _of(on_progress, 'run the float model')
    gate: AccuracyGate | AgreementGate
    warnings: tuple[str, ...] = ()
    if arguments.eval:
        dataset = CocoDataset(arguments.eval, arguments.images)
        used = sum(sha256(p.path) in calibration.digests for p in dataset.pictures)
        if used:
            warnings = (
                f'{used} of the {len(dataset.pictures)} labelled pictures were calibrated with; the'
                ' comparison flatters INT8',
            )
        gate = AccuracyGate(floats, dataset, reference)
        measured_on = str(arguments.eval)
    else:
        gate = AgreementGate(floats, calibration.held_out, reference)
        measured_on = f'frames of {calibration.source} that were held out'
    return gate, Claim(arguments.target, measured_on, sha256(arguments.model), warnings)


def _pictures(arguments: argparse.Namespace) -> str:
    """What an accuracy depends on besides the model."""
    dataset = CocoDataset(arguments.eval, arguments.images)
    asked = (sha256(arguments.eval), arguments.labels, [sha256(p.path) for p in dataset.pictures])
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]


def _of_tries(refused: int, passed: bool) -> tuple[str, ...]:
    """Whoever asks often enough is told yes."""
    if not refused or not passed:
        return ()
    return (
        f'{refused} {"mixture" if refused == 1 else "mixtures"} with more in INT8 failed on the'
        ' same frames first: the figure of this one is a little too good to be expected elsewhere',
    )


def _question(model: onnx.ModelProto, spec: ModelSpec, calibration: Calibration) -> str:
    """What the measurements depend on; those of another question are not taken up."""
    # Not the file's: weights may lie in another one.
    network = hashlib.sha256(model.SerializeToString()).hexdigest()
    asked = (network, spec.to_dict(), calibration.sha256, versions())
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def _make(folder: Path) -> list[Path]:
    """Make a folder and those that it is in; the ones that were not there."""
    missing = [f for f in (folder, *folder.parents) if not f.exists()][::-1]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"'{folder}' cannot be made: {error.strerror}") from None
    return missing


def _scratch(folder: Path) -> TemporaryDirectory[str]:
    try:
        return TemporaryDirectory(dir=folder, prefix='frames-')
    except OSError as error:
        raise FileError(f"'{folder}' cannot be written to: {error.strerror}") from None


def _of(on_progress: Callable[[str, float], None], phase: str) -> Callable[[float], None]:
    return functools.partial(on_progress, phase)
