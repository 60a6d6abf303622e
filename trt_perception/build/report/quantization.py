# SPDX-License-Identifier: Apache-2.0
"""The report of a model that was quantized: the verdict first, then what led to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from trt_perception.build.calibration import Calibration
from trt_perception.build.gate import SCORE, Comparison
from trt_perception.build.quantization.result import Layer, Quantization
from trt_perception.build.report import charts, curve, page, pictures
from trt_perception.core import ModelSpec
from trt_perception.runtime.gate_result import MEASURES, rounded_down

_WORST_FRAMES = 6
_WORST_LAYERS = 6
_SHOWN_LAYERS = 12


@dataclass(frozen=True)
class QuantizeRun:
    """All that one run of ``trt-perception quantize`` found out.

    Attributes:
        model, output: files of the floats and of INT8.
        written: whether the latter was written.
        spec: of both.
        calibration: what was calibrated with.
        quantization: what came of it.
        comparison: the gate's.
        float_bytes, int8_bytes: sizes of the files.
        seconds: that all of it took.
        device: what it was measured on.
        versions: of what was measured with.
    """

    model: Path
    output: Path
    written: bool
    spec: ModelSpec
    calibration: Calibration
    quantization: Quantization
    comparison: Comparison
    float_bytes: int
    int8_bytes: int
    seconds: float
    device: str
    versions: dict[str, str]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What weakens all of it, a line each."""
        return (
            *self.calibration.warnings, *self.quantization.warnings,
            *self.comparison.result.warnings,
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        quantized = self.quantization
        return {
            'model': {
                'path': str(self.model),
                'sha256': self.comparison.result.float_sha256,
                'bytes': self.float_bytes,
            },
            'output': {
                'path': str(self.output), 'written': self.written, 'bytes': self.int8_bytes,
            },
            'gate': self.comparison.result.to_dict(),
            'int8_share': quantized.int8_share,
            'uncounted': list(quantized.uncounted),
            'method': quantized.method,
            'methods': quantized.methods,
            'layers': [_layer(layer) for layer in quantized.layers],
            'float_map': quantized.float_map,
            'curve': [
                {
                    'int8_share': p.int8_share, 'agreement': p.agreement, 'score': p.score,
                    'map': p.map, 'floats': list(p.floats),
                }
                for p in quantized.curve
            ],
            'calibration': self.calibration.to_dict(),
            'spec': self.spec.to_dict(),
            'seconds': self.seconds,
            'device': self.device,
            'versions': self.versions,
        }  # fmt: skip

    def to_html(self) -> str:
        """One page with pictures."""
        gate = self.comparison.result
        verdict = 'Gate passed' if gate.passed else 'Gate failed'
        if not gate.passed and self.written:
            verdict += ', accepted all the same'
        kept = _percent(gate.figure)
        title = f'{self.model.name} in INT8 keeps {kept} of its {_what(gate.measure)}'
        return page.page(title, verdict, gate.passed, self._body())

    def _body(self) -> Iterator[str]:
        yield self._verdict()
        yield page.notes(self.warnings)
        if self.quantization.curve:
            yield curve.section(self.quantization)
        yield self._layers()
        yield self._histograms()
        yield self._frames()
        yield self._calibration()
        yield self._origin()

    def _verdict(self) -> str:
        gate, quantized = self.comparison.result, self.quantization
        done = 'was written' if self.written else 'was not written'
        asked = f'At least {100 * gate.target:g} % was asked; {self.output.name} {done}.'
        shown = [page.Card(_percent(gate.figure), f'of FP32, {MEASURES[gate.measure]}')]
        if gate.interval is not None:
            low, high = (100 * v for v in gate.interval)
            shown.append(
                page.Card(f'{low:.1f} to {high:.1f}', 'is where it lies with 95 % confidence')
            )
        if gate.measure == 'map':
            whole, half = (
                (100 * gate.figures[f'{m}_float'], 100 * gate.figures[f'{m}_int8'])
                for m in ('map', 'map50')
            )
            shown.append(page.Card(f'{whole[0]:.1f} → {whole[1]:.1f}', 'mAP50-95, FP32 → INT8'))
            shown.append(page.Card(f'{half[0]:.1f} → {half[1]:.1f}', 'mAP50, FP32 → INT8'))
        else:
            shown.append(
                page.Card(f'{gate.figures["mean_score_shift"]:.3f}', 'mean change of a score')
            )
            shown.append(
                page.Card(f'{gate.figures["p95_score_shift"]:.3f}', '95 % of scores change less')
            )
        shown.append(
            page.Card(f'{100 * quantized.int8_share:.1f} %', 'of the multiply-adds are in INT8')
        )
        shown.append(
            page.Card(
                f'{self.float_bytes / 1e6:.1f} → {self.int8_bytes / 1e6:.1f}', 'MB, FP32 → INT8'
            )
        )
        on = f'Measured on {gate.measured_on}: {gate.frames} frames with {gate.objects} objects.'
        return page.lead(f'{asked} {on}') + page.cards(shown)

    def _layers(self) -> str:
        layers = self.quantization.layers
        floats = sum(not layer.int8 for layer in layers)
        measured = [layer for layer in layers if layer.sensitivity is not None]
        parts = []
        if measured:
            shown = [
                charts.Bar(
                    max(layer.sensitivity or 0.0, 0.0),
                    'one' if layer.int8 else 'two',
                    f'{layer.name}: {100 * (layer.sensitivity or 0):.2f}',
                )
                for layer in measured
            ]
            parts.append(
                page.box(
                    page.key(('one', 'INT8'), ('two', 'stays in float')),
                    charts.bars(shown, 'sensitivity of each layer', 'layers, input to output'),
                )
            )
        ordered = sorted(layers, key=lambda one: one.sensitivity or 0.0, reverse=True)
        most = max((one.sensitivity or 0.0 for one in layers), default=0.0) or 1.0
        macs = sum(one.macs for one in layers) or 1
        rows = [_row(layer, most, macs) for layer in ordered]
        headings = ('layer', 'runs in', 'sensitivity', '', 'multiply-adds', 'why')
        parts.append(page.table(headings, rows[:_SHOWN_LAYERS], '..r.r.'))
        if rows[_SHOWN_LAYERS:]:
            rest = page.table(headings, rows[_SHOWN_LAYERS:], '..r.r.')
            parts.append(page.folded(f'the other {len(rows) - _SHOWN_LAYERS} layers', rest))
        return page.section(
            'Layer by layer',
            f'{len(layers) - floats} of {len(layers)} layers multiply in INT8. Sensitivity is the'
            ' agreement with the floats, in %, that is lost if this layer alone is in INT8.',
            *parts,
        )

    def _histograms(self) -> str:
        seen = [one for one in self.quantization.layers if one.input is not None]
        seen.sort(key=lambda one: one.sensitivity or 0.0, reverse=True)
        parts = []
        for layer in seen[:_WORST_LAYERS]:
            values = layer.input
            assert values is not None
            if values.threshold is None:
                caption = f'up to {values.largest:.3g}; stays in float'
            else:
                caption = (
                    f'up to {values.largest:.3g}; {values.threshold:.3g} becomes 127, a step is'
                    f' {values.threshold / 127:.2g}'
                )
            drawn = charts.histogram(
                values.counts, values.largest, values.threshold, f'input of {layer.name}'
            )
            parts.append(page.box(page.titled(layer.name, drawn, caption)))
        if not parts:
            return ''
        return page.section(
            'What the most sensitive layers are given',
            'How often each magnitude occurs in the input of a layer, by its logarithm. What lies'
            ' beyond the dashed line is clipped to it; 127 even steps are all there is below.',
            page.grid(parts),
        )

    def _frames(self) -> str:
        comparison = self.comparison
        worst = comparison.worst(_WORST_FRAMES)
        if not worst:
            return page.section(
                'FP32 and INT8 side by side', 'They agree in every frame that was compared.'
            )
        parts = []
        for index in worst:
            frame = comparison.frames[index]
            both = (('FP32', comparison.floats[index]), ('INT8', comparison.int8[index]))
            pair = [
                page.titled(
                    name, page.picture(pictures.detected(frame, found, self.spec, SCORE), name)
                )
                for name, found in both
            ]
            name = Path(frame.source).name
            parts.append(
                page.box(page.grid(pair, 'pair'), f'<figcaption>{escape(name)}</figcaption>')
            )
        return page.section(
            'FP32 and INT8 side by side',
            f'The {len(worst)} frames of {len(comparison.frames)} in which the two differ most;'
            f' detections of score {SCORE:g} or more.',
            *parts,
        )

    def _calibration(self) -> str:
        chosen = self.calibration
        number, sheet = pictures.contact_sheet(chosen.frames)
        few = f'; {number} of them are shown' if number < len(chosen.frames) else ''
        facts = [
            ('read from', chosen.source),
            ('images', f'{chosen.seen} seen, {chosen.alike} left out as alike,'
             f' {len(chosen.unreadable)} unreadable'),
            ('used', f'{len(chosen.frames)} to calibrate, {len(chosen.held_out)} held out'),
            ('sha256', chosen.sha256),
        ]  # fmt: skip
        parts = [page.box(page.picture(sheet, 'contact sheet')), page.facts(facts)]
        if chosen.unreadable:
            lines = ''.join(f'<p>{escape(line)}</p>' for line in chosen.unreadable)
            parts.append(page.folded(f'the {len(chosen.unreadable)} that could not be read', lines))
        return page.section(
            'Calibrated with',
            f'The {len(chosen.frames)} frames whose values set the ranges{few}.',
            *parts,
        )

    def _origin(self) -> str:
        quantized = self.quantization
        methods = ', '.join(f'{name} {value:.4f}' for name, value in quantized.methods.items())
        facts = [
            ('float model', f'{self.model}, sha256 {self.comparison.result.float_sha256}'),
            ('ranges by', f'{quantized.method}; agreement with all layers in INT8: {methods}'),
            ('INT8 ran on', self.comparison.result.measured_with),
            ('machine', self.device),
            ('took', f'{self.seconds:.0f} s'),
            ('versions', ', '.join(f'{k} {v}' for k, v in self.versions.items())),
        ]
        return page.section(
            'How this was made', 'All figures were measured here.', page.facts(facts)
        )


def _layer(layer: Layer) -> dict[str, Any]:
    seen = layer.input
    return {
        'name': layer.name,
        'op_type': layer.op_type,
        'macs': layer.macs,
        'int8': layer.int8,
        'sensitivity': layer.sensitivity,
        'reason': layer.reason,
        'input': seen and {'largest': seen.largest, 'threshold': seen.threshold},
    }


def _row(layer: Layer, most: float, macs: int) -> list[str]:
    known = layer.sensitivity is not None
    lost = layer.sensitivity or 0.0
    kind = '' if layer.int8 else ' class="two"'
    return [
        f'{page.path(layer.name)} <span class="soft">{escape(layer.op_type)}</span>',
        'INT8' if layer.int8 else '<b>float</b>',
        f'{100 * lost:.2f}' if known else '',
        f'<span{kind}>{page.meter(lost / most)}</span>' if known else '',
        f'{100 * layer.macs / macs:.1f} %',
        escape(layer.reason),
    ]


def _percent(figure: float) -> str:
    return f'{100 * float(rounded_down(figure)):.1f} %'


def _what(measure: str) -> str:
    return 'accuracy' if measure == 'map' else 'detections'
