# SPDX-License-Identifier: Apache-2.0
"""Sensors read as they are on real boards, on this machine, and where there are none."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_nvml import H200, FakeGpu, FakeNvml, cuda
from sysfs_trees import (
    AGX_ORIN_JETPACK_6,
    AGX_ORIN_JETPACK_7,
    OFF,
    ORIN_NANO,
    PC,
    THOR,
    Files,
    Tree,
    orin_gpu,
)

from trt_perception.runtime.cuda import driver
from trt_perception.runtime.engine import EngineError
from trt_perception.runtime.machine import board_model
from trt_perception.runtime.sensors import Clock, Fan, Sensors
from trt_perception.runtime.sensors.power import supplying
from trt_perception.runtime.sensors.sensors import figures


@pytest.fixture(autouse=True)
def nvml(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Put a library in the place of the machine's; there is none until then."""
    monkeypatch.setitem(sys.modules, 'pynvml', None)
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)

    def put(*gpus: FakeGpu, sees: Sequence[str] = (), **options: Any) -> FakeNvml:
        library = FakeNvml(*gpus, **options)
        monkeypatch.setitem(sys.modules, 'pynvml', library)

        def bindings() -> Any:
            if not sees:
                raise EngineError('no cuda-python')
            return cuda(*sees)

        monkeypatch.setattr(driver, 'bindings', bindings)
        return library

    return put


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Any]:
    made: list[Tree] = []

    def make(parts: Sequence[Files]) -> Tree:
        made.append(Tree(tmp_path, *parts))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_agx_orin_with_jetpack_6(tree):
    orin = tree(AGX_ORIN_JETPACK_6)
    sensors = Sensors(root=orin.root)
    sample = sensors.read()
    assert sample.temperatures == {
        'cpu': 52.875, 'soc0': 49.062, 'soc1': 49.031, 'soc2': 48.656, 'tj': 52.875
    }  # fmt: skip
    assert sample.trips['gpu'] == {'passive': 99, 'critical': 104.5}
    assert sample.trips['tj'] == {'active': 74, 'passive': 99, 'critical': 104.5}
    assert sample.slowed == []  # and a fan that turns is no slowdown
    assert sample.clocks == {'gpu': Clock(306, 1300.5, 0.0)}  # the memory's is root's
    assert sample.over_current == {'oc1': 0, 'oc2': 15, 'oc3': 37}
    assert sample.power_w == {
        'vdd_gpu_soc': pytest.approx(3.1808), 'vdd_cpu_cv': pytest.approx(0.7952),
        'vin_sys_5v0': pytest.approx(4.540752), 'vddq_vdd2_1v8ao': pytest.approx(0.39744),
    }  # fmt: skip
    # The last one is part of the third.
    assert supplying(sample.power_w) == ['vdd_gpu_soc', 'vdd_cpu_cv', 'vin_sys_5v0']
    assert sample.power_mode == 'MAXN'
    assert sample.fan == Fan(77 / 255, 2140)
    assert sensors.absent == ['NVML (nvidia-ml-py is not installed)']
    assert board_model(orin.root) == 'NVIDIA Jetson AGX Orin Developer Kit'


def test_agx_orin_with_jetpack_7(tree):
    sample = Sensors(root=tree(AGX_ORIN_JETPACK_7).root).read()
    assert sample.temperatures == {
        'tj': 64.5, 'soc0': 60.25, 'gpu': 63.125, 'cpu': 64.5, 'tboard': 55
    }  # fmt: skip
    assert sample.clocks == {
        'gpu': Clock(612, 612, pytest.approx(0.873)), 'emc': Clock(2133, 3199)
    }  # fmt: skip
    assert sample.power_mode == 'MODE_30W'
    assert sample.fan == Fan(128 / 255, 3210)
    assert 'tboard' not in sample.trips


def test_orin_nano(tree):
    sample = Sensors(root=tree(ORIN_NANO).root).read()
    assert 'cv0' not in sample.temperatures  # -256 degrees
    assert sample.over_current['oc3'] == 27390
    assert set(sample.power_w) == {'vdd_in', 'vdd_cpu_gpu_cv', 'vdd_soc'}
    assert supplying(sample.power_w) == ['vdd_in']  # the input, which feeds the others
    assert sample.power_mode == 'MAXN_SUPER'
    assert sample.fan == Fan(1.0, None)


