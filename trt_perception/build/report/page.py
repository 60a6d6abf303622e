# SPDX-License-Identifier: Apache-2.0
"""The look of a report: one HTML file, no network, light and dark, on a desk and on a phone."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from itertools import zip_longest
from typing import NamedTuple

_STYLE = """
:root { color-scheme: light dark; accent-color: var(--one);
  --paper: light-dark(#f7f7f5, #121519); --card: light-dark(#fff, #1b1f25);
  --ink: light-dark(#1b1f24, #e8eaed); --soft: light-dark(#5d6774, #9aa4b2);
  --line: light-dark(#e3e5e8, #2e343c); --rule: light-dark(#eceef0, #262b32);
  --one: light-dark(#0b7a75, #3cc4bb); --two: light-dark(#c9731a, #f0a458);
  --good: light-dark(#1a7f4b, #4cc38a); --bad: light-dark(#c0362c, #ff7b6e);
  --new: light-dark(#2a62c9, #7aa8ff); --was: light-dark(#8b95a3, #8a94a2);
  --tint: light-dark(rgba(11, 122, 117, .12), rgba(60, 196, 187, .16)); }
:root:has(#theme-light:checked) { color-scheme: light; }
:root:has(#theme-dark:checked) { color-scheme: dark; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 66rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; position: relative;
  overflow-wrap: break-word; }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.theme { position: absolute; top: 1.1rem; right: 1.25rem; display: flex; margin: 0; padding: 2px;
  border: 1px solid var(--line); border-radius: 1rem; background: var(--card); font-size: .78rem; }
.theme label { cursor: pointer; } .theme input { position: absolute; opacity: 0; }
.theme span { display: block; padding: .12rem .6rem; border-radius: 1rem; color: var(--soft); }
.theme input:checked + span { background: var(--tint); color: var(--ink); }
:focus-visible, .theme input:focus-visible + span { outline: 2px solid var(--one);
  outline-offset: 2px; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; letter-spacing: -.015em; }
h2 { font-size: 1.15rem; margin: 3rem 0 .35rem; letter-spacing: -.005em; }
h3 { font-size: .85rem; font-weight: 600; margin: 0; overflow-wrap: break-word; }
p { margin: .3rem 0 .9rem; max-width: 46rem; }
.soft, figcaption { color: var(--soft); }
.good { color: var(--good); } .bad { color: var(--bad); } td .new { color: var(--new); }
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
td:first-child { overflow-wrap: anywhere; min-width: 11rem; }
.right { text-align: right; white-space: nowrap; } th.right, td.right { padding-left: .6rem; }
.box tr:last-child td { border-bottom: 0; } .box td:first-child, .box th:first-child {
  position: sticky; left: 0; background: var(--card); } .facts td:first-child { min-width: 6rem; }
.facts td { min-width: 11rem; overflow-wrap: anywhere; }
.meter { display: inline-block; width: 5rem; height: .5rem; border-radius: .25rem;
  background: var(--line); vertical-align: middle; overflow: hidden; }
.meter i { display: block; height: 100%; background: var(--one); }
.two .meter i, .key i.two { background: var(--two); }
summary { cursor: pointer; color: var(--soft); padding: .4rem 0; }
.key { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; font-size: .85rem; color: var(--soft); }
.key i { display: inline-block; width: .7rem; height: .7rem; border-radius: .2rem;
  margin-right: .4rem; }
.key i.one, .key i.same, .key i.second { background: var(--one); }
.key i.first { background: var(--was); } .key i.changed { background: var(--two); }
.key i.lost { background: var(--bad); } .key i.new { background: var(--new); }
svg text { fill: var(--soft); font-size: 12px; font-family: inherit; }
svg.wide text { font-size: 10px; }
@media (max-width: 44rem) { svg.wide text { font-size: 20px; } }
svg .axis { stroke: var(--line); } svg .line { stroke: var(--one); stroke-width: 2; fill: none; }
svg .one { fill: var(--one); } svg .two { fill: var(--two); } svg .mark { stroke: var(--two);
  stroke-width: 2; stroke-dasharray: 4 3; } svg .ring { fill: var(--card); stroke: var(--one);
  stroke-width: 2; } svg .tint { fill: var(--tint); } svg .strong { fill: var(--ink);
  font-weight: 600; }
ul.told { margin: 0 0 1rem; padding: 0; list-style: none; max-width: 46rem; }
ul.told li { padding: .16rem 0 .16rem 1.3rem; position: relative; }
ul.told li::before { content: ""; position: absolute; left: .1rem; top: .72em; width: .5rem;
  height: .5rem; border-radius: 50%; background: var(--was); }
ul.told li.lost::before { background: var(--bad); } ul.told li.new::before {
  background: var(--new); } ul.told li.changed::before { background: var(--two); }
ul.told li.same::before { background: var(--one); }
.parts { display: flex; height: 1.1rem; gap: 2px; border-radius: .55rem; overflow: hidden;
  background: var(--line); margin: 1.4rem 0 .6rem; }
.parts.thin { height: .4rem; margin: .3rem 0 .1rem; min-width: 9rem; gap: 1px; }
.parts i { min-width: 2px; } .parts .same { background: var(--one); }
.parts .changed { background: var(--two); } .parts .lost { background: var(--bad); }
.parts .new { background: var(--new); }
.filter { position: sticky; top: 0; z-index: 2; display: flex; gap: .4rem; overflow-x: auto;
  padding: .6rem 1.25rem; margin: 1.5rem -1.25rem 0; background: var(--paper);
  border-bottom: 1px solid var(--line); scrollbar-width: thin; }
.filter[hidden] { display: none; }
.filter button { font: inherit; font-size: .85rem; white-space: nowrap; padding: .2rem .75rem;
  border: 1px solid var(--line); border-radius: 1rem; background: var(--card); color: var(--ink);
  cursor: pointer; min-height: 2rem; max-width: 16rem; overflow: hidden; flex: none;
  text-overflow: ellipsis; } .filter button span { color: var(--soft); }
.filter button:hover { border-color: var(--one); }
.filter [aria-pressed=true] { border-color: var(--one); background: var(--tint); }
.gone { display: none !important; }
.plot { margin-top: 1rem; display: grid; grid-template-columns: 3rem 1fr; column-gap: .5rem; }
.plot-area { position: relative; height: 15rem; } .plot-area svg { height: 100%; }
.plot-y { position: relative; } .plot-y span { position: absolute; right: 0;
  transform: translateY(-50%); white-space: nowrap; }
.plot-x { position: relative; height: 1.6rem; grid-column: 2; } .plot-x span {
  position: absolute; top: .3rem; } .plot-x span::before { content: ""; position: absolute;
  left: 0; top: -.3rem; height: .3rem; border-left: 1px solid var(--was); }
.plot-y, .plot-x, .lane-top { font-size: .75rem; color: var(--soft); line-height: 1.3;
  font-variant-numeric: tabular-nums; }
.plot svg, .lane svg { overflow: visible; } .plot svg *, .lane svg * {
  vector-effect: non-scaling-stroke; }
.plot-y .may { right: auto; left: 100%; margin-left: .7rem; color: var(--bad); z-index: 1;
  background: var(--card); border-radius: .3rem; padding: 0 .25rem; }
.key i.budget { height: 0; width: 1.3rem; border-radius: 0; border-top: 2px dashed var(--bad);
  vertical-align: middle; }
svg .axis { stroke: var(--rule); stroke-width: 1; }
svg .band { fill: var(--one); fill-opacity: .2; stroke: none; } svg .line { fill: none;
  stroke: var(--one); stroke-width: 2; stroke-linejoin: round; }
svg .band.first { fill: var(--was); fill-opacity: .28; } svg .line.first { stroke: var(--was); }
svg .over { stroke: var(--one); stroke-width: 2; } svg .over.first { stroke: var(--was); }
svg .budget { stroke: var(--bad); stroke-width: 1.5; stroke-dasharray: 5 4; }
svg .tip { fill: transparent; } svg .tip:hover { fill: var(--tint); }
.lanes { margin: .3rem 0; }
.lane { display: grid; grid-template-columns: 9rem 1fr 3rem; column-gap: .9rem;
  align-items: center; padding: .4rem 0; border-bottom: 1px solid var(--rule); }
.lane svg { height: 2.6rem; } .lane-name { line-height: 1.25; overflow-wrap: anywhere; }
.lane-name b { display: block; font-size: .9rem; font-weight: 600; }
.lane-name span { font-size: .78rem; color: var(--soft); font-variant-numeric: tabular-nums; }
.lane-axis { padding: 0 3.9rem 0 9.9rem; }
.curves { display: grid; gap: .75rem;
  grid-template-columns: repeat(auto-fill, minmax(min(13.5rem, 100%), 1fr)); }
.curve { background: var(--card); border: 1px solid var(--line); border-radius: .7rem;
  padding: .8rem .9rem .4rem; } .curve svg { height: 9rem; margin: .5rem 0 0; overflow: visible; }
.curve svg * { vector-effect: non-scaling-stroke; }
svg .dot { stroke: var(--two); stroke-width: 9; stroke-linecap: round; }
svg rect.lost { fill: var(--bad); } svg rect.new { fill: var(--new); }
svg.store { position: absolute; width: 0; height: 0; }
.strip { display: flex; gap: .9rem; overflow-x: auto; padding: .9rem 3px .7rem;
  scroll-snap-type: x proximity; scrollbar-width: thin; outline: none; }
.tile { flex: 0 0 min(19rem, 78vw); scroll-snap-align: start; color: inherit; line-height: 1.3;
  text-decoration: none; font-size: .85rem; } .tile b { display: block; margin-top: .45rem; }
.tile span, .large header span { color: var(--soft); } .tile .shot { cursor: zoom-in;
  aspect-ratio: 16 / 9; }
.shot { border-radius: .5rem; background: var(--line); } .tile:hover .shot {
  box-shadow: 0 0 0 2px var(--one); }
.shot .blank { fill: var(--line); }
.shot g rect { fill: transparent; stroke-width: calc(2.5 * var(--u)); }
.shot text { font-size: calc(15 * var(--u)); font-weight: 600; paint-order: stroke;
  stroke-width: calc(4 * var(--u)); stroke-linejoin: round; stroke: #0d1014; }
.tile .shot text { display: none; } .tile .shot g rect { stroke-width: calc(5 * var(--u)); }
.shot .same rect, .shot .found rect { stroke: #35d0c4; }
.shot .same text, .shot .found text { fill: #7fe9e0; }
.shot .changed rect { stroke: #ffb04d; } .shot .changed text { fill: #ffcb8a; }
.shot .lost rect { stroke: #ff5a4a; stroke-dasharray: calc(9 * var(--u)) calc(5 * var(--u)); }
.shot .lost text { fill: #ff9a8f; }
.shot .new rect { stroke: #5b9bff; } .shot .new text { fill: #a9cbff; }
.shot .same text { display: none; } .large .shot g:hover text { display: block; }
.tile .same { opacity: .55; }
.large { display: none; } .large:target { display: flex; flex-direction: column; gap: .6rem;
  position: fixed; inset: 0; z-index: 9; background: var(--paper); overflow: auto;
  padding: .8rem clamp(.8rem, 3vw, 2rem) 1.2rem; }
.large header { display: flex; justify-content: space-between; gap: 1rem; align-items: start; }
.large header b { display: block; font-size: 1.1rem; } .large nav { display: flex; gap: .4rem; }
.large nav a { display: grid; place-items: center; width: 2.75rem; height: 2.75rem;
  border: 1px solid var(--line); border-radius: 50%; background: var(--card); color: var(--ink);
  text-decoration: none; font-size: 1.5rem; line-height: 1; padding-bottom: .15rem; }
.large nav a:hover { border-color: var(--one); }
.panes { display: grid; gap: .8rem; margin: auto 0; } .panes figure { display: grid; }
.panes .shot { max-height: 82vh; } .panes figcaption { padding: .35rem 0 0; }
@media (min-width: 44rem) { .panes.two .shot text { font-size: calc(22 * var(--u)); }
  .panes.two .shot g rect { stroke-width: calc(3.5 * var(--u)); } }
@media (min-width: 56rem) { .panes.two { grid-template-columns: 1fr 1fr; } }
html.held { overflow: hidden; }
@media (max-width: 44rem) {
  main { padding-top: 3.6rem; } h1 { font-size: 1.55rem; } h2 { margin-top: 2.3rem; }
  .plot { grid-template-columns: 2rem 1fr; } .plot-area { height: 12rem; }
  .lane { grid-template-columns: 1fr auto; row-gap: .25rem; }
  .lane-name b { display: inline; margin-right: .5rem; }
  td:first-child { min-width: 8rem; } .parts.thin { min-width: 7rem; }
  .lane svg { grid-column: 1; } .lane-name { grid-column: 1 / -1; }
  .lane-axis { padding: 0 2.4rem 0 0; } .lane-top { min-width: 1.5rem; }
  .panes .shot text { font-size: calc(24 * var(--u)); } .panes { margin: 0; }
  .large header b { font-size: 1rem; }
}
@media (prefers-reduced-motion: no-preference) { html { scroll-behavior: smooth; } }
@media print { .theme, .filter { display: none; }
  main { max-width: none; } details > * { display: block; } }
"""


class Card(NamedTuple):
    """A figure worth a place at the top."""

    figure: str
    what: str


_THEME = (
    '<fieldset class="theme"><legend class="hidden">colours</legend>'
    + ''.join(
        f'<label><input type="radio" name="theme" id="theme-{name}"{checked}/>'
        f'<span>{name}</span></label>'
        for name, checked in (('auto', ' checked'), ('light', ''), ('dark', ''))
    )
    + '</fieldset>'
)


def page(
    title: str, verdict: str, passed: bool | None, body: Iterable[str], script: str = ''
) -> str:
    """A whole report.

    Args:
        title: of the page, plain text.
        verdict: one word or two that stand beside it.
        passed: whether the verdict is a good one; None: it is none.
        body: parts, made by the other functions here.
        script: what it does when it is touched.
    """
    kind = 'soft' if passed is None else 'good' if passed else 'bad'
    badge = f'<span class="badge {kind}">{escape(verdict)}</span>'
    end = f'<script>{script}</script>\n' if script else ''
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n'
        + '\n'.join((badge, f'<h1>{escape(title)}</h1>', *body, _THEME))
        + f'\n</main>\n{end}</body>\n</html>\n'
    )


def lead(text: str) -> str:
    """A paragraph of plain text."""
    return f'<p class="soft">{escape(text)}</p>'


def section(title: str, text: str, *parts: str, anchor: str = '') -> str:
    """A heading, a sentence that tells how to read what follows, and that.

    Args:
        anchor: what links in the page call it by.
    """
    named = f' id="{anchor}"' if anchor else ''
    return (
        f'<section{named}>\n<h2>{escape(title)}</h2>\n{lead(text) if text else ""}\n'
        + '\n'.join(parts)
        + '\n</section>'
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


def told(lines: Iterable[tuple[str, str]]) -> str:
    """Sentences below each other: the colour of each, as for `key`, and its plain text."""
    each = (f'<li class="{kind}">{escape(text)}</li>' for kind, text in lines)
    return f'<ul class="told">{"".join(each)}</ul>'


def proportions(shares: Iterable[tuple[str, int]], kind: str = '') -> str:
    """A bar in parts: the colour of each, as for `key`, and how many it stands for."""
    each = (f'<i class="{name}" style="flex-grow:{n}"></i>' for name, n in shares if n)
    return f'<div class="parts {kind}" aria-hidden="true">{"".join(each)}</div>'


def facts(told: Iterable[tuple[str, str]]) -> str:
    """Names and what they are, plain text."""
    rows = [(f'<span class="soft">{escape(n)}</span>', escape(t)) for n, t in told]
    return table(('', ''), rows, kind='facts')


def table(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    right: str = '',
    classes: Sequence[str] = (),
    kind: str = '',
) -> str:
    """A table.

    Args:
        headings: plain text.
        rows: HTML, a cell each; text must be escaped.
        right: a letter for each column, ``r`` where it is set to the right.
        classes: the name of the class that each row is of, which the filter goes by.
        kind: ``facts`` for names and what they are.
    """
    kinds = [
        ' class="right"' if k < len(right) and right[k] == 'r' else '' for k in range(len(headings))
    ]
    head = ''.join(f'<th{kind}>{escape(h)}</th>' for kind, h in zip(kinds, headings, strict=True))
    named = [f' data-class="{escape(name)}"' for name in classes]
    lines = (
        f'<tr{name or ""}>'
        + ''.join(f'<td{k}>{c}</td>' for k, c in zip(kinds, row, strict=True))
        + '</tr>'
        for row, name in zip_longest(rows, named)
    )
    return (
        f'<div class="scroll {kind}"><table><tr>{head}</tr>\n' + '\n'.join(lines) + '</table></div>'
    )


def folded(summary: str, part: str, rest: bool = False) -> str:
    """A part that opens on a click.

    Args:
        rest: it holds more classes, and opens when some are chosen.
    """
    kind = ' data-rest' if rest else ''
    return f'<details{kind}><summary>{escape(summary)}</summary>{part}</details>'


def picture(jpeg: bytes, what: str) -> str:
    """A picture within the page."""
    data = base64.b64encode(jpeg).decode()
    return f'<img alt="{escape(what)}" src="data:image/jpeg;base64,{data}">'
