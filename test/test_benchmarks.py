# SPDX-License-Identifier: Apache-2.0
"""The benchmarks run; what they measure depends on the machine and is not looked at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('vision_msgs.msg')

BENCHMARKS = Path(__file__).resolve().parents[1] / 'benchmarks'


def run(script: str, *args: str, domain_id: int) -> str:
    done = subprocess.run(
        [sys.executable, BENCHMARKS / script, *args],
        env=os.environ | {'ROS_DOMAIN_ID': str(domain_id)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_cdr(domain_id: int) -> None:
    printed = run('cdr.py', '--frames', '3', '--json', domain_id=domain_id)
    report = json.loads(printed)
    assert (report['frames'], report['detections']) == (3, 300)
    assert set(report['median ms']) == {'messages', 'bytes'}
    assert all(ms > 0 for way in report['median ms'].values() for ms in way.values())
    assert report['ratio'] > 0


def test_cdr_table(domain_id: int) -> None:
    lines = run('cdr.py', '--frames', '3', '--detections', '7', domain_id=domain_id).splitlines()
    assert '7 detections' in lines[1]
    assert [line.split()[0] for line in lines if line][2:] == ['make', 'messages', 'bytes', 'bytes']
