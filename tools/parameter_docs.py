# SPDX-License-Identifier: Apache-2.0
"""Write config/*.yaml and the tables in the documents from the tables that the nodes declare.

    .venv/kilted-3.11/bin/python tools/parameter_docs.py

With --check nothing is written, and what is out of date is the exit code. The tests do that.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from trt_perception.ros.camera_parameters import CAMERA
from trt_perception.ros.detector_parameters import DETECTOR
from trt_perception.ros.overlay_parameters import OVERLAY
from trt_perception.ros.parameters import Parameter, Value
from trt_perception.ros.policy_parameters import POLICY
from trt_perception.ros.recording_parameters import REPLAY

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = '<!-- parameters: tools/parameter_docs.py -->', '<!-- end of parameters -->'

_YAML_HEAD = """\
# SPDX-License-Identifier: Apache-2.0
# The {node}'s parameters with their defaults; written by tools/parameter_docs.py. Copy it, keep
# the lines that you change, and start with params_file:= or --params-file. {live}
/**:
  ros__parameters:
"""


_LIVE = """A parameter marked
# "live" can be changed while the node runs (ros2 param set), the others when it is configured."""
_NOT_LIVE = """They take effect
# when the node is configured."""


def yaml_text(node: str, table: Sequence[Parameter]) -> str:
    """A parameter file that holds each default."""
    blocks = []
    for p in table:
        notes = ', '.join(filter(None, [p.type_name, p.constraint, 'live' if p.live else '']))
        comment = textwrap.wrap(f'{p.description} ({notes})', 94)
        lines = [*(f'# {line}' for line in comment), f'{p.name}: {_yaml(p.default)}']
        blocks.append(textwrap.indent('\n'.join(lines) + '\n', '    '))
    live = _LIVE if any(p.live for p in table) else _NOT_LIVE
    return _YAML_HEAD.format(node=node, live=live) + '\n'.join(blocks)


def markdown(table: Sequence[Parameter]) -> str:
    """A table for a document."""
    rows = ['| parameter | type | default | what it does |', '|---|---|---|---|']
    for p in table:
        name = f'`{p.name}`' + (' ⟳' if p.live else '')
        kind = p.type_name + (f', {p.constraint}' if p.constraint else '')
        rows.append(f'| {name} | {kind} | `{_yaml(p.default)}` | {p.description} |')
    return '\n'.join(rows)


def _yaml(value: Value) -> str:
    if isinstance(value, str):
        return f"'{value}'"
    if isinstance(value, list):
        return '[' + ', '.join(map(_yaml, value)) + ']'
    return json.dumps(value)


def _document(file: Path, table: Sequence[Parameter]) -> dict[Path, str]:
    before, _, rest = file.read_text(encoding='utf-8').partition(BEGIN)
    _, _, after = rest.partition(END)
    return {file: f'{before}{BEGIN}\n{markdown(table)}\n{END}{after}'}


def main(check: bool) -> int:
    """Write the files; how many were out of date."""
    wanted = {
        ROOT / 'config' / 'camera.yaml': yaml_text('camera', CAMERA),
        ROOT / 'config' / 'detector.yaml': yaml_text('detector', DETECTOR),
        **_document(ROOT / 'README.md', [p for p in DETECTOR if p not in POLICY]),
        **_document(ROOT / 'docs' / 'cameras.md', CAMERA),
        **_document(ROOT / 'docs' / 'frame_bus.md', OVERLAY),
        **_document(ROOT / 'docs' / 'health_policy.md', POLICY),
        **_document(ROOT / 'docs' / 'replay_testing.md', REPLAY),
    }
    stale = [f for f, text in wanted.items() if not f.is_file() or f.read_text('utf-8') != text]
    for file in stale:
        print(f'{file.relative_to(ROOT)} {"is out of date" if check else "written"}')
        if not check:
            file.write_text(wanted[file], encoding='utf-8')
    return len(stale) if check else 0


if __name__ == '__main__':
    sys.exit(main('--check' in sys.argv[1:]))
