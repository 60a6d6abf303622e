# SPDX-License-Identifier: Apache-2.0
"""Files of the kernel as they lie on real boards, in miniature.

Modelled on what their owners have published (listings of /sys, tegrastats, jtop's issues) and on
the device trees of Linux (tegra234-p3701: passive 99 C, critical 104.5 C). Numbers of zones and
chips are as scrambled as they are there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple


class Off(NamedTuple):
    """A sensor that is switched off: reading it fails with EAGAIN."""


OFF = Off()
Files = Mapping[str, object]

_THERMAL, _HWMON, _DEVFREQ = 'sys/class/thermal', 'sys/class/hwmon', 'sys/class/devfreq'
_GPU = 'sys/devices/platform/bus@0/17000000.gpu'


class Tree:
    """The files of a board in a folder, to be changed as the board would."""

    def __init__(self, root: Path, *parts: Files) -> None:
        self.root = root
        self._held: list[int] = []
        for part in parts:
            for name, content in part.items():
                self.set(name, content)

    def set(self, name: str, content: object) -> None:
        """Let a file say something, or be `OFF`; a `Path` makes a link."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name('.new')  # it takes the place of the old one at once
        if isinstance(content, Path):
            new.symlink_to(self.root / content, target_is_directory=True)
        elif content is OFF:
            os.mkfifo(new)  # held open and empty, it fails in the same way
            self._held.append(os.open(new, os.O_RDWR | os.O_NONBLOCK))
        else:
            new.write_text(f'{content}\n')
        new.replace(path)

    def close(self) -> None:
        for held in self._held:
            os.close(held)


def zones(**thousandths: object) -> Files:
    """Zones by type, in the order of their numbers; a temperature, or one and its trips."""
    files: dict[str, object] = {}
    for number, (name, told) in enumerate(thousandths.items()):
        folder = f'{_THERMAL}/thermal_zone{number}'
        temperature, *trips = told if isinstance(told, list) else [told]
        files[f'{folder}/type'] = name.replace('_thermal', '-thermal')
        files[f'{folder}/temp'] = temperature
        for index, (kind, limit) in enumerate(trips):
            files[f'{folder}/trip_point_{index}_type'] = kind
            files[f'{folder}/trip_point_{index}_temp'] = limit
    return files


def cooling(*kinds: str) -> Files:
    """Cooling devices at rest, but for the fan."""
    files: dict[str, object] = {}
    for number, kind in enumerate(kinds):
        folder = f'{_THERMAL}/cooling_device{number}'
        files |= {f'{folder}/type': kind, f'{folder}/cur_state': int(kind == 'pwm-fan')}
    return files


def chip(number: int, name: str, **files: object) -> Files:
    """A chip of the hardware monitoring."""
    folder = f'{_HWMON}/hwmon{number}'
    return {f'{folder}/name': name} | {f'{folder}/{file}': text for file, text in files.items()}


def rails(**measured: tuple[int, int]) -> dict[str, object]:
    """Channels of an INA3221: millivolts and milliamperes by rail."""
    files: dict[str, object] = {}
    for channel, (rail, (volts, amperes)) in enumerate(measured.items(), 1):
        files |= {f'in{channel}_label': rail, f'in{channel}_input': volts}
        files[f'curr{channel}_input'] = amperes
    return files


def counters(*counts: int) -> dict[str, object]:
    return {f'oc{n}_event_cnt': count for n, count in enumerate(counts, 1)}


def nvpmodel(status: str, *names: str) -> Files:
    conf = '\n'.join(f'< POWER_MODEL ID={n} NAME={name} >' for n, name in enumerate(names))
    return {'var/lib/nvpmodel/status': status, 'etc/nvpmodel.conf': conf}


def orin_gpu(hertz: int, most: int, load: int, name: str = '17000000.gpu') -> Files:
    """Where JetPack 6 and 7 have it; the folder of the class is a link, and so is its device."""
    folder = f'{_GPU}/devfreq/{name}'
    return {
        f'{_GPU}/load': load,
        f'{folder}/cur_freq': hertz,
        f'{folder}/max_freq': most,
        f'{folder}/device': Path(_GPU),
        f'{_DEVFREQ}/{name}': Path(folder),
    }


