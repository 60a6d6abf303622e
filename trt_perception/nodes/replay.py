# SPDX-License-Identifier: Apache-2.0
"""The replay node: a bag played to a live detector, and what the detector made of it."""

from __future__ import annotations

import threading
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import replace
from time import monotonic, monotonic_ns, perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.srv import GetParameters
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python
from rosgraph_msgs.msg import Clock as ClockMsg
from vision_msgs.msg import LabelInfo

from trt_perception.build.report.replay import write_page
from trt_perception.core import Detections, FrameError, PerceptionError, Sighting, Stamp
from trt_perception.core.compressed import compressed_size
from trt_perception.core.files import user_path
from trt_perception.health.statistics import FrameCounts
from trt_perception.replay.bag_reader import BagError, BagReader
from trt_perception.replay.ledger import Ledger
from trt_perception.replay.mcap import Message
from trt_perception.replay.message_types import COMPRESSED
from trt_perception.replay.replay import (
    Account,
    Camera,
    Hashing,
    describe,
    describe_selection,
    detection_topics,
    seen_frame,
)
from trt_perception.replay.result import ResultWriter, check_replaceable, open_result
from trt_perception.replay.sources.bag import choose_topics, image_of, image_topics
from trt_perception.ros import parameters
from trt_perception.ros.detections_input import DetectionsInput
from trt_perception.ros.detector_file import cameras_of_topics, named_topics
from trt_perception.ros.detector_parameters import DETECTOR
from trt_perception.ros.image_output import ImageOutput
from trt_perception.ros.inference_status import status_values
from trt_perception.ros.label_info import LATCHED
from trt_perception.ros.parameters import ParameterError
from trt_perception.ros.recording_parameters import REPLAY

if TYPE_CHECKING:
    from rclpy.client import Client

#: Seconds between two ticks of /clock, and of the clock before the first image.
TICK, LEAD = 0.02, 0.5
#: Seconds between two looks at what has come back.
LOOK = 0.2
#: Seconds that the detector gets for what is under way when all is played.
DRAIN = 30.0
#: Seconds after which it is said what is waited for.
SLOW = 2.0
#: Seconds without diagnostics, which come once a second, after which a detector is taken for dead.
SILENT = 15.0
#: Changes of diagnostics that are kept.
_KEPT = 1000
_NOTHING = np.zeros(0, np.uint8)  # no view: that would keep the image


class _GoneError(PerceptionError):
    """The detector has ended, or hangs."""


