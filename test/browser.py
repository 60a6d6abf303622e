# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium, where there is one, to see what a page does."""

from __future__ import annotations

import json
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable', 'chrome')
_ANSWER = '<pre id="answer">'


def find_browser() -> str | None:
    """The command of one that is installed."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def answer(
    page: Path, script: str, *, width: int = 1200, height: int = 900, dark: bool = False
) -> Any:
    """What an asynchronous function gives that runs in a page once it is loaded.

    Args:
        page: HTML; what runs is a copy of it, with the function at its end.
        script: body of the function. In it, ``step()`` waits until the page has drawn what is new.
        dark: the system's colours are.
    """
    browser = find_browser()
    if browser is None:
        pytest.skip(f'no browser: one of {", ".join(NAMES)}')
    tested = page.with_suffix('.tested.html')
    ask = (
        '<script>addEventListener("load", async () => {'
        ' const step = () => new Promise((done) => setTimeout(done, 50));'
        f' const ask = async () => {{ {script} }};'
        ' let told; try { told = await ask(); } catch (error) { told = String(error.stack); }'
        ' const pre = document.createElement("pre"); pre.id = "answer";'
        ' pre.textContent = JSON.stringify(told); document.body.replaceChildren(pre); });</script>'
    )
    tested.write_text(page.read_text(encoding='utf-8') + ask, encoding='utf-8')
    # A profile of its own: one that is shared is locked by another test.
    command = [
        browser, '--headless=new', '--no-sandbox', '--disable-gpu', '--hide-scrollbars',
        f'--user-data-dir={page.parent / "profile"}', f'--window-size={width},{height}',
        f'--blink-settings=preferredColorScheme={0 if dark else 1}',
        '--virtual-time-budget=20000', '--dump-dom', f'file://{tested}',
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert _ANSWER in done.stdout, done.stderr[-2000:] + done.stdout[-500:]
    return json.loads(unescape(done.stdout.partition(_ANSWER)[2].partition('</pre>')[0]))
