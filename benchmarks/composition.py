# SPDX-License-Identifier: Apache-2.0
"""What it takes to bring images from a camera to a detector, by how the two are put together.

Cameras send an image of their own at 30 Hz, the same one each time; a reader only notes when each
has come, on a thread of its own, as an inference would begin there. Nothing is computed, so that
what is left is the way. Each case runs in fresh processes; the two that are compared with each
other take turns.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter_ns
from typing import Any, NamedTuple

import numpy as np

from trt_perception.core import Frame, Stamp
from trt_perception.ros.domain import free_domain
from trt_perception.ros.fastdds import profile_environment
from trt_perception.runtime.frame_bus import Mailbox
from trt_perception.runtime.machine import describe_machine, process_memory

RATE = 30.0
SIZES = {'VGA': (640, 480), '1080p': (1920, 1080), '4K': (3840, 2160)}
_WARM_UP = 'warming up'  # frame_id of images that are not measured
_WARM_UP_FRAMES = 15
_PATIENCE = 60.0  # seconds for all to find each other, and again to end


class Topology(NamedTuple):
    """How cameras and reader are put together.

    Attributes:
        processes: what runs in each of them.
        nodes: whether each camera and the reader are nodes of their own.
        bus: whether they hand over by reference where they can.
    """

    processes: tuple[str, ...]
    nodes: bool
    bus: bool


TOPOLOGIES = {
    'one node': Topology(('cameras+reader',), False, True),
    'one process': Topology(('cameras+reader',), True, True),
    'one process, DDS': Topology(('cameras+reader',), True, False),
    'two processes': Topology(('reader', 'cameras'), True, True),
}


class Case(NamedTuple):
    """One thing to measure."""

    topology: str
    cameras: int
    size: str
    seconds: float


class Meter:
    """What this process worked between the first and the last image."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._first = self._last = (0.0, 0.0)

    def note(self) -> None:
        """An image is sent or has come."""
        now = time.perf_counter(), time.process_time()
        with self._lock:
            self._first, self._last = (self._first if self._first[0] else now), now

    def share(self) -> float:
        """Of one core."""
        passed, worked = (last - first for first, last in zip(self._first, self._last, strict=True))
        return worked / passed if passed else 0.0