class ReplayNode(Node):
    """Plays the images of a bag as the cameras did, with its clock, and records what comes of them.

    Images keep their headers and come in the bag's own time, which ``/clock`` tells: a detector
    with ``use_sim_time`` sees them as it would have on the robot. The first comes once the detector
    is ready. What it finds goes into a folder as ``trt-perception replay`` leaves one.

    Attributes:
        sent: images played so far.
        total: that there are, as the bag says.
        finished: all is written, or it failed.
        problem: why it failed; ''.
        exit_code: for the process; not 0 if it failed.
    """

    _built = False  # rclpy destroys nodes whose constructor has failed, too

    def __init__(self, **kwargs: Any) -> None:
        """Open the bag, advertise, and begin once the detector is there.

        Args:
            kwargs: those of ``rclpy.node.Node``.

        Raises:
            PerceptionError: a parameter's value cannot be used, or the bag has no such images.
        """
        super().__init__('replay', **kwargs)
        parameters.declare(self, REPLAY, fixed=True)
        self._values = values = parameters.values(self, REPLAY)
        if not values['bag']:
            raise ParameterError('bag: is empty; give the folder of a rosbag2, or a file of one')
        self._folder = user_path(values['output'])
        check_replaceable(self._folder)
        self._bag = BagReader(user_path(values['bag']))
        contents = self._bag.contents()
        for text in [*contents.notes, *contents.damage]:
            self.get_logger().warning(f'{self._bag.path}: {text}')
        counts, named = image_topics(contents), named_topics([t for t in values['topics'] if t])
        try:
            topics = choose_topics(counts, list(named))
        except PerceptionError as error:
            raise BagError(f"bag '{self._bag.path}': {error}") from None
        self._cameras = cameras_of_topics(topics, named, [n for n in named.values() if n])
        self._account = Account({topic: Camera(counts[topic]) for topic in self._cameras})
        self.total = sum(camera.expected for camera in self._account.cameras.values())
        self.sent = 0
        self.finished = False
        self.problem = ''
        self.exit_code = 1  # until all of the bag is played and written

        self._ledger = Ledger()
        self._late = self._latest = 0  # images, and nanoseconds
        self._begun: tuple[int, int] | None = None  # the bag's time, and that of the steady clock
        self._told = 0
        self._clock_lock = threading.Lock()
        self._labels: LabelInfo | None = None
        self._statuses: dict[str, dict[str, Any]] = {}
        self._numbers: dict[str, int] = {}
        self._news = 0  # of diagnostics
        self._heard = monotonic()
        self._changes: list[dict[str, Any]] = []
        namespace = self.get_namespace().rstrip('/')
        name = values['detector']
        self._detector = name if name.startswith('/') else f'{namespace}/{name}'
        self._outputs = {
            (topic, kind): ImageOutput(
                self, topic.removesuffix('/compressed'), compressed=kind == COMPRESSED
            )
            for topic in self._cameras
            for kind in contents.topics[topic].kinds
        }
        self._inputs = {
            topic: DetectionsInput(
                self,
                lambda sighting, topic=topic: self._on_detections(topic, sighting),  # type: ignore[misc]
                topic=f'{camera}/detections'.lstrip('/'),
                depth=100,
            )
            for topic, camera in self._cameras.items()
        }
        for one in self._inputs.values():
            one.start()
        self._clock_output = self.create_publisher(ClockMsg, '/clock', 10)
        self.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 100)
        self.create_subscription(LabelInfo, 'label_info', self._on_labels, LATCHED)
        self._ask: Client[Any, Any] = self.create_client(
            GetParameters, f'{self._detector}/get_parameters'
        )
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name='replay')
        self._thread.start()
        self._built = True

    def stop(self) -> None:
        """Play no more, and write what has come of it until now; does not wait for that."""
        self._stopping.set()

    def destroy_node(self) -> None:
        """Stop, and wait until all is written."""
        if self._built:
            self.stop()
            self._thread.join()
            for one in self._inputs.values():
                one.close()
            for output in self._outputs.values():
                output.close()
        super().destroy_node()

    # What comes

    def _on_detections(self, topic: str, sighting: Sighting) -> None:
        now = monotonic_ns()
        found = sighting.detections
        # They came under the names of their classes, or with numbers of their message's own.
        ids = [self._numbers[n] if n in self._numbers else _number(n) for n in sighting.names]
        detections = Detections(found.boxes, found.scores, np.array(ids, np.int32))
        self._ledger.answered(topic, sighting.stamp, detections, now)

    def _on_labels(self, message: LabelInfo) -> None:
        self._labels = message
        self._numbers = {c.class_name: c.class_id for c in reversed(message.class_map)}

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        before = f'{self._detector.lstrip("/")}: '
        for status in message.status:
            if not status.name.startswith(before):
                continue
            task = status.name.removeprefix(before)
            told = status_values(status)
            last = self._statuses.get(task, {'level': 'ok'})
            if told['level'] != last['level'] and self._begun and len(self._changes) < _KEPT:
                at = round((self._time() - self._begun[0]) / 1e9, 2)
                about = {name: told[name] for name in ('level', 'message')}
                self._changes.append({'at_s': at, 'task': task, **about})
            # At its end a detector no longer says what it ran on.
            self._statuses[task] = {**last, **told}
            self._news += task == 'inference'
            self._heard = monotonic()

    # The way through

    def _run(self) -> None:
        try:
            if self._wait():
                self._record()
                self.exit_code = 0 if self._account.complete else 1
        except PerceptionError as error:
            self.problem = str(error)
            self.get_logger().error(self.problem)
        except Exception as error:  # the thread's end must be seen
            self.problem = f'{type(error).__name__}: {error}'
            self.get_logger().error(self.problem)
        finally:
            self.finished = True

    def _wait(self) -> bool:
        """Wait for the detector; False if it is over before that.

        Raises:
            PerceptionError: it cannot work, or does not get on.
        """
        last, since, told = '', monotonic(), ''
        while lack := self._lack():
            status = self._statuses.get('inference', {})
            if status.get('state') == 'unconfigured' and status['level'] == 'error':
                raise PerceptionError(f'detector {self._detector}: {status["message"]}')
            if lack != last:  # an engine that is being built goes on
                last, since = lack, monotonic()
            waited = monotonic() - since
            if waited > self._values['start_timeout']:
                raise PerceptionError(f'not ready, for {waited:.0f} s now: {lack}')
            if waited > SLOW and lack != told:
                told = lack
                self.get_logger().info(f'waiting: {lack}')
            if self._stopping.wait(0.05):
                return False
        return True

    def _lack(self) -> str:
        """What is still waited for; '' if nothing is."""
        status = self._statuses.get('inference')
        if status is None:
            return f'no diagnostics of a detector {self._detector}; start it, or set detector'
        if status.get('state') != 'active' or 'backend' not in status:
            return f'the detector is not ready: {status["message"]}'
        if self._labels is None:
            topic = self.resolve_topic_name('label_info')
            return f'nobody says on {topic} which classes there are; remap label_info'
        for topic, camera in self._cameras.items():
            outputs = [o for (of, _), o in self._outputs.items() if of == topic]
            its = self._statuses.get(camera or 'inference')
            if its is None:
                return f'the detector has no camera {camera} for {topic}; set cameras there'
            if not any(o.subscribers for o in outputs) or its.get('images') == 'none':
                return f'nobody takes the images of {topic}; remap image of the detector to it'
            if problem := self._inputs[topic].problem():
                return problem
            if not its.get('subscribers'):
                return 'the detector does not yet know who listens'
        return ''

    def _record(self) -> None:
        """Play, and write down what comes back; of a detector that dies, what came before.

        Raises:
            PerceptionError: the bag cannot be read, the results not written, or the detector died.
        """
        asked = self._ask_detector()
        labels = self._labels
        assert labels is not None
        threshold = float(str(np.float32(labels.threshold)))  # 0.1 came as float32
        found = detection_topics(self._cameras)
        names = [c.class_name for c in sorted(labels.class_map, key=lambda c: c.class_id)]
        with (
            ResultWriter(self._folder, found, names, threshold) as writer,
            ThreadPoolExecutor(2, 'play') as pool,
        ):
            begun, gone = perf_counter(), ''
            playing = pool.submit(self._play)
            pool.submit(self._run_clock)
            try:
                while not self._over(playing):
                    self._write(writer, names, monotonic_ns())
                playing.result()
            except _GoneError as error:
                gone, self._account.complete = str(error), False
            finally:
                self._stopping.set()  # also when nothing more can be written
            self._account.seconds = perf_counter() - begun - LEAD
            self._write(writer, names, None)
            if gone and not self._account.looked_at:
                raise PerceptionError(gone)
            if not self._account.looked_at:
                why = self._statuses['inference']['message']
                raise PerceptionError(f'no image of {self.sent} was answered: {why}')
            self._account.files = Hashing(self._bag).run()
            status = self._statuses['inference']
            writer.finish(
                {
                    **describe(self._bag, self._account, user_path(str(status['model'])), None),
                    **{name: status[name] for name in ('backend', 'device', 'precision')},
                    'chosen': status.get('reason', ''),
                    'selection': describe_selection(asked, threshold),
                    'online': {
                        'rate': self._values['rate'],
                        'latency_budget_ms': asked['latency_budget_ms'],
                        'images_late': self._late,
                        'most_late_ms': round(self._latest / 1e6, 2),
                        'answers_to_nothing': self._ledger.strange,
                        'statuses': self._statuses,
                        'changes': self._changes,
                    },
                    **self._account.to_dict(writer.times(), found),
                }
            )
            write_page(open_result(writer.folder))
        looked_at, sent = self._account.looked_at, self.sent
        self.get_logger().info(f'{self._folder}: {looked_at} of {sent} images were looked at')
        if gone:
            raise PerceptionError(f'{gone}; {self._folder} holds what it saw before')

    def _over(self, playing: Future[None]) -> bool:
        """Wait a moment; whether all is played and nothing more will come.

        Raises:
            _GoneError: the detector is.
        """
        self._see_it_lives()
        if wait([playing], LOOK).not_done:
            return False
        if playing.exception() is not None or self._stopping.is_set():
            return True
        give_up, since, complete = monotonic() + DRAIN, self._news, 0
        # The same number is accounted for a second time: no image is under way.
        while monotonic() < give_up and complete < 1 + bool(self._ledger.waiting):
            if self._stopping.wait(0.05):
                break
            self._see_it_lives()
            if self._news > since:
                since = self._news
                complete += all(map(self._accounted, self._cameras.values()))
        return True

    def _see_it_lives(self) -> None:
        if monotonic() - self._heard > SILENT:
            raise _GoneError(
                f'detector {self._detector} has said nothing on /diagnostics for {SILENT:.0f} s: it'
                ' has ended, or hangs'
            )

    def _accounted(self, camera: str) -> bool:
        status = self._statuses[camera or 'inference']
        return bool(status['received'] == sum(status[fate] for fate in FrameCounts.FATES))

    def _write(self, writer: ResultWriter, names: list[str], now: int | None) -> None:
        for look in self._ledger.settle(now):
            self._account.cameras[look.topic].count(look, lambda k: _name(names, k))
            if not isinstance(look.detections, FrameError):
                writer.add(seen_frame(look))

    # What goes

    def _play(self) -> None:
        """Send each image when it is due.

        Raises:
            BagError: the bag cannot be read any more.
        """
        rate = self._values['rate']
        with closing(self._messages()) as messages:
            for message in messages:
                if self._begun is None:
                    self._begun = message.time, monotonic_ns() + round(LEAD * 1e9)
                start, zero = self._begun
                # From the start, not from the image before: small delays do not add up.
                early = zero + round((message.time - start) / rate) - monotonic_ns()
                if self._stopping.wait(max(0, early) / 1e9):
                    self._account.complete = False
                    return
                # Images of two cameras may be due at once, and a bag's times may go back.
                if early < -TICK * 1e9:
                    self._late += 1
                    self._latest = max(self._latest, -early)
                self._send(message)

    def _messages(self) -> Generator[Message, None, None]:
        """Those of the bag, each read while the one before is waited for."""

        def note(error: BagError) -> None:
            self._account.damage.append(str(error))

        messages = self._bag.messages(self._cameras, note)
        with ThreadPoolExecutor(1, 'read') as pool:
            coming = pool.submit(next, messages, None)
            while (message := coming.result()) is not None:
                coming = pool.submit(next, messages, None)
                yield message

    def _send(self, message: Message) -> None:
        try:
            frame = image_of(message)
        except FrameError as error:
            self._ledger.refused(message, None, error)
            return
        width, height = frame.width, frame.height
        if frame.compressed:
            try:
                width, height = compressed_size(frame.data)
            except FrameError:
                width, height = 0, 0  # the detector will say what is wrong with it
        output = self._outputs[message.topic, message.kind]
        self._tick()
        header = replace(frame, data=_NOTHING, width=width, height=height)
        self._ledger.sent(message, header, frame.encoding, monotonic_ns())
        output.send(replace(frame, source=output.source))
        self.sent += 1

    def _time(self) -> int:
        """Of the bag, now; nanoseconds."""
        assert self._begun is not None
        start, zero = self._begun
        return start + round((monotonic_ns() - zero) * self._values['rate'])

    def _run_clock(self) -> None:
        while not self._stopping.wait(TICK):
            if self._begun is not None:
                self._tick()

    def _tick(self) -> None:
        with self._clock_lock:  # never back
            self._told = max(self._told, self._time())
            sec, nanosec = Stamp.of(self._told)
            self._clock_output.publish(ClockMsg(clock=Time(sec=sec, nanosec=nanosec)))

    def _ask_detector(self) -> dict[str, Any]:
        """Those of the detector.

        Raises:
            PerceptionError: it does not answer.
        """
        names = [*(p.name for p in DETECTOR), 'use_sim_time']
        future = self._ask.call_async(GetParameters.Request(names=names))
        give_up = monotonic() + DRAIN
        while not future.done():
            if monotonic() > give_up or self._stopping.wait(0.02):
                raise PerceptionError(f'detector {self._detector} does not tell its parameters')
        response: Any = future.result()
        values = map(parameter_value_to_python, response.values)
        found = dict(zip(names, values, strict=True))
        if not found.pop('use_sim_time'):
            self.get_logger().warning(
                'the detector has not use_sim_time: to it these images are old ones, and it does'
                ' not judge their age'
            )
        return {p.name: p.plain(found[p.name]) for p in DETECTOR}


def _number(name: str) -> int:
    """Of a class that goes by its number, or that label_info does not tell."""
    return int(name) if name.isdecimal() else np.iinfo(np.int32).max


def _name(names: list[str], number: int) -> str:
    return names[number] if number < len(names) else str(number)
