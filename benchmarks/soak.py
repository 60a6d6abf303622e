# SPDX-License-Identifier: Apache-2.0
"""Very many frames and everything that goes wrong on a robot, again and again, with one detector.

Three cameras hand their images over within the process, two more send theirs over DDS from a
process of their own. Images are broken, cameras come, go and come back as something else, there
are bursts; meanwhile parameters change, rightly and wrongly, the detector is deactivated, restarted
with another model or with a file that is none, its engine is replaced while it runs, the network
fails, viewers come and go, and the process of the cameras is killed. All of it is drawn by a seed.

Two things must hold. Every image that came in is accounted for, and each that is said to be
published was. And what the process uses must not grow: its memory, file descriptors, threads and
shared memory are sampled, and their slope over the last three quarters is told. Resident memory
goes up and down by some megabytes, as glibc keeps what was freed and gives it back; what is
allocated of it shows a leak long before.

  python3 benchmarks/soak.py --frames 200000 --json soak.json --plot soak.svg
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import io
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import SetParametersAtomically
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image
from soak_faults import (
    BAD,
    BURST,
    BURST_LENGTH,
    Pictures,
    camera_process,
    write_model,
)
from vision_msgs.msg import Detection2DArray

from trt_perception.core import Sighting, Stamp
from trt_perception.health.statistics import FrameCounts
from trt_perception.nodes.detector import DetectorNode
from trt_perception.ros.detections_output import DETECTIONS
from trt_perception.ros.domain import free_domain
from trt_perception.ros.executor import GuardedExecutor
from trt_perception.ros.image_output import ImageOutput
from trt_perception.ros.intra_process import Place, bus_of
from trt_perception.runtime.machine import describe_machine, process_memory
from trt_perception.runtime.malloc import few_arenas

INSIDE, OUTSIDE = ('front', 'left', 'right'), ('dock', 'rear')
#: What each of the samples may grow by in 100,000 frames, and how many frames it takes to tell.
LIMITS = {
    'resident_mb': 4.0, 'allocated_mb': 2.0, 'descriptors': 1.0, 'threads': 1.0, 'shm_files': 1.0,
    'shm_mb': 1.0,
}  # fmt: skip
JUDGED_FROM = 50_000
_PATIENCE = 120.0  # seconds for what takes a moment
_SELDOM = 5  # rounds of faults to one in which the cameras' process ends: it takes long to begin
_SHM = re.compile(r'/dev/shm/\S+')


class Spinner:
    """Nodes on a thread of their own."""

    def __init__(self, context: Context, *nodes: Node) -> None:
        self._executor = GuardedExecutor(context)
        self._nodes = nodes
        for node in nodes:
            self._executor.add_node(node)
        self._thread = threading.Thread(target=self._spin, name='spinner')
        self._thread.start()

    @property
    def failure(self) -> BaseException | None:
        """What a callback raised: there must be none."""
        return self._executor.failure

    def close(self) -> None:
        """Destroy the nodes."""
        self._executor.stop()
        self._thread.join()
        self._executor.finish()
        for node in self._nodes:
            node.destroy_node()

    def _spin(self) -> None:
        while not self._executor.over:
            self._executor.spin_once()


class BusCamera:
    """A camera of this process, on a thread of its own."""

    def __init__(
        self, node: Node, name: str, pictures: Pictures, order: random.Random, rate: float
    ) -> None:
        self._node, self._name, self._pictures = node, name, pictures
        self._order, self._rate = order, rate
        self._stop = threading.Event()
        self.sent = 0
        self._thread = threading.Thread(target=self._run, name=name)
        self._thread.start()

    def close(self) -> None:
        """Send no more."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            compressed = not self._order.randrange(3)
            output = ImageOutput(self._node, f'{self._name}/image', compressed=compressed)
            life = self._order.randrange(20, 4000)
            while life > 0 and not self._stop.wait(1 / self._rate):
                for _ in range(1 if self._order.randrange(BURST) else BURST_LENGTH):
                    self._send(output, compressed)
                    life -= 1
            output.close()
            self._stop.wait(self._order.uniform(0.0, 1.0))

    def _send(self, output: ImageOutput, compressed: bool) -> None:
        pictures = self._pictures
        good = pictures.compressed if compressed else pictures.raw
        bad = pictures.broken if compressed else [pictures.white]
        frame = self._order.choice(good if self._order.randrange(BAD) else bad)
        output.send(replace(frame, stamp=Stamp.of(time.time_ns()), frame_id=self._name))
        self.sent += 1


