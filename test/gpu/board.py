# SPDX-License-Identifier: Apache-2.0
"""Reads the board's sensors on a machine with GPUs, idle and busy, and checks what they say.

    PYTHONPATH=.:test python3 test/gpu/board.py > board.json

Needs cuda-bindings and nvidia-ml-py (pip install '.[cuda,profile]'), and no ROS. Prints the
readings as JSON; the exit code is 1 where one of them cannot be, and standard error says which.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

from trt_perception.core import PerceptionError
from trt_perception.health.board import Judge, Reading, board_values
from trt_perception.health.observer import Observer
from trt_perception.runtime.cuda.device import CudaDevice, pci_bus_id
from trt_perception.runtime.cuda.driver import call
from trt_perception.runtime.machine import describe_machine
from trt_perception.runtime.sensors import Sensors
from trt_perception.runtime.sensors.nvml import Nvml

SECONDS, PERIOD = 6.0, 0.25
COPIED = 1 << 30  # bytes


def busy(device: CudaDevice, observer: Observer) -> list[Reading]:
    """Readings while the GPU copies from its memory to its memory."""
    scope = device.scope()
    source, target = scope.allocate(COPIED), scope.allocate(COPIED)
    stream = scope.stream()
    readings, begun = [], time.monotonic()
    while (passed := time.monotonic() - begun) < SECONDS:
        if passed >= len(readings) * PERIOD:
            readings.append(observer.read())
        for _ in range(8):
            call('cuMemcpyDtoDAsync', target, source, COPIED, stream)
        call('cuStreamSynchronize', stream)
    readings.append(observer.read())
    scope.close()
    return readings


def checks(
    name: str, index: int, nvml: Nvml, idle: Reading, work: list[Reading]
) -> dict[str, bool]:
    """What has to be so, by what it says."""
    gpu, last = nvml.gpus[index], work[-1]
    temperature, trips = last.temperatures.get(name, 0.0), last.trips.get(name, {})
    clocks = [reading.clocks[name] for reading in work if name in reading.clocks]
    watts = [reading.power_w[name] for reading in work if name in reading.power_w]
    return {
        'NVML and CUDA mean the same GPU': gpu.bus_id.lower().endswith(pci_bus_id(index).lower()),
        'it is between 10 and 95 C': 10 < temperature < 95,
        'it has a trip that slows it down': last.slowing_trip(name) is not None,
        'trips are between 60 and 130 C': all(60 < limit < 130 for limit in trips.values()),
        'trips are in order': list(trips.values()) == sorted(trips.values()),
        'it is below them': last.margins_c.get(name, -1) > 0,
        'it tells its clock': bool(clocks) and all(0 < c.mhz <= (c.max_mhz or 0) for c in clocks),
        'it was busy': max((c.load or 0 for c in clocks), default=0) > 0.5,
        'it tells its power': bool(watts) and all(10 < w < 1500 for w in watts),
        'work takes power': max(watts, default=0) > idle.power_w.get(name, 0) + 20,
        'it tells what limits it': name in last.limits,
        'it is not throttled': not last.throttled,
    }


def measure(index: int) -> tuple[dict[str, Any], list[str]]:
    """One GPU idle and busy; and what is wrong."""
    name = f'gpu{index or ""}'
    sensors = Sensors([index])
    nvml = Nvml([index])
    if index not in nvml.gpus:
        return {'absent': sensors.absent}, [f'{name}: {nvml.absent}']
    observer, judge = Observer(sensors), Judge()
    begun = time.perf_counter()
    idle = observer.read()
    cost_ms = (time.perf_counter() - begun) * 1e3
    device = CudaDevice(index)
    counter = _counter_j(nvml, index)
    work = busy(device, Observer(sensors))
    counted = _counter_j(nvml, index) - counter
    device.close()
    summed = work[-1].energy_j or 0.0
    found = checks(name, index, nvml, idle, work)
    # Its own counter is the reference; both include the seconds between the readings.
    found['the energy is that of its own counter, within a quarter'] = (
        abs(summed - counted) < 0.25 * counted if counted else False
    )
    result = {
        'name': nvml.gpus[index].name,
        'bus_id': pci_bus_id(index),
        'driver': sensors.driver,
        'absent': sensors.absent,
        'reading_ms': round(cost_ms, 3),
        'idle': board_values(idle),
        'busy': board_values(work[-1]),
        'verdict': judge.judge(work[-1]).message,
        'energy_j': {'summed': round(summed, 1), 'counted': round(counted, 1)},
        'checks': found,
    }
    return result, [f'{name}: not so: {what}' for what, holds in found.items() if not holds]


def _counter_j(nvml: Nvml, index: int) -> float:
    gpu = nvml.gpus[index]
    return float(gpu._ask('nvmlDeviceGetTotalEnergyConsumption') or 0) / 1e3


def _reversed_order(count: int) -> list[str]:
    """What a process that sees the GPUs in reverse is told; nothing where there is one."""
    if count < 2:
        return []
    code = (
        'from trt_perception.runtime.cuda.device import pci_bus_id as cuda\n'
        'from trt_perception.runtime.sensors.nvml import Nvml\n'
        'gpu = Nvml([0]).gpus[0]\n'
        'print(cuda(0).lower(), gpu.bus_id.lower())\n'
    )
    visible = ','.join(str(n) for n in reversed(range(count)))
    env = os.environ | {'CUDA_VISIBLE_DEVICES': visible}
    told = subprocess.run([sys.executable, '-c', code], env=env, capture_output=True, text=True)
    by_cuda, by_nvml = [*told.stdout.split(), '', ''][:2]
    if by_cuda and by_nvml.endswith(by_cuda) and by_cuda != pci_bus_id(0).lower():
        return []
    return [f'in reverse order CUDA means {by_cuda}, NVML {by_nvml}: {told.stderr.strip()[-300:]}']


def main() -> int:
    try:
        call('cuInit', 0)
        count = call('cuDeviceGetCount')
    except PerceptionError as error:
        print(error, file=sys.stderr)
        return 1
    report: dict[str, Any] = {'machine': describe_machine(), 'gpus': []}
    wrong = _reversed_order(count)
    for index in range(count):
        result, problems = measure(index)
        report['gpus'].append(result)
        wrong += problems
    print(json.dumps(report, indent=2))
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main())
