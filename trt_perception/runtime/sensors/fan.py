# SPDX-License-Identifier: Apache-2.0
"""How hard the fan works."""

from __future__ import annotations

from typing import NamedTuple


class Fan(NamedTuple):
    """The fan; None for what cannot be read."""

    duty: float | None = None  # 0..1
    rpm: float | None = None