class StandIn:
    """A camera that sends one image again and again."""

    def __init__(self, node: Any, number: int, case: Case, meter: Meter) -> None:
        from trt_perception.ros.image_output import ImageOutput

        width, height = SIZES[case.size]
        pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
        self._output = ImageOutput(node, f'camera_{number}', reliability='best_effort', depth=2)
        self._frame = Frame.from_array(pixels, source=self._output.source)
        self._case, self._number, self._meter = case, number, meter
        self.sent: list[int] = []  # nanoseconds that each took to send
        self.thread = threading.Thread(target=self._run, name='camera')
        self.thread.start()

    def _run(self) -> None:
        give_up = time.monotonic() + _PATIENCE
        while not self._output.subscribers and time.monotonic() < give_up:
            time.sleep(0.02)
        time.sleep(0.5)  # they may know of this camera a moment later than it knows of them
        period = 1 / RATE
        # Cameras that nobody has synchronised.
        due = time.perf_counter() + period * self._number / self._case.cameras
        end = due + _WARM_UP_FRAMES * period + self._case.seconds
        measured = due + _WARM_UP_FRAMES * period
        while due < end:
            time.sleep(max(0.0, due - time.perf_counter()))
            self._send('' if due >= measured else _WARM_UP)
            # As a camera does, whose sensor does not wait.
            behind = time.perf_counter() - due
            due += period * max(1, int(behind // period) + 1)

    def _send(self, frame_id: str) -> None:
        if not frame_id:
            self._meter.note()
        begun = perf_counter_ns()
        self._output.send(replace(self._frame, stamp=Stamp.of(begun), frame_id=frame_id))
        if not frame_id:
            self.sent.append(perf_counter_ns() - begun)


class Arrivals:
    """What comes of one camera, and when; the clock is the same in all processes of a machine."""

    def __init__(self, node: Any, number: int, meter: Meter) -> None:
        from trt_perception.ros.image_input import ImageInput

        self.handed: list[int] = []  # nanoseconds from before sending to the reader's call
        self.begun: list[int] = []  # to the reader's own thread
        self._meter = meter
        self._latest: Mailbox[Frame] = Mailbox()
        self._thread = threading.Thread(target=self._run, name='reader')
        self._thread.start()
        images = ImageInput(
            node, self._take, print, topic=f'camera_{number}', transport='auto', depth=2
        )
        images.start()
        self._images = images

    def close(self) -> None:
        """Take no more."""
        self._images.close()
        self._latest.close()
        self._thread.join()

    def _take(self, frame: Frame) -> None:
        if not frame.frame_id:
            self.handed.append(perf_counter_ns() - frame.stamp.nanoseconds)
        self._latest.put(frame)

    def _run(self) -> None:
        while (frame := self._latest.get()) is not None:
            if not frame.frame_id:
                self.begun.append(perf_counter_ns() - frame.stamp.nanoseconds)
                self._meter.note()


def take_part(parts: str, case: Case) -> dict[str, Any]:
    """Be one of the processes of a case, until all is sent or, without cameras, until told."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.node import Node
    from rclpy.signals import SignalHandlerOptions

    from trt_perception.ros.intra_process import intra_process

    topology = TOPOLOGIES[case.topology]
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    executor = SingleThreadedExecutor()
    nodes: list[Node] = []

    def node(name: str) -> Node:
        if topology.nodes or not nodes:
            nodes.append(Node(name))
            executor.add_node(nodes[-1])
        return nodes[-1]

    meter = Meter()
    arrivals: list[Arrivals] = []
    cameras: list[StandIn] = []
    with intra_process(topology.bus):
        if 'reader' in parts:
            reader = node('reader')
            arrivals = [Arrivals(reader, number, meter) for number in range(case.cameras)]
        if 'cameras' in parts:
            for number in range(case.cameras):
                cameras.append(StandIn(node(f'camera_{number}'), number, case, meter))
    told = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), told.set()), daemon=True).start()
    end = 0.0
    while not end or time.monotonic() < end:
        executor.spin_once(timeout_sec=0.1)
        if not end and not any(c.thread.is_alive() for c in cameras) and (cameras or told.is_set()):
            end = time.monotonic() + 0.5  # for what is still on its way
    memory = process_memory()['resident']
    for each in arrivals:
        each.close()
    for each in nodes:
        each.destroy_node()
    executor.shutdown()
    rclpy.shutdown()
    return {
        'send': [ns for camera in cameras for ns in camera.sent],
        'handed': [ns for camera in arrivals for ns in camera.handed],
        'begun': [ns for camera in arrivals for ns in camera.begun],
        'cpu_share': meter.share(),
        'memory_bytes': memory,
    }


def run(case: Case) -> dict[str, Any]:
    """Measure a case.

    Returns:
        Its raw figures: durations in nanoseconds, and the sums over its processes.
    """
    children = []
    with free_domain() as domain:
        environment = os.environ | profile_environment() | {'ROS_DOMAIN_ID': str(domain)}
        for parts in TOPOLOGIES[case.topology].processes:
            command = [sys.executable, __file__, '--part', parts, json.dumps(case)]
            children.append(
                subprocess.Popen(
                    command, env=environment, stdin=-1, stdout=-1, stderr=-1, text=True
                )
            )
        reports = []
        # The cameras come last, and end by themselves; the readers are told then.
        for child in reversed(children):
            limit = case.seconds + 2 * _PATIENCE
            try:
                printed, errors = child.communicate('\n', timeout=limit)
            finally:
                child.kill()
            if child.returncode:
                sys.exit(f'error: {case}: {errors}')
            reports.append(json.loads(printed.splitlines()[-1]))
    return {
        **{name: [ns for r in reports for ns in r[name]] for name in ('send', 'handed', 'begun')},
        **{name: sum(r[name] for r in reports) for name in ('cpu_share', 'memory_bytes')},
    }


def summary(raw: dict[str, Any]) -> dict[str, Any]:
    """The figures of a case; latencies in milliseconds, None where nothing has come."""
    return {
        'sent': len(raw['send']),
        'arrived': len(raw['handed']),
        'send_ms': _spread(raw['send']),
        'handed_ms': _spread(raw['handed']),
        'begun_ms': _spread(raw['begun']),
        'cpu_share': round(raw['cpu_share'], 4),
        'memory_mb': round(raw['memory_bytes'] / 1e6),
    }


def _spread(nanoseconds: Sequence[int]) -> dict[str, float] | None:
    if not nanoseconds:
        return None
    values = np.percentile(np.asarray(nanoseconds, np.float64) / 1e6, (50, 99))
    return {name: round(float(ms), 4) for name, ms in zip(('p50', 'p99'), values, strict=True)}


def cases(given: argparse.Namespace) -> Iterator[Case]:
    """All that is asked for, the ways next to each other."""
    for size in given.sizes:
        for cameras in given.cameras:
            for topology in TOPOLOGIES:
                yield Case(topology, cameras, size, given.seconds)


def compare(seconds: float, rounds: int) -> dict[str, dict[str, Any]]:
    """One camera and one reader in one process at 1080p: by reference, and over DDS, in turns."""
    ways = ('one process', 'one process, DDS')
    raw: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            raw[way].append(run(Case(way, 1, '1080p', seconds)))
    return {
        way: {'size': '1080p', 'cameras': 1, 'topology': way, 'seconds': rounds * seconds}
        | summary(
            {name: [ns for r in runs for ns in r[name]] for name in ('send', 'handed', 'begun')}
            | {n: sum(r[n] for r in runs) / len(runs) for n in ('cpu_share', 'memory_bytes')}
        )
        for way, runs in raw.items()
    }


def table(results: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Lines of Markdown."""
    yield (
        '| image | cameras | topology | images/s of each camera | sending p50 ms'
        ' | to the reader p50 ms | p99 ms | to its thread p50 ms | p99 ms | CPU | memory MB |'
    )
    yield '|---|---|---|---|---|---|---|---|---|---|---|'
    for found in results:
        ms = [
            f'{found[name][part]:.3f}' if found[name] else '-'
            for name, part in (
                ('send_ms', 'p50'), ('handed_ms', 'p50'), ('handed_ms', 'p99'), ('begun_ms', 'p50'),
                ('begun_ms', 'p99'),
            )
        ]  # fmt: skip
        yield (
            f'| {found["size"]} | {found["cameras"]} | {found["topology"]}'
            f' | {found["arrived"] / found["cameras"] / found["seconds"]:.1f} | {" | ".join(ms)}'
            f' | {found["cpu_share"]:.1%} | {found["memory_mb"]} |'
        )


def plot(path: Path, results: Sequence[dict[str, Any]], title: str) -> None:
    """Latency, CPU and memory by the number of cameras, as SVG."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    sizes = list(dict.fromkeys(r['size'] for r in results))
    rows = (
        ("median ms to the\nreader's thread", lambda r: r['begun_ms'] and r['begun_ms']['p50']),
        ('% of one core', lambda r: 100 * r['cpu_share']),
        ('memory, MB', lambda r: r['memory_mb']),
    )
    figure = Figure(figsize=(3.4 * len(sizes), 7.2), layout='constrained')
    FigureCanvasSVG(figure)
    grid = figure.subplots(len(rows), len(sizes), squeeze=False, sharex=True, sharey='row')
    for column, size in enumerate(sizes):
        for row, (label, figure_of) in enumerate(rows):
            axes = grid[row][column]
            for topology, marker in zip(TOPOLOGIES, 'osD^', strict=True):
                shown = [r for r in results if (r['size'], r['topology']) == (size, topology)]
                counts = [r['cameras'] for r in shown]
                axes.plot(counts, list(map(figure_of, shown)), marker=marker, label=topology)
            axes.set(yscale='log', ylabel='' if column else label)
            axes.set_xticks(sorted({r['cameras'] for r in results}))
            axes.minorticks_off()
            axes.grid(alpha=0.3)
            if not row:
                axes.set_title(size)
            if row == len(rows) - 1:
                axes.set_xlabel('cameras')
    grid[0][0].legend(fontsize='small')
    figure.suptitle(title, fontsize='medium')
    with rc_context({'svg.fonttype': 'none', 'svg.hashsalt': 'composition'}):
        drawn = io.StringIO()
        figure.savefig(drawn, format='svg', metadata={'Date': None})
    picture = drawn.getvalue()
    head = '<!-- SPDX-License-Identifier: Apache-2.0 -->\n'
    path.write_text(head + picture[picture.index('<svg') :], encoding='utf-8')


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--cameras', type=int, nargs='+', default=[1, 4, 8], help='(default: 1 4 8)')
    add('--sizes', nargs='+', choices=SIZES, default=list(SIZES), help='(default: all)')
    add('--seconds', type=float, default=4.0, help='to measure of each case (default: 4)')
    add('--rounds', type=int, default=3, help='of the comparison at 1080p; 0: none (default: 3)')
    add('--quick', action='store_true', help='2 cameras of VGA for 0.3 s, no comparison')
    add('--json', type=Path, help='file to write all figures to')
    add('--plot', type=Path, help='SVG to draw; needs matplotlib')
    add('--part', nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        parts, case = given.part
        print(json.dumps(take_part(parts, Case(*json.loads(case)))), flush=True)
        return
    if given.quick:
        given.cameras, given.sizes, given.seconds, given.rounds = [2], ['VGA'], 0.3, 0
    machine = describe_machine()
    title = f'{machine["cpu"]}, {machine["cores"]} cores; {RATE:g} images/s of each camera'
    print(f'{title}\n')
    compared = compare(2 * given.seconds, given.rounds) if given.rounds else {}
    results = []
    for case in cases(given):
        results.append({**case._asdict(), **summary(run(case))})
        print(f'{case.size}, {case.cameras} cameras, {case.topology}', file=sys.stderr)
    if compared:
        here, there = compared.values()
        print(f'One camera of 1080p in one process, {given.rounds} rounds in turns:\n')
        print('\n'.join(table(list(compared.values()))))
        ratios = [there[k]['p50'] / here[k]['p50'] for k in ('handed_ms', 'begun_ms')]
        print(
            f'\nBy reference {ratios[0]:.0f} times faster to the reader, {ratios[1]:.0f} times'
            f' to its thread; {there["cpu_share"] / here["cpu_share"]:.1f} times less CPU.\n'
        )
    print('\n'.join(table(results)))
    if given.json:
        report = {'machine': machine, 'compared': compared, 'results': results}
        given.json.write_text(json.dumps(report, indent=1) + '\n', encoding='utf-8')
    if given.plot:
        plot(given.plot, results, title)


if __name__ == '__main__':
    main()