_TRIPS = [('critical', 104500), ('passive', 99000)]
_TJ_TRIPS = [('active', 74000), ('active', 95000), ('critical', 104500), ('passive', 99000)]
_ORIN_COOLING = (
    'cpufreq-cpu0', 'pwm-fan', 'cpu-throttle-alert', 'gpu-throttle-alert', 'soc0-throttle-alert',
    'hot-surface-alert', 'devfreq-17000000.gpu',
)  # fmt: skip
#: Jetson Linux 36.4, MAXN, the GPU asleep: its zone does not answer, nor do those of the CV block.
AGX_ORIN_JETPACK_6: tuple[Files, ...] = (
    {
        'proc/device-tree/model': 'NVIDIA Jetson AGX Orin Developer Kit\0',
        'etc/nv_tegra_release': '# R36 (release), REVISION: 4.7, GCID: 42132812',
    },
    zones(
        cpu_thermal=[52875, *_TRIPS], gpu_thermal=[OFF, *_TRIPS], cv0_thermal=[OFF, *_TRIPS],
        cv1_thermal=[OFF, *_TRIPS], cv2_thermal=[OFF, *_TRIPS], soc0_thermal=[49062, *_TRIPS],
        soc1_thermal=[49031, *_TRIPS], soc2_thermal=[48656, *_TRIPS],
        tj_thermal=[52875, *_TJ_TRIPS],
    ),
    cooling(*_ORIN_COOLING),
    chip(0, 'pwm_tach', rpm=2140),
    chip(1, 'soctherm_oc', **counters(0, 15, 37)),
    chip(2, 'pwmfan', pwm1=77),
    chip(3, 'ina3221', **rails(VDD_GPU_SOC=(19880, 160), VDD_CPU_CV=(19880, 40),
                               VIN_SYS_5V0=(4968, 914)), in7_label='sum of shunt voltages'),
    chip(4, 'ina3221', **rails(NC=(0, 0), VDDQ_VDD2_1V8AO=(4968, 80))),
    orin_gpu(306000000, 1300500000, 0),
    nvpmodel('pmode:0000', 'MAXN', 'MODE_15W', 'MODE_30W', 'MODE_50W'),
)  # fmt: skip

#: Jetson Linux 39.2 on the same board, 30 W, at work. The memory's clock has a device now.
AGX_ORIN_JETPACK_7: tuple[Files, ...] = (
    {
        'proc/device-tree/model': 'NVIDIA Jetson AGX Orin Developer Kit\0',
        'etc/nv_tegra_release': '# R39 (release), REVISION: 2.0, GCID: 45755727',
    },
    zones(
        tj_thermal=[64500, *_TJ_TRIPS], soc0_thermal=[60250, *_TRIPS], gpu_thermal=[63125, *_TRIPS],
        cpu_thermal=[64500, *_TRIPS], cv0_thermal=['', *_TRIPS], tboard_thermal=55000,
    ),
    cooling(*_ORIN_COOLING),
    chip(0, 'ina3221', **rails(VDD_GPU_SOC=(19700, 600), VDD_CPU_CV=(19700, 152),
                               VIN_SYS_5V0=(4968, 1200)), in7_label='sum of shunt voltages'),
    chip(1, 'ina3221', **rails(NC=(0, 0), VDDQ_VDD2_1V8AO=(4968, 200))),
    chip(2, 'pwm-fan', pwm1=128, fan1_input=3210),
    chip(10, 'soctherm_oc', **counters(0, 0, 0)),
    orin_gpu(612000000, 612000000, 873),
    {f'{_DEVFREQ}/bwmgr/cur_freq': 2133000000, f'{_DEVFREQ}/bwmgr/max_freq': 3199000000},
    nvpmodel('pmode:0002', 'MAXN', 'MODE_15W', 'MODE_30W', 'MODE_50W'),
)  # fmt: skip

