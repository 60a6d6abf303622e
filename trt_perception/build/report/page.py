# SPDX-License-Identifier: Apache-2.0
"""The look of a report: one HTML file, no network, light and dark, on a desk and on a phone."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

_STYLE = """
:root { color-scheme: light dark; --paper: #fbfbfa; --card: #fff; --ink: #1b1f24; --soft: #667080;
  --line: #e3e5e8; --one: #0b7a75; --two: #d9822b; --good: #1a7f4b; --bad: #c0362c;
  --tint: rgba(11, 122, 117, .12); }
@media (prefers-color-scheme: dark) { :root { --paper: #14171b; --card: #1c2026; --ink: #e8eaed;
  --soft: #98a2b0; --line: #2e343c; --one: #3cc4bb; --two: #f0a458; --good: #4cc38a;
  --bad: #ff7b6e; --tint: rgba(60, 196, 187, .16); } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; letter-spacing: -.015em; }
h2 { font-size: 1.15rem; margin: 3rem 0 .35rem; letter-spacing: -.005em; }
h3 { font-size: .85rem; font-weight: 600; margin: 0; overflow-wrap: break-word; }
p { margin: .3rem 0 .9rem; max-width: 46rem; }
.soft, figcaption { color: var(--soft); }
.good { color: var(--good); } .bad { color: var(--bad); }
.badge { display: inline-block; padding: .1rem .65rem; border-radius: 1rem; font-size: .85rem;
  font-weight: 600; border: 1.5px solid currentColor; margin-bottom: .9rem; }
.cards { display: grid; grid-template-columns: repeat(2, 1fr); gap: .75rem; margin: 1.5rem 0; }
@media (min-width: 44rem) { .cards { grid-template-columns: repeat(3, 1fr); } }
.card, .box { background: var(--card); border: 1px solid var(--line); border-radius: .7rem; }
.card { padding: .8rem 1rem; } .box { padding: 1rem; margin: .75rem 0; }
.card b { display: block; font-size: 1.6rem; line-height: 1.25; font-weight: 650;
  font-variant-numeric: tabular-nums; letter-spacing: -.02em; }
.card span { color: var(--soft); font-size: .85rem; }
.note { border-left: 3px solid var(--two); padding: .45rem .9rem; background: var(--card);
  margin: .5rem 0; border-radius: 0 .4rem .4rem 0; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(17rem, 100%), 1fr));
  gap: .75rem; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr));
  gap: .5rem; }
figure { margin: 0; } figcaption { font-size: .85rem; padding: .25rem 0 .5rem; }
img, svg { display: block; width: 100%; height: auto; } img { border-radius: .4rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .88rem;
  font-variant-numeric: tabular-nums; }
