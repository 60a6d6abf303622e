# SPDX-License-Identifier: Apache-2.0
"""The policy for SROS 2 allows what the nodes really have, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

pytest.importorskip('rclpy')

from rclpy.node import Node
from rclpy.parameter import Parameter
from world import World

from trt_perception.ros.intra_process import intra_process

POLICY = Path(__file__).resolve().parents[1] / 'config' / 'security' / 'policy.xml'
#: What only one of two alternatives has at a time.
ALTERNATIVES = {'/image', '/image/compressed'}
KINDS = {
    ('topics', 'publish'): 'publisher',
    ('topics', 'subscribe'): 'subscriber',
    ('services', 'reply'): 'service',
}


def allowed(profile: ElementTree.Element) -> dict[str, set[str]]:
    """Names by kind, whole."""
    namespace, node = profile.attrib['ns'].rstrip('/'), profile.attrib['node']
    found: dict[str, set[str]] = {kind: set() for kind in KINDS.values()}
    for group in profile:
        ((qualifier, value),) = group.attrib.items()
        assert value == 'ALLOW'
        for item in group:
            name = str(item.text)
            if name.startswith('~/'):
                name = f'{namespace}/{node}/{name[2:]}'
            found[KINDS[group.tag, qualifier]].add(
                name if name.startswith('/') else f'{namespace}/{name}'
            )
    return found


def profiles() -> dict[str, list[ElementTree.Element]]:
    """By enclave."""
    root = ElementTree.parse(POLICY).getroot()
    assert root.attrib == {'version': '0.2.0'}
    enclaves = root.findall('enclaves/enclave')
    return {e.attrib['path']: e.findall('profiles/profile') for e in enclaves}


@pytest.fixture
def nodes(world: World, two: Path, tmp_path: Path) -> Iterator[dict[str, Node]]:
    """Each node of the package, with all that it has, and nothing by reference."""
    from trt_perception.nodes.camera import CameraNode
    from trt_perception.nodes.container import ContainerNode
    from trt_perception.nodes.detector import DetectorNode
    from trt_perception.nodes.overlay import OverlayNode
    from trt_perception.nodes.player import PlayerNode
    from trt_perception.nodes.recorder import RecorderNode

    given: dict[type[Node], dict[str, Any]] = {
        DetectorNode: {'model': str(two), 'bond': True, 'threads': 1},
        CameraNode: {'source': 'pattern', 'rate': 5.0, 'bond': True},
        OverlayNode: {'bond': True},
        ContainerNode: {},
        PlayerNode: {'input': str(pictures(tmp_path / 'pictures')), 'loop': True},
        RecorderNode: {'output': str(tmp_path / 'recording')},
    }
    with intra_process(False):
        made = [
            world.add(
                kind(
                    context=world.context,
                    parameter_overrides=[
                        Parameter(name, value=value)
                        for name, value in {'use_sim_time': True, **values}.items()
                    ],
                )
            )
            for kind, values in given.items()
        ]
    yield {node.get_name(): node for node in made}
    for node in made:
        world.remove(node)


def pictures(folder: Path) -> Path:
    import cv2
    import numpy as np

    folder.mkdir()
    for number in range(2):
        cv2.imwrite(str(folder / f'{number}.png'), np.zeros((48, 64, 3), np.uint8))
    return folder


def test_it_names_what_the_nodes_have(world: World, nodes: dict[str, Node]) -> None:
    by_node = {e.rpartition('/')[2]: p[0] for e, p in profiles().items()}
    assert set(by_node) == set(nodes)

    def had(name: str) -> dict[str, set[str]]:
        node = nodes[name]
        where = node.get_name(), node.get_namespace()
        return {
            kind: {n for n, _ in getattr(world.node, f'get_{kind}_names_and_types_by_node')(*where)}
            for kind in KINDS.values()
        }

    def complete(name: str, wanted: dict[str, set[str]]) -> bool:
        found = had(name)
        return all(
            wanted[kind] - found[kind] <= ALTERNATIVES
            and (not wanted[kind] & ALTERNATIVES or found[kind] & ALTERNATIVES)
            for kind in wanted
        )

    for name, profile in by_node.items():
        expected = allowed(profile)
        if os.environ.get('ROS_DISTRO') == 'humble':
            expected['service'].discard(f'/{name}/get_type_description')
        # Its subscriptions wait for whom they are to hear; of alternatives one is enough.
        world.until(partial(complete, name, expected), name)
        for kind, names in had(name).items():
            assert names <= expected[kind], (name, kind)


def test_a_process_has_what_its_nodes_have() -> None:
    enclaves = profiles()
    alone = {e.rpartition('/')[2]: allowed(p[0]) for e, p in enclaves.items()}
    for profile in enclaves['/trt_perception/perception_container']:
        assert allowed(profile) == alone[profile.attrib['node']]
