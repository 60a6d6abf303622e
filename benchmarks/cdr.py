# SPDX-License-Identifier: Apache-2.0
"""How long it takes from `Detections` to published: as message objects, and as CDR bytes.

Both ways take turns in one run, on one publisher that has one subscriber.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
import rclpy
from vision_msgs.msg import Detection2DArray

from trt_perception.core import Detections, Stamp
from trt_perception.core.cdr import detection_array_cdr
from trt_perception.core.labels import COCO
from trt_perception.runtime.host.onnx_runtime import cpu_name

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'test'))
from messages import detection_array_msg  # what the bytes are tested against

#: What makes the thing to publish, by what it is.
WAYS: dict[str, Callable[..., Any]] = {
    'messages': detection_array_msg,
    'bytes': detection_array_cdr,
}
STEPS = ('make', 'publish', 'total')


def measure(frames: int, number: int) -> dict[str, dict[str, float]]:
    """Publish a number of detections each way, so many times.

    Returns:
        Median milliseconds to make it, to publish it and for both, by way and step.
    """
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, [1800, 1000], (number, 2))
    seen = Detections(
        np.hstack((corners, corners + rng.uniform(1, 120, (number, 2)))).astype(np.float32),
        rng.random(number, np.float32),
        rng.integers(0, len(COCO), number, np.int32),
    )
    rclpy.init()
    node = rclpy.create_node('benchmark_cdr')
    publisher = node.create_publisher(Detection2DArray, '~/detections', 10)
    node.create_subscription(Detection2DArray, '~/detections', lambda data: None, 10, raw=True)
    while not publisher.get_subscription_count():
        rclpy.spin_once(node, timeout_sec=0.1)
    times: dict[str, list[tuple[int, int, int]]] = {way: [] for way in WAYS}
    for frame in range(frames):
        for way, make in WAYS.items():
            begun = perf_counter_ns()
            made = make(seen, Stamp(1_800_000_000, frame), 'camera', COCO)
            ready = perf_counter_ns()
            publisher.publish(made)
            published = perf_counter_ns()
            times[way].append((ready - begun, published - ready, published - begun))
            rclpy.spin_once(node, timeout_sec=0)
    node.destroy_node()
    rclpy.shutdown()
    return {
        way: dict(zip(STEPS, (np.median(rows, axis=0) / 1e6).tolist(), strict=True))
        for way, rows in times.items()
    }


def machine() -> dict[str, Any]:
    """Where it was measured."""
    return {
        'cpu': cpu_name(),
        'cores': os.cpu_count(),
        'python': platform.python_version(),
        'numpy': np.__version__,
        'rclpy': version('rclpy'),
        'middleware': rclpy.get_rmw_implementation_identifier(),
        # Before Jazzy always, since then where ROS_PYTHON_CHECK_FIELDS is 1.
        'fields checked': getattr(Detection2DArray(), '_check_fields', True),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--frames', type=int, default=300, help='how often (default: 300)')
    parser.add_argument('--detections', type=int, default=300, help='of a frame (default: 300)')
    parser.add_argument('--json', action='store_true', help='print JSON instead of a table')
    given = parser.parse_args()
    times = measure(given.frames, given.detections)
    report = {
        'machine': machine(),
        'frames': given.frames,
        'detections': given.detections,
        'median ms': times,
        'ratio': times['messages']['total'] / times['bytes']['total'],
    }
    if given.json:
        print(json.dumps(report, indent=2))
        return
    print(', '.join(f'{key}: {value}' for key, value in report['machine'].items()))
    print(f'{given.detections} detections, median of {given.frames} frames, milliseconds\n')
    print(' ' * 10 + ''.join(f'{step:>10}' for step in STEPS))
    for way, steps in times.items():
        print(f'{way:10}' + ''.join(f'{ms:10.3f}' for ms in steps.values()))
    print(f'\nbytes are {report["ratio"]:.1f} times faster')


if __name__ == '__main__':
    main()