def test_thor(tree, nvml):
    nvml(
        FakeGpu('0000:00:00.0', 'GPU-1', **H200 | {'nvmlDeviceGetTemperature': 56}),
        sees=['0000:00:00.0'],
    )
    thor = tree(THOR)
    sample = Sensors(root=thor.root).read()
    # While the GPU's own zone sleeps, NVML tells; the trips stay those of the board.
    assert sample.temperatures['gpu'] == 56
    assert sample.trips['gpu'] == {'critical': 114.5}
    assert sample.clocks['gpu'] == Clock(0, 1575, pytest.approx(0.97))
    assert sample.clocks['emc'] == Clock(4266, 4266)
    assert sample.power_w['vdd_gpu'] == 0  # it reads a little less
    assert sample.power_w['vin'] == pytest.approx(23.049)
    assert supplying(sample.power_w) == ['vin']
    assert 'gpu' not in sample.power_w
    thor.set('sys/class/thermal/cooling_device9/cur_state', 1)
    thor.set('sys/class/thermal/thermal_zone4/temp', 109000)
    sample = Sensors(root=thor.root).read()
    assert (sample.slowed, sample.temperatures['gpu']) == (['gpu-throttle-alert'], 109)


def test_a_pc(tree, nvml):
    nvml(FakeGpu('0000:19:00.0', 'GPU-1', **H200), sees=['0000:19:00.0'])
    pc = tree(PC)
    sensors = Sensors(root=pc.root)
    sample = sensors.read()
    assert sample.temperatures == {'acpitz': 27.8, 'x86_pkg_temp': 54, 'cpu': 54, 'gpu': 41}
    assert sample.trips == {
        'acpitz': {'critical': 119}, 'cpu': {'passive': 100},
        'gpu': {'passive': 86, 'hot': 89, 'critical': 92},
    }  # fmt: skip
    assert sample.clocks == {'gpu': Clock(1980, 1980, 0.97), 'memory': Clock(3201, 3201)}
    assert sample.power_w == {'gpu': pytest.approx(512.345)}
    assert sample.limits == {'gpu': ('power cap',)}
    assert sample.fan is None
    assert sensors.driver == '570.86.15'
    assert sensors.absent == ['over-current counters', 'power rails', 'power mode', 'fan']
    assert board_model(pc.root) == 'ASRockRack W680D4U'
    assert figures(sample) == {
        'gpu_clock_mhz': 1980, 'memory_clock_mhz': 3201, 'gpu_load': 0.97, 'gpu_temperature_c': 41,
        'power_gpu_w': pytest.approx(512.345), 'gpu_memory_used_bytes': 5 << 30,
    }  # fmt: skip


@pytest.mark.parametrize('name', ['17000000.ga10b', '17000000.gv11b', 'gpu-gpc-0'])
def test_the_gpu_goes_by_another_name_in_each_release(tree, name):
    sensors = Sensors(root=tree([orin_gpu(510000000, 9223372036854775807, 12, name)]).root)
    assert sensors.read().clocks == {'gpu': Clock(510, None, pytest.approx(0.012))}


def test_a_sensor_may_come_and_go(tree):
    orin = tree(AGX_ORIN_JETPACK_6)
    sensors = Sensors(root=orin.root)
    zone = 'sys/class/thermal/thermal_zone1/temp'
    seen = []
    for told in (47000, OFF, '', 'nonsense', 48000):
        orin.set(zone, told)
        seen.append(sensors.read().temperatures.get('gpu'))
    (orin.root / zone).unlink()
    seen.append(sensors.read().temperatures.get('gpu'))
    assert seen == [47, None, None, None, 48, None]


def test_where_there_is_nothing_nothing_is_read(tmp_path):
    sensors = Sensors(root=tmp_path)
    assert not any(sensors.read())
    assert len(sensors.absent) == 6


