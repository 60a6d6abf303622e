# SPDX-License-Identifier: Apache-2.0
"""What a report does when it is touched. Without it all can still be read and enlarged."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape


def filter_by_class(classes: Sequence[tuple[str, str]]) -> str:
    """Buttons that leave the chosen classes; hidden where scripts do not run.

    Args:
        classes: name and number of each, the most frequent first.
    """
    buttons = ''.join(
        f'<button type="button" aria-pressed="false" value="{escape(name)}">{escape(name)}'
        f' <span>{escape(number)}</span></button>'
        for name, number in classes
    )
    return (
        '<div class="filter" role="group" aria-label="show only these classes" hidden>'
        f'<button type="button" aria-pressed="true" value="">all classes</button>{buttons}</div>'
    )


SCRIPT = """
'use strict';
(() => {
  const every = (what, within = document) => [...within.querySelectorAll(what)];
  // Filter by class: what is of another class hides.
  const filter = document.querySelector('.filter');
  if (filter) {
    filter.hidden = false;
    const chosen = new Set();
    const apply = () => {
      const shown = (name) => !chosen.size || chosen.has(name);
      every('[data-class]').forEach((e) => e.classList.toggle('gone', !shown(e.dataset.class)));
      every('[data-classes]').forEach((e) => {
        e.classList.toggle('gone', !e.dataset.classes.split('\\n').some(shown));
      });
      every('[data-all]').forEach((e) => e.classList.toggle('gone', chosen.size > 0));
      every('button', filter).forEach((b) => {
        b.setAttribute('aria-pressed', b.value ? chosen.has(b.value) : !chosen.size);
      });
      every('details[data-rest]').forEach((d) => { if (chosen.size) d.open = true; });
      const none = document.querySelector('.none');
      if (none) none.hidden = every('.tile').some((t) => !t.classList.contains('gone'));
    };
    filter.addEventListener('click', (event) => {
      const button = event.target.closest('button');
      if (!button) return;
      if (!button.value) chosen.clear();
      else if (!chosen.delete(button.value)) chosen.add(button.value);
      apply();
    });
  }
  // Enlarged frames: keys, a swipe, and back to where one was.
  const open = () => document.querySelector('.large:target');
  const tiles = () => every('.tile').filter((t) => !t.classList.contains('gone'));
  const go = (step) => {
    const links = tiles().map((t) => t.hash), now = links.indexOf('#' + open().id);
    if (links.length) location.replace(links[(now + step + links.length) % links.length]);
  };
  const close = () => {
    const tile = document.querySelector(`.tile[href="#${open().id}"]`);
    // Not #frames: the page must not jump.
    const top = scrollY;
    location.replace('#frames');
    scrollTo({top, behavior: 'instant'});
    if (tile) tile.focus({preventScroll: true});
  };
  const hold = () => {
    document.documentElement.classList.toggle('held', Boolean(open()));
    if (open()) open().querySelector('.close').focus({preventScroll: true});
  };
  addEventListener('hashchange', hold);
  hold();
  addEventListener('keydown', (event) => {
    if (!open()) return;
    if (event.key === 'Escape') close();
    else if (event.key === 'ArrowRight') go(1);
    else if (event.key === 'ArrowLeft') go(-1);
    else if (event.key === 'Tab') {
      const links = every('a', open()), last = event.shiftKey ? links[0] : links.at(-1);
      if (document.activeElement !== last) return;
      links[event.shiftKey ? links.length - 1 : 0].focus();
    } else return;
    event.preventDefault();
  });
  every('.large').forEach((large) => {
    let from = null;
    large.addEventListener('touchstart', (event) => {
      from = event.touches.length === 1 ? event.touches[0] : null;
    }, {passive: true});
    large.addEventListener('touchend', (event) => {
      const to = event.changedTouches[0];
      if (!from || visualViewport.scale > 1.01) return;
      const across = to.clientX - from.clientX, down = to.clientY - from.clientY;
      if (Math.abs(across) > 60 && Math.abs(across) > 2 * Math.abs(down)) go(across < 0 ? 1 : -1);
    });
    large.addEventListener('click', (event) => {
      const link = event.target.closest('a');
      if (link && link.rel) { event.preventDefault(); go(link.rel === 'next' ? 1 : -1); }
      else if (link || event.target === large) { event.preventDefault(); close(); }
    });
  });
})();
"""
