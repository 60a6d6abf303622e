# SPDX-License-Identifier: Apache-2.0
"""Doors for what comes from outside, each as a function of bytes, with good bytes to begin from.

A door may refuse by a `PerceptionError` and by nothing else. `test_hostile.py` knocks with
hypothesis, `fuzz/fuzz.py` with atheris.
"""

from __future__ import annotations

import contextlib
import struct
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from models import constant_detector
from pictures import stated_jpeg, stated_png
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from trt_perception.core import Frame, ModelSpec, PerceptionError, Selection
from trt_perception.core.frame import ENCODINGS
from trt_perception.replay.sources import open_source
from trt_perception.ros.camera_info import read_calibration
from trt_perception.ros.graph import read_graph
from trt_perception.ros.launch_cameras import read_cameras
from trt_perception.runtime.gate_result import check_gate
from trt_perception.runtime.host.color import to_bgr
from trt_perception.runtime.host.preprocess import HostPreprocessor
from trt_perception.runtime.model_file import load_spec, read_labels
from trt_perception.runtime.pipeline import open_pipeline
from trt_perception.runtime.tensorrt.manifest import Manifest, manifest_path, read_manifest
from trt_perception.runtime.tensorrt.plan import made_by, split_header

#: So that a fuzzer soon finds images that are larger.
PIXELS = 1 << 16
TYPES = get_typestore(Stores.ROS2_HUMBLE)
IMAGE = 'sensor_msgs/msg/Image'
#: Of a raw image in bytes: width, height, step, encoding, big-endian.
HEADER = struct.Struct('<IIIBB')
SPEC = ModelSpec('yolov8', 'images', 64, 64, 'float32', ('output0',), 2)


class Door(NamedTuple):
    """Where something comes in.

    Attributes:
        knock: takes bytes; raises only what nobody expects.
        seeds: good ones, and bad ones that are known.
    """

    knock: Callable[[bytes], None]
    seeds: Sequence[bytes]


def folder() -> Path:
    """For files; of this process, and gone with it."""
    global _folder
    if _folder is None:
        _folder = tempfile.TemporaryDirectory(prefix='hostile')
    return Path(_folder.name)


_folder: tempfile.TemporaryDirectory[str] | None = None


def of_file(name: str, read: Callable[[Path], Any]) -> Callable[[bytes], None]:
    """A door that opens a file of this name."""

    def knock(data: bytes) -> None:
        path = folder() / name
        path.write_bytes(data)
        with contextlib.suppress(PerceptionError):
            read(path)

    return knock


def raw_image(data: bytes) -> None:
    """Pixels with numbers that may contradict each other."""
    if len(data) < HEADER.size:
        return
    width, height, step, encoding, big_endian = HEADER.unpack_from(data)
    names = list(ENCODINGS)
    with contextlib.suppress(PerceptionError):
        frame = Frame.checked(
            np.frombuffer(data, np.uint8, offset=HEADER.size), width, height,
            names[encoding % len(names)], step, big_endian=big_endian > 127, max_pixels=PIXELS,
        )  # fmt: skip
        HostPreprocessor(SPEC)(frame)
        assert to_bgr(frame).shape == (height, width, 3)


def compressed_image(data: bytes) -> None:
    """A JPEG or PNG, or neither."""
    with contextlib.suppress(PerceptionError):
        frame = Frame.from_compressed(np.frombuffer(data, np.uint8), max_pixels=PIXELS)
        height, width, _ = to_bgr(frame).shape
        assert height * width <= PIXELS


