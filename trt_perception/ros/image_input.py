# SPDX-License-Identifier: Apache-2.0
"""A camera's images as frames, whichever way the camera publishes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from rclpy.clock import Clock, ClockType
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

try:
    from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks, UnsupportedEventTypeError

from trt_perception.core import Frame, FrameError
from trt_perception.core.errors import one_line
from trt_perception.core.frame import MAX_PIXELS
from trt_perception.ros.diagnostics import ThrottledErrors
from trt_perception.ros.images import frame_from_compressed, frame_from_image
from trt_perception.ros.intra_process import LocalInput, Place

if TYPE_CHECKING:
    from rclpy.node import Node
    from rclpy.subscription import Subscription

RAW, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
#: Seconds between two looks at who publishes.
FOLLOW_PERIOD = 0.2
#: Images that are never lost at once.
_UNBELIEVABLE = 1 << 20


class Endpoint(NamedTuple):
    """One publisher, as the graph shows it."""

    topic: str
    type: str
    node: str
    reliable: bool


class Source(NamedTuple):
    """What to subscribe to, and how; nothing where a camera is in this process."""

    topic: str
    type: str
    reliable: bool
    in_process: bool = False

    def __str__(self) -> str:
        if self.in_process:
            return f'{self.topic} (in this process)'
        kind = self.type.rpartition('/')[2]
        return f'{self.topic} ({kind}, {_word(self.reliable)})'


class ImageInput:
    """Subscribes to a camera and hands over its images as frames.

    What is left to ``auto`` follows the publishers: it waits for one, and subscribes anew when the
    camera comes back as something else. Images are looked for on the topic itself and, compressed,
    on ``<topic>/compressed``, as image_transport names it.

    A camera in this process goes before all others: its frames are handed over as they are, and
    nothing is subscribed to meanwhile.
    """

    def __init__(
        self,
        node: Node,
        on_frame: Callable[[Frame], None],
        on_error: Callable[[FrameError], None],
        on_lost: Callable[[int], None] = lambda number: None,
        *,
        topic: str = 'image',
        transport: str = 'auto',
        reliability: str = 'auto',
        depth: int = 5,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        """Prepare; nothing is subscribed before `start`.

        Args:
            on_frame: takes each usable image, in the executor or on the thread of a camera in this
                process: it must not wait.
            on_error: takes the reason why an image is unusable.
            on_lost: takes how many more images the middleware says were sent but never came.
            topic: name before remapping.
            transport: ``raw``, ``compressed`` or ``auto``.
            reliability: ``reliable``, ``best_effort`` or ``auto``.
            depth: images that the middleware holds back.
            max_pixels: of the largest image that is taken.
        """
        self._node = node
        self._on_frame = on_frame
        self._on_error = on_error
        self._on_lost = on_lost
        self._topic = node.resolve_topic_name(topic)
        self._transport = transport
        self._reliability = reliability
        self._depth = depth
        self._max_pixels = max_pixels
        self._errors = ThrottledErrors(node.get_logger())
        self._local = LocalInput(
            node, _places(self._topic, transport), on_frame, self._on_local_error
        )
        self._subscription: Subscription[Any] | None = None
        self._endpoints: list[Endpoint] = []
        #: What is subscribed to; None before there is something.
        self.source: Source | None = None
        # The graph changes in real time, also while a simulation is paused.
        clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(FOLLOW_PERIOD, self._follow, clock=clock)
        self._timer.cancel()

    def start(self) -> None:
        """Subscribe, now or as soon as somebody publishes."""
        self._local.start()
        self._follow()
        self._timer.reset()

    def stop(self) -> None:
        """Unsubscribe; no image is taken once this returns."""
        self._timer.cancel()
        self._local.stop()
        self._unsubscribe()

    def close(self) -> None:
        """Stop for good."""
        self.stop()
        self._node.destroy_timer(self._timer)

    def problem(self) -> str:
        """Why no image can arrive, in one line with the cure; '' if nothing is in the way."""
        places = _places(self._topic, self._transport)
        if self.source is not None and self.source.in_process:
            return ''
        if not self._endpoints:
            topics = ' or '.join(dict.fromkeys(topic for topic, _ in places))
            return f'nobody publishes {topics}; start the camera or remap image'
        usable = [e for e in self._endpoints if (e.topic, e.type) in _places(self._topic, 'auto')]
        if not usable:
            other = self._endpoints[0]
            types = ' or '.join(dict.fromkeys(kind for _, kind in places))
            return f'{other.node} publishes {other.topic} as {other.type}; it has to be {types}'
        if self.source is None or not any(_same(e, self.source) for e in usable):
            other = usable[0]
            return (
                f'{other.node} publishes {other.topic} as {other.type} only and image_transport'
                f' is {self._transport}; set it to auto'
            )
        deaf = [e.node for e in usable if _same(e, self.source) and not _heard(e, self.source)]
        if deaf:
            return (
                f'{", ".join(deaf)} publishes {self.source.topic} best_effort and'
                ' image_reliability is reliable: its images cannot arrive; set it to auto'
            )
        return ''

    def _follow(self) -> None:
        place = self._local.place
        if place is not None:
            wanted: Source | None = Source(*place, reliable=True, in_process=True)
        else:
            if self.source is not None and self.source.in_process:
                self.source = None
            self._endpoints = self._look()
            wanted = choose(
                self._topic, self._transport, self._reliability, self._endpoints, self.source
            )
        if wanted is None or wanted == self.source:
            return
        self._unsubscribe()
        if not wanted.in_process:
            self._subscription = self._subscribe(wanted)
        self.source = wanted
        self._node.get_logger().info(f'taking images from {wanted}')

    def _subscribe(self, source: Source) -> Subscription[Any]:
        qos = QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=self._depth,
            reliability=(
                ReliabilityPolicy.RELIABLE if source.reliable else ReliabilityPolicy.BEST_EFFORT
            ),
        )
        raw = source.type == RAW
        kind, take = (Image, self._take_raw) if raw else (CompressedImage, self._take_compressed)
        lost = SubscriptionEventCallbacks(
            message_lost=lambda info: self._lost(info.total_count_change)
        )
        create = partial(self._node.create_subscription, kind, source.topic, take, qos)
        try:
            return create(event_callbacks=lost)
        except UnsupportedEventTypeError:  # not every middleware can tell
            return create()

    def _lost(self, change: int) -> None:
        # When a camera dies Fast DDS takes some back, and its negative numbers come as huge ones.
        if change < _UNBELIEVABLE:
            self._on_lost(change)

    def _unsubscribe(self) -> None:
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
        self._subscription = self.source = None

    def _look(self) -> list[Endpoint]:
        found = []
        for topic in dict.fromkeys(t for t, _ in _places(self._topic, 'auto')):
            for info in self._node.get_publishers_info_by_topic(topic):
                reliable = info.qos_profile.reliability == ReliabilityPolicy.RELIABLE
                name = f'{info.node_namespace.rstrip("/")}/{info.node_name}'
                found.append(Endpoint(topic, info.topic_type, name, reliable))
        return found

    def _take_raw(self, msg: Image) -> None:
        self._deliver(frame_from_image, msg)

    def _take_compressed(self, msg: CompressedImage) -> None:
        self._deliver(frame_from_compressed, msg)

    def _deliver(self, convert: Callable[..., Frame], msg: Image | CompressedImage) -> None:
        if self._local.place is not None:
            return  # a camera has come into this process: what it sends is here already
        try:
            frame = convert(msg, self._topic, self._max_pixels)
        except FrameError as error:
            self._on_error(error)
        else:
            self._on_frame(frame)

    def _on_local_error(self, error: Exception) -> None:
        # The camera's thread must outlive it; an executor would end with it.
        text = f'image not taken: {type(error).__name__}: {one_line(error)}'
        self._errors.error(type(error).__name__, text)


def choose(
    topic: str,
    transport: str,
    reliability: str,
    endpoints: Sequence[Endpoint],
    present: Source | None = None,
) -> Source | None:
    """What to subscribe to.

    Args:
        topic: the resolved name; the others are as of `ImageInput`.
        endpoints: who publishes on it and on its compressed sibling.
        present: what is subscribed to now; kept while somebody publishes it, so that a second
            publisher of another kind changes nothing.

    Returns:
        None where ``auto`` has nothing to follow.
    """
    places = _places(topic, transport)
    if present is not None and any(_same(e, present) for e in endpoints):
        places = [Place(present.topic, present.type)]
    for place in places:
        found = [e for e in endpoints if (e.topic, e.type) == place]
        if found and reliability == 'auto':
            # A reliable subscription hears nothing of a best-effort publisher.
            return Source(*place, all(e.reliable for e in found))
        if found:
            return Source(*place, reliability == 'reliable')
    if present is None and 'auto' not in (transport, reliability):
        return Source(*places[-1], reliability == 'reliable')
    return None


def _places(topic: str, transport: str) -> list[Place]:
    """Topics and types to look for, the most wanted first, the most usual of its kind last."""
    raw = [Place(topic, RAW)]
    compressed = [Place(topic, COMPRESSED), Place(f'{topic}/compressed', COMPRESSED)]
    return {'raw': raw, 'compressed': compressed, 'auto': raw + compressed}[transport]


def _same(endpoint: Endpoint, source: Source) -> bool:
    return (endpoint.topic, endpoint.type) == (source.topic, source.type)


def _heard(endpoint: Endpoint, source: Source) -> bool:
    return endpoint.reliable or not source.reliable


def _word(reliable: bool) -> str:
    return 'reliable' if reliable else 'best effort'
