# SPDX-License-Identifier: Apache-2.0
"""Each status of each node is in one place of the aggregator's tree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from models import constant_detector

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.parameter import Parameter
from world import World

from trt_perception.nodes.camera import CameraNode
from trt_perception.nodes.detector import DetectorNode
from trt_perception.nodes.overlay import OverlayNode

FILE = Path(__file__).resolve().parents[1] / 'config' / 'diagnostics_aggregator.yaml'


def places(name: str) -> list[str]:
    """The analyzers that take a status, as GenericAnalyzer does: by all of its name."""
    entries = yaml.safe_load(FILE.read_text())['/**']['ros__parameters']
    assert entries.pop('path') == 'Perception'
    found = []
    for entry in entries.values():
        assert entry['type'] == 'diagnostic_aggregator/GenericAnalyzer'
        assert set(entry) == {'type', 'path', 'regex'}
        found += [entry['path'] for rule in entry['regex'] if re.fullmatch(rule, name)]
    return found


@pytest.mark.parametrize(
    ('name', 'place'),
    [
        ('detector: inference', 'Inference'),
        ('detector: device gpu1', 'Devices'),
        ('detector: board', 'Board'),
        ('robot_1/perception/front_detector: policy', 'Policy'),
        ('robot_1/detector: front', 'Cameras'),
        ('detector: capture', 'Cameras'),
        ('detector: overlay', 'Cameras'),
        ('detector_2: boards', 'Cameras'),
        ('front/camera: capture', 'Capture'),
        ('left_eye: capture', 'Capture'),
        ('overlay: overlay', 'Nodes'),
        ('demo_graph: components', 'Nodes'),
    ],
)
def test_places(name: str, place: str) -> None:
    assert places(name) == [place]


@pytest.mark.parametrize('name', ['joy: Joystick Driver Status', 'detector', 'ekf: inference'])
def test_what_is_not_ours_is_left_alone(name: str) -> None:
    assert places(name) == []


def test_all_that_the_nodes_say_has_one_place(world: World, tmp_path: Path) -> None:
    heard = world.subscribe(DiagnosticArray, '/diagnostics')
    model = constant_detector(tmp_path / 'model.onnx')
    nodes = (
        (DetectorNode, {'model': str(model), 'threads': 1, 'cameras': ['front', 'left']}),
        (CameraNode, {'source': 'pattern'}),
        (OverlayNode, {}),
    )
    for node, given in nodes:
        overrides = [Parameter(name, value=value) for name, value in given.items()]
        world.add(node(context=world.context, parameter_overrides=overrides))

    def names() -> set[str]:
        return {status.name for message in heard for status in message.status}

    expected = {
        'detector: inference', 'detector: device gpu', 'detector: front', 'detector: left',
        'camera: capture', 'overlay: overlay',
    }  # fmt: skip
    world.until(lambda: expected <= names(), 'all have spoken')
    assert {name: len(places(name)) for name in names()} == dict.fromkeys(names(), 1)
