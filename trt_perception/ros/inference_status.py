# SPDX-License-Identifier: Apache-2.0
"""What detector and container say of themselves on ``/diagnostics``, read back."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus

_LEVELS = 'ok', 'warn', 'error', 'stale'
_STAGE = re.compile(r'(.+) (p50|p95|p99|max) ms')


def inference_status(message: DiagnosticArray) -> dict[str, Any] | None:
    """The status of a detector, or None where the message is about something else.

    Returns:
        ``node``, ``level`` (ok, warn, error or stale) and ``message``; each value under its key,
        counts as whole numbers; ``stages``, by name ``{'p50_ms': float}``, and
        ``p95_ms``, ``p99_ms``, ``max_ms``.
    """
    for status in message.status:
        node, _, task = status.name.partition(': ')
        if task == 'inference':
            return {'node': node, **status_values(status)}
    return None


def status_values(status: DiagnosticStatus) -> dict[str, Any]:
    """The same of a status of whichever task, without ``node``."""
    values: dict[str, Any] = {'level': _LEVELS[status.level[0]], 'message': status.message}
    stages: dict[str, dict[str, float]] = {}
    for item in status.values:
        if stage := _STAGE.fullmatch(item.key):
            stages.setdefault(stage[1], {})[f'{stage[2]}_ms'] = float(item.value)
        else:
            values[item.key] = int(item.value) if item.value.isdecimal() else item.value
    return values | {'stages': stages}


def component_states(message: DiagnosticArray, container: str) -> dict[str, str] | None:
    """How the components of a container are, by the nodes' names, or None as above.

    Args:
        container: full name of its node, without the first slash.
    """
    for status in message.status:
        if status.name == f'{container}: components':
            return {item.key: item.value for item in status.values}
    return None
