# SPDX-License-Identifier: Apache-2.0
"""Faults, injected into a running detector of two cameras: how soon diagnostics name each, how soon
images are answered again when it is over, and how many were lost, of each camera.

The faults are those of the tests (test/injections.py), over real DDS, with the node's own timings:
diagnostics once a second, the first pause between two attempts a second. Each is injected into a
detector of its own, --repeat times. Where a GPU breaks, a stand-in for two of them does
(test/fake_gpu.py): real engines that ONNX Runtime runs, so that it says nothing of how long a real
GPU takes to be opened again. The front camera sends 20 images a second; the rear one sends its
next when the last is answered, and waits a second for an answer that does not come.

  python3 benchmarks/faults.py --json faults.json
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from functools import partial
from pathlib import Path
from statistics import median
from time import monotonic, sleep
from typing import Any

import pytest

from trt_perception.ros.domain import free_domain
from trt_perception.runtime.host.onnx_runtime import cpu_name
from trt_perception.runtime.versions import versions

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'test'))
from fake_gpu import FakeGpu
from injections import (
    CAMERAS,
    DEVICES,
    FILES,
    TWO_CAMERAS,
    TWO_GPUS,
    Fault,
    Lab,
    processes,
    storm,
)
from models import constant_detector
from rig import RATE, Outcome, Rig, Source
from world import World

#: Seconds that the detector's process is stopped.
STOPPED = 3.0
#: There is nothing wrong with the detector that diagnostics could name.
STORM = Fault(
    'a storm of parameters',
    'a threshold is set 400 times, as fast as it can be; every other value is refused',
    '',
    lambda lab: storm(lab.rig.world, [0.1, 7.0] * 200),
    spares='rear',
)
#: What `stopped` does.
STOPS = (
    Fault("the camera's process is stopped", 'SIGSTOP, and SIGCONT when that is named',
          'no image for ', lambda lab: None, task='front'),
    Fault("the detector's process is stopped", f'SIGSTOP, and SIGCONT after {STOPPED:g} s; named'
          ' after that', 'this process stood still for ', lambda lab: None),
)  # fmt: skip


@dataclass
class Row:
    """What a fault did, over all times that it was injected.

    Attributes:
        detected_ms: from the injection until it is named; None where nothing is there to be named.
        blind_ms: the longest time without an answer for the front camera.
        recovered_ms: from the end of the fault to the first answer to an image sent after it. These
            three are medians.
    """

    fault: str
    injected: str
    named: str
    detected_ms: float | None
    blind_ms: float
    recovered_ms: float
    times: int
    sent: int
    lost: int
    others_sent: int
    others_lost: int


def row(fault: Fault, outcomes: list[Outcome]) -> Row:
    """Sum up."""
    return Row(
        fault.name,
        fault.how,
        outcomes[0].named if fault.words else '',
        round(1000 * median(o.detected for o in outcomes)) if fault.words else None,
        round(1000 * median(o.blind for o in outcomes)),
        round(1000 * median(o.recovered for o in outcomes)),
        len(outcomes),
        sum(o.sent for o in outcomes),
        sum(o.lost for o in outcomes),
        sum(o.others_sent for o in outcomes),
        sum(o.others_lost for o in outcomes),
    )


@contextmanager
def a_world() -> Iterator[World]:
    """In a domain of its own."""
    with free_domain() as domain:
        world = World(domain)
        try:
            yield world
        finally:
            world.close()


@contextmanager
def a_lab(folder: Path, *, gpus: int, **parameters: Any) -> Iterator[Lab]:
    """A detector that runs, on so many GPUs or on the processor."""
    patch = pytest.MonkeyPatch()
    patch.setenv('TRT_PERCEPTION_ENGINES', str(folder / 'engines'))
    gpu = FakeGpu(patch)
    gpu.count = gpus
    gpu.absent = '' if gpus else 'there is none'
    model = constant_detector(folder / 'model.onnx', work=0 if gpus else 4)
    with a_world() as world:
        rig = Rig(world, model, **parameters)
        try:
            lab = Lab(rig.start(), model, gpu, pytest.MonkeyPatch())
            world.until(lambda: len(gpu.opened) == gpus, 'all are open')
            sleep(random.uniform(1.0, 2.0))  # at any time between two statuses
            yield lab
        finally:
            rig.close()
            patch.undo()


def injected(fault: Fault, folder: Path) -> Outcome:
    """What it does to a detector of its own."""
    on_gpus = fault in (*DEVICES, *FILES)
    parameters = TWO_GPUS if on_gpus else TWO_CAMERAS
    with a_lab(folder, gpus=2 * on_gpus, **parameters) as lab:
        return lab.endure(fault)


def stopped(folder: Path) -> list[Outcome]:
    """What becomes of a camera's process that is stopped, and then of the detector's."""
    model = constant_detector(folder / 'model.onnx')
    outcomes = []
    with a_world() as world, processes(world, model) as ours:
        rig, front, rear = ours.rig, ours.rig.front, ours.rig.rear
        world.until(lambda: front.answered, 'the camera is seen')
        for fault, process in zip(STOPS, (ours.camera, ours.detector), strict=True):
            first, begun = len(rear.sent), monotonic()
            before = begun
            if process is ours.camera:
                ours.stop(process)
                at, status = rig.until_says(fault.task, fault.words, begun)
                ours.resume(process)
                going, stamp = monotonic(), front.clock()
            else:
                ours.stop(process, STOPPED)
                begun = going = monotonic()
                stamp = front.clock()
                at, status = rig.until_says(fault.task, fault.words, begun)
            answered = world.until(partial(first_answer, front, stamp), 'answers')
            well = rig.until_well(going)
            blind = front.blind(before, well)
            times = at - begun, answered - going, well - going, blind
            outcomes.append(Outcome(status.message, *times, 0, 0, *rig.lost(rear, first)))
    return outcomes


def first_answer(source: Source, since: int) -> float:
    """When the first image that was stamped after that was answered; 0 if none is."""
    answers = dict(source.answered)
    return min((at for stamp, at in answers.items() if stamp > since), default=0.0)


def measure(repeat: int, only: str) -> list[Row]:
    """All faults, one after the other."""
    rows = []
    for fault in (*DEVICES, *FILES, *CAMERAS, STORM):
        if only in fault.name:
            outcomes = []
            for _ in range(repeat):
                with tempfile.TemporaryDirectory() as folder:
                    outcomes.append(injected(fault, Path(folder)))
            rows.append(row(fault, outcomes))
            print(rows[-1], file=sys.stderr)
    if any(only in fault.name for fault in STOPS):
        with tempfile.TemporaryDirectory() as folder:
            pairs = [stopped(Path(folder)) for _ in range(repeat)]
        rows += [row(STOPS[k], [pair[k] for pair in pairs]) for k in range(2)]
    return rows


def table(rows: list[Row]) -> str:
    """In Markdown."""
    lines = [
        '| fault | injected | named after ms | ms without an answer | answers ms after its end |'
        ' lost | of the other camera |',
        '|---|---|---|---|---|---|---|',
    ]
    for r in rows:
        detected = '' if r.detected_ms is None else f'{r.detected_ms:.0f}'
        lost, others = (
            f'{lost} of {sent}' if sent else ''  # another process has sent them
            for lost, sent in ((r.lost, r.sent), (r.others_lost, r.others_sent))
        )
        lines.append(
            f'| {r.fault} | {r.injected} | {detected} | {r.blind_ms:.0f} | {r.recovered_ms:.0f} |'
            f' {lost} | {others} |'
        )
    return '\n'.join(lines)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--repeat', type=int, default=3, help='times that each is injected (default: 3)')
    add('--only', default='', help='faults with this in their name')
    add('--json', type=Path, help='write all of it to this file, too')
    given = parser.parse_args()
    rows = measure(given.repeat, given.only)
    print(table(rows))
    if given.json is not None:
        report = {
            'date': str(date.today()),
            'cpu': cpu_name(),
            'python': platform.python_version(),
            'front_rate_hz': RATE,
            'versions': versions(),
            'rows': [asdict(r) for r in rows],
        }
        given.json.write_text(json.dumps(report, indent=1) + '\n', encoding='utf-8')
    return 0


if __name__ == '__main__':
    sys.exit(main())
