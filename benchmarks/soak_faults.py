# SPDX-License-Identifier: Apache-2.0
"""What `soak.py` throws at a detector: images good and bad, models, a process of cameras."""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CompressedImage, Image

from trt_perception.core import Frame, FrameError, Stamp
from trt_perception.core.frame import ENCODINGS
from trt_perception.ros.images import compressed_msg, image_msg

INPUT = 64
SIZES = ((64, 48), (64, 64), (96, 64), (160, 120))
#: One image in so many is bad, and one in so many is the first of a burst.
BAD, BURST = 20, 200
#: Images that come at once in a burst.
BURST_LENGTH = 30


def write_model(path: Path, objects: int) -> Path:
    """Write a real network that sees so many things in each image, and fails in a white one.

    It takes its answer from a table, by an index that the image's mean is added to: one that is
    out of the table's bounds is an error of the runtime, as a fault in a real network is.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rows = np.zeros((1, objects, 6), np.float32)
    for number in range(objects):
        corner = 4.0 * number
        rows[0, number] = (corner, corner, corner + 12, corner + 8, 0.9 - 0.05 * number, number % 3)
    constants = {
        'rows': rows,
        'numbers': np.arange(objects, dtype=np.int64),
        'white': np.array(0.99, np.float32),
        'beyond': np.array(1_000_000, np.int64),
    }
    nodes = [
        helper.make_node('ReduceMean', ['images'], ['mean'], keepdims=0),
        helper.make_node('Greater', ['mean', 'white'], ['is_white']),
        helper.make_node('Cast', ['is_white'], ['one'], to=TensorProto.INT64),
        helper.make_node('Mul', ['one', 'beyond'], ['far']),
        helper.make_node('Add', ['numbers', 'far'], ['index']),
        helper.make_node('Gather', ['rows', 'index'], ['output0'], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        'detector',
        [helper.make_tensor_value_info('images', TensorProto.FLOAT, [1, 3, INPUT, INPUT])],
        [helper.make_tensor_value_info('output0', TensorProto.FLOAT, [1, objects, 6])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    names = repr({0: 'car', 1: 'crate', 2: 'person'})
    notes = {'task': 'detect', 'imgsz': repr([INPUT, INPUT]), 'names': names}
    helper.set_model_props(model, notes)
    onnx.save(model, str(path))
    return path


class Pictures:
    """Frames to send, made beforehand: what sends them must not grow by itself.

    Attributes:
        raw, compressed: usable ones.
        white: the network fails in it.
        broken: compressed ones that nothing can decode.
    """

    def __init__(self, seed: int) -> None:
        make = np.random.default_rng(seed)
        self.raw: list[Frame] = []
        self.compressed: list[Frame] = []
        for width, height in SIZES:
            for name in dict.fromkeys(layout.name for layout in ENCODINGS.values()):
                layout = ENCODINGS[name]
                rows = height * 3 // 2 if layout.half_planes else height
                # Rows with and without padding.
                step = width * layout.pixel_bytes + int(make.integers(0, 2)) * 16
                data = make.integers(0, 200, rows * step, np.uint8)
                self.raw.append(Frame.checked(data, width, height, name, step))
            image = make.integers(0, 200, (height, width, 3), np.uint8)
            self.compressed += [_encoded('.jpg', image), _encoded('.png', image)]
        self.white = Frame.from_array(np.full((INPUT, INPUT, 3), 255, np.uint8))
        self.broken = [f for f in map(_damaged, self.compressed) if f is not None]


def _encoded(kind: str, image: np.ndarray) -> Frame:
    return Frame.from_compressed(cv2.imencode(kind, image)[1].reshape(-1))


def _damaged(frame: Frame) -> Frame | None:
    data = frame.data.copy()
    data[len(data) // 8 : -len(data) // 8] = 0xFF
    try:
        return Frame.from_compressed(data)
    except FrameError:
        return None


def bad_messages(pictures: Pictures) -> list[Image | CompressedImage]:
    """Messages that contradict themselves, or hold what nothing here reads."""
    good = image_msg(pictures.raw[0])
    jpeg = bytes(pictures.compressed[0].data)

    def changed(**fields: Any) -> Image:
        kept = {name: getattr(good, name) for name in ('width', 'height', 'encoding', 'step')}
        message = Image(**{**kept, **{k: v for k, v in fields.items() if k != 'data'}})
        message.data = fields.get('data', good.data)
        return message

    def packed(data: bytes) -> CompressedImage:
        message = CompressedImage(format='jpeg')
        message.data = list(data)
        return message

    return [
        changed(data=good.data[:100]),
        changed(data=good.data[:0]),
        changed(step=1),
        changed(width=0),
        changed(height=2**32 - 1, step=2**32 - 1),
        changed(encoding='rgb9'),
        changed(encoding=''),
        changed(is_bigendian=1),
        changed(encoding='nv12', width=63),
        image_msg(pictures.white),
        packed(jpeg[: len(jpeg) // 2]),
        packed(jpeg[:2]),
        packed(b''),
        packed(bytes(range(256))),
        *map(compressed_msg, pictures.broken),
    ]


class DdsCamera:
    """A camera that publishes for other processes, goes, and comes back as something else."""

    def __init__(self, node: Node, name: str, pictures: Pictures, order: random.Random) -> None:
        self._node, self._name, self._order = node, name, order
        self._good = {
            Image: [image_msg(frame) for frame in pictures.raw],
            CompressedImage: [compressed_msg(frame) for frame in pictures.compressed],
        }
        self._bad: dict[type, list[Any]] = {Image: [], CompressedImage: []}
        for message in bad_messages(pictures):
            self._bad[type(message)].append(message)
        self._publisher: Any = None
        self.sent: Counter[str] = Counter()

    def come(self) -> None:
        """Advertise."""
        self._kind = self._order.choice((Image, Image, CompressedImage))
        suffix = '' if self._kind is Image else '/compressed'
        reliability = self._order.choice(
            (ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT)
        )
        qos = QoSProfile(depth=5, reliability=reliability)
        self._publisher = self._node.create_publisher(
            self._kind, f'{self._name}/image{suffix}', qos
        )

    def go(self) -> None:
        """Be gone."""
        if self._publisher is not None:
            self._node.destroy_publisher(self._publisher)
            self._publisher = None

    def send(self) -> None:
        """Send one image, or a burst of them; now and then be gone instead."""
        draw = self._order.randrange(2 * BURST)
        if self._publisher is None:
            if not draw % 20:
                self.come()
            return
        if draw == 1:
            self.go()
            return
        if self._publisher.get_subscription_count() == 0:
            return  # the detector has not found it yet, or is not active
        for _ in range(BURST_LENGTH if draw in (2, 3) else 1):
            bad = not self._order.randrange(BAD)
            message = self._order.choice((self._bad if bad else self._good)[self._kind])
            stamp = Stamp.of(time.time_ns())
            message.header.stamp.sec, message.header.stamp.nanosec = stamp
            message.header.frame_id = self._name
            self._publisher.publish(message)
            self.sent[self._name] += 1


def camera_process(names: Sequence[str], seed: int, rate: float) -> None:
    """Send until the standard input ends; a line of JSON tells how many, again and again."""
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node = Node('cameras_outside')
    pictures = Pictures(seed)
    cameras = [
        DdsCamera(node, name, pictures, random.Random(seed + number))
        for number, name in enumerate(names)
    ]
    for camera in cameras:
        camera.come()
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    told = 0.0
    while not over.wait(1 / rate):
        for camera in cameras:
            camera.send()
        if time.monotonic() > told + 0.2:
            told = time.monotonic()
            print(json.dumps({camera._name: camera.sent[camera._name] for camera in cameras}))
            sys.stdout.flush()
    node.destroy_node()
    rclpy.shutdown()
