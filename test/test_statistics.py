# SPDX-License-Identifier: Apache-2.0
"""Counters and durations, from many threads at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from trt_perception.health.statistics import Durations, FrameCounts

NAMES = (
    *FrameCounts.ARRIVALS, *FrameCounts.FATES, *FrameCounts.PUNCTUALITY, FrameCounts.OVER_LIMIT
)  # fmt: skip


def test_all_counters_are_there_from_the_start():
    assert FrameCounts().snapshot() == dict.fromkeys(NAMES, 0)


def test_causes_follow_the_counters_in_order():
    counts = FrameCounts()
    for name in ('rejected truncated', 'published', 'rejected encoding', 'rejected truncated'):
        counts.add(name)
    counts.add('received', 4)
    counts.add('lost', 0)
    seen = counts.snapshot()
    assert list(seen) == [*NAMES, 'rejected encoding', 'rejected truncated']
    assert {k: v for k, v in seen.items() if v} == {
        'received': 4, 'published': 1, 'rejected encoding': 1, 'rejected truncated': 2,
    }  # fmt: skip


def test_a_snapshot_stays_as_it_was():
    counts = FrameCounts()
    before = counts.snapshot()
    counts.add('received')
    before['dropped'] = 7
    assert before['received'] == 0
    assert counts.snapshot()['received'] == 1
    assert counts.snapshot()['dropped'] == 0


def test_no_count_is_lost_between_threads():
    counts = FrameCounts()

    def work(worker: int) -> None:
        for k in range(500):
            counts.add('received')
            counts.add('published' if k % 2 else 'dropped', 2)
            counts.add(f'rejected {worker}')
            counts.snapshot()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    seen = counts.snapshot()
    assert (seen['received'], seen['published'], seen['dropped']) == (4000, 4000, 4000)
    assert [seen[f'rejected {k}'] for k in range(8)] == [500] * 8


def test_no_durations_before_the_first_frame():
    assert Durations().summaries() == Durations().values() == {}
    assert Durations().above('infer', 1) == 0


def test_durations_are_apart():
    """A stage that not every frame passes keeps its own window."""
    durations = Durations()
    durations.add({'draw': 100_000_000})
    for duration in (1, 2, 4):
        durations.turn()
        durations.add({'infer': duration * 1_000_000})
    assert {name: s.number for name, s in durations.summaries().items()} == {'draw': 1, 'infer': 3}
    assert durations.above('infer', 1_500_000) == 2
    assert list(durations.values()) == [
        f'{name} {what} ms' for name in ('draw', 'infer') for what in ('p50', 'p95', 'p99', 'max')
    ]
    assert durations.values()['draw p99 ms'] == '100.000'
    durations.clear()
    assert durations.summaries() == {}


def test_durations_are_read_while_they_are_written():
    durations = Durations()

    def work(worker: int) -> None:
        for _ in range(300):
            durations.add({f'stage {worker}': 1_000_000, 'all': 2_000_000})
            durations.summaries()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    seen = durations.summaries()
    assert {name: s.number for name, s in seen.items()} == {
        'all': 1200, **{f'stage {k}': 300 for k in range(4)},
    }  # fmt: skip
