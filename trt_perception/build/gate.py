# SPDX-License-Identifier: Apache-2.0
"""What INT8 costs: the model and its floats on the same frames, which neither was made with.

Where there are labels, mAP50-95 decides: it averages over ten overlaps, so it is steadier than
mAP50, and it sees boxes that have become loose, which is what INT8 does first. Without labels the
floats are the truth, and the share of all detections, by score, that both models make decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trt_perception.build.calibration import StoredFrames
from trt_perception.core import Detections, Frame, Selection
from trt_perception.core.nms import pairwise_iou
from trt_perception.replay.coco import CocoDataset
from trt_perception.replay.evaluation import evaluate
from trt_perception.runtime.gate_result import GateError, GateResult
from trt_perception.runtime.pipeline import AnyPipeline

#: A detection counts from the score on at which a node publishes it.
SCORE = Selection().score_threshold
#: The other model makes it too if it finds the class there, by this overlap and with at least this
#: share of the score. A bare threshold would count what fails it by a hair as lost; for the same
#: reason a detection weighs as much as its score.
_IOU, _SHARE = 0.5, 0.5
_SELECTION = Selection(score_threshold=SCORE * _SHARE)
#: How sure a figure is cannot be told from fewer frames.
_FEWEST = 8
_DRAWS = 1000
#: Pictures that suffice to draw a curve.
_SAMPLE = 100

Progress = Callable[[float], None]


class Claim(NamedTuple):
    """What a gate is asked, and what is noted with its answer.

    Attributes:
        target: lowest figure that passes, 0..1.
        measured_on: the frames, in words.
        float_sha256: of the float model's file.
        warnings: what weakens the answer from the start.
    """

    target: float
    measured_on: str
    float_sha256: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """The answer and what was seen, frame by frame.

    Attributes:
        result: the answer.
        frames: that were looked at.
        floats, int8: what each model found in each of them.
    """

    result: GateResult
    frames: Sequence[Frame]
    floats: Sequence[Detections]
    int8: Sequence[Detections]

    def worst(self, count: int) -> list[int]:
        """The frames in which the two differ most, the worst first; none in which they agree."""
        pairs = zip(self.floats, self.int8, strict=True)
        matches = [_Match.of(a, b) for a, b in pairs]
        order = sorted(range(len(matches)), key=lambda i: matches[i].distance, reverse=True)
        return [i for i in order if matches[i].distance > 0][:count]


class AccuracyGate:
    """Compares by labels. Made before the model is quantized, so that mistakes show early.

    Attributes:
        sampled: mAP50-95 of the floats on the few pictures of `sample`.
    """

    def __init__(
        self, floats: AnyPipeline, dataset: CocoDataset, on_progress: Progress = lambda share: None
    ) -> None:
        """Measure the floats.

        Raises:
            DatasetError: the data set does not fit the model, or a picture cannot be used.
            GateError: the floats find nothing of what is annotated.
        """
        self._dataset = dataset
        self._floats = evaluate(floats, dataset, on_picture=_counter(dataset.pictures, on_progress))
        if not self._floats.accuracy.map:
            raise GateError(
                f'the float model finds nothing of what is annotated in the'
                f' {len(dataset.pictures)} pictures; see that its labels and the YAML beside it'
                ' are right (trt-perception evaluate)'
            )

        self._few = dataset.sample(_SAMPLE)
        found = {p.id: self._floats.found[p.id] for p in self._few.pictures}
        self.sampled = self._few.score(found, self._floats.classes).map

    def sample(self, int8: AnyPipeline, on_progress: Progress = lambda share: None) -> float:
        """mAP50-95 on a few of the pictures: to be shown, where judging would take too long."""
        counter = _counter(self._few.pictures, on_progress)
        return evaluate(int8, self._few, on_picture=counter).accuracy.map

    def judge(
        self, int8: AnyPipeline, claim: Claim, on_progress: Progress = lambda share: None
    ) -> Comparison:
        """Measure the model in INT8 and compare."""
        pictures = self._dataset.pictures
        quantized = evaluate(int8, self._dataset, on_picture=_counter(pictures, on_progress))
        ours, theirs = self._floats.accuracy, quantized.accuracy
        draws = min(max(10000 // len(pictures), 20), 100)  # each sorts all detections anew
        found = [self._floats.found, quantized.found]
        interval = None
        if len(pictures) >= _FEWEST:
            drawn = self._dataset.resampled(found, self._floats.classes, draws)
            interval = _around(theirs.map / ours.map, drawn[:, 1] / np.maximum(drawn[:, 0], 1e-9))
        figures = {
            'map_float': ours.map,
            'map_int8': theirs.map,
            'map50_float': ours.map50,
            'map50_int8': theirs.map50,
            'map50_share': theirs.map50 / ours.map50,
        }
        result = _result(
            'map', theirs.map / ours.map, claim, interval, len(pictures),
            sum(c.objects for c in ours.classes), figures, int8,
        )  # fmt: skip
        ids = [p.id for p in pictures]
        return Comparison(
            result, StoredFrames([p.path for p in pictures]),
            [found[0][i] for i in ids], [found[1][i] for i in ids],
        )  # fmt: skip


class AgreementGate:
    """Compares without labels: what the floats see is the truth."""

    def __init__(
        self,
        floats: AnyPipeline,
        frames: Sequence[Frame],
        on_progress: Progress = lambda share: None,
    ) -> None:
        """Look at each frame with the floats.

        Raises:
            GateError: they see nothing in any of them.
        """
        self._frames = frames
        self._floats = detect(floats, frames, on_progress)
        if not any((d.scores >= SCORE).any() for d in self._floats):
            raise GateError(
                f'the float model sees nothing in the {len(frames)} frames that are held out to'
                ' compare on; give frames that show what it detects'
            )

    def judge(
        self, int8: AnyPipeline, claim: Claim, on_progress: Progress = lambda share: None
    ) -> Comparison:
        """Look at each frame with the model in INT8 and compare."""
        quantized = detect(int8, self._frames, on_progress)
        both = list(zip(self._floats, quantized, strict=True))
        matches = [_Match.of(a, b) for a, b in both]
        counts = np.array([(m.common, m.total) for m in matches], np.float64)
        shifts = np.concatenate([m.shifts for m in matches])
        figure = in_common(self._floats, quantized)
        interval = None
        if len(both) >= _FEWEST:
            chance = np.random.default_rng(0)
            drawn = counts[chance.integers(len(both), size=(_DRAWS, len(both)))].sum(axis=1)
            drawn = drawn[drawn[:, 1] > 0]
            low, high = _around(figure, drawn[:, 0] / drawn[:, 1])
            interval = low, min(high, 1.0)
        seen, made = (sum(getattr(m, side) for m in matches) for side in ('floats', 'int8'))
        figures = {
            'float_found_by_int8': sum(m.kept for m in matches) / seen,
            'int8_found_by_float': sum(m.confirmed for m in matches) / made if made else 0.0,
            'mean_score_shift': float(np.abs(shifts).mean()) if len(shifts) else 0.0,
            'p95_score_shift': float(np.quantile(np.abs(shifts), 0.95)) if len(shifts) else 0.0,
        }
        result = _result('agreement', figure, claim, interval, len(both), seen, figures, int8)
        return Comparison(result, self._frames, self._floats, quantized)


class _Match(NamedTuple):
    """How two models' detections in one frame pair up.

    Attributes:
        floats, int8: detections of each that count.
        kept: of the floats', how many the model in INT8 makes too.
        confirmed: of that one's, how many the floats make too.
        total, common: sums of the scores of all, and of those that both make.
        shifts: score in INT8 less score in floats, of each of those pairs.
    """

    floats: int
    int8: int
    kept: int
    confirmed: int
    total: float
    common: float
    shifts: NDArray[np.float64]

    @classmethod
    def of(cls, floats: Detections, int8: Detections) -> _Match:
        ours, there = _partners(floats, int8)
        theirs, back = _partners(int8, floats)
        found, confirmed = np.isfinite(there), np.isfinite(back)
        return cls(
            len(ours),
            len(theirs),
            int(found.sum()),
            int(confirmed.sum()),
            float(ours.sum() + theirs.sum()),
            float(ours[found].sum() + theirs[confirmed].sum()),
            np.concatenate((there - ours, theirs - back))[np.concatenate((found, confirmed))],
        )

    @property
    def distance(self) -> float:
        """Lost and made-up detections first, then scores that moved."""
        return self.total - self.common + 0.01 * float(np.abs(self.shifts).sum())


def _partners(
    ours: Detections, theirs: Detections
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores of those of our detections that count, and of their partners; NaN where is none."""
    overlap = pairwise_iou(ours.boxes, theirs.boxes)
    overlap *= ours.class_ids[:, None] == theirs.class_ids[None, :]
    overlap *= theirs.scores[None, :] >= _SHARE * ours.scores[:, None]
    scores = ours.scores[ours.scores >= SCORE].astype(np.float64)  # best first
    partners = np.full(len(scores), np.nan)
    for i in range(len(scores)):
        best = int(overlap[i].argmax()) if len(theirs) else -1
        if best >= 0 and overlap[i, best] >= _IOU:
            partners[i] = theirs.scores[best]
            overlap[:, best] = 0
    return scores, partners


