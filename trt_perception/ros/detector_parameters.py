# SPDX-License-Identifier: Apache-2.0
"""The detector's parameters: the one place that knows their defaults."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from trt_perception.core import ModelSpec, Region, Selection
from trt_perception.ros.lifecycle_parameters import LIFECYCLE
from trt_perception.ros.parameters import MAX_IMAGE_PIXELS, Parameter, ParameterError
from trt_perception.ros.policy_parameters import POLICY
from trt_perception.runtime.engine import BACKENDS

_ALL_CLASSES = '*'
_DEVICE = re.compile(r'gpu|(gpu)?\d{1,3}|dla[01]')
_SHOWN = 10  # names of classes in a message
_SELECTION = Selection()

DETECTOR = (
    Parameter('model', '', 'ONNX file of the detector, or a TensorRT engine; a YAML of the same'
              ' name beside it overrides what the file says of itself.'),
    Parameter('labels', '', 'Class names: a text file with a name a line, a YAML file, or coco.'
              ' Empty: the names that the model carries.'),
    Parameter('backend', 'auto', 'What runs the network; auto is TensorRT where it can run, else'
              ' ONNX Runtime.', choices=BACKENDS),
    Parameter('precision', 'auto', 'Of the engine that TensorRT builds of an ONNX file; auto is'
              ' int8 for a quantized model and fp16 for another.',
              choices=('auto', 'int8', 'fp16', 'fp32')),
    Parameter('device', 'gpu', 'What TensorRT runs on; a DLA leaves to the GPU what it cannot run.',
              choices=('gpu', 'dla0', 'dla1')),
    Parameter('devices', [''], 'Several, which share the work: gpu (or 0), gpu1 (or 1) for a second'
              ' GPU of the same kind, dla0, dla1. One that fails is taken out and the others carry'
              ' on. Empty: what device says.', numbers=True),
    Parameter('cameras', [''], 'Names of several cameras that share the model. Each has topics of'
              ' its own, front/image and front/detections for a camera named front, and parameters'
              ' of its own (docs/many_cameras.md). Empty: one camera, on image and detections.'),
    Parameter('lanes', 0, 'Images that a GPU works on at a time, each with memory of its own. 0: as'
              ' many as cameras, and three at the most.', 0, 32),
    Parameter('fallback', True, 'Detect with something else, and say so, until the engine is built'
              ' and where there can be none: with an earlier engine of the model, else with ONNX'
              ' Runtime. Also while a device is lost: the GPU for a DLA, ONNX Runtime for the GPU.'
              ' Without it the node waits for what it was asked for, and says so.'),
    Parameter('watchdog', 10.0, 'Seconds that one inference may take until it is taken to hang: its'
              ' image is given up and its device is out of use until it comes back. 0 waits for'
              ' ever.', 0.0, 3600.0),
    Parameter('threads', 0, 'CPU threads of one inference; 0 takes one a core.', 0, 256),
    Parameter('stream_priority', 0, 'Of its work on the GPU beside that of others: 0 is the least,'
              ' -1 and so on are more urgent, as far as the GPU tells them apart.', -10, 0),
    Parameter('accept_failed_gate', False, 'Run a model in INT8 although trt-perception quantize'
              ' found that it lost too much of its accuracy.'),
    Parameter('class_id_format', 'name', 'What class_id of a detection holds.',
              choices=('name', 'index')),
    Parameter('image_transport', 'auto', 'Subscribe to image as raw or compressed; auto takes what'
              ' is published, raw first.', choices=('auto', 'raw', 'compressed')),
    Parameter('image_reliability', 'auto', 'Reliability asked of the camera; auto matches it.',
              choices=('auto', 'reliable', 'best_effort')),
    Parameter('image_depth', 5, 'Images that the middleware may hold back. Only the latest is ever'
              ' looked at; more let drops be counted instead of lost.', 1, 1000),
    MAX_IMAGE_PIXELS,
    *LIFECYCLE,
    Parameter('metrics_port', 0, 'Port on which Prometheus finds the figures of diagnostics, under'
              ' /metrics (docs/health_metrics.md); each detector of a machine needs its own. 0:'
              ' none, and no port is opened.', 0, 65535),
    Parameter('metrics_address', '127.0.0.1', 'Address of this machine to serve them on. Any but a'
              ' loopback address shows them to the network, without encryption or password.'),
    Parameter('board', True, "Read the board's heat, clocks and power once a second, and tell them"
              ' on diagnostics (docs/health.md).'),
    Parameter('score_threshold', _SELECTION.score_threshold, 'Lowest score published.', 0.0, 1.0,
              live=True),
    Parameter('nms_threshold', _SELECTION.iou_threshold, 'Boxes of one class that overlap more than'
              ' this (intersection over union) are one object. Networks without duplicates ignore'
              ' it.', 0.0, 1.0, live=True),
    Parameter('max_detections', _SELECTION.max_detections, 'At most so many of one image, the best'
              ' by score.', 1, 10000, live=True),
    Parameter('classes', [_ALL_CLASSES], 'Names (or numbers) of the classes to publish; * is every'
              ' class.', live=True),
    Parameter('region_of_interest', [0, 0, 0, 0], 'Part of the image to look at: x, y, width,'
              ' height in its pixels. All 0: the whole image.', live=True),
    Parameter('max_rate', 0.0, 'Images looked at a second, at most; 0 is no limit.', 0.0, 1000.0,
              live=True),
    Parameter('frozen_after', 5.0, 'Seconds of the same image, byte for byte, after which'
              ' diagnostics warn that the camera is frozen. 0: never, as for a simulation without'
              ' noise.', 0.0, 3600.0, live=True),
    Parameter('latency_budget_ms', 20.0, 'Milliseconds from the stamp of an image to the publishing'
              ' of its detections, above which diagnostics warn (docs/health.md). 0: any will do.',
              0.0, 60000.0, live=True),
    Parameter('rate_min_hz', 30.0, 'Images a second, received and published, below which'
              ' diagnostics warn; max_rate, where that is lower. 0: any will do.', 0.0, 1000.0,
              live=True),
    Parameter('stage_budgets_ms', [''], 'Milliseconds that single stages may take, of age, queue,'
              ' preprocess, infer, decode, publish: [infer=8, decode=2], for example.', live=True),
    Parameter('budget_error_factor', 5.0, 'Diagnostics tell an error instead of a warning where a'
              ' budget is broken so many times over.', 1.0, 1000.0, live=True),
    *POLICY,
)  # fmt: skip

#: Those of the detector's own that each of several cameras has for itself, after its name and a
#: dot. The detector's value is what it begins with.
OF_A_CAMERA = (
    'score_threshold', 'nms_threshold', 'max_detections', 'classes', 'region_of_interest',
    'max_rate', 'latency_budget_ms', 'rate_min_hz', 'stage_budgets_ms',
)  # fmt: skip
PRIORITY = Parameter('priority', 1.0, 'Share of this camera where there is more to look at than can'
                     ' be: one of priority 2 is looked at twice as often as one of 1.', 0.01, 100.0,
                     live=True)  # fmt: skip
#: A topic's name may hold no more.
CAMERA_NAME = re.compile(r'[A-Za-z](?:_?[A-Za-z0-9])*')


def cameras_of(values: Mapping[str, Any]) -> list[str]:
    """The names of several cameras; empty where there is the one without a name.

    Raises:
        ParameterError: a name that cannot be part of a topic's, or one that is there twice.
    """
    names = [name for name in values['cameras'] if name]
    taken = {p.name for p in DETECTOR} | {'inference', 'board', 'policy'}  # its other statuses
    for number, name in enumerate(names):
        if not CAMERA_NAME.fullmatch(name) or name in taken:
            raise ParameterError(
                f'cameras: {name!r} cannot be the name of a camera; take letters, digits and single'
                ' underscores, and no name of a parameter'
            )
        if name in names[:number]:
            raise ParameterError(f'cameras: {name!r} is there twice')
    return names


def devices_of(values: Mapping[str, Any]) -> list[str]:
    """What TensorRT is to run on.

    Raises:
        ParameterError: one that is not known, or is there twice.
    """
    devices = [device for device in values['devices'] if device] or [values['device']]
    known = []
    for device in devices:
        if not _DEVICE.fullmatch(device):
            raise ParameterError(f'devices: {device!r} is not one of gpu, gpu1 (0, 1), dla0, dla1')
        number = device.removeprefix('gpu')
        name = device if device.startswith('dla') else f'gpu{"" if number in ("", "0") else number}'
        if name in known:
            raise ParameterError(f'devices: {device!r} is there twice')
        known.append(name)
    return known


def gpus_of(values: Mapping[str, Any]) -> list[int]:
    """Numbers of the GPUs among `devices_of`, as CUDA counts them; a DLA's board has one, too.

    Raises:
        ParameterError: as there.
    """
    names = (device.removeprefix('gpu') for device in devices_of(values))
    return sorted({0 if name.startswith('dla') else int(name or 0) for name in names})


def camera_table(camera: str, values: Mapping[str, Any]) -> list[Parameter]:
    """The parameters of one of several cameras.

    Args:
        values: of the detector.
    """
    own = [replace(p, default=values[p.name]) for p in DETECTOR if p.name in OF_A_CAMERA]
    return [replace(p, name=f'{camera}.{p.name}') for p in (*own, PRIORITY)]


def camera_values(camera: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The detector's values as they are for one camera.

    Args:
        values: of the detector and of its cameras; '' is the camera without a name.
    """
    if not camera:
        return {**values, PRIORITY.name: PRIORITY.default}
    own = (*OF_A_CAMERA, PRIORITY.name)
    return {**values, **{name: values[f'{camera}.{name}'] for name in own}}


