# SPDX-License-Identifier: Apache-2.0
"""Run the probe, and outlive it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

#: Seconds for one probe: a cold disk takes its time over TensorRT.
LONGEST = 60.0
# The path as it is here, whatever the folder and the command that this process came from.
_START = (
    'import json, sys; sys.path[:] = json.loads(sys.argv[1]);'
    ' from trt_perception.cli.doctor.probe import main; main(sys.argv[2:])'
)


def probe(
    names: Sequence[str],
    on_begin: Callable[[str], None] = lambda name: None,
    longest: float = LONGEST,
) -> dict[str, dict[str, Any]]:
    """Probe all of these; one that ends the process, or hangs, is found out and passed over.

    Args:
        names: see `trt_perception.cli.doctor.probe`.
        on_begin: told of each.
        longest: seconds that one may take.
    """
    found: dict[str, dict[str, Any]] = {}
    while waiting := [name for name in names if name not in found]:
        under_way = waiting[0]
        try:
            with subprocess.Popen(
                [sys.executable, '-c', _START, json.dumps(sys.path), *waiting],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            ) as process:  # fmt: skip
                try:
                    for line in _lines(process, longest):
                        if 'begin' in line:
                            under_way = line['begin']
                            on_begin(under_way)
                        else:
                            found[line.pop('end')] = line
                    why = f'it ended the process{_how(process.wait(longest))}'
                except (TimeoutError, subprocess.TimeoutExpired):
                    why = f'it did not come back within {longest:.0f} s'
                finally:
                    process.kill()
        except OSError as error:
            why = f'no process could be started: {error.strerror}'
        if under_way not in found:
            found[under_way] = {'error': why}
    return found


def _lines(process: subprocess.Popen[bytes], longest: float) -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    file, rest = process.stdout.fileno(), b''
    while select.select([file], [], [], longest)[0]:
        data = os.read(file, 1 << 16)
        if not data:
            return
        *lines, rest = (rest + data).split(b'\n')
        yield from map(json.loads, lines)
    raise TimeoutError


def _how(code: int) -> str:
    if code >= 0:
        return f' (exit code {code})'
    try:
        return f' ({signal.Signals(-code).name})'
    except ValueError:
        return f' (signal {-code})'
