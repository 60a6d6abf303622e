# SPDX-License-Identifier: Apache-2.0
"""A robot that drives into the heat, with and without the degradation policy, in simulated time.

The board is a model: a die on a heat sink in air that gets warmer, an engine that takes power while
it looks at a frame, and clocks that are halved from the trip point until the die has cooled down.
Scheduler, thinning and policy are the detector's own. Three cameras of 30 images a second want most
of the engine; a detection is in time when it is there before its camera's next image.
"""

from __future__ import annotations

import argparse
import heapq
import io
import json
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from trt_perception.health.policy import Heat, Measures, Policy, Settings
from trt_perception.runtime.rate_limit import Thinning
from trt_perception.runtime.schedule import Scheduler

_STEP = 0.1  # seconds of the plant
_PERIOD = 1.0  # seconds between two readings


@dataclass(frozen=True)
class Plant:
    """What the board and its work are; the order of an AGX Orin in a box without a fan.

    Attributes:
        idle_w: that is always used.
        busy_w: more while the engine looks, at full clock.
        slow_power: that part of busy_w at half the clock, where the voltage is lower, too.
        sink_k_w, die_k_w: degrees per watt from the sink to the air, and from the die to the sink.
        sink_j_k: joules per degree of the sink.
        trip_c: of the die: the clock is halved.
        release_c: below which it is whole again.
        noise_c: of the sensor, standard deviation.
        looks_s: seconds of one look, by model: the one that was asked for, then the lighter ones.
    """

    idle_w: float = 14.0
    busy_w: float = 26.0
    slow_power: float = 0.3
    sink_k_w: float = 1.3
    die_k_w: float = 0.2
    sink_j_k: float = 120.0
    trip_c: float = 99.0
    release_c: float = 94.0
    noise_c: float = 0.2
    looks_s: tuple[float, ...] = (0.010, 0.006)


@dataclass(frozen=True)
class Drive:
    """What happens: the air warms up, stays so, and cools down.

    Attributes:
        air_c: seconds and temperature of the corners, between which it changes steadily.
        priorities: of each camera.
        rate: images a second of each.
    """

    air_c: tuple[tuple[float, float], ...] = (
        (0, 25), (200, 25), (600, 46), (1200, 46), (1500, 25), (2000, 25),
    )  # fmt: skip
    priorities: dict[str, float] = field(
        default_factory=lambda: {'front': 2.0, 'left': 1.0, 'rear': 1.0}
    )
    rate: float = 30.0

    @property
    def seconds(self) -> float:
        """How long it takes."""
        return self.air_c[-1][0]

    def air(self, now: float) -> float:
        """Degrees Celsius."""
        times, degrees = zip(*self.air_c, strict=True)
        return float(np.interp(now, times, degrees))


