# SPDX-License-Identifier: Apache-2.0
"""How much may change: limits, so that a comparison can fail."""

from __future__ import annotations

from typing import Any, NamedTuple

from trt_perception.core.errors import PerceptionError
from trt_perception.replay.comparison import Comparison


class LimitError(PerceptionError):
    """A limit of something that was not measured."""


class Limits(NamedTuple):
    """Largest shares (0.01 is 1 %) that pass; None: any does.

    Attributes:
        lost: of the first's detections, those that the second does not have.
        new: of the second's, those that the first does not have.
        moved, rescored: of the matched ones.
        slower: how much longer the second takes for a frame, in the median.
    """

    lost: float | None = None
    new: float | None = None
    moved: float | None = None
    rescored: float | None = None
    slower: float | None = None


class Check(NamedTuple):
    """A limit and what was found."""

    name: str
    what: str
    limit: float
    found: float

    @property
    def passed(self) -> bool:
        """Whether it holds."""
        return self.found <= self.limit

    def told(self, share: float) -> str:
        """A share, in words."""
        return f'{100 * share:.3g} %'

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {'name': self.name, 'limit': self.limit, 'found': self.found, 'passed': self.passed}


def check(comparison: Comparison, limits: Limits) -> list[Check]:
    """See which limits hold, of those that are set.

    Raises:
        LimitError: it is not known how long frames took.
    """
    counts = comparison.counts()
    slower = comparison.slower()
    if limits.slower is not None and slower is None:
        raise LimitError(
            'it is not known on both sides how long frames took, so max-slower has no answer; leave'
            ' it out, or compare two replays'
        )
    found = {
        'lost': ('lost, of the detections that were there', _of(counts.lost, counts.first)),
        'new': ('new, of the detections that are there', _of(counts.new, counts.second)),
        'moved': ('moved, of those that both have', _of(counts.moved, counts.matched)),
        'rescored': (
            'of another score, of those that both have',
            _of(counts.rescored, counts.matched),
        ),
        'slower': ('longer a frame takes, in the median', slower or 0.0),
    }
    return [
        Check(name, *(found[name][0], limit, found[name][1]))
        for name, limit in limits._asdict().items()
        if limit is not None
    ]


def _of(number: int, every: int) -> float:
    return number / every if every else 0.0
