# SPDX-License-Identifier: Apache-2.0
"""The picture of docs/int8.md: mAP over the share in INT8, one chart for each quantized model.

    python tools/int8_curves.py TITLE=REPORT.json ... > docs/int8_curves.svg

REPORT.json is the report of a run of ``trt-perception quantize`` with ``--eval``.
"""

from __future__ import annotations

import json
import sys
from html import escape
from pathlib import Path

from trt_perception.build.quantization.result import CurvePoint, Layer, Quantization
from trt_perception.build.report.curve import accuracy

_WIDTH, _HEIGHT, _TITLE, _COLUMNS = 420, 171, 22, 2
_STYLE = """
svg { font-family: system-ui, sans-serif; --ink: #1b1f24; --soft: #667080; --line: #d5d8dc;
  --one: #0b7a75; --two: #d9822b; --paper: #fff; }
@media (prefers-color-scheme: dark) { svg { --ink: #e8eaed; --soft: #98a2b0; --line: #3a414a;
  --one: #3cc4bb; --two: #f0a458; --paper: #0d1117; } }
text { fill: var(--soft); font-size: 15px; } .title { fill: var(--ink); font-weight: 600;
  font-size: 13px; } .axis { stroke: var(--line); } .line { stroke: var(--one); stroke-width: 2;
  fill: none; } .one { fill: var(--one); } .ring { fill: var(--paper); stroke: var(--one);
  stroke-width: 2; } .mark { stroke: var(--two); stroke-width: 2; stroke-dasharray: 4 3; }
"""


def _read(path: Path) -> Quantization:
    report = json.loads(path.read_text(encoding='utf-8'))
    curve = tuple(CurvePoint(**{**p, 'floats': tuple(p['floats'])}) for p in report['curve'])
    layers = tuple(Layer(**{**layer, 'input': None}) for layer in report['layers'])
    return Quantization(None, report['method'], {}, layers, curve, report['float_map'])


def main(arguments: list[str]) -> None:
    """Print the picture."""
    parts = []
    for number, argument in enumerate(arguments):
        title, path = argument.split('=', 1)
        left = number % _COLUMNS * (_WIDTH + 10)
        top = number // _COLUMNS * (_HEIGHT + _TITLE + 10)
        place = f'x="{left}" y="{top + _TITLE}" width="{_WIDTH}" height="{_HEIGHT}"'
        parts.append(f'<text class="title" x="{left + 35}" y="{top + 16}">{escape(title)}</text>')
        parts.append(accuracy(_read(Path(path))).replace('<svg ', f'<svg {place} ', 1))
    rows = -(-len(arguments) // _COLUMNS)
    width, height = _COLUMNS * (_WIDTH + 10) - 10, rows * (_HEIGHT + _TITLE + 10) - 10
    print(
        '<!-- SPDX-License-Identifier: Apache-2.0 -->\n'
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
        f' height="{height}">\n<style>{_STYLE}</style>\n' + '\n'.join(parts) + '\n</svg>'
    )


if __name__ == '__main__':
    main(sys.argv[1:])