th { text-align: left; color: var(--soft); font-weight: 500; white-space: nowrap; }
th, td { padding: .38rem .8rem .38rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
td:first-child { overflow-wrap: break-word; min-width: 11rem; }
.right { text-align: right; }
.meter { display: inline-block; width: 5rem; height: .5rem; border-radius: .25rem;
  background: var(--line); vertical-align: middle; overflow: hidden; }
.meter i { display: block; height: 100%; background: var(--one); }
.two .meter i, .key i.two { background: var(--two); }
summary { cursor: pointer; color: var(--soft); padding: .4rem 0; }
.key { display: flex; flex-wrap: wrap; gap: 1.2rem; font-size: .85rem; color: var(--soft); }
.key i { display: inline-block; width: .7rem; height: .7rem; border-radius: .2rem;
  margin-right: .4rem; }
.key i.one { background: var(--one); }
svg text { fill: var(--soft); font-size: 12px; font-family: inherit; }
svg.wide text { font-size: 10px; }
@media (max-width: 44rem) { svg.wide text { font-size: 20px; } }
svg .axis { stroke: var(--line); } svg .line { stroke: var(--one); stroke-width: 2; fill: none; }
svg .one { fill: var(--one); } svg .two { fill: var(--two); } svg .mark { stroke: var(--two);
  stroke-width: 2; stroke-dasharray: 4 3; } svg .ring { fill: var(--card); stroke: var(--one);
  stroke-width: 2; } svg .tint { fill: var(--tint); } svg .strong { fill: var(--ink);
  font-weight: 600; }
@media print { main { max-width: none; } details > * { display: block; } }
"""


class Card(NamedTuple):
    """A figure worth a place at the top."""

    figure: str
    what: str


def page(title: str, verdict: str, passed: bool, body: Iterable[str]) -> str:
    """A whole report.

    Args:
        title: of the page, plain text.
        verdict: one word or two that stand beside it.
        passed: whether the verdict is a good one.
        body: parts, made by the other functions here.
    """
    badge = f'<span class="badge {"good" if passed else "bad"}">{escape(verdict)}</span>'
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n'
        + '\n'.join((badge, f'<h1>{escape(title)}</h1>', *body))
        + '\n</main>\n</body>\n</html>\n'
    )


def lead(text: str) -> str:
    """A paragraph of plain text."""
    return f'<p class="soft">{escape(text)}</p>'


def section(title: str, text: str, *parts: str) -> str:
    """A heading, a sentence that tells how to read what follows, and that."""
    return (
        f'<section>\n<h2>{escape(title)}</h2>\n{lead(text)}\n' + '\n'.join(parts) + '\n</section>'
    )


def cards(shown: Iterable[Card]) -> str:
    """Large figures side by side."""
    each = (f'<div class="card"><b>{escape(f)}</b><span>{escape(w)}</span></div>' for f, w in shown)
    return f'<div class="cards">{"".join(each)}</div>'


def notes(warnings: Iterable[str]) -> str:
    """Warnings, one below the other."""
    return '\n'.join(f'<div class="note">{escape(w)}</div>' for w in warnings)


def box(*parts: str) -> str:
    """A frame around what belongs together."""
    return f'<div class="box">{"".join(parts)}</div>'


def grid(parts: Iterable[str], kind: str = 'grid') -> str:
    """As many side by side as there is room for. ``pair`` is for two large ones."""
    return f'<div class="{kind}">{"".join(parts)}</div>'


def titled(title: str, part: str, caption: str = '') -> str:
    """A small heading above a part, and a caption below it."""
    below = f'<figcaption>{escape(caption)}</figcaption>' if caption else ''
    return f'<figure><h3>{path(title)}</h3>{part}{below}</figure>'


def path(name: str) -> str:
    """A name that may be broken after its slashes."""
    return escape(name).replace('/', '/<wbr>')


def key(*named: tuple[str, str]) -> str:
    """What the colours mean: class of the style (``one``, ``two``) and name of each."""
    each = (f'<span><i class="{kind}"></i>{escape(name)}</span>' for kind, name in named)
    return f'<div class="key">{"".join(each)}</div>'


def meter(share: float) -> str:
    """A bar in a line of text, filled to a share of 0..1."""
    return f'<span class="meter"><i style="width:{100 * min(max(share, 0), 1):.1f}%"></i></span>'


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], right: str = '') -> str:
    """A table.

    Args:
        headings: plain text.
        rows: HTML, a cell each; text must be escaped.
        right: a letter for each column, ``r`` where it is set to the right.
    """
    kinds = [
        ' class="right"' if k < len(right) and right[k] == 'r' else '' for k in range(len(headings))
    ]
    head = ''.join(f'<th{kind}>{escape(h)}</th>' for kind, h in zip(kinds, headings, strict=True))
    lines = (
        '<tr>' + ''.join(f'<td{k}>{c}</td>' for k, c in zip(kinds, row, strict=True)) + '</tr>'
        for row in rows
    )
    return f'<div class="scroll"><table><tr>{head}</tr>\n' + '\n'.join(lines) + '</table></div>'


def folded(summary: str, part: str) -> str:
    """A part that opens on a click."""
    return f'<details><summary>{escape(summary)}</summary>{part}</details>'


def picture(jpeg: bytes, what: str) -> str:
    """A picture within the page."""
    data = base64.b64encode(jpeg).decode()
    return f'<img alt="{escape(what)}" src="data:image/jpeg;base64,{data}">'
