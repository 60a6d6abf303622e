# SPDX-License-Identifier: Apache-2.0
"""Ranges for a profiler: right where the package nvtx is, and nothing where it is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from models import constant_detector

# A stand-in for the package: what a profiler would be told, on standard output.
_NVTX = """
class Domain:
    def get_event_attributes(self, message): return message
    def push_range(self, attributes): print('+', attributes)
    def pop_range(self): print('-')
def get_domain(name):
    print('domain', name)
    return Domain()
"""
_DETECT = """
import sys
from pathlib import Path
import numpy as np
from trt_perception.core import Frame, FrameError, Region, Selection
from trt_perception.runtime.pipeline import open_pipeline
pipeline = open_pipeline(Path(sys.argv[1]))
frame = Frame.from_array(np.zeros((64, 64, 3), np.uint8), source='/front')
pipeline(frame, Selection())
try: pipeline(frame, Selection(region=Region(90, 90, 9, 9)))
except FrameError: print('refused')
print('nvtx' in sys.modules)
"""


def detect(tmp_path: Path) -> list[str]:
    model = constant_detector(tmp_path / 'm.onnx')
    code = f'import sys; sys.path.insert(0, {str(tmp_path)!r})\n{_DETECT}'
    done = subprocess.run(
        [sys.executable, '-c', code, model], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_stages_lie_within_the_camera_and_end_even_where_one_fails(tmp_path):
    (tmp_path / 'nvtx.py').write_text(_NVTX)
    stages = ['+ preprocess', '-', '+ infer', '-', '+ decode', '-']
    failed = ['+ /front', '+ preprocess', '-', '-', 'refused']
    assert detect(tmp_path) == [
        'domain trt_perception', '+ /front', *stages, '-', *failed, 'True',
    ]  # fmt: skip


def test_without_the_package_nothing_is_asked_of_it(tmp_path):
    # Whatever this environment holds, it is not to be found.
    (tmp_path / 'nvtx.py').write_text("raise ImportError('not installed')")
    assert detect(tmp_path) == ['refused', 'False']


@pytest.mark.parametrize(
    'code',
    ['def annotate(message): ...', 'class Domain: ...\ndef get_domain(name): return Domain()'],
)
def test_releases_without_such_ranges_are_left_alone(tmp_path, code):
    """0.2.10 and 0.2.11."""
    (tmp_path / 'nvtx.py').write_text(code)
    assert detect(tmp_path) == ['refused', 'True']
