# SPDX-License-Identifier: Apache-2.0
"""The benchmarks run; what they measure depends on the machine and is not looked at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from models import constant_detector
from videos import write_video

pytest.importorskip('vision_msgs.msg')

BENCHMARKS = Path(__file__).resolve().parents[1] / 'benchmarks'


def run(script: str, *args: str, domain_id: int) -> str:
    done = subprocess.run(
        [sys.executable, BENCHMARKS / script, *args],
        env=os.environ | {'ROS_DOMAIN_ID': str(domain_id)},
        capture_output=True,
        text=True,
        timeout=240,
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


def test_monitor(domain_id: int) -> None:
    report = json.loads(run('monitor.py', '--seconds', '2', '--json', domain_id=domain_id))
    assert set(report['microseconds']) == {'a frame', 'a second'}
    assert all(0 < t['p50'] <= t['p99'] for t in report['microseconds'].values())


def test_replay(tmp_path: Path) -> None:
    file = tmp_path / 'figures.json'
    options = ['--frames', '3', '--round', '3', '--rounds', '1', '--folder', str(tmp_path / 'bags')]
    run('replay.py', *options, '--json', str(file), domain_id=0)
    report = json.loads(file.read_text())
    assert [part['frames'] for part in report['memory']] == [3, 3]
    assert all(part['peak_mb'] > 0 for part in report['memory'])
    assert all(part['ratio'] > 0 for part in report['throughput'])


def test_pages(tmp_path: Path) -> None:
    file = tmp_path / 'figures.json'
    video = write_video(tmp_path / 'v.mp4')
    options = ['--video', str(video), '--frames', '90', '--times', '1', '--json', str(file)]
    run('pages.py', *options, domain_id=0)
    report = json.loads(file.read_text())
    assert set(report) == {'report', 'comparison'}
    assert all(0 < page['bytes'] < 5e6 for page in report.values())


def test_topics(domain_id: int, tmp_path: Path) -> None:
    model = constant_detector(tmp_path / 'm.onnx')
    video = write_video(tmp_path / 'v.mp4')
    options = ['--model', str(model), '--input', str(video), '--rate', '20', '--seconds', '1']
    report = json.loads(run('topics.py', *options, '--json', domain_id=domain_id))
    assert report['frames a second'] > 0
    assert {'infer', 'total', 'stamp to publish'} <= set(report['detector']['stages'])
    lines = run('topics.py', *options, domain_id=domain_id).splitlines()
    assert any(line.startswith('total ') for line in lines)


def test_composition(domain_id: int, tmp_path: Path) -> None:
    file = tmp_path / 'figures.json'
    lines = run('composition.py', '--quick', '--json', str(file), domain_id=domain_id).splitlines()
    results = json.loads(file.read_text())['results']
    assert [r['topology'] for r in results] == [
        'one node', 'one process', 'one process, DDS', 'two processes',
    ]  # fmt: skip
    for found in results:
        assert (found['cameras'], found['size']) == (2, 'VGA')
        assert 0 < found['arrived'] <= found['sent']
        assert 0 < found['handed_ms']['p50'] <= found['begun_ms']['p99']
        assert found['cpu_share'] > 0 and found['memory_mb'] > 0
    assert len([line for line in lines if line.startswith('| VGA | 2 | ')]) == 4


def test_thermal_policy_keeps_its_promise(domain_id: int, tmp_path: Path) -> None:
    """Not measured but simulated: what it finds is the same everywhere."""
    file = tmp_path / 'figures.json'
    lines = run('thermal_policy.py', '--json', str(file), domain_id=domain_id).splitlines()
    report = json.loads(file.read_text())
    without, with_policy = report['results'].values()
    trip = report['plant']['trip_c']
    # The board would have slowed down, and the most important camera would have felt it.
    assert without['times_throttled'] >= 3 and without['hottest_c'] == pytest.approx(trip, abs=0.5)
    assert without['cameras']['front']['missed_deadlines'] > 100
    # With the policy it does not, and no image of that camera is late, lost or left out.
    assert with_policy['times_throttled'] == 0 and with_policy['hottest_c'] < trip - 1
    front = with_policy['cameras']['front']
    assert front['missed_deadlines'] == 0 and front['images'] - front['published'] <= 1
    # The others give, and get all of it back.
    assert with_policy['cameras']['rear']['published'] < without['cameras']['rear']['published']
    levels = [level for _, level in with_policy['level_changes']]
    assert levels[0] == 'warm' and levels[-1] == 'nominal' and len(levels) <= 8
    assert len([line for line in lines if line.startswith('| with the policy | ')]) == 3


def test_end_to_end(domain_id: int, tmp_path: Path) -> None:
    model = constant_detector(tmp_path / 'm.onnx')
    options = ['--model', str(model), '--image-size', '320x240', '--frames', '5', '--warm-up', '2']
    printed = run('end_to_end.py', *options, '--json', domain_id=domain_id)
    (found,) = json.loads(printed)['results']
    assert (found['frames'], found['model']) == (5, 'm.onnx')
    assert 0 < found['latency_ms']['p50'] <= found['latency_ms']['p99']
    assert {'infer', 'total', 'stamp to publish'} <= set(found['stages'])
    printed = run('end_to_end.py', *options, domain_id=domain_id)
    assert '| ONNX Runtime' in printed


def test_gpu_tells_each_part_that_cannot_run_and_ends_with_an_error(tmp_path: Path) -> None:
    model = constant_detector(tmp_path / 'm.onnx')
    done = subprocess.run(
        [
            sys.executable, BENCHMARKS / 'gpu.py', '--model', model, '--engine', 'no.engine',
            '--parts', 'engine,peers', '--json', 'r.json',
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=240,
        env=os.environ | {'CUDA_VISIBLE_DEVICES': ''},
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    report = json.loads((tmp_path / 'r.json').read_text())
    assert list(report['failed']) == ['engine', 'peers']
    assert all(f'{part}: {why}' in done.stdout for part, why in report['failed'].items())


def test_cdr_table(domain_id: int) -> None:
    lines = run('cdr.py', '--frames', '3', '--detections', '7', domain_id=domain_id).splitlines()
    assert '7 detections' in lines[1]
    assert [line.split()[0] for line in lines if line][2:] == ['make', 'messages', 'bytes', 'bytes']


def test_soak(domain_id: int, tmp_path: Path) -> None:
    """All that goes wrong there, once; a leak takes more frames to show."""
    file = tmp_path / 'soak.json'
    options = ['--frames', '300', '--pause', '0.03', '--period', '0.2', '--json', str(file)]
    printed = run('soak.py', *options, domain_id=domain_id)
    found = json.loads(file.read_text())
    assert found['verdict'] == 'well' and 'all is well' in printed
    assert len(found['faults']) == 10 and all(found['faults'].values())
    assert found['frames'] >= 300
    for counts in found['cameras'].values():
        assert 0 < counts['published'] == counts['heard'] <= counts['received']
        assert not counts['disorder']