#: Jetson Linux 36.5, MAXN_SUPER at work: oc3 rose to 27390 within an hour, and nothing is slow.
ORIN_NANO: tuple[Files, ...] = (
    {'proc/device-tree/model': 'NVIDIA Jetson Orin Nano Developer Kit Super\0'},
    zones(
        cpu_thermal=[60500, *_TRIPS], gpu_thermal=[61250, *_TRIPS], cv0_thermal=[-256000, *_TRIPS],
        soc0_thermal=[59781, *_TRIPS], tj_thermal=[61250, *_TJ_TRIPS],
    ),
    cooling(*_ORIN_COOLING),
    chip(0, 'pwmfan', pwm1=255),
    chip(1, 'ina3221', **rails(VDD_IN=(4984, 4800), VDD_CPU_GPU_CV=(4984, 2400),
                               VDD_SOC=(4984, 800)), in7_label='sum of shunt voltages',
         curr4_input=8000),
    chip(3, 'soctherm_oc', **counters(0, 0, 27390)),
    orin_gpu(1020000000, 1020000000, 985),
    nvpmodel('pmode:0002', '15W', '25W', 'MAXN_SUPER'),
)  # fmt: skip

#: Jetson Linux 38.4, MAXN, the GPU asleep. Its load comes from NVML; the input has a monitor.
THOR: tuple[Files, ...] = (
    {
        'proc/device-tree/model': 'NVIDIA Jetson AGX Thor Developer Kit\0',
        'etc/nv_tegra_release': '# R38 (release), REVISION: 4.0, GCID: 43443517',
    },
    zones(
        tj_thermal=[55100, ('critical', 114500)], soc012_thermal=[55100, ('critical', 114500)],
        cpu_thermal=[53700, ('critical', 114500)], soc345_thermal=[53700, ('critical', 114500)],
        gpu_thermal=[OFF, ('critical', 114500)],
    ),
    cooling(*('cpufreq-cpu0',) * 7, 'pwm-fan', 'cpu-throttle-alert', 'gpu-throttle-alert',
            'soc012-throttle-alert', 'hot-surface-alert', 'devfreq-gpu-gpc-0'),
    chip(1, 'pwmfan', pwm1=58),
    chip(2, 'pwm_tach', rpm=1786),
    chip(5, 'soctherm_oc', **counters(0, 8, 813)),
    chip(6, 'ina3221', **rails(VDD_GPU=(19700, -20), VDD_CPU_SOC_MSS=(19700, 330),
                               VIN_SYS_5V0=(5015, 1300)), in7_label='sum of shunt voltages'),
    chip(7, 'ina238', label='VIN', in1_input=19700, curr1_input=1170, power1_input=23049000),
    {
        f'{_DEVFREQ}/gpu-gpc-0/cur_freq': 0, f'{_DEVFREQ}/gpu-gpc-0/max_freq': 1575000000,
        f'{_DEVFREQ}/gpu-nvd-0/cur_freq': 1692000000,
        f'{_DEVFREQ}/bwmgr/cur_freq': 4266000000, f'{_DEVFREQ}/bwmgr/max_freq': 4266000000,
    },
    nvpmodel('pmode:0000', 'MAXN', '120W', '90W'),
)  # fmt: skip

#: A PC with an Intel processor; of its zones' trips those that nobody has set read -274 degrees.
PC: tuple[Files, ...] = (
    {'sys/class/dmi/id/sys_vendor': 'ASRockRack', 'sys/class/dmi/id/product_name': 'W680D4U'},
    zones(acpitz=[27800, ('critical', 119000)], x86_pkg_temp=[54000, ('passive', -274000)]),
    cooling('Processor', 'intel_powerclamp'),
    chip(0, 'nvme', temp1_label='Composite', temp1_input=38850, temp1_crit=84850),
    chip(2, 'coretemp', temp1_label='Package id 0', temp1_input=54000, temp1_max=80000,
         temp1_crit=100000, temp2_label='Core 0', temp2_input=51000, temp2_crit=100000),
)  # fmt: skip
