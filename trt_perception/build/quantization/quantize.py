# SPDX-License-Identifier: Apache-2.0
"""From a float model to one in INT8 that still sees the same."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence, Set
from functools import partial

import numpy as np
import onnx
from numpy.typing import NDArray

from trt_perception.build.agreement import agreement
from trt_perception.build.quantization.bench import Bench
from trt_perception.build.quantization.graph import Graph, QuantizationError, prepare
from trt_perception.build.quantization.insertion import Plan, insert
from trt_perception.build.quantization.layers import (
    Multiplication,
    find,
    multiply_adds,
    spread,
)
from trt_perception.build.quantization.local import (
    LocalError,
    channel_axis,
    correct_biases,
    local_errors,
)
from trt_perception.build.quantization.measurements import Measurements
from trt_perception.build.quantization.observation import Activation, observe
from trt_perception.build.quantization.ranges import METHODS
from trt_perception.build.quantization.result import CurvePoint, Histogram, Layer, Quantization
from trt_perception.build.quantization.rounding import observe_moments, rounded
from trt_perception.build.quantization.scaling import Consumer, Scaling, choose
from trt_perception.build.quantization.weights import quantized, scales
from trt_perception.core import Detections, Frame, ModelSpec

#: Frames that suffice to tell layers apart; the rest is for ranges and for the whole.
_SENSITIVITY_FRAMES = 8
#: Shares of the multiply-adds that may stay in float. All cheap ones are tried; dearer ones only
#: until the target holds.
_CHEAP = (0.0, 0.005, 0.01, 0.02, 0.03, 0.045, 0.06, 0.08, 0.1)
_DEAR = (0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
#: Agreement that leaving all multiply-adds in float would have to bring to be worth it: speed has a
#: price in accuracy, within the target.
_WORTH = 0.4

Score = Callable[[onnx.ModelProto], float]
Progress = Callable[[str, float], None]


def quantize(
    model: onnx.ModelProto,
    spec: ModelSpec,
    frames: Sequence[Frame],
    measured: Measurements,
    *,
    target: float = 0.98,
    method: str = 'auto',
    on_progress: Progress = lambda phase, share: None,
    score: Score | None = None,
    threads: int = 0,
) -> Quantization:
    """Put all layers that bear it in INT8.

    Args:
        model: in float.
        spec: of the model: frames are preprocessed and outputs read as at run time.
        frames: to calibrate with, such as the camera will give.
        measured: keeps the figures that take long.
        target: share of the float model's quality to keep, 0..1.
        method: of the ranges (`METHODS`), or ``auto`` for the one that agrees best.
        on_progress: told the phase and how much of it is done, 0..1; may raise to stop.
        score: what the target is held against, as a share of the float model's; by default the
            agreement on the calibration frames.
        threads: of ONNX Runtime; 0 takes one a core.

    Raises:
        QuantizationError: nothing to quantize, or a model that cannot be.
    """
    on_progress('prepare', 0.0)
    model = prepare(model)
    bench = Bench(spec, frames, threads)
    network = _Network(model, bench, _steps(on_progress, 'observe', 3 * len(bench)))
    plans = _plans(network, method, measured, on_progress)
    chosen = max(plans, key=lambda name: plans[name].agreement)
    plan, scalings = plans[chosen].plan, plans[chosen].scalings
    _round_weights(network, plan, on_progress)
    errors = network.errors(plan, _steps(on_progress, 'biases', len(bench)))
    correct_biases(model, errors, plan)
    sensitivities = _sensitivities(network, plan, chosen, measured, on_progress)
    order = _float_first(network, sensitivities, errors)
    curve = _curve(network, plan, chosen, order, target, score, measured, on_progress)
    floats = set(_best(curve, target).floats)
    return Quantization(
        network.with_int8(plan, set(network.layers) - floats),
        chosen,
        {name: p.agreement for name, p in plans.items()},
        _report(network, scalings, sensitivities, floats),
        tuple(curve),
    )


class _Network:
    """A prepared model, what was seen in it, and what it sees."""

    def __init__(self, model: onnx.ModelProto, bench: Bench, on_frame: Callable[[], None]) -> None:
        self.model = model
        self.bench = bench
        graph = Graph(model)
        self.layers: dict[str, Multiplication] = {layer.name: layer for layer in find(graph)}
        if not self.layers:
            raise QuantizationError('the model has no convolution or matrix product to quantize')
        nodes = {n.name: n for n in model.graph.node}
        self.outputs = {name: nodes[name].output[0] for name in self.layers}
        self.inputs = {
            name: [nodes[name].input[place] for place in layer.activations]
            for name, layer in self.layers.items()
        }
        self.weights: dict[str, NDArray[np.float32]] = {
            name: graph.weights[layer.weight].astype(np.float32)
            for name, layer in self.layers.items()
            if layer.weight
        }
        axes: dict[str, int] = {}
        for name, layer in self.layers.items():
            for tensor in (*self.inputs[name], self.outputs[name]):
                axes.setdefault(tensor, channel_axis(layer))
        self.seen: dict[str, Activation] = observe(bench, model, axes, on_frame)
        self.shapes = {name: a.shape for name, a in self.seen.items()}
        self.macs = {
            name: multiply_adds(graph, layer, self.shapes) for name, layer in self.layers.items()
        }
        self.float_detections = bench.detect(model, on_frame)

    def with_int8(self, plan: Plan, int8: Set[str]) -> onnx.ModelProto:
        return insert(self.model, self.layers, plan, int8, self.shapes)

    def errors(self, plan: Plan, on_frame: Callable[[], None]) -> dict[str, LocalError]:
        return local_errors(self.bench, self.model, self.layers, plan, self.shapes, on_frame)

    def agreement(self, model: onnx.ModelProto) -> float:
        return agreement(self.float_detections, self.bench.detect(model))

    def noise(self, name: str, error: LocalError) -> float:
        return error.power / max(self.seen[self.outputs[name]].variance, 1e-12)


@dataclasses.dataclass
class _Planned:
    plan: Plan
    scalings: dict[str, Scaling]
    agreement: float


def _plans(
    network: _Network, method: str, measured: Measurements, on_progress: Progress
) -> dict[str, _Planned]:
    """A plan by each method, and how far all in INT8 by it agrees with the float model."""
    names = list(METHODS) if method == 'auto' else [method]
    plans = {}
    for number, name in enumerate(names):
        on_progress('ranges', number / len(names))
        plan, scalings = _plan(network, name)

        def measure(plan: Plan = plan) -> float:
            return network.agreement(network.with_int8(plan, set(network.layers)))

        plans[name] = _Planned(plan, scalings, measured.get(f'method {name}', measure))
    return plans


def _plan(network: _Network, method: str) -> tuple[Plan, dict[str, Scaling]]:
    consumers: dict[str, list[Consumer]] = {}
    undividable: set[str] = set()
    for name, layer in network.layers.items():
        for tensor in network.inputs[name]:
            taken = consumers.setdefault(tensor, [])
            if not layer.weight:
                undividable.add(tensor)  # there are no weights to make up for it
                continue
            variance = network.seen[network.outputs[name]].variance
            taken.append((layer, network.weights[name], variance))
    scalings = {
        tensor: choose(network.seen[tensor], taken, method, divide=tensor not in undividable)
        for tensor, taken in consumers.items()
    }
    plan = Plan(
        {tensor: scaling.threshold for tensor, scaling in scalings.items()},
        {t: s.divisor for t, s in scalings.items() if s.divisor is not None},
        {tensor: network.seen[tensor].axis for tensor in scalings},
        {},
    )
    for name, weight in network.weights.items():
        layer, tensor = network.layers[name], network.inputs[name][0]
        divisor = plan.divisors.get(tensor, np.ones(1, np.float32))
        divisor = np.broadcast_to(divisor, network.seen[tensor].power.shape)
        weight = weight * spread(divisor, weight, layer)
        power = spread(network.seen[tensor].power / divisor**2, weight, layer)
        scale = scales(weight, layer.output_axis, power)
        plan.weights[name] = quantized(weight, scale, layer.output_axis), scale
    return plan, scalings


def _round_weights(network: _Network, plan: Plan, on_progress: Progress) -> None:
    """Round the weights anew, each making good for the ones before."""
    step = _steps(on_progress, 'weights', 2 * len(network.bench))
    moments = observe_moments(network.bench, network.model, network.layers, network.weights, step)
    for number, (name, seen) in enumerate(moments.items()):
        on_progress('weights', 0.5 + number / len(moments) / 2)
        layer = network.layers[name]
        divisor = plan.divisors.get(network.inputs[name][0])
        weight = network.weights[name]
        if divisor is not None:
            weight = weight * spread(divisor, weight, layer)
        _, scale = plan.weights[name]
        plan.weights[name] = rounded(weight, layer, scale, seen, divisor), scale


def _sensitivities(
    network: _Network, plan: Plan, method: str, measured: Measurements, on_progress: Progress
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


def _float_first(
    network: _Network, sensitivities: Mapping[str, float], errors: Mapping[str, LocalError]
) -> list[str]:
    """The layers in the order in which they should leave INT8: most harm for the least work."""
    total = sum(network.macs.values())

    def worth(name: str) -> float:
        # The error of its own output breaks ties between layers that cost too little to be seen.
        harm = sensitivities[name] + network.noise(name, errors[name])
        return harm / (network.macs[name] / total + 0.002)

    return sorted(network.layers, key=worth, reverse=True)


def _curve(
    network: _Network,
    plan: Plan,
    method: str,
    order: Sequence[str],
    target: float,
    score: Score | None,
    measured: Measurements,
    on_progress: Progress,
) -> list[CurvePoint]:
    """What leaving layer by layer in float brings, up to where the target holds."""
    total = sum(network.macs.values())
    curve: list[CurvePoint] = []
    for number, allowed in enumerate((*_CHEAP, *_DEAR)):
        if allowed in _DEAR and any(point.kept >= target for point in curve):
            break
        on_progress('mix', min(number / len(_CHEAP), 1.0))
        floats = _within(order, network.macs, allowed * total)
        if curve and floats == curve[-1].floats:
            continue
        mixture = network.with_int8(plan, set(network.layers) - set(floats))
        key = hashlib.sha256('\n'.join((method, *floats)).encode()).hexdigest()[:16]
        agreed = measured.get(f'agreement {key}', partial(network.agreement, mixture))
        share = 1 - sum(network.macs[name] for name in floats) / total
        kept = None
        if score is not None:
            kept = measured.get(f'score {key}', partial(score, mixture))
        curve.append(CurvePoint(share, agreed, floats, kept))
    return curve


def _best(curve: Sequence[CurvePoint], target: float) -> CurvePoint:
    """Of what keeps the target, the best bargain; else what keeps most."""
    enough = [point for point in curve if point.kept >= target]
    if not enough:
        return max(curve, key=lambda point: point.kept)
    return max(enough, key=lambda point: point.agreement + _WORTH * point.int8_share)


def _within(order: Sequence[str], macs: Mapping[str, int], allowed: float) -> tuple[str, ...]:
    """The first layers that fit; one that does not is left out and the next is tried."""
    floats = []
    for name in order:
        if macs[name] <= allowed:
            floats.append(name)
            allowed -= macs[name]
    return tuple(floats)


def _report(
    network: _Network,
    scalings: Mapping[str, Scaling],
    sensitivities: Mapping[str, float],
    floats: Set[str],
) -> tuple[Layer, ...]:
    layers = []
    for name, layer in network.layers.items():
        scaling = scalings[network.inputs[name][0]]
        int8 = name not in floats
        cost = f'costs {100 * sensitivities[name]:.1f} % of the agreement by itself'
        histogram = Histogram(scaling.counts, scaling.largest, scaling.threshold if int8 else None)
        layers.append(
            Layer(
                name, layer.op_type, network.macs[name], int8, sensitivities[name],
                '' if int8 else cost, histogram,
            )
        )  # fmt: skip
    return tuple(layers)


def _steps(on_progress: Progress, phase: str, steps: int) -> Callable[[], None]:
    """Count steps of a phase."""
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        on_progress(phase, min(done / steps, 1.0))

    return step