class Outside:
    """The process of the cameras that send over DDS; it may be killed and started again."""

    def __init__(self, domain: int, seed: int, rate: float) -> None:
        self._domain, self._seed, self._rate = domain, seed, rate
        self.sent: Counter[str] = Counter()
        self.left = 0  # files in shared memory, by processes that were killed
        self.begin()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def begin(self) -> None:
        """Start it, as other cameras than those before."""
        self._seed += len(OUTSIDE)
        self._process = subprocess.Popen(
            [sys.executable, __file__, '--outside', str(self._seed), str(self._rate)],
            env=os.environ | {'ROS_DOMAIN_ID': str(self._domain)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, args=(self._process,))
        self._reader.start()

    def end(self, kill: bool) -> None:
        """End it, or pull the plug."""
        assert self._process.stdin is not None
        used = shared_memory(self._process.pid)
        if kill:
            self._process.kill()
        else:
            self._process.stdin.close()
        try:
            self._process.wait(_PATIENCE)
        finally:
            self._process.kill()
            self._process.wait()
            self._reader.join()
            with suppress(OSError):
                self._process.stdin.close()
        if kill:
            self._tidy(used)

    def _tidy(self, used: set[str]) -> None:
        """Take away what Fast DDS leaves in /dev/shm of a process that was killed."""
        for file in used - shared_memory('self'):
            with suppress(OSError):
                os.unlink(file)
                self.left += 1

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        last: dict[str, int] = {}
        with process.stdout:
            for line in process.stdout:
                last = json.loads(line)
        self.sent.update(last)


class Listener:
    """Hears each result that is published, by reference, so that none can be lost on the way."""

    def __init__(self, node: Node, camera: str) -> None:
        self.heard = 0
        self.disorder = 0  # results that are not of a younger image than the one before
        self._last = 0
        bus = bus_of(node)
        assert bus is not None
        self._reader = bus.reader(Place(f'/{camera}/detections', DETECTIONS), self._take)

    def _take(self, sighting: Sighting) -> None:
        self.heard += 1
        if sighting.stamp.nanoseconds <= self._last:
            self.disorder += 1
        self._last = sighting.stamp.nanoseconds


class Operator:
    """Does to the detector what people and other nodes do to it, through its services."""

    def __init__(
        self, node: Node, detector: DetectorNode, outside: Outside, models: Sequence[Path],
        broken: Path, order: random.Random, pause: float,
    ) -> None:  # fmt: skip
        self._node, self._detector, self._outside = node, detector, outside
        self._models, self._broken, self._order = models, broken, order
        self._pause = pause
        self._transitions = node.create_client(ChangeState, 'detector/change_state')
        self._setting = node.create_client(
            SetParametersAtomically, 'detector/set_parameters_atomically'
        )
        self.acts: dict[str, Callable[[], None]] = {
            'parameters set': self._set_right,
            'parameters refused': self._set_wrong,
            'parameter storm': self._storm,
            'deactivated and activated': self._rest,
            'restarted with another model': self._restart,
            'restarted with a file that is no model': self._restart_in_vain,
            'engine replaced while running': self._replace_engine,
            'viewers came and went': self._view,
            'camera process ended': partial(self._replace_cameras, False),
            'camera process killed': partial(self._replace_cameras, True),
        }
        self.done: Counter[str] = Counter()
        self.problem = ''
        self.rounds = 0  # in each, all is done once
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name='operator')

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Finish what is under way."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                names = list(self.acts)
                if self.rounds % _SELDOM:
                    names = [name for name in names if not name.startswith('camera process')]
                self._order.shuffle(names)
                for name in names:
                    if self._stop.wait(self._order.expovariate(1 / self._pause)):
                        return
                    self.acts[name]()
                    self.done[name] += 1
                self.rounds += 1
        except Exception as error:
            self.problem = f'{type(error).__name__}: {error}'

    def _call(self, client: Any, request: Any) -> Any:
        if not client.wait_for_service(_PATIENCE):
            raise RuntimeError(f'no service {client.srv_name}')
        answered = threading.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _: answered.set())
        if not answered.wait(_PATIENCE):
            raise RuntimeError(f'{client.srv_name} does not answer')
        return future.result()

    def _set(self, **values: Any) -> bool:
        messages = [
            Parameter(name.replace('__', '.'), value=value).to_parameter_msg()
            for name, value in values.items()
        ]
        request = SetParametersAtomically.Request(parameters=messages)
        return bool(self._call(self._setting, request).result.successful)

    def _change(self, transition: str, works: bool = True) -> None:
        request = ChangeState.Request()
        request.transition.label = transition
        if bool(self._call(self._transitions, request).success) != works:
            raise RuntimeError(f'{transition}: {"failed" if works else "worked"}')

    def _set_right(self) -> None:
        camera = self._order.choice((*INSIDE, *OUTSIDE))
        wanted = {
            'score_threshold': self._order.uniform(0.0, 1.0),
            'max_detections': self._order.randrange(1, 100),
            'classes': self._order.choice((['*'], ['car'], ['crate', 'car'])),
            'region_of_interest': self._order.choice(([0, 0, 0, 0], [8, 8, 32, 32])),
            'max_rate': self._order.choice((0.0, 0.0, 0.0, 100.0)),
            'priority': self._order.uniform(0.1, 10.0),
        }
        name = self._order.choice(list(wanted))
        if not self._set(**{f'{camera}__{name}': wanted[name]}):
            raise RuntimeError(f'{camera}.{name} was refused')

    def _set_wrong(self) -> None:
        wrong = self._order.choice((
            {'front__score_threshold': 2.0}, {'rear__classes': ['lorry']}, {'dock__classes': 7},
            {'left__region_of_interest': [1, 2, 3]}, {'front__max_rate': 1.0, 'cameras': ['a b']},
        ))  # fmt: skip
        if self._set(**wrong):
            raise RuntimeError(f'{wrong} was not refused')

    def _storm(self) -> None:
        for _ in range(20):
            self._set_right()

    def _rest(self) -> None:
        self._change('deactivate')
        self._stop.wait(self._order.uniform(0.0, self._pause))
        self._change('activate')

    def _restart(self) -> None:
        self._change('deactivate')
        self._change('cleanup')
        self._set(model=str(self._order.choice(self._models)))
        self._change('configure')
        self._change('activate')

    def _restart_in_vain(self) -> None:
        good = str(self._detector.get_parameter('model').value)
        self._change('deactivate')
        self._change('cleanup')
        self._broken.write_bytes(self._order.randbytes(self._order.randrange(4096)))
        self._set(model=str(self._broken))
        self._change('configure', works=False)
        self._set(model=good)
        self._change('configure')
        self._change('activate')

    def _replace_engine(self) -> None:
        # As the degradation policy does when the board is hot, on the same thread.
        detection, executor = self._detector._detection, self._detector.executor
        assert detection is not None and executor is not None
        done = threading.Event()
        task = executor.create_task(detection.lighter, self._order.randrange(len(self._models)))
        task.add_done_callback(lambda _: done.set())
        if not done.wait(_PATIENCE):
            raise RuntimeError('the detector runs no task')
        if lack := task.result():
            raise RuntimeError(lack)

    def _view(self) -> None:
        camera = self._order.choice((*INSIDE, *OUTSIDE))
        seen: list[int] = []

        def note(_: object) -> None:
            seen[:] = [1]

        views = [
            self._node.create_subscription(Image, f'detector/{camera}/annotated', note, 1),
            self._node.create_subscription(Detection2DArray, f'{camera}/detections', note, 10),
        ]
        self._stop.wait(self._order.uniform(0.0, 2 * self._pause))
        for view in views:
            self._node.destroy_subscription(view)

    def _replace_cameras(self, kill: bool) -> None:
        self._outside.end(kill)
        self._outside.begin()


