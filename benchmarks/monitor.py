# SPDX-License-Identifier: Apache-2.0
"""What it costs to count, time and judge a frame: the detector's monitor, alone.

It is told of frames as fast as it takes them; every 30 of them it is asked for its verdict and its
values, as once a second in the detector.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from time import perf_counter_ns
from typing import Any

import numpy as np
import rclpy

from trt_perception.core import Frame, Stamp
from trt_perception.health.budget import Budget
from trt_perception.nodes.monitor import StreamMonitor
from trt_perception.runtime.host.onnx_runtime import cpu_name

FPS = 30
#: Nanoseconds of each stage, as on a GPU.
STAGES = {
    'queue': 80_000,
    'preprocess': 40_000,
    'infer': 900_000,
    'decode': 30_000,
    'publish': 60_000,
    'total': 1_110_000,
}


def measure(seconds: int) -> dict[str, dict[str, float]]:
    """Tell of so many seconds of a camera.

    Returns:
        Median and 99th percentile in microseconds: of what a frame costs, when it comes and when
        it is published, and of what a second costs.
    """
    rclpy.init(args=[])
    node = rclpy.create_node('benchmark_monitor')
    clock = node.get_clock()
    monitor = StreamMonitor(node.get_logger(), clock)
    monitor.budget = Budget(rate_hz=0.0, stages_ms={'infer': 8.0, 'decode': 2.0})
    monitor.frozen.after = 5.0
    random = np.random.default_rng(0)
    # Several, so that an image is no longer in the processor's caches when it comes again.
    images = [random.integers(0, 255, (1080, 1920, 3), np.uint8) for _ in range(8)]
    frames, reports = [], []
    for _ in range(seconds):
        for number in range(FPS):
            pixels = images[number % len(images)]
            frame = Frame.from_array(pixels, stamp=Stamp.of(clock.now().nanoseconds))
            begun = perf_counter_ns()
            monitor.received(frame)
            monitor.published(frame, STAGES, 0)
            frames.append(perf_counter_ns() - begun)
        begun = perf_counter_ns()
        monitor.judge('')
        monitor.values()
        reports.append(perf_counter_ns() - begun)
    node.destroy_node()
    rclpy.shutdown()
    return {
        what: {f'p{p}': float(np.percentile(times, p)) / 1e3 for p in (50, 99)}
        for what, times in (('a frame', frames), ('a second', reports))
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--seconds', type=int, default=500, help='of 30 frames (default: 500)')
    parser.add_argument('--json', action='store_true', help='print JSON instead of a table')
    given = parser.parse_args()
    machine: dict[str, Any] = {
        'cpu': cpu_name(),
        'cores': os.cpu_count(),
        'python': platform.python_version(),
    }
    times = measure(given.seconds)
    if given.json:
        print(json.dumps({'machine': machine, 'microseconds': times}, indent=2))
        return
    print(', '.join(f'{key}: {value}' for key, value in machine.items()))
    print(f'{given.seconds * FPS} frames, microseconds\n')
    for what, found in times.items():
        print(f'{what:10}' + ''.join(f'  {key} {us:7.1f}' for key, us in found.items()))


if __name__ == '__main__':
    main()
