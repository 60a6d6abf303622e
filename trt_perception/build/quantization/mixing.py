# SPDX-License-Identifier: Apache-2.0
"""Which layers multiply in INT8: what each of them costs, and what mixtures of them keep."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import onnx

from trt_perception.build.agreement import agreement
from trt_perception.build.quantization.insertion import Plan
from trt_perception.build.quantization.local import LocalError
from trt_perception.build.quantization.measurements import Measurements
from trt_perception.build.quantization.network import Network
from trt_perception.build.quantization.progress import Progress
from trt_perception.build.quantization.result import CurvePoint
from trt_perception.core import Detections

#: Frames that suffice to tell layers apart; the rest is for ranges and for the whole.
_SENSITIVITY_FRAMES = 8
#: Shares of the multiply-adds that may stay in float. All cheap ones are tried; dearer ones only
#: while the target is missed.
_CHEAP = (0.0, 0.005, 0.01, 0.02, 0.03, 0.045, 0.06, 0.08, 0.1)
_DEAR = (0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
#: Agreement that leaving all multiply-adds in float would have to bring to be worth it: speed has a
#: price in accuracy.
_WORTH = 0.2

#: Shares that may stay in float in the mixtures whose accuracy is shown.
_SHOWN = (0.0, 0.01, 0.03, 0.06, 0.1, 0.2, 0.4)

Score = Callable[[onnx.ModelProto], float]


class Accuracy(NamedTuple):
    """mAP50-95 on labelled pictures, to be shown; nothing is chosen by it.

    Attributes:
        name: of the pictures and their labels, under which figures are kept.
        floats: of the float model, 0..1.
        measure: of a model; tells the function that it is given the share of its work (0..1).
    """

    name: str
    floats: float
    measure: Callable[[onnx.ModelProto, Callable[[float], None]], float]


def sensitivities(
    network: Network, plan: Plan, method: str, measured: Measurements, on_progress: Progress
) -> dict[str, float]:
    """Agreement that each layer alone in INT8 costs."""
    few = network.bench.first(_SENSITIVITY_FRAMES)
    reference: list[Detections] = network.float_detections[: len(few)]
    found = {}
    for number, name in enumerate(network.layers):
        on_progress('sensitivity', number / len(network.layers))

        def measure(name: str = name) -> float:
            seen = few.detect(network.with_int8(plan, {name}))
            return 1 - agreement(reference, seen)

        found[name] = measured.get(f'sensitivity {method} {name}', measure)
    return found


def float_first(
    network: Network, costs: Mapping[str, float], errors: Mapping[str, LocalError]
) -> list[str]:
    """The layers in the order in which they should leave INT8: most harm for the least work."""
    total = sum(network.macs.values())

    def worth(name: str) -> float:
        # The error of its own output breaks ties between layers that cost too little to be seen.
        harm = costs[name] + network.noise(name, errors[name])
        return harm / (network.macs[name] / total + 0.002)

    return sorted(network.layers, key=worth, reverse=True)


class Mixtures:
    """Mixtures of INT8 and float that were measured, or can be: more in float from one to the next.

    Attributes:
        curve: those that were measured.
    """

    def __init__(
        self,
        network: Network,
        plan: Plan,
        order: Sequence[str],
        score: Score | None,
        measured: Measurements,
        name: str,
    ) -> None:
        """Nothing is measured yet.

        Args:
            order: all layers, first those that leave INT8 first.
            score: what the target is held against, asked only of what may be taken; None: nothing.
            name: of the plan, under which figures are kept.
        """
        self._network = network
        self._plan = plan
        self._order = order
        self._score = score
        self._measured = measured
        self._name = name
        self.curve: list[CurvePoint] = []

    def model(self, point: CurvePoint) -> onnx.ModelProto:
        """The network in this mixture."""
        return self._network.with_int8(self._plan, set(self._network.layers) - set(point.floats))

    def choose(self, target: float, on_progress: Progress) -> CurvePoint:
        """The best bargain; while its score misses the target, more in float.

        Returns:
            What met the target, else what was asked last.
        """
        for number, share in enumerate(_CHEAP):
            on_progress('mix', number / len(_CHEAP))
            self._measure(share)
        point = max(self.curve, key=lambda p: p.agreement + _WORTH * p.int8_share)
        dear = list(_DEAR)
        while not self._enough(point, target):
            while dear and not self._further(point):
                on_progress('mix', 1.0)
                self._measure(dear.pop(0))
            if not (further := self._further(point)):
                break
            point = max(further, key=lambda p: p.int8_share)
        return point

    def show(self, chosen: CurvePoint, accuracy: Accuracy, on_progress: Progress) -> None:
        """Measure the accuracy of a handful of mixtures, from all in INT8 to beyond the chosen."""
        shown = [chosen.floats]
        for number, share in enumerate(_SHOWN):
            on_progress('draw the curve', 0.3 * number / len(_SHOWN))
            self._measure(share)
            shown.append(self._floats(share))
        shown = list(dict.fromkeys(shown))
        for number, floats in enumerate(shown):
            place = next(i for i, p in enumerate(self.curve) if p.floats == floats)

            def told(part: float, number: int = number) -> None:
                on_progress('draw the curve', 0.3 + 0.7 * (number + part) / len(shown))

            model = self.model(self.curve[place])
            name = f'map {accuracy.name} {self._key(floats)}'
            found = self._measured.get(name, partial(accuracy.measure, model, told))
            self.curve[place] = dataclasses.replace(self.curve[place], map=found)
            told(1.0)

    def _enough(self, point: CurvePoint, target: float) -> bool:
        """Ask for the score, and note it."""
        if self._score is None:
            return True
        score = self._score(self.model(point))
        self.curve[self.curve.index(point)] = dataclasses.replace(point, score=score)
        return score >= target

    def _further(self, point: CurvePoint) -> list[CurvePoint]:
        """Those that were measured with more in float."""
        return [p for p in self.curve if p.int8_share < point.int8_share]

    def _measure(self, share: float) -> None:
        """Add the mixture that leaves this share of the multiply-adds in float."""
        macs = self._network.macs
        floats = self._floats(share)
        if any(floats == point.floats for point in self.curve):
            return
        left = sum(macs[name] for name in (*floats, *self._network.unfit))
        point = CurvePoint(1 - left / sum(macs.values()), 0.0, floats)
        measure = partial(self._network.agreement, self.model(point))
        agreed = self._measured.get(f'agreement {self._key(floats)}', measure)
        self.curve.append(CurvePoint(point.int8_share, agreed, floats))

    def _floats(self, share: float) -> tuple[str, ...]:
        """Layers in float where this share of the multiply-adds may be."""
        macs = self._network.macs
        return _within(self._order, macs, share * sum(macs.values()))

    def _key(self, floats: Sequence[str]) -> str:
        return hashlib.sha256('\n'.join((self._name, *floats)).encode()).hexdigest()[:16]


def _within(order: Sequence[str], macs: Mapping[str, int], allowed: float) -> tuple[str, ...]:
    """The first layers that fit; one that does not is left out and the next is tried."""
    floats = []
    for name in order:
        if macs[name] <= allowed:
            floats.append(name)
            allowed -= macs[name]
    return tuple(floats)