def bag_message(data: bytes) -> None:
    """An image message in a bag that is none."""
    with tempfile.TemporaryDirectory(dir=folder()) as inside:
        path = Path(inside, 'bag')
        with Writer(path, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
            writer.write(writer.add_connection('/image', IMAGE, typestore=TYPES), 5, data)
        read_bag(next(path.glob('*.mcap')))


def bag_file(data: bytes) -> None:
    """A storage file of a bag that is none."""
    path = folder() / 'bag.mcap'
    path.write_bytes(data)
    read_bag(path)


def read_bag(path: Path) -> None:
    """Look at all its images."""
    with contextlib.suppress(PerceptionError):
        for timed in open_source(path).frames():
            to_bgr(timed.frame)


def model_yaml(data: bytes) -> None:
    """The YAML beside a model."""
    path = folder() / 'yaml' / 'm.onnx'
    if not path.exists():
        path.parent.mkdir()
        constant_detector(path)
    path.with_suffix('.yaml').write_bytes(data)
    with contextlib.suppress(PerceptionError):
        load_spec(path)


def onnx_file(data: bytes) -> None:
    """A model, as far as nothing of it is run."""
    path = folder() / 'only.onnx'
    path.write_bytes(data)
    with contextlib.suppress(PerceptionError):
        load_spec(path)
        check_gate(path)


def running_model(data: bytes) -> None:
    """A model that is loaded and run; what ONNX Runtime does to the process is looked at, too."""
    path = folder() / 'run.onnx'
    path.write_bytes(data)
    with contextlib.suppress(PerceptionError):
        pipeline = open_pipeline(path, threads=1)
        frame = Frame.from_array(np.zeros((48, 64, 3), np.uint8))
        pipeline(frame, Selection())
        pipeline.close()


def engine_header(data: bytes) -> None:
    """An engine, of which nothing is deserialised."""
    with contextlib.suppress(PerceptionError):
        plan, _ = split_header(data, Path('m.engine'))
        assert made_by(plan).startswith('TensorRT')


def manifest(data: bytes) -> None:
    """The manifest beside an engine."""
    engine = folder() / 'm.engine'
    manifest_path(engine).write_bytes(data)
    with contextlib.suppress(PerceptionError):
        read_manifest(engine)


def image_bytes(width: int = 8, height: int = 6, encoding: str = 'bgr8') -> bytes:
    """A raw image as `raw_image` takes it."""
    step = width * ENCODINGS[encoding].pixel_bytes
    head = HEADER.pack(width, height, step, list(ENCODINGS).index(encoding), 0)
    return head + bytes(step * height * 2)


def image_cdr() -> bytes:
    """An image message."""
    types = TYPES.types
    header = types['std_msgs/msg/Header'](
        stamp=types['builtin_interfaces/msg/Time'](sec=1, nanosec=2), frame_id='camera'
    )
    message = types[IMAGE](
        header=header, height=6, width=8, encoding='rgb8', is_bigendian=0, step=24,
        data=np.zeros(144, np.uint8),
    )  # fmt: skip
    return bytes(TYPES.serialize_cdr(message, IMAGE))


def bag_bytes() -> bytes:
    """A storage file with an image."""
    with tempfile.TemporaryDirectory() as inside:
        path = Path(inside, 'bag')
        with Writer(path, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
            connection = writer.add_connection('/image', IMAGE, typestore=TYPES)
            writer.write(connection, 5, image_cdr())
        return next(path.glob('*.mcap')).read_bytes()


def onnx_bytes(**given: Any) -> bytes:
    """A small model."""
    with tempfile.TemporaryDirectory() as inside:
        return constant_detector(Path(inside, 'm.onnx'), layout='end_to_end', **given).read_bytes()


def laughs(levels: int = 9) -> bytes:
    """A few lines of YAML that stand for a milliard of values."""
    lines = ['a0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha, ha]']
    lines += [f'a{n}: &a{n} [{", ".join([f"*a{n - 1}"] * 10)}]' for n in range(1, levels)]
    return '\n'.join(lines).encode()


#: YAML that no reader of files must fall over.
YAMLS = (
    laughs(), b'&a [*a]', b'&a {b: *a}', b'[' * 20_000, b'{a: ' * 5_000, b'- ' * 5_000,
    b'a: 2001-99-99', b'!!int ""', b'!!bool maybe', b'!!timestamp x', b'? [a]\n: b',
    b'a: !!python/object:os.system {}', b'a: ' + b'9' * 5_000, b'\xff\xfe', b'<<: [1]',
    b'a: .nan', b'\x00', b'',
)  # fmt: skip

CALIBRATION = b"""\
image_width: 640
image_height: 480
camera_name: c
camera_matrix: {rows: 3, cols: 3, data: [431.3, 0.0, 312.8, 0.0, 430.5, 242.4, 0.0, 0.0, 1.0]}
distortion_model: plumb_bob
distortion_coefficients: {rows: 1, cols: 5, data: [-0.3, 0.1, 0.0, 0.0, 0.0]}
rectification_matrix: {rows: 3, cols: 3, data: [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]}
projection_matrix: {rows: 3, cols: 4, data: [349.9, 0, 310.0, 0, 0, 387.2, 243.7, 0, 0, 0, 1, 0]}
"""
GRAPH = b"""\
components:
  - plugin: trt_perception::DetectorNode
    name: detector
    namespace: /front
    parameters: {model: m.onnx, score_threshold: 0.5, classes: [car, person]}
    remappings: {image: /camera/image}
    log_level: info
"""
CAMERAS = b'front: /dev/video0\nleft: {source: "rtsp://10.0.0.5/1", rate: 10, frame_id: left}\n'
MODEL = b"""\
layout: yolov8
classes: {0: pallet, 1: person}
color: bgr
scale: 1/255
mean: [0.485, 0.456, 0.406]
std: [0.229, 0.224, 0.225]
resize: letterbox
pad_value: 114
nms: true
"""


def doors() -> dict[str, Door]:
    """All of them, by name."""
    picture = np.arange(24 * 32 * 3, dtype=np.uint8).reshape(24, 32, 3)
    files = [cv2.imencode(kind, picture)[1].tobytes() for kind in ('.jpg', '.png')]
    progressive = cv2.imencode('.jpg', picture, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    header = b'{"names": {"0": "car"}}'
    known = Manifest('0' * 64, 5, spec=SPEC, gate={'passed': True}).to_json().encode()
    return {
        'raw image': Door(raw_image, [image_bytes(encoding=name) for name in ENCODINGS]),
        'compressed image': Door(
            compressed_image,
            [
                *files, progressive,
                stated_jpeg(65535, 65535).tobytes(), stated_jpeg(0, 0).tobytes(),
                stated_jpeg(16, 16, scans=5000).tobytes(), stated_png(2**31, 2**31).tobytes(),
                stated_png(2**32 - 1, 1).tobytes(),
            ],
        ),
        'bag message': Door(bag_message, [image_cdr()]),
        'bag file': Door(bag_file, [bag_bytes()]),
        'model YAML': Door(model_yaml, [MODEL, *YAMLS]),
        'labels': Door(of_file('labels.yaml', lambda path: read_labels(str(path))),
                       [b'[car, person]', b'names: {0: car, 1: person}', *YAMLS]),
        'calibration': Door(of_file('calibration.yaml', lambda path: read_calibration(str(path))),
                            [CALIBRATION, *YAMLS]),
        'graph': Door(of_file('graph.yaml', read_graph), [GRAPH, *YAMLS]),
        'cameras': Door(of_file('cameras.yaml', lambda path: read_cameras(str(path))),
                        [CAMERAS, *YAMLS]),
        'ONNX file': Door(onnx_file, [onnx_bytes(), onnx_bytes(dtype='float16')]),
        'engine header': Door(
            engine_header,
            [b'ftrt' + bytes(40), struct.pack('<I', len(header)) + header + b'vtrt' + bytes(40)],
        ),
        'manifest': Door(manifest, [known, b'[' * 100_000, b'{"format": 1e999}', b'9' * 5_000]),
    }  # fmt: skip