def selection(values: Mapping[str, Any], spec: ModelSpec | None) -> Selection:
    """What the live parameters ask for.

    Args:
        spec: of the model that is loaded; without one class names are not looked up yet.

    Raises:
        ParameterError: a region of impossible numbers, or a class that the model does not have.
    """
    return Selection(
        score_threshold=values['score_threshold'],
        iou_threshold=values['nms_threshold'],
        max_detections=values['max_detections'],
        class_ids=_class_ids(values['classes'], spec),
        region=_region(values['region_of_interest']),
    )


def _class_ids(classes: list[str], spec: ModelSpec | None) -> frozenset[int] | None:
    if not classes:
        raise ParameterError(f"classes: is empty; ['{_ALL_CLASSES}'] publishes every class")
    if _ALL_CLASSES in classes or spec is None:
        return None
    ids = {name: i for i, name in enumerate(spec.class_names)}
    found = set()
    for name in classes:
        number = int(name) if name.isdecimal() else -1
        if name in ids:
            found.add(ids[name])
        elif number >= 0 and (number < spec.num_classes or not spec.num_classes):
            found.add(number)
        else:
            raise ParameterError(
                f'classes: the model has no class {name!r}, it has {_told(spec, name)}'
            )
    return frozenset(found)


def _told(spec: ModelSpec, wanted: str) -> str:
    """The classes of a model, the one that was meant before all."""
    if not spec.class_names:
        return f'numbers below {spec.num_classes}' if spec.num_classes else 'numbers only'
    shown, more = spec.class_names[:_SHOWN], spec.class_names[_SHOWN:]
    told = ', '.join(shown) + (f' and {len(more)} more (topic label_info)' if more else '')
    close = difflib.get_close_matches(wanted, spec.class_names, 1)
    return f"{told}; did you mean '{close[0]}'?" if close else told


def _region(numbers: list[int]) -> Region:
    if len(numbers) != 4 or min(numbers) < 0 or (numbers[2] == 0) != (numbers[3] == 0):
        raise ParameterError(
            f'region_of_interest: {numbers} is not x, y, width, height in pixels'
            ' (all 0 is the whole image)'
        )
    region = Region(*numbers)
    if not region.width and (region.x or region.y):
        raise ParameterError(f'region_of_interest: {numbers} has no width and height')
    return region