class Sampler:
    """What this process uses, once in a while."""

    def __init__(self, frames: Callable[[], int], period: float) -> None:
        self._frames, self._period = frames, period
        self._begun = time.monotonic()
        self._stop = threading.Event()
        self.samples: list[dict[str, float]] = []
        self._thread = threading.Thread(target=self._run, name='sampler')
        self._thread.start()

    def close(self) -> None:
        """Take no more."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        over = False
        while not over:
            at = {'frames': self._frames(), 'seconds': time.monotonic() - self._begun}
            self.samples.append({name: round(v, 3) for name, v in (at | usage()).items()})
            over = self._stop.wait(self._period)


def usage() -> dict[str, float]:
    """Memory, descriptors, threads and shared memory of this process."""
    shared = shared_memory('self')
    sizes = []
    for file in shared:
        with suppress(OSError):
            sizes.append(os.stat(file).st_blocks * 512)
    return {
        'resident_mb': process_memory()['resident'] / 1e6,
        'allocated_mb': allocated() / 1e6,
        'descriptors': len(os.listdir('/proc/self/fd')),
        'threads': len(os.listdir('/proc/self/task')),
        'shm_files': len(shared),
        'shm_mb': sum(sizes) / 1e6,
    }


class _MallInfo(ctypes.Structure):
    """``struct mallinfo2`` of glibc's malloc.h."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ('arena', 'ordblks', 'smblks', 'hblks', 'hblkhd', 'usmblks', 'fsmblks',
                     'uordblks', 'fordblks', 'keepcost')
    ]  # fmt: skip


