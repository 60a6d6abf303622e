# SPDX-License-Identifier: Apache-2.0
"""The overlay: detections drawn onto the images that they were found in."""

from __future__ import annotations

import threading
from collections import Counter
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from diagnostic_msgs.msg import DiagnosticStatus

from trt_perception.core import Frame, FrameError, Sighting
from trt_perception.core.errors import one_line
from trt_perception.nodes.managed import ManagedNode
from trt_perception.replay.pairing import Found, Pair, Pairing
from trt_perception.ros import parameters
from trt_perception.ros.detections_input import DetectionsInput
from trt_perception.ros.diagnostics import (
    ERROR,
    OK,
    WARN,
    Diagnostics,
    ThrottledErrors,
    Verdict,
)
from trt_perception.ros.image_input import ImageInput
from trt_perception.ros.image_output import ImageOutput
from trt_perception.ros.label_info import LATCHED
from trt_perception.ros.overlay_parameters import OVERLAY
from trt_perception.runtime.frame_bus import Mailbox
from trt_perception.runtime.host.color import to_bgr
from trt_perception.runtime.host.overlay import draw_boxes

if TYPE_CHECKING:
    from rclpy.subscription import Subscription

REPORT_PERIOD = 1.0
#: Bytes of images that may wait for their detections: 20 of 1920x1080, which is 0.7 s of a camera.
WAITING = 128 << 20


class _Wiring(NamedTuple):
    """What an active overlay listens to, sends with, and draws on."""

    images: ImageInput
    detections: DetectionsInput
    health: Subscription[DiagnosticStatus]
    output: ImageOutput
    thread: threading.Thread


