# SPDX-License-Identifier: Apache-2.0
"""Heat and power judged: what is told, when it is over, and what is nothing to worry about."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fake_nvml import H200, FakeGpu, FakeNvml
from sysfs_trees import AGX_ORIN_JETPACK_7, OFF, ORIN_NANO, PC, THOR, Files, Tree

from trt_perception.health.board import Judge, Reading
from trt_perception.health.level import Judgement, Level
from trt_perception.health.observer import Observer
from trt_perception.runtime.sensors import Sensors

OK, WARN, ERROR = Level.OK, Level.WARN, Level.ERROR


class Watched:
    """A board whose files change from second to second."""

    def __init__(self, root: Path, parts: Sequence[Files]) -> None:
        self._tree = Tree(root, *parts)
        self._now = 1000.0
        self._observer = Observer(Sensors(root=root), lambda: self._now)
        self._judge = Judge()
        self.close = self._tree.close
        self.after()

    def after(self, seconds: float = 1.0, **files: object) -> Judgement:
        """What is judged so much later, with other files."""
        for key, content in files.items():
            self._tree.set(PLACES[key], content)
        self._now += seconds
        self.reading = self._observer.read()
        return self._judge.judge(self.reading)


_HWMON = 'sys/class/hwmon'
#: In the trees of AGX Orin with JetPack 7 and of Orin Nano.
PLACES = {
    'agx_gpu': 'sys/class/thermal/thermal_zone2/temp',
    'agx_tj': 'sys/class/thermal/thermal_zone0/temp',
    'agx_oc1': f'{_HWMON}/hwmon10/oc1_event_cnt',
    'agx_oc2': f'{_HWMON}/hwmon10/oc2_event_cnt',
    'nano_oc3': f'{_HWMON}/hwmon3/oc3_event_cnt',
    'nano_amperes': f'{_HWMON}/hwmon1/curr1_input',
    'clock': 'sys/class/devfreq/17000000.gpu/cur_freq',
    'load': 'sys/devices/platform/bus@0/17000000.gpu/load',
    'alert': 'sys/class/thermal/cooling_device3/cur_state',
    'cap': 'sys/class/thermal/cooling_device6/cur_state',
    'surface': 'sys/class/thermal/cooling_device5/cur_state',
}


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setitem(sys.modules, 'pynvml', None)
    made: list[Watched] = []

    def make(parts: Sequence[Files]) -> Watched:
        made.append(Watched(tmp_path / str(len(made)), parts))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_all_is_well(board):
    orin = board(AGX_ORIN_JETPACK_7)
    assert orin.after() == (
        OK, 'tj is the hottest with 64.5 C, 34.5 C are left until it is slowed down, 20.8 W'
    )  # fmt: skip
    assert orin.reading.margin_c == 34.5
    assert orin.reading.margins_c['gpu'] == pytest.approx(99 - 63.125)
    assert 'tboard' not in orin.reading.margins_c


def test_a_zone_near_its_trip_is_told_until_it_is_well_away(board):
    orin = board(AGX_ORIN_JETPACK_7)
    levels = [orin.after(agx_gpu=t)[0] for t in (93999, 94001, 93000, 91001, 90999, 93999)]
    assert levels == [OK, WARN, WARN, WARN, OK, OK]
    assert orin.after(agx_gpu=96500).message == (
        'gpu is at 96.5 C, 2.5 below where it is slowed down (99.0 C)'
    )


def test_a_hot_zone_that_does_not_answer_is_not_well(board):
    orin = board(AGX_ORIN_JETPACK_7)
    hot = orin.after(agx_gpu=96500)
    assert hot.level == WARN
    assert orin.after(agx_gpu=OFF) == orin.after(agx_gpu='') == hot
    assert 'gpu' not in orin.reading.temperatures
    assert orin.after(9).level == OK  # it sleeps


def test_above_its_trip_a_zone_is_slowed_down(board):
    orin = board(AGX_ORIN_JETPACK_7)
    level, message = orin.after(agx_gpu=99500)
    assert (level, message) == (
        WARN, 'slowed down: gpu is at 99.5 C and slowed down from 99.0 C on'
    )  # fmt: skip
    assert orin.reading.throttled in message
    assert orin.reading.margin_c == -0.5


def test_before_it_is_switched_off_it_is_an_error(board):
    orin = board(AGX_ORIN_JETPACK_7)
    levels = [orin.after(agx_tj=t)[0] for t in (101400, 101600, 99600, 99400)]
    assert levels == [WARN, ERROR, ERROR, WARN]
    assert orin.after(agx_tj=103000).message.startswith(
        'tj is at 103.0 C, and the board is switched off at 104.5 C; slowed down: '
    )


def test_what_the_kernel_does_against_heat_is_told(board):
    orin = board(AGX_ORIN_JETPACK_7)
    assert orin.after(surface=1).level == OK  # it is warm to the touch
    assert orin.after(alert=1) == (WARN, 'slowed down: gpu-throttle-alert is on')
    assert orin.after(cap=3).message == (
        'slowed down: gpu-throttle-alert is on; devfreq-17000000.gpu is on'
    )


def test_a_slowdown_is_told_a_little_longer(board):
    orin = board(AGX_ORIN_JETPACK_7)
    orin.after(alert=1)
    assert orin.after(4, alert=0) == (WARN, 'was slowed down 4 s ago: gpu-throttle-alert is on')
    assert orin.reading.throttled == ''  # which acts, acts at once
    assert orin.after(5).level == WARN
    assert orin.after(1).level == OK
    assert orin.after(1, alert=1).level == WARN


def test_each_rise_of_the_first_counters_is_told_and_what_was_before_is_not(board):
    thor = board(THOR)  # 8 and 813 when it begins
    assert thor.after().level == OK
    assert set(thor.reading.over_current.values()) == {0}

    orin = board(AGX_ORIN_JETPACK_7)
    assert orin.after(agx_oc1=1) == (WARN, 'slowed down: oc1 (under-voltage) has risen by 1')
    assert orin.after(20).level == OK
    assert orin.after(agx_oc2=40).message == (
        'slowed down: oc2 (average over-current) has risen by 40'
    )
    assert orin.reading.over_current == {'oc1': 1, 'oc2': 40, 'oc3': 0}
    orin.after(agx_oc2=3)  # it has begun anew
    assert orin.reading.over_current['oc2'] == 43


def test_the_third_counter_rises_all_the_time_and_means_nothing_alone(board):
    nano = board(ORIN_NANO)
    levels = {nano.after(nano_oc3=27390 + 8 * n).level for n in range(1, 30)}
    assert levels == {OK}
    assert nano.reading.throttled == ''
    assert nano.reading.over_current['oc3'] == 8 * 29


def test_the_third_counter_counts_with_a_clock_that_is_low(board):
    nano = board(ORIN_NANO)
    assert nano.after(clock=510000000, nano_oc3=27400).level == OK  # a moment is nothing yet
    level, message = nano.after(nano_oc3=27437)
    assert (level, message) == (
        WARN,
        'slowed down: oc3 (instantaneous over-current) has risen by 37; gpu runs at 510 of 1020 MHz'
        ' with a load of 98%',
    )
    assert nano.after(clock=1020000000, nano_oc3=27500).message.startswith(
        'was slowed down 1 s ago'
    )
    assert nano.after(20, nano_oc3=27600).level == OK


def test_a_clock_is_low_where_there_is_no_work(board):
    nano = board(ORIN_NANO)
    assert [nano.after(clock=306000000, load=120).level for _ in range(4)] == [OK] * 4


def test_a_gpu_that_tells_is_believed(tmp_path, board, monkeypatch):
    gpu = FakeGpu('0000:19:00.0', 'GPU-1', **H200)
    gpu.told['nvmlDeviceGetClockInfo'] = {1: 1200, 2: 3201}
    monkeypatch.setitem(sys.modules, 'pynvml', FakeNvml(gpu))
    pc = Watched(tmp_path, PC)
    assert pc.after().level == OK  # at its power cap its clock is low, and that is how it runs
    assert pc.reading.limits == {'gpu': ('power cap',)}
    gpu.told['nvmlDeviceGetCurrentClocksThrottleReasons'] = 0x4 | 0x8 | 0x40
    assert pc.after() == (
        WARN, 'slowed down: gpu: hardware slowdown; gpu: hardware thermal slowdown'
    )  # fmt: skip
    gpu.told |= {'nvmlDeviceGetCurrentClocksThrottleReasons': 0, 'nvmlDeviceGetTemperature': 90}
    assert pc.after(20).level == ERROR
    assert pc.reading.margin_c == -4


def test_energy_is_summed_between_the_readings(board):
    nano = board(ORIN_NANO)  # 4.984 V
    assert nano.reading.energy_j == 0
    nano.after(2.0, nano_amperes=4800)
    assert nano.reading.energy_j == pytest.approx(4.984 * 4.8 * 2)
    nano.after(1.0, nano_amperes=2400)
    assert nano.reading.energy_j == pytest.approx(4.984 * (4.8 * 2 + 3.6))
    nano.after(1.0, nano_amperes='')  # the other rails are only a part of it
    assert nano.reading.power_total_w is None
    nano.after(1.0, nano_amperes=2400)
    assert nano.reading.energy_j == pytest.approx(4.984 * (4.8 * 2 + 3.6 + 2.4 * 2))


def test_nothing_is_nothing():
    reading = Reading(at=0.0)
    assert (reading.margin_c, reading.power_total_w, reading.energy_j) == (None, None, None)
    assert Judge().judge(reading) == (OK, 'no sensors')
