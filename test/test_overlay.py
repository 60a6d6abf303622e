# SPDX-License-Identifier: Apache-2.0
"""The overlay over real DDS, taken up and down by its lifecycle services."""

from __future__ import annotations

import threading

import pytest

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray
from world import RELIABLE, Camera, Managed, World, picture, values

from trt_perception.nodes import overlay
from trt_perception.nodes.overlay import OverlayNode


class Painter(Managed):
    """An overlay in a world, with a camera and a detector that are the test's."""

    name = 'overlay'

    def __init__(self, world: World) -> None:
        self.world = world
        self.pictures = world.subscribe(Image, 'annotated')
        self.said: list[DiagnosticStatus] = []
        world.node.create_subscription(
            DiagnosticArray, '/diagnostics', lambda m: self.said.extend(m.status), RELIABLE
        )
        self.camera = Camera(world)
        self._detector = world.node.create_publisher(Detection2DArray, 'detections', RELIABLE)
        off = [Parameter('autostart', value=False)]
        self.node = OverlayNode(context=world.context, parameter_overrides=off)
        world.add(self.node)

    def until_heard(self) -> None:
        """Wait until it hears what it is sent, and is heard."""
        self.camera.until_heard()
        self.world.until(self._detector.get_subscription_count, 'it hears detections')
        self.world.until(lambda: self.node.count_subscribers('annotated'), 'somebody looks')

    def show(self, number: int) -> None:
        """An image, and that nothing is in it."""
        self.camera.send(picture(number))
        answer = Detection2DArray(header=picture(number).header)
        self._detector.publish(answer)

    def until_says(self, words: str, level: bytes) -> dict[str, str]:
        """The values of its next status with these words."""
        first = len(self.said)

        def found() -> DiagnosticStatus | None:
            new = list(self.said)[first:]
            return next((s for s in new if s.level == level and words in s.message), None)

        return values(self.world.until(found, words))


def test_the_whole_lifecycle(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlay, 'REPORT_PERIOD', 0.1)
    painter = Painter(world)
    assert painter.until_says('unconfigured', DiagnosticStatus.WARN)['state'] == 'unconfigured'
    assert painter.set(image_transport='jpeg').startswith("image_transport: 'jpeg' is not one of")
    assert not painter.change('activate')
    for turn in (1, 2):
        assert painter.change('configure') and painter.state() == 'inactive'
        assert painter.until_says('inactive', DiagnosticStatus.OK)['state'] == 'inactive'
        assert world.node.count_subscribers('image') == 0
        assert painter.change('activate')
        painter.until_heard()

        def seen(number: int = turn) -> bool:
            painter.show(number)
            return bool(painter.pictures)

        world.until(seen, 'a picture')
        painter.camera.send(picture(100 * turn))  # one that nothing is said of
        received = int(painter.until_says('images/s', DiagnosticStatus.OK)['received'])
        assert received
        assert painter.change('deactivate')
        world.until(lambda: world.node.count_publishers('annotated') == 0, 'not advertised')
        assert 'overlay' not in {thread.name for thread in threading.enumerate()}
        told = painter.until_says('inactive', DiagnosticStatus.OK)
        fates = ('rejected', 'failed', 'dropped', 'paused', 'unseen', 'published', 'unpaired')
        # The counts go on, and where every image went is known.
        assert int(told['received']) == sum(int(told[fate]) for fate in fates) >= received
        assert painter.change('cleanup')
        painter.pictures.clear()


def test_it_takes_what_it_is_configured_for(world: World) -> None:
    """Destroyed while it works, it takes leave."""
    painter = Painter(world)
    assert painter.set(image_transport='compressed') == ''
    assert painter.change('configure') and painter.change('activate')
    words = '/image as sensor_msgs/msg/Image only and image_transport is compressed'
    painter.until_says(words, DiagnosticStatus.WARN)
    assert all(painter.change(c) for c in ('deactivate', 'cleanup'))
    assert painter.set(image_transport='raw') == ''
    assert painter.change('configure') and painter.change('activate')
    painter.until_heard()
    painter.camera.close()
    world.remove(painter.node)
    world.until(lambda: painter.said[-1].message == 'unconfigured', 'its last word')