_LIBC = ctypes.CDLL(None)
_LIBC.mallinfo2.restype = _MallInfo


def allocated() -> int:
    """Bytes that malloc has given out and not been given back; Python's own pools are not in it."""
    info = _LIBC.mallinfo2()
    return int(info.uordblks + info.hblkhd)


def shared_memory(process: int | str) -> set[str]:
    """Files in /dev/shm that a process has mapped or open; its number, or ``self``."""
    folder = Path('/proc') / str(process)
    used = ''
    with suppress(OSError):
        used = (folder / 'maps').read_text(encoding='utf-8', errors='replace')
    with suppress(OSError):
        for descriptor in (folder / 'fd').iterdir():
            with suppress(OSError):
                used += '\n' + os.readlink(descriptor)
    return set(_SHM.findall(used))


class Rig:
    """The detector, its cameras, and all that happens to them."""

    def __init__(self, given: argparse.Namespace, folder: Path, domain: int) -> None:
        self._context = Context()
        quiet = ['--ros-args', '--disable-stdout-logs']
        rclpy.init(
            args=quiet, context=self._context, domain_id=domain,
            signal_handler_options=SignalHandlerOptions.NO,
        )  # fmt: skip
        models = [write_model(folder / f'{n}.onnx', n) for n in (1, 2, 5)]
        parameters = {
            'model': str(models[1]), 'threads': 1, 'cameras': [*INSIDE, *OUTSIDE],
            'policy.lighter_models': [str(models[0]), str(models[2])],
        }  # fmt: skip
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        self._counted: dict[str, dict[str, int]] = {}
        operator = Node('operator', context=self._context)
        operator.create_subscription(DiagnosticArray, '/diagnostics', self._note, 50)
        inside = Node('cameras_inside', context=self._context)
        self.listeners = {name: Listener(operator, name) for name in (*INSIDE, *OUTSIDE)}
        self._detector = DetectorNode(context=self._context, parameter_overrides=overrides)
        self._spinners = [
            Spinner(self._context, self._detector), Spinner(self._context, operator, inside)
        ]  # fmt: skip
        self.sampler = Sampler(self.received, given.period)
        pictures = Pictures(given.seed)
        self.outside = Outside(domain, given.seed, given.rate / 2)
        self._inside = [
            BusCamera(inside, name, pictures, random.Random(given.seed + number), given.rate)
            for number, name in enumerate(INSIDE)
        ]
        self.operator = Operator(
            operator, self._detector, self.outside, models, folder / 'broken.onnx',
            random.Random(given.seed), given.pause,
        )  # fmt: skip
        if self.until(lambda: min(self.counts(name)['published'] for name in INSIDE) > 0):
            self.operator.start()
        else:
            self.operator.problem = 'the detector does not begin'

    def counts(self, camera: str) -> dict[str, int]:
        """What the detector says on /diagnostics became of a camera's images."""
        names = (*FrameCounts.ARRIVALS, *FrameCounts.FATES)
        return dict.fromkeys(names, 0) | self._counted.get(camera, {})

    def received(self) -> int:
        """Images of all cameras."""
        return sum(self.counts(name)['received'] for name in self.listeners)

    def complete(self, frames: int) -> bool:
        """Whether there were so many frames, some of each camera, and each fault."""
        seen = all(self.counts(name)['published'] for name in self.listeners)
        return seen and self.received() >= frames and self.operator.rounds > 0

    def accounted(self) -> bool:
        """Whether it is known of each image what became of it, and each result was heard."""
        return all(
            counts['received'] == sum(counts[fate] for fate in FrameCounts.FATES)
            and counts['published'] == listener.heard
            for name, listener in self.listeners.items()
            for counts in [self.counts(name)]
        )

    def until(self, condition: Callable[[], bool]) -> bool:
        """Wait for something; whether it came."""
        give_up = time.monotonic() + _PATIENCE
        while not condition():
            if self.problem() or time.monotonic() > give_up:
                return False
            time.sleep(0.05)
        return True

    def problem(self) -> str:
        """What ended it before its time."""
        failures = [f'{s.failure!r}' for s in self._spinners if s.failure is not None]
        return '; '.join(filter(None, [self.operator.problem, *failures]))

    def quieten(self) -> bool:
        """Stop all that is sent and done; whether all is accounted for then."""
        self._stop()
        return self.until(self.accounted)

    def sent(self) -> dict[str, int]:
        """By camera; of a process that was killed, what it had told."""
        return {c._name: c.sent for c in self._inside} | dict(self.outside.sent)

    def close(self) -> None:
        """End all."""
        self._stop()
        for spinner in self._spinners:
            spinner.close()
        rclpy.shutdown(context=self._context)

    def _stop(self) -> None:
        self.operator.close()
        self.sampler.close()
        for camera in self._inside:
            camera.close()
        self.outside.end(kill=False)

    def _note(self, message: DiagnosticArray) -> None:
        for status in message.status:
            camera = status.name.partition('detector: ')[2]
            if camera in self.listeners:
                told = {v.key: int(v.value) for v in status.values if v.value.isdecimal()}
                self._counted[camera] = told