class OverlayNode(ManagedNode):
    """Draws detections onto their images and sends these as bgr8, while somebody looks.

    A thread draws, the latest pair only. Images and detections come from this process or from
    others, whichever way each of them takes. It pauses while the detector's policy, which it hears
    on ``detector/health``, says that nothing is to be drawn.
    """

    def __init__(self, **kwargs: Any) -> None:
        """Declare parameters, and start up from the executor if ``autostart`` is set.

        Args:
            kwargs: those of ``rclpy.node.Node``.

        Raises:
            ParameterError: a parameter's value cannot be used.
        """
        super().__init__('overlay', OVERLAY, **kwargs)
        self._lock = threading.Lock()  # of the pairing and the counts
        self._pairing = Pairing(WAITING)
        self._counts: Counter[str] = Counter()
        self._judged: Counter[str] = Counter()
        self._judged_at = perf_counter()
        self._last_error = ''
        self._errors = ThrottledErrors(self.get_logger())
        self._paused = False
        self._values: dict[str, Any] = {}
        self._pairs: Mailbox[Pair] = Mailbox()
        self._wiring: _Wiring | None = None
        self._diagnostics = Diagnostics(self)
        self._begin(REPORT_PERIOD)

    def _load(self) -> None:
        self._values = parameters.values(self, self._table)

    def _start(self) -> None:
        """Subscribe and advertise."""
        values = self._values
        self._paused = False
        self._pairs = Mailbox()
        output = ImageOutput(self, 'annotated', depth=1)
        self._wiring = wiring = _Wiring(
            ImageInput(
                self,
                self._on_image,
                self._on_unusable,
                self._on_lost,
                transport=values['image_transport'],
                reliability=values['image_reliability'],
                depth=values['image_depth'],
            ),
            DetectionsInput(self, self._on_sighting),
            self.create_subscription(DiagnosticStatus, 'detector/health', self._on_health, LATCHED),
            output,
            threading.Thread(target=self._run, args=(self._pairs, output), name='overlay'),
        )
        wiring.thread.start()
        wiring.images.start()
        wiring.detections.start()

    def _stop(self) -> None:
        """Unsubscribe, after the picture that is being drawn."""
        wiring, self._wiring = self._wiring, None
        if wiring is None:
            return
        wiring.images.close()
        wiring.detections.close()
        self.destroy_subscription(wiring.health)
        overtaken = self._pairs.close()
        wiring.thread.join()
        wiring.output.close()
        with self._lock:
            self._pairing.close()
            self._counts['dropped'] += overtaken is not None

    def _unload(self) -> None:
        self._stop()

    def _on_image(self, frame: Frame) -> None:
        with self._lock:
            self._counts['received'] += 1
            self._hand_over(self._pairing.frame(frame))

    def _on_sighting(self, sighting: Sighting) -> None:
        found = Found(sighting.detections.boxes, sighting.detections.scores, sighting.names)
        with self._lock:
            self._counts['answered'] += 1
            self._hand_over(self._pairing.answer(sighting.stamp, found))

    def _on_health(self, status: DiagnosticStatus) -> None:
        self._paused = any((v.key, v.value) == ('overlay', 'paused') for v in status.values)

    def _on_unusable(self, error: FrameError) -> None:
        with self._lock:
            self._counts['received'] += 1
        self._fail('rejected', error.kind, f'image not used: {error}')

    def _on_lost(self, number: int) -> None:
        with self._lock:
            self._counts['lost'] += number

    def _hand_over(self, pair: Pair | None) -> None:
        if pair is not None and self._pairs.put(pair) is not None:
            self._counts['dropped'] += 1

    def _run(self, pairs: Mailbox[Pair], output: ImageOutput) -> None:
        # A frame is kept no longer than it takes to draw it, not until the next one comes.
        while self._draw(pairs.get(), output):
            pass

    def _draw(self, pair: Pair | None, output: ImageOutput) -> bool:
        """Draw what the mailbox gave; False once it is closed."""
        if pair is None:
            return False
        fate = 'unseen'
        try:
            if self._paused:
                fate = 'paused'
            elif output.subscribers:
                output.send(_picture(*pair))
                fate = 'published'
        except FrameError as error:
            self._fail('rejected', error.kind, f'image not used: {error}')
        except Exception as error:  # the thread must outlive whatever one picture does to it
            text = f'picture not drawn: {type(error).__name__}: {one_line(error)}'
            self._fail('failed', 'draw', text)
        else:
            with self._lock:
                self._counts[fate] += 1
        return True

    def _fail(self, fate: str, kind: str, text: str) -> None:
        with self._lock:
            self._counts[fate] += 1
            self._last_error = text
        self._errors.error(kind, text)

    def _report(self) -> None:
        wiring = self._wiring
        with self._lock:
            counts = self._counts.copy()
            unpaired, orphans = self._pairing.unpaired, self._pairing.orphans
            error = self._last_error
        now = perf_counter()
        new, seconds = counts - self._judged, now - self._judged_at
        self._judged, self._judged_at = counts, now
        problem = wiring and (wiring.images.problem() or wiring.detections.problem())
        if wiring is None:
            verdict = self._standing()
        elif problem:
            verdict = Verdict(WARN, problem)
        elif new['rejected'] or new['failed']:
            verdict = Verdict(WARN if new['published'] else ERROR, error)
        else:
            verdict = Verdict(OK, f'{new["published"] / seconds:.1f} images/s')
        # Each image received is rejected or one of what follows, is unpaired, or waits.
        fates = ('rejected', 'failed', 'dropped', 'paused', 'unseen', 'published')
        self._diagnostics.publish(
            'overlay',
            verdict,
            self.resolve_topic_name('image'),
            {
                'state': self._state,
                'images': (wiring and wiring.images.source) or 'none',
                'subscribers': wiring.output.subscribers if wiring else 0,
                **{name: counts[name] for name in ('received', 'answered', 'lost', *fates)},
                'unpaired': unpaired,
                'detections without image': orphans,
            },
        )


def _picture(frame: Frame, found: Found) -> Frame:
    picture = to_bgr(frame)
    draw_boxes(picture, found.boxes, found.scores, found.names)
    return Frame.from_array(picture, stamp=frame.stamp, frame_id=frame.frame_id)
