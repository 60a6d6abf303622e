# SPDX-License-Identifier: Apache-2.0
"""The times of a benchmark as a picture: one SVG file that needs nothing else."""

from __future__ import annotations

from html import escape

from trt_perception.replay.benchmark.result import BenchmarkResult, Spread

_WIDTH, _LEFT, _RIGHT, _TOP, _ROW = 760, 150, 24, 66, 30
_STYLE = """
svg { background: #fbfbfa; font: 13px system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
text { fill: #1b1f24; } .soft { fill: #667080; font-size: 11px; } .title { font-weight: 600; }
.host { fill: #0b7a75; } .stage { fill: #d9822b; } line { stroke: #1b1f24; stroke-width: 1.5; }
.rule { stroke: #e3e5e8; stroke-width: 1; }
@media (prefers-color-scheme: dark) { svg { background: #14171b; } text { fill: #e8eaed; }
  .soft { fill: #98a2b0; } .host { fill: #3cc4bb; } .stage { fill: #f0a458; }
  line { stroke: #e8eaed; } .rule { stroke: #2e343c; } }
"""


def picture(result: BenchmarkResult) -> str:
    """Bars up to the median of each stage, with marks at 95 and 99 of 100 frames."""
    rows = [('host', name, times) for name, times in result.host_ms.items()]
    rows += [('stage', name, times) for name, times in result.stage_ms.items()]
    longest = max(times.p99 for _, _, times in rows) or 1.0
    scale = (_WIDTH - _LEFT - _RIGHT - 110) / longest
    height = _TOP + _ROW * len(rows) + 34
    image = result.image
    told = (
        f'{image["width"]}x{image["height"]} {image["encoding"]}, {image["memory"]} memory,'
        f' {len(result.cameras)} camera{"s" if len(result.cameras) > 1 else ""}:'
        f' {result.frames_per_second:.1f} frames a second'
    )
    parts = [
        f'<text class="title" x="16" y="24">{escape(result.device)}</text>',
        f'<text x="16" y="42">{escape(f"{result.backend}, {result.precision}; {told}")}</text>',
    ]
    for number, (kind, name, times) in enumerate(rows):
        parts.append(_row(kind, name, times, _TOP + _ROW * number, scale))
    foot = 'milliseconds: the bar ends at the median, the marks are p95 and p99'
    parts.append(f'<text class="soft" x="16" y="{height - 12}">{foot}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"'
        f' width="{_WIDTH}" height="{height}" role="img"><style>{_STYLE}</style>\n'
        + '\n'.join(parts)
        + '\n</svg>\n'
    )


def _row(kind: str, name: str, times: Spread, top: int, scale: float) -> str:
    marks = ''.join(
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top + 3}" y2="{top + 21}"/>'
        for x in (_LEFT + scale * times.p95, _LEFT + scale * times.p99)
    )
    end = _LEFT + scale * times.p99
    return (
        f'<text x="{_LEFT - 10}" y="{top + 17}" text-anchor="end">{escape(name)}</text>'
        f'<line class="rule" x1="{_LEFT}" x2="{end:.1f}" y1="{top + 12}" y2="{top + 12}"/>'
        f'<rect class="{kind}" x="{_LEFT}" y="{top + 3}" width="{max(scale * times.p50, 1):.1f}"'
        f' height="18" rx="2"/>{marks}'
        f'<text class="soft" x="{end + 8:.1f}" y="{top + 16}">{times.p50:.3f} / {times.p99:.3f}'
        '</text>'
    )