def slopes(samples: Sequence[dict[str, float]]) -> dict[str, float]:
    """Growth in 100,000 frames, by least squares over the last three quarters of the frames."""
    warm = samples[-1]['frames'] / 4
    looked_at = [sample for sample in samples if sample['frames'] >= warm]
    frames = np.array([sample['frames'] for sample in looked_at]) / 1e5
    found = {}
    for name in LIMITS:
        values = np.array([sample[name] for sample in looked_at])
        spread = frames - frames.mean()
        steepness = (spread @ values) / (spread @ spread) if spread.any() else 0.0
        found[name] = round(float(steepness), 3)
    return found


@contextmanager
def progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar, or nothing where nobody watches; gives what moves it to a number of frames."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda frames: None
        return
    count = TextColumn('{task.completed:.0f} of {task.total:.0f} frames')
    with Progress(BarColumn(), count, TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task('', total=total)
        yield lambda frames: bar.update(task, completed=frames)


def hush() -> None:
    """Keep what the decoders of JPEG and PNG print of each broken image from the terminal."""
    sys.stderr = os.fdopen(os.dup(2), 'w', buffering=1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def soak(given: argparse.Namespace) -> dict[str, Any]:
    """Run until there were so many frames, and each fault at least once."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, free_domain() as domain:
        rig = Rig(given, Path(folder), domain)
        try:
            with progress(given.frames) as move:
                while not rig.problem() and not rig.complete(given.frames):
                    move(min(rig.received(), given.frames))
                    time.sleep(0.1)
            accounted = rig.quieten()
            problem = rig.problem()
        finally:
            rig.close()
    samples = rig.sampler.samples
    growth = slopes(samples)
    judged = rig.received() >= JUDGED_FROM
    return {
        'machine': describe_machine(),
        'ros': os.environ.get('ROS_DISTRO', ''),
        'python': sys.version.split()[0],
        'date': time.strftime('%Y-%m-%d'),
        'seed': given.seed,
        'seconds': round(time.monotonic() - begun, 1),
        'frames': rig.received(),
        'problem': problem,
        'accounted': accounted,
        'cameras': {
            name: {
                'way': 'by reference' if name in INSIDE else 'DDS', 'sent': rig.sent().get(name, 0),
                **rig.counts(name), 'heard': listener.heard, 'disorder': listener.disorder,
            }
            for name, listener in rig.listeners.items()
        },
        'faults': dict(rig.operator.done),
        'left in shared memory by killed processes': rig.outside.left,
        'slopes': growth,
        'grows': [name for name, most in LIMITS.items() if judged and growth[name] > most],
        'at the end': usage(),
        'samples': samples,
    }  # fmt: skip


def table(found: dict[str, Any]) -> Iterator[str]:
    """Lines of Markdown."""
    names = ('sent', *FrameCounts.ARRIVALS, *FrameCounts.FATES)
    yield f'| camera | way | {" | ".join(names)} |'
    yield '|---' * (2 + len(names)) + '|'
    for camera, counts in found['cameras'].items():
        cells = [f'{counts[name]}' for name in names]
        yield f'| {camera} | {counts["way"]} | {" | ".join(cells)} |'
    yield ''
    yield '| | at first | at the half | at the end | slope in 100,000 frames |'
    yield '|---|---|---|---|---|'
    samples = found['samples']
    for name in LIMITS:
        first, half, last = (samples[k][name] for k in (0, len(samples) // 2, -1))
        yield f'| {name} | {first:g} | {half:g} | {last:g} | {found["slopes"][name]:+g} |'
    yield ''
    yield '; '.join(f'{what}: {often}' for what, often in found['faults'].items())


def verdict(found: dict[str, Any]) -> str:
    """What is wrong; '' if nothing is."""
    wrong = [found['problem']] if found['problem'] else []
    if not found['accounted']:
        wrong.append('not every image is accounted for')
    if disorder := sum(counts['disorder'] for counts in found['cameras'].values()):
        wrong.append(f'{disorder} results were not of a younger image than the one before')
    wrong += [f'{name} grows by {found["slopes"][name]:g}' for name in found['grows']]
    return '; '.join(wrong)


def plot(path: Path, found: dict[str, Any]) -> None:
    """What the process used, by the number of frames, as SVG."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    rows = {
        'resident_mb': 'resident\nmemory, MB', 'allocated_mb': 'allocated\nof it, MB',
        'descriptors': 'file\ndescriptors', 'threads': 'threads',
        'shm_mb': 'shared\nmemory, MB',
    }  # fmt: skip
    figure = Figure(figsize=(8.0, 8.4), layout='constrained')
    FigureCanvasSVG(figure)
    frames = [sample['frames'] for sample in found['samples']]
    for axes, (name, label) in zip(
        figure.subplots(len(rows), 1, sharex=True), rows.items(), strict=True
    ):
        axes.plot(frames, [sample[name] for sample in found['samples']], linewidth=1)
        axes.set(ylabel=label, ylim=(0, None))
        axes.set_title(
            f'{found["slopes"][name]:+g} in 100,000 frames', loc='right', fontsize='small'
        )
        axes.grid(alpha=0.3)
    axes.set_xlabel('frames')
    machine = found['machine']
    figure.suptitle(
        f'{found["frames"]} frames of {len(found["cameras"])} cameras,'
        f' {sum(found["faults"].values())} faults; {machine["cpu"]}, {machine["cores"]} cores',
        fontsize='medium',
    )
    with rc_context({'svg.fonttype': 'none', 'svg.hashsalt': 'soak'}):
        drawn = io.StringIO()
        figure.savefig(drawn, format='svg', metadata={'Date': None})
    picture = drawn.getvalue()
    head = '<!-- SPDX-License-Identifier: Apache-2.0 -->\n'
    path.write_text(head + picture[picture.index('<svg') :], encoding='utf-8')


def main() -> int:
    """Run and print; 1 if something is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--frames', type=int, default=200_000, help='to receive (default: 200000)')
    add('--seed', type=int, default=1, help='of all that is drawn (default: 1)')
    add('--rate', type=float, default=200.0, help='images/s of each camera inside, twice that of'
        ' one outside (default: 200)')  # fmt: skip
    add('--pause', type=float, default=0.3, help='seconds between faults (default: 0.3)')
    add('--period', type=float, default=1.0, help='seconds between samples (default: 1)')
    add('--json', type=Path, help='file to write all figures to')
    add('--plot', type=Path, help='SVG to draw; needs matplotlib')
    add('--outside', nargs=2, type=float, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.outside:
        seed, rate = given.outside
        camera_process(OUTSIDE, int(seed), rate)
        return 0
    if given.plot and importlib.util.find_spec('matplotlib') is None:
        parser.error('--plot needs matplotlib: pip install matplotlib')
    hush()
    few_arenas()  # as the executables do
    found = soak(given)
    print('\n'.join(table(found)))
    wrong = verdict(found)
    print(f'\nerror: {wrong}' if wrong else f'\nall is well after {found["seconds"]:g} s')
    if given.json:
        text = json.dumps({**found, 'verdict': wrong or 'well'}, indent=1)
        given.json.write_text(text + '\n', encoding='utf-8')
    if given.plot:
        plot(given.plot, found)
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main())
