# SPDX-License-Identifier: Apache-2.0
"""From an image that is published to its Detection2DArray, in one process, on this machine.

Camera, detector and listener are nodes of one process, as in a component container; the images go
over DDS all the same. The next image is published when the detections of the last have come, or at
a fixed rate with --rate. With --engine the detector runs twice: on the CPU, then on the GPU.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import threading
import time
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from trt_perception.nodes.detector import DetectorNode
from trt_perception.replay.benchmark.frames import as_sent, random_picture
from trt_perception.replay.benchmark.result import spread
from trt_perception.ros.domain import free_domain
from trt_perception.ros.images import image_msg
from trt_perception.ros.inference_status import inference_status
from trt_perception.runtime.machine import describe_machine

_STALLED = 60.0  # seconds without detections


class Loop:
    """A detector, what it is shown, and what comes back."""

    def __init__(self, parameters: dict[str, Any], domain: int) -> None:
        self.context = Context()
        rclpy.init(
            args=[],
            context=self.context,
            domain_id=domain,
            signal_handler_options=SignalHandlerOptions.NO,
        )
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        self.detector = DetectorNode(
            context=self.context, parameter_overrides=overrides, use_global_arguments=False
        )
        self.observer = rclpy.create_node('benchmark', context=self.context)
        self._camera = self.observer.create_publisher(Image, 'image', 5)
        self.observer.create_subscription(
            Detection2DArray, 'detections', self._on_found, 10, raw=True
        )
        self.observer.create_subscription(DiagnosticArray, '/diagnostics', self._on_status, 10)
        self.status: dict[str, Any] = {}
        self.arrivals: list[int] = []
        self._arrived = threading.Condition()
        self._closing = False
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.detector)
        self._executor.add_node(self.observer)
        self._thread = threading.Thread(target=self._spin)
        self._thread.start()

    def wait_for_detector(self) -> None:
        """Until it has subscribed."""
        give_up = time.monotonic() + _STALLED
        while not self._camera.get_subscription_count():
            if time.monotonic() > give_up:
                sys.exit('error: the detector does not start; see its messages')
            time.sleep(0.05)

    def show(self, message: Any) -> int:
        """Publish an image; when, in nanoseconds."""
        begun = perf_counter_ns()
        message.header.stamp = self.observer.get_clock().now().to_msg()
        self._camera.publish(message)
        return begun

    def wait(self, number: int) -> None:
        """Until so many detections have come."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self.arrivals) >= number, _STALLED):
                sys.exit(f'error: no detections for {_STALLED:g} s; last heard: {self.status}')

    def close(self) -> None:
        """End it all."""
        self._closing = True
        self._thread.join()
        self.detector.destroy_node()
        self.observer.destroy_node()
        self._executor.shutdown()
        rclpy.shutdown(context=self.context)

    def _spin(self) -> None:
        while not self._closing:
            self._executor.spin_once(timeout_sec=0.1)

    def _on_found(self, data: bytes) -> None:
        with self._arrived:
            self.arrivals.append(perf_counter_ns())
            self._arrived.notify_all()

    def _on_status(self, message: DiagnosticArray) -> None:
        status = inference_status(message)
        self.status = status or self.status


def measure(model: Path, backend: str, given: argparse.Namespace, domain: int) -> dict[str, Any]:
    """Milliseconds from publishing an image to holding its detections."""
    parameters: dict[str, Any] = {
        'model': str(model), 'backend': backend, 'labels': given.labels,
        'policy.enabled': False,  # what the machine can do, however hot it gets
    }  # fmt: skip
    loop = Loop(parameters, domain)
    try:
        loop.wait_for_detector()
        message = image_msg(as_sent(random_picture(), *given.size, given.encoding))
        message.header.frame_id = 'camera'
        for number in range(given.warm_up):
            loop.show(message)
            loop.wait(number + 1)
        shown: list[int] = []
        gc.collect()
        cpu, begun = time.process_time(), time.perf_counter()
        for number in range(given.frames):
            if given.rate:
                due = begun + number / given.rate
                time.sleep(max(due - time.perf_counter(), 0))
            shown.append(loop.show(message))
            # At a fixed rate too: a newer image would overtake one that waits.
            loop.wait(given.warm_up + number + 1)
        passed, cpu = time.perf_counter() - begun, time.process_time() - cpu
        arrived = loop.arrivals[given.warm_up :]
        heard = loop.status
        while loop.status is heard or loop.status.get('published', 0) < given.frames:
            time.sleep(0.1)
    finally:
        loop.close()
    status = loop.status
    return {
        'model': model.name,
        'backend': status['backend'],
        'precision': status['precision'],
        'device': status['device'],
        'frames': given.frames,
        'latency_ms': spread(np.subtract(arrived, shown).tolist())._asdict(),
        'frames_per_second': round(given.frames / passed, 1),
        'cpu_share': round(cpu / passed, 3),
        'stages': status['stages'],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--model', type=Path, required=True, help='ONNX detector')
    add('--engine', type=Path, help='TensorRT engine of it, to be run on the GPU as well')
    add('--labels', default='', help='class names, where the model has none')
    add('--image-size', default='1920x1080', metavar='WxH', help='(default: 1920x1080)')
    add('--encoding', default='bgr8', help='of the images (default: bgr8)')
    add('--rate', type=float, default=0.0, help='images a second; 0: as fast as they are answered')
    add('--frames', type=int, default=1000, help='to measure (default: 1000)')
    add('--warm-up', type=int, default=50, help='frames before (default: 50)')
    add('--json', action='store_true', help='print JSON instead of a table')
    given = parser.parse_args()
    given.size = tuple(int(n) for n in given.image_size.split('x'))
    runs = [(given.model, 'onnxruntime')]
    if given.engine:
        runs.append((given.engine, 'tensorrt'))
    with free_domain() as domain:
        os.environ['ROS_DOMAIN_ID'] = str(domain)
        results = [measure(model.absolute(), how, given, domain) for model, how in runs]
    machine = describe_machine()
    if given.json:
        print(json.dumps({'machine': machine, 'results': results}, indent=2))
        return
    print(f'{machine["cpu"]}, {machine["cores"]} cores; {given.image_size} {given.encoding}\n')
    print('| runs on | p50 ms | p95 ms | p99 ms | images/s | cores busy |')
    print('|---|---|---|---|---|---|')
    for found in results:
        ms = found['latency_ms']
        print(
            f'| {found["backend"]}, {found["precision"]}, {found["device"]} | {ms["p50"]:.2f}'
            f' | {ms["p95"]:.2f} | {ms["p99"]:.2f} | {found["frames_per_second"]}'
            f' | {found["cpu_share"]:.2f} |'
        )
    for found in results:
        print(f'\n{found["backend"]}, the node itself, milliseconds:')
        for stage, times in found['stages'].items():
            print(f'{stage:18}{times["p50_ms"]:10.2f}{times["p95_ms"]:10.2f}')


if __name__ == '__main__':
    main()
