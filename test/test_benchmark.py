# SPDX-License-Identifier: Apache-2.0
"""``trt-perception benchmark``: real models measured; the figures depend on the machine."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from models import constant_detector

from trt_perception.core import Frame, FrameError, PerceptionError
from trt_perception.core.frame import ENCODINGS
from trt_perception.replay.benchmark.frames import as_sent, random_picture
from trt_perception.replay.benchmark.measure import PLACES, Camera, measure
from trt_perception.replay.benchmark.result import SCHEMA, spread
from trt_perception.runtime.host.color import to_bgr
from trt_perception.runtime.machine import describe_machine, process_memory
from trt_perception.runtime.pipeline import open_pipeline
from trt_perception.runtime.sensors import Sensors
from trt_perception.runtime.sensors.sensors import figures

COMMAND = [sys.executable, '-m', 'trt_perception.cli.main', 'benchmark']


def run(*args: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *args], cwd=cwd, capture_output=True, text=True, timeout=240)


def report(path: Path, *args: str) -> dict[str, Any]:
    constant_detector(path / 'm.onnx', [[0, 0, 20, 20], [30, 30, 60, 60]], [0.9, 0.8], [1, 0])
    given = ('--model', 'm.onnx', '--backend', 'onnxruntime', '--seconds', '1', '--json', '-')
    done = run(*given, *args, cwd=path)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# The command


def test_every_figure_is_there_and_they_agree(tmp_path):
    found = report(tmp_path, '--cameras', '2', '--image-size', '320x200', '--encoding', 'nv12')
    assert found['schema'] == SCHEMA
    assert found['image'] == {
        'width': 320, 'height': 200, 'encoding': 'nv12', 'bytes': 96000, 'memory': 'pageable',
        'picture': 'noise',
    }  # fmt: skip
    assert found['ran']['backend'].startswith('ONNX Runtime')
    assert found['chosen'] == 'backend is onnxruntime'
    assert found['detections_per_frame'] == 2
    cameras = found['cameras']
    assert len(cameras) == 2 and all(camera['frames'] > 0 for camera in cameras)
    assert found['frames'] == sum(camera['frames'] for camera in cameras)
    assert found['seconds'] >= 1
    assert found['frames_per_second'] == pytest.approx(found['frames'] / found['seconds'], rel=0.01)
    for part in (found, *cameras):
        assert set(part['host_ms']) == {'total'}  # no GPU that could be waited for
        assert set(part['stage_ms']) == {'preprocess', 'infer', 'decode'}
        for times in (*part['host_ms'].values(), *part['stage_ms'].values()):
            assert 0 <= times['p50'] <= times['p95'] <= times['p99'] <= times['max']
    # No CUDA, no counts of it.
    assert (found['driver_calls_per_frame'], found['allocations']) == (None, None)
    assert found['memory_bytes']['peak'] >= found['memory_bytes']['resident'] > 0
    assert found['cpu_share'] > 0
    assert len(found['model']['sha256']) == 64 and found['engine'] is None
    assert {'numpy', 'onnxruntime', 'python'} <= set(found['versions'])


def test_table_plot_and_file(tmp_path):
    constant_detector(tmp_path / 'm.onnx')
    done = run(
        '--model', 'm.onnx', '--backend', 'onnxruntime', '--seconds', '1', '--image-size', '64x48',
        '--json', 'r.json', '--plot', 'r.svg', cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [line.split()[0] for line in done.stdout.splitlines() if line.strip()]
    assert [r for r in rows if r in ('total', 'preprocess', 'infer', 'decode')] == [
        'total', 'preprocess', 'infer', 'decode',
    ]  # fmt: skip
    assert {'machine', 'ran', 'images', 'rate', 'processor', 'memory'} <= set(rows)
    assert 'driver' not in rows
    assert done.stderr.splitlines() == ['warming up', 'measuring']
    assert json.loads((tmp_path / 'r.json').read_text())['frames'] > 0
    drawn = ET.fromstring((tmp_path / 'r.svg').read_text())
    texts = [text.text for text in drawn.iter('{http://www.w3.org/2000/svg}text')]
    assert {'total', 'preprocess', 'infer', 'decode'} <= set(texts)


@pytest.mark.parametrize(
    ('args', 'said'),
    [
        (['--image-size', '1920'], "'1920' is no size; write it as 1920x1080"),
        (['--image-size', '0x10'], "'0x10' is no size"),
        (['--image-size', '99999x10'], '99999x10 is no size of an image; 1 to 16384 each'),
        (['--encoding', 'rgb9'], "encoding 'rgb9' is not one of rgb8, bgr8"),
        (['--encoding', 'nv12', '--image-size', '63x48'], 'sizes must be even'),
        (['--cameras', '0'], "'0' is not a whole number of 1 to 64"),
        (['--seconds', '0'], "'0' is not a whole number of 1 to 86400"),
        (['--memory', 'pinned'], 'memory pinned is for a GPU'),
        (['--engine', 'm.onnx'], "engine 'm.onnx' does not end in .engine; give an ONNX file as"),
        (['--engine', 'm.engine'], "is a TensorRT engine, which backend 'onnxruntime' cannot run"),
        (['--backend', 'fast'], "backend 'fast' is not one of auto, onnxruntime, tensorrt"),
        (['--plot', 'r.png'], "'r.png' does not end in .svg"),
        (['--json', 'no/r.json'], "there is no folder 'no'"),
        (['--input', 'no.mp4'], "input 'no.mp4' does not exist"),
        (['--model', 'no.onnx'], "model 'no.onnx' is not a file"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(tmp_path, args, said):
    constant_detector(tmp_path / 'm.onnx')
    done = run('--model', 'm.onnx', '--backend', 'onnxruntime', *args, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, '')
    line = done.stderr.splitlines()[-1]
    assert 'error: ' in line and said in line
    assert 'Traceback' not in done.stderr


def test_nothing_to_run(tmp_path):
    done = run(cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == 'error: there is nothing to run: give --model, or --engine on a GPU\n'


# The images


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_pictures_are_what_the_encoding_makes_of_them(encoding):
    smooth = np.empty((60, 80, 3), np.uint8)
    smooth[..., 0] = np.linspace(20, 220, 80)
    smooth[..., 1] = np.linspace(200, 40, 60)[:, None]
    smooth[..., 2] = 128
    frame = as_sent(smooth, 80, 60, encoding)
    assert (frame.width, frame.height, frame.encoding) == (80, 60, ENCODINGS[encoding].name)
    seen = to_bgr(frame).astype(int)
    expected = smooth.astype(int)
    if encoding.startswith('mono'):
        expected = (expected @ np.array([0.114, 0.587, 0.299]))[..., None].repeat(3, axis=2)
    # Within the border that a Bayer pattern cannot know.
    assert np.abs(seen - expected)[2:-2, 2:-2].max() <= 6


@pytest.mark.parametrize('size', [(0, 4), (4, 16385)])
def test_impossible_sizes(size):
    with pytest.raises(FrameError):
        as_sent(random_picture(), *size, 'bgr8')


# Measuring


class _Failing:
    """A pipeline that works for so many frames."""

    def __init__(self, pipeline: Any, good: int) -> None:
        self._pipeline, self._good = pipeline, good

    def __call__(self, frame: Frame, selection: Any) -> Any:
        self._good -= 1
        if self._good < 0:
            raise PerceptionError('the camera has burnt')
        return self._pipeline(frame, selection)


@pytest.mark.parametrize('good', [3, 30])
def test_an_error_of_one_camera_ends_it(tmp_path, good):
    whole = open_pipeline(constant_detector(tmp_path / 'm.onnx', work=4))
    other = open_pipeline(tmp_path / 'm.onnx')
    frame = as_sent(random_picture(), 64, 64, 'bgr8')
    cameras = [Camera(other, frame, 'pageable', '0')]
    cameras.append(Camera(_Failing(whole, good), frame, 'pageable', '1'))
    with pytest.raises(PerceptionError, match='burnt'):
        measure(cameras, whole.engine.info, {}, 3600)


def test_what_a_step_raises_ends_it(tmp_path):
    pipeline = open_pipeline(constant_detector(tmp_path / 'm.onnx'))
    camera = Camera(pipeline, as_sent(random_picture(), 64, 64, 'bgr8'), 'pageable', '0')

    def interrupted(phase: str, share: float) -> None:
        if phase == 'measuring':
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure([camera], pipeline.engine.info, {}, 3600, on_step=interrupted)


def test_the_warm_up_can_be_stopped(tmp_path):
    pipeline = open_pipeline(constant_detector(tmp_path / 'm.onnx'))
    frames: list[Frame] = []
    steps: list[str] = []

    def slow(frame: Frame, selection: Any) -> Any:
        frames.append(frame)
        time.sleep(0.1)
        return pipeline(frame, selection)

    def interrupted(phase: str, share: float) -> None:
        steps.append(phase)
        if len(steps) == 2:
            raise KeyboardInterrupt

    camera = Camera(slow, as_sent(random_picture(), 64, 64, 'bgr8'), 'pageable', '0')
    with pytest.raises(KeyboardInterrupt):
        measure([camera], pipeline.engine.info, {}, 3600, on_step=interrupted)
    assert len(frames) < 10


class _Ticket:
    def __init__(self, answer: Any) -> None:
        self.finish = answer


class _Gpu:
    """A pipeline with lanes, as one on a GPU has them, that counts as the driver would."""

    def __init__(self, pipeline: Any, calls: Counter[str]) -> None:
        self._pipeline, self._calls = pipeline, calls
        self._seen: set[int] = set()
        self._buffers: list[np.ndarray] = []

    def frame_buffer(self, size: int) -> np.ndarray:
        self._calls['cuMemHostAlloc'] += 1
        self._buffers.append(np.zeros(size, np.uint8))
        return self._buffers[-1]

    def begin(self, frame: Frame, selection: Any) -> _Ticket:
        assert any(frame.data is buffer for buffer in self._buffers)
        if not self._seen:
            self._calls['cuMemAlloc'] += 1  # as with the first frame of its kind
        self._seen.add(id(frame))
        self._calls['cuGraphLaunch'] += 1
        return _Ticket(lambda: self._pipeline(frame, selection))


def test_driver_calls_and_allocations_are_those_after_the_warm_up(tmp_path, monkeypatch):
    calls: Counter[str] = Counter(cuInit=1)
    driver = SimpleNamespace(calls=calls)
    monkeypatch.setitem(sys.modules, 'trt_perception.runtime.cuda.driver', driver)
    host = open_pipeline(constant_detector(tmp_path / 'm.onnx'))
    gpu = _Gpu(host, calls)
    camera = Camera(gpu, as_sent(random_picture(), 64, 64, 'bgr8'), 'pinned', '0')
    result = measure([camera], host.engine.info, {}, 0.2)
    assert len(gpu._seen) == len(gpu._buffers) == PLACES
    assert result.driver_calls == {'cuGraphLaunch': result.frames}
    assert result.calls_per_frame() == {'cuGraphLaunch': 1}
    assert result.allocations == {}
    assert set(result.host_ms) == {'total', 'submit', 'wait'}
    assert set(result.stage_ms) == {'preprocess', 'infer', 'decode'}


def test_spread():
    assert spread([1_000_000 * n for n in range(101)]) == (50, 95, 99, 100)
    assert spread([2_500_000]) == (2.5, 2.5, 2.5, 2.5)


# The machine


def test_an_orin_tells_its_clock_load_temperature_and_power(tmp_path):
    files = {
        'proc/device-tree/model': 'NVIDIA Jetson AGX Orin Developer Kit\0',
        'etc/nv_tegra_release': '# R36 (release), REVISION: 4.0\nmore',
        'var/lib/nvpmodel/status': 'pmode:0000',
        'sys/class/devfreq/17000000.gpu/cur_freq': '1300500000\n',
        'sys/class/devfreq/17000000.gpu/device/load': '437\n',
        'sys/class/devfreq/15340000.vic/cur_freq': '1\n',
        'sys/class/thermal/thermal_zone1/type': 'gpu-thermal\n',
        'sys/class/thermal/thermal_zone1/temp': '51250\n',
        'sys/class/hwmon/hwmon0/name': 'other\n',
        'sys/class/hwmon/hwmon0/in1_label': 'X\n',
        'sys/class/hwmon/hwmon1/name': 'ina3221\n',
        'sys/class/hwmon/hwmon1/in1_label': 'VDD_GPU_SOC\n',
        'sys/class/hwmon/hwmon1/in1_input': '12000\n',
        'sys/class/hwmon/hwmon1/curr1_input': '1500\n',
        'sys/class/hwmon/hwmon1/in2_label': 'VDD_CPU_CV\n',
        'sys/class/hwmon/hwmon1/in2_input': '12000\n',
        'sys/class/hwmon/hwmon1/curr2_input': 'broken\n',
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert figures(Sensors(root=tmp_path).read()) == {
        'gpu_clock_mhz': 1300.5, 'gpu_load': pytest.approx(0.437), 'gpu_temperature_c': 51.25,
        'power_vdd_gpu_soc_w': 18.0,
    }  # fmt: skip
    machine = describe_machine(tmp_path)
    assert machine['model'] == 'NVIDIA Jetson AGX Orin Developer Kit'
    assert machine['jetson_linux'] == 'R36 (release), REVISION: 4.0'
    assert machine['power_mode'] == '0000'


def test_what_cannot_be_read_is_left_out(tmp_path):
    assert set(describe_machine(tmp_path)) == {'cpu', 'cores', 'system'}
    assert process_memory(tmp_path) == {'resident': 0, 'peak': 0}