def in_common(floats: Sequence[Detections], int8: Sequence[Detections]) -> float:
    """The figure of a gate without labels.

    Args:
        floats, int8: what each model finds in each of the same frames, from half of `SCORE` on.

    Returns:
        0 to 1: of all detections, by score, the share that both make; 1 if neither makes any.
    """
    matches = [_Match.of(a, b) for a, b in zip(floats, int8, strict=True)]
    total = sum(m.total for m in matches)
    return sum(m.common for m in matches) / total if total else 1.0


def detect(
    pipeline: AnyPipeline, frames: Sequence[Frame], on_progress: Progress = lambda share: None
) -> list[Detections]:
    """What a model finds in each frame, as far as a gate without labels asks."""
    move_on = _counter(frames, on_progress)
    found = []
    for frame in frames:
        found.append(pipeline(frame, _SELECTION).detections)
        move_on()
    return found


def _counter(things: Sequence[object], on_progress: Progress) -> Callable[[], None]:
    done = 0

    def move_on() -> None:
        nonlocal done
        done += 1
        on_progress(done / len(things))

    return move_on


def _around(figure: float, drawn: NDArray[np.float64]) -> tuple[float, float]:
    """95 % of a normal distribution as wide as the drawn figures."""
    reach = 1.96 * float(drawn.std())
    return max(figure - reach, 0.0), figure + reach


def _result(
    measure: str,
    figure: float,
    claim: Claim,
    interval: tuple[float, float] | None,
    frames: int,
    objects: int,
    figures: dict[str, float],
    int8: AnyPipeline,
) -> GateResult:
    warnings = list(claim.warnings)
    told = f'{frames} frame{"s" * (frames != 1)} with {objects} object{"s" * (objects != 1)}'
    if interval is None:
        warnings.append(f'{told} are too few to say how sure the figure is')
    elif figure >= claim.target > interval[0]:
        warnings.append(
            f'{told} leave it open whether the target is met: with other frames the figure could be'
            f' as low as {interval[0]:.3f}'
        )
    return GateResult(
        measure, figure, claim.target, interval, frames, objects, figures,
        claim.measured_on, str(int8.info), claim.float_sha256, warnings=tuple(warnings),
    )  # fmt: skip