def test_this_machine():
    sensors = Sensors()
    for _ in range(2):
        sample = sensors.read()
        told = [*sample.temperatures.values(), *sample.power_w.values()]
        told += [clock.mhz for clock in sample.clocks.values()]
        assert all(math.isfinite(value) for value in told)
        assert all(-100 < t < 200 for t in sample.temperatures.values())
        assert all(count >= 0 for count in sample.over_current.values())
    assert bool(sample.temperatures) or 'thermal zones' in sensors.absent


# Which GPU

COOL = FakeGpu('0000:19:00.0', 'GPU-aaa1', **H200 | {'nvmlDeviceGetTemperature': 30})
WARM = FakeGpu('0000:3b:00.0', 'GPU-bbb2', **H200 | {'nvmlDeviceGetTemperature': 80})


def test_cuda_counts_otherwise_than_nvml(tmp_path, nvml):
    nvml(COOL, WARM, sees=['0000:3b:00.0', '0000:19:00.0'])
    sample = Sensors((0, 1), tmp_path).read()
    assert sample.temperatures == {'gpu': 80, 'gpu1': 30}
    assert set(sample.clocks) == {'gpu', 'memory', 'gpu1', 'gpu1_memory'}
    assert set(sample.power_w) == set(sample.limits) == {'gpu', 'gpu1'}


@pytest.mark.parametrize(
    ('visible', 'temperature'), [('', 30), ('1', 80), ('1,0', 80), ('GPU-bbb2', 80)]
)
def test_without_cuda_its_variable_is_obeyed(tmp_path, nvml, monkeypatch, visible, temperature):
    nvml(COOL, WARM)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', visible)
    assert Sensors(root=tmp_path).read().temperatures == {'gpu': temperature}


def test_a_gpu_that_is_not_there_is_said(tmp_path, nvml):
    nvml(COOL)
    sensors = Sensors((0, 3), tmp_path)
    assert 'NVML (NVML has no GPU 3: Not Found)' in sensors.absent
    assert sensors.read().temperatures == {'gpu': 30}


def test_a_library_without_a_driver_is_said(tmp_path, nvml):
    nvml(COOL, starts=False)
    sensors = Sensors(root=tmp_path)
    assert 'NVML (NVML does not start: Driver Not Loaded)' in sensors.absent
    assert not any(sensors.read())


def test_a_gpu_that_tells_nothing(tmp_path, nvml):
    nvml(FakeGpu('0000:19:00.0', 'GPU-1'))
    assert not any(Sensors(root=tmp_path).read())


def test_a_gpu_that_is_lost_takes_nothing_with_it(tree, nvml):
    gpu = FakeGpu('0000:19:00.0', 'GPU-1', **H200)
    nvml(gpu)
    sensors = Sensors(root=tree(PC).root)
    assert 'gpu' in sensors.read().temperatures
    gpu.told.clear()
    assert set(sensors.read().temperatures) == {'acpitz', 'x86_pkg_temp', 'cpu'}


def test_newer_gpus_tell_how_far_each_trip_is(tmp_path, nvml):
    def field(value: int, answer: int = 0) -> SimpleNamespace:
        return SimpleNamespace(nvmlReturn=answer, value=SimpleNamespace(siVal=value))

    # As nvidia-smi shows it: GPU Current Temp 35, T.Limit 52; Max Operating 0, Slowdown -2,
    # Shutdown -5.
    told = H200 | {
        'nvmlDeviceGetTemperature': 35,
        'nvmlDeviceGetTemperatureThreshold': None,
        'nvmlDeviceGetMarginTemperature': 52,
        'nvmlDeviceGetFieldValues': [field(0), field(-2), field(-5)],
    }
    nvml(FakeGpu('0000:19:00.0', 'GPU-1', **told))
    assert Sensors(root=tmp_path).read().trips == {
        'gpu': {'passive': 87, 'hot': 89, 'critical': 92}
    }
    told['nvmlDeviceGetFieldValues'] = [field(0), field(0, 3), field(-5)]
    nvml(FakeGpu('0000:19:00.0', 'GPU-1', **told))
    assert Sensors(root=tmp_path).read().trips == {'gpu': {'passive': 87, 'critical': 92}}
