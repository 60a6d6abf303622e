# SPDX-License-Identifier: Apache-2.0
"""What a detector tells Prometheus; docs/health_metrics.md lists it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from trt_perception import __version__
from trt_perception.health.board import Reading
from trt_perception.health.policy import State
from trt_perception.health.prometheus import Family
from trt_perception.health.statistics import FrameCounts
from trt_perception.health.timing import PUBLISH_INTERVAL, RECEIVE_INTERVAL
from trt_perception.nodes.monitor import StreamMonitor
from trt_perception.runtime.engine import EngineInfo

_PREFIX = 'trt_perception'
_REJECTED = 'rejected '
_INTERVALS = {RECEIVE_INTERVAL: 'receive', PUBLISH_INTERVAL: 'publish'}
_QUANTILES = {'p50': '0.5', 'p95': '0.95', 'p99': '0.99'}


def of_node(node: str, state: str, info: EngineInfo | None) -> list[Family]:
    """What runs, and whether it does.

    Args:
        node: its full name.
        state: of its lifecycle.
        info: of the engine that runs; None while none does.
    """
    told = _gauge('info', 'Always 1; the labels tell what runs.')
    told.add(1, node=node, version=__version__, **({} if info is None else asdict(info)))
    active = _gauge('active', 'Whether the node is in the state active.')
    active.add(int(state == 'active'), node=node)
    return [told, active]


def of_status(node: str, levels: Mapping[str, bytes]) -> list[Family]:
    """What diagnostics say.

    Args:
        levels: that was last told, by task.
    """
    status = _gauge('status', 'Level on /diagnostics: 0 OK, 1 WARN, 2 ERROR, 3 STALE.')
    for task, level in dict(levels).items():  # told on another thread
        status.add(level[0], node=node, task=task)
    return [status]


def of_cameras(node: str, monitors: Mapping[str, StreamMonitor]) -> list[Family]:
    """Where the images went, and how long it took.

    Args:
        monitors: of each camera, by name; '' is the only one.
    """
    received = _counter('images_received', 'Images that came.')
    lost = _counter('images_lost', 'Images that were sent and never came.')
    images = _counter('images', 'Images that came, by what became of them.')
    rejected = _counter('images_rejected', 'Images that cannot be used, by cause.')
    stale = _counter('images_stale', 'Images older than their latency budget when they came.')
    late = _counter('images_late', 'Images published after their latency budget.')
    over = _counter('candidates_over_limit', 'Boxes that were not looked at for their number.')
    latency = Family(
        f'{_PREFIX}_latency_seconds', 'summary',
        'Time of each stage; quantiles are over the last 10 seconds or so.',
    )  # fmt: skip
    interval = Family(
        f'{_PREFIX}_interval_seconds', 'summary', 'Time between two images, received or published.'
    )
    jitter = _gauge('jitter_seconds', 'Of the latency, as RFC 3550 has it.')
    for camera, monitor in monitors.items():
        labels = {'node': node, 'camera': camera}
        counts = monitor.counts()
        for family, name in (
            (received, 'received'), (lost, 'lost'), (stale, 'stale'), (late, 'late'),
            (over, FrameCounts.OVER_LIMIT),
        ):  # fmt: skip
            family.add(counts[name], **labels)
        for fate in FrameCounts.FATES:
            images.add(counts[fate], **labels, fate=fate)
        for name, count in counts.items():
            if name.startswith(_REJECTED):
                rejected.add(count, **labels, cause=name.removeprefix(_REJECTED))
        durations = monitor.timing.durations
        summaries = durations.summaries()
        for name, (number, total) in durations.totals().items():
            if name in _INTERVALS:
                family, of = interval, {**labels, 'what': _INTERVALS[name]}
            else:
                family, of = latency, {**labels, 'stage': name.replace(' ', '_')}
            for key, quantile in _QUANTILES.items() if name in summaries else ():
                family.add(getattr(summaries[name], key) / 1e3, **of, quantile=quantile)
            family.add(total / 1e9, '_sum', **of)
            family.add(number, '_count', **of)
        jitter.add(monitor.timing.jitter_ms / 1e3, **labels)
    return [received, lost, images, rejected, stale, late, over, latency, interval, jitter]


def of_board(node: str, reading: Reading | None) -> list[Family]:
    """Heat, clocks and power.

    Args:
        reading: the last one; None where there is none.
    """
    celsius = _gauge('board_temperature_celsius', 'Of each thermal zone.')
    margin = _gauge('board_margin_celsius', 'To where each zone slows the board down.')
    throttled = _gauge('board_throttled', 'Whether the board runs slower than it could.')
    clock = _gauge('board_clock_hertz', 'Clocks of GPU and memory now.')
    load = _gauge('board_load_ratio', 'Busy share of what a clock drives, 0 to 1.')
    watts = _gauge('board_power_watts', 'Of each rail.')
    joules = _counter('board_energy_joules', 'Of the whole board, since the start.')
    current = _counter('board_over_current_events', 'Of each counter, since the start.')
    if reading is not None:
        throttled.add(int(bool(reading.throttled)), node=node)
        for zone, temperature in reading.temperatures.items():
            celsius.add(temperature, node=node, zone=zone)
        for zone, degrees in reading.margins_c.items():
            margin.add(degrees, node=node, zone=zone)
        for name, told in reading.clocks.items():
            clock.add(told.mhz * 1e6, node=node, clock=name)
            if told.load is not None:
                load.add(told.load, node=node, clock=name)
        for rail, power in reading.power_w.items():
            watts.add(power, node=node, rail=rail)
        if reading.energy_j is not None:
            joules.add(reading.energy_j, node=node)
        for name, rises in reading.over_current.items():
            current.add(rises, node=node, counter=name)
    return [celsius, margin, throttled, clock, load, watts, joules, current]


def of_policy(node: str, state: State | None, shares: Mapping[str, float]) -> list[Family]:
    """What is done against heat.

    Args:
        state: of the policy; None where it is off.
        shares: of each camera's images that are looked at, by name.
    """
    level = _gauge('policy_level', '0 nominal, 1 warm, 2 hot, 3 critical.')
    left = _gauge('policy_throttle_seconds', 'Until the board slows itself down, by the trend.')
    share = _gauge('policy_share_ratio', 'Of the images of each camera that are looked at, 0 to 1.')
    if state is not None:
        level.add(state.level, node=node)
        if state.seconds_to_throttle is not None:
            left.add(state.seconds_to_throttle, node=node)
        for camera, of_camera in shares.items():
            share.add(of_camera, node=node, camera=camera)
    return [level, left, share]


def _gauge(name: str, told: str) -> Family:
    return Family(f'{_PREFIX}_{name}', 'gauge', told)


def _counter(name: str, told: str) -> Family:
    return Family(f'{_PREFIX}_{name}_total', 'counter', told)