class Simulation:
    """One drive.

    Attributes:
        frames: of each camera, what became of every image: seconds from its arrival to its
            detections, or inf where there were none; and when it came.
        samples: a line for each second.
        changes: when the level changed, and to which.
    """

    def __init__(self, plant: Plant, drive: Drive, settings: Settings | None) -> None:
        """Prepare.

        Args:
            settings: of the policy; None goes without one.
        """
        self.plant, self.drive = plant, drive
        self.frames: dict[str, list[tuple[float, float]]] = {c: [] for c in drive.priorities}
        self.samples: list[dict[str, float]] = []
        self.changes: list[tuple[float, str]] = []
        self._policy = Policy(settings) if settings else None
        self._measures = Measures(dict.fromkeys(drive.priorities, 1.0))
        self._thinning = {camera: Thinning() for camera in drive.priorities}
        self._scheduler: Scheduler[tuple[str, float]] = Scheduler()
        self._chance = random.Random(1)
        self._events: list[tuple[float, int, str, Any]] = []
        self._number = count()
        self._busy_until = self._worked = 0.0
        self.throttled = False
        self.throttles = 0
        # As it is after a long while of idling: what follows is warming up, too.
        self._sink = drive.air(0) + plant.idle_w * plant.sink_k_w
        self.die = self._sink + plant.idle_w * plant.die_k_w

    def run(self) -> Simulation:
        """Drive."""
        for number, (camera, priority) in enumerate(self.drive.priorities.items()):
            self._scheduler.add(camera, priority)
            self._at(number / len(self.drive.priorities) / self.drive.rate, 'image', camera)
        self._at(_STEP, 'plant', None)
        self._at(_PERIOD, 'reading', None)
        while self._events[0][0] <= self.drive.seconds:
            now, _, kind, what = heapq.heappop(self._events)
            getattr(self, f'_on_{kind}')(now, what)
            self._look(now)
        return self

    def _at(self, when: float, kind: str, what: Any) -> None:
        heapq.heappush(self._events, (when, next(self._number), kind, what))

    def _on_image(self, now: float, camera: str) -> None:
        # Cameras that nobody has synchronised: their clocks drift.
        period = 1 / self.drive.rate * (1 + 1e-4 * list(self.frames).index(camera))
        self._at(now + period, 'image', camera)
        passes = self._thinning[camera].passes(self._measures.shares[camera])
        overtaken = self._scheduler.offer(camera, (camera, now), now) if passes else (camera, now)
        if overtaken is not None:
            self.frames[camera].append((overtaken[1], np.inf))

    def _on_done(self, now: float, what: tuple[str, float, float]) -> None:
        camera, came, seconds = what
        self._scheduler.served('gpu', seconds)
        self.frames[camera].append((came, now - came))

    def _on_wait(self, now: float, what: None) -> None:
        """Only to look again."""

    def _look(self, now: float) -> None:
        """Take the next frame, where the engine is free."""
        if now < self._busy_until:
            return
        taken = self._scheduler.take(now)
        if taken:
            ((camera, came),) = taken
            models = self.plant.looks_s
            seconds = models[min(self._measures.model, len(models) - 1)]
            seconds *= (2 if self.throttled else 1) * self._chance.uniform(0.95, 1.05)
            self._busy_until = now + seconds
            self._worked += seconds
            self._at(self._busy_until, 'done', (camera, came, seconds))
        elif (wait := self._scheduler.look_again(now)) is not None:
            self._at(now + wait, 'wait', None)

    def _on_plant(self, now: float, what: None) -> None:
        plant = self.plant
        busy, self._worked = min(self._worked / _STEP, 1.0), max(self._worked - _STEP, 0.0)
        watts = plant.idle_w + busy * plant.busy_w * (plant.slow_power if self.throttled else 1)
        lost = (self._sink - self.drive.air(now)) / plant.sink_k_w
        self._sink += (watts - lost) / plant.sink_j_k * _STEP
        # The die follows its sink within a second.
        self.die += (self._sink + watts * plant.die_k_w - self.die) * _STEP
        slow = self.die >= (plant.release_c if self.throttled else plant.trip_c)
        self.throttles += slow and not self.throttled
        self.throttled = slow
        self._at(now + _STEP, 'plant', None)

    def _on_reading(self, now: float, what: None) -> None:
        level = Heat.NOMINAL
        if self._policy is not None:
            before = self._policy.state.level
            read = self.die + self._chance.gauss(0, self.plant.noise_c)
            throttled = 'half the clock' if self.throttled else ''
            level = self._policy.update(now, self.plant.trip_c - read, throttled).level
            self._measures = self._policy.settings.measures(level, self.drive.priorities)
            if level != before:
                self.changes.append((now, str(level)))
        self.samples.append(
            {
                'at': now,
                'air_c': self.drive.air(now),
                'die_c': self.die,
                'throttled': float(self.throttled),
                'level': float(level),
            }
        )
        self._at(now + _PERIOD, 'reading', None)

    def figures(self) -> dict[str, Any]:
        """What came of it."""
        deadline = 1 / self.drive.rate
        found: dict[str, Any] = {
            'hottest_c': round(max(s['die_c'] for s in self.samples), 2),
            'times_throttled': self.throttles,
            'seconds_throttled': sum(s['throttled'] for s in self.samples),
            'level_changes': [[round(at), level] for at, level in self.changes],
            'cameras': {},
        }
        for camera, frames in self.frames.items():
            ages = np.array([age for _, age in frames])
            seen = ages[np.isfinite(ages)]
            found['cameras'][camera] = {
                'images': len(ages),
                'published': len(seen),
                'missed_deadlines': int((ages > deadline).sum()),
                'ms_p50': round(1e3 * float(np.percentile(seen, 50)), 2),
                'ms_p99': round(1e3 * float(np.percentile(seen, 99)), 2),
            }
        return found

    def by_time(self, camera: str) -> list[tuple[float, float, float]]:
        """Detections, and the 99th percentile of their seconds, in each ten seconds."""
        published = defaultdict(list)
        for came, age in self.frames[camera]:
            if np.isfinite(age):
                published[int(came // 10)].append(age)
        return [
            (10 * k + 5, len(published[k]) / 10, float(np.percentile(published[k] or [np.nan], 99)))
            for k in range(int(self.drive.seconds // 10))
        ]


def plot(path: Path, without: Simulation, with_policy: Simulation) -> None:
    """Temperature, rate and latency of both, side by side, as SVG."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 8), layout='constrained')
    FigureCanvasSVG(figure)
    grid = figure.subplots(3, 2, sharex=True, sharey='row')
    colours = dict(zip(without.frames, ('tab:blue', 'tab:orange', 'tab:green'), strict=True))
    shades = {1: '#fff3c4', 2: '#ffd8a8', 3: '#ffb3a7'}
    for column, (title, run) in enumerate(
        (('without the policy', without), ('with the policy', with_policy))
    ):
        heat, rate, latency = (grid[row][column] for row in range(3))
        shown = run.samples[::4]
        times = [s['at'] for s in shown]
        heat.plot(times, [s['die_c'] for s in shown], color='tab:red', label='die')
        heat.plot(times, [s['air_c'] for s in shown], color='gray', label='air')
        trip = run.plant.trip_c
        heat.axhline(trip, color='black', linestyle=':', label=f'trip point, {trip:g} °C')
        for camera, colour in colours.items():
            at, rates, ages = zip(*run.by_time(camera), strict=True)
            name = f'{camera}, priority {run.drive.priorities[camera]:g}'
            rate.plot(at, rates, color=colour, label=name)
            latency.plot(at, 1e3 * np.array(ages), color=colour)
        latency.axhline(1e3 / run.drive.rate, color='black', linestyle=':', label='next image')
        for axes in (heat, rate, latency):
            axes.grid(alpha=0.3)
            axes.margins(x=0)
            for sample in _spans(run.samples, 'level'):
                begin, end, level = sample
                if level:
                    axes.axvspan(begin, end, color=shades[int(level)], lw=0)
        missed = run.figures()['cameras']['front']['missed_deadlines']
        heat.set_title(
            f'{title}: throttled {run.throttles} times,\n{missed} images of front too late'
        )
        latency.set_xlabel('seconds')
    grid[0][0].set_ylabel('°C')
    grid[1][0].set_ylabel('detections a second')
    grid[2][0].set_ylabel('image to detections, p99 ms')
    grid[0][0].legend(fontsize='small')
    grid[1][0].legend(fontsize='small')
    grid[2][0].legend(fontsize='small')
    figure.suptitle('Simulated board; shaded: warm, hot, critical', fontsize='medium')
    with rc_context({'svg.fonttype': 'none', 'svg.hashsalt': 'thermal_policy'}):
        drawn = io.StringIO()
        figure.savefig(drawn, format='svg', metadata={'Date': None})
    picture = drawn.getvalue()
    head = '<!-- SPDX-License-Identifier: Apache-2.0 -->\n'
    path.write_text(head + picture[picture.index('<svg') :], encoding='utf-8')


def _spans(samples: Sequence[dict[str, float]], key: str) -> list[tuple[float, float, float]]:
    """Begin, end and value of each stretch in which a sample is the same."""
    spans: list[tuple[float, float, float]] = []
    for sample in samples:
        at, value = sample['at'], sample[key]
        if spans and spans[-1][2] == value:
            spans[-1] = spans[-1][0], at, value
        else:
            spans.append((at, at + _PERIOD, value))
    return spans


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--json', type=Path, help='file to write all figures to')
    parser.add_argument('--plot', type=Path, help='SVG to draw; needs matplotlib')
    given = parser.parse_args()
    plant, drive, settings = Plant(), Drive(), Settings()
    without = Simulation(plant, drive, None).run()
    with_policy = Simulation(plant, drive, settings).run()
    runs = {'without': without.figures(), 'with the policy': with_policy.figures()}
    print(
        '| policy | hottest °C | times throttled | camera | images | published'
        ' | late or not at all | p99 ms |'
    )
    print('|---|---|---|---|---|---|---|---|')
    for name, found in runs.items():
        for camera, of in found['cameras'].items():
            print(
                f'| {name} | {found["hottest_c"]} | {found["times_throttled"]} | {camera}'
                f' | {of["images"]} | {of["published"]} | {of["missed_deadlines"]}'
                f' | {of["ms_p99"]} |'
            )
    for at, level in with_policy.changes:
        print(f'{at:6.0f} s: {level}')
    if given.json:
        report = {
            'simulated': True,
            'plant': asdict(plant),
            'drive': asdict(drive),
            'settings': asdict(settings),
            'results': runs,
        }
        given.json.write_text(json.dumps(report, indent=1) + '\n', encoding='utf-8')
    if given.plot:
        plot(given.plot, without, with_policy)


if __name__ == '__main__':
    main()
