# SPDX-License-Identifier: Apache-2.0
"""Sources as they may be shown: logs and diagnostics are read by many."""

from __future__ import annotations

import re

_ADDRESS = re.compile(r'\w[\w+.-]*://[^\s\'"]+')
#: A property of a GStreamer element whose value is nobody's business, such as rtspsrc's user-pw.
_SECRET = re.compile(
    r'([\w-]*(?:pw|pass|passwd|password|passphrase|secret|token|key|user-id)\s*=\s*)'
    r'("[^"]*"|\'[^\']*\'|\S+)',
    re.IGNORECASE,
)


def without_password(address: str) -> str:
    """An address without its name and password, nor what is asked of a server.

    Passwords are found too where they hold what should have been written as %40, %2F, %3F or %23.
    """
    shown = re.sub(r'(?<=://)[^?#]*@', '***@', address)
    if shown == address:
        shown = re.sub(r'(?<=://).*@', '***@', shown, flags=re.DOTALL)
    return re.sub(r'[?#].*', '?***', shown, flags=re.DOTALL)


def without_passwords(text: str) -> str:
    """A text, such as an error of FFmpeg's or a pipeline of GStreamer's, without any."""
    shown = _SECRET.sub(r'\1***', text)
    return _ADDRESS.sub(lambda found: without_password(found[0]), shown)
