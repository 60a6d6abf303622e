# SPDX-License-Identifier: Apache-2.0
"""From a float model to one in INT8 that still sees the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from functools import partial

import onnx

from trt_perception.build.calibration import FEW
from trt_perception.build.quantization.bench import Bench
from trt_perception.build.quantization.graph import prepare
from trt_perception.build.quantization.layers import inside_bodies
from trt_perception.build.quantization.local import correct_biases, local_errors
from trt_perception.build.quantization.measurements import Measurements
from trt_perception.build.quantization.mixing import (
    Accuracy,
    Mixtures,
    Score,
    float_first,
    sensitivities,
)
from trt_perception.build.quantization.network import Network
from trt_perception.build.quantization.planning import make_plan, round_weights
from trt_perception.build.quantization.progress import Progress, steps
from trt_perception.build.quantization.ranges import METHODS
from trt_perception.build.quantization.result import Histogram, Layer, Quantization
from trt_perception.build.quantization.scaling import Scaling
from trt_perception.core import Frame, ModelSpec


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
    accuracy: Accuracy | None = None,
    threads: int = 0,
) -> Quantization:
    """Put all layers that bear it in INT8.

    Args:
        model: in float.
        spec: of the model: frames are preprocessed and outputs read as at run time.
        frames: to calibrate with, such as the camera will give.
        measured: keeps the figures that take long.
        target: score that is to be met, 0..1.
        method: of the ranges (`METHODS`), or ``auto`` for the one that agrees best.
        on_progress: told the phase and how much of it is done, 0..1; may raise to stop.
        score: quality of a model as a share of the float model's, on frames that nothing else is
            chosen by. Asked of what is chosen; while it misses the target, more is left in float.
            None: the best bargain is taken unasked.
        accuracy: measured of some of the mixtures once the choice is made.
        threads: of ONNX Runtime; 0 takes one a core.

    Raises:
        QuantizationError: nothing to quantize, or a model that cannot be.
    """
    on_progress('prepare', 0.0)
    model = prepare(model)
    # Mirror images are frames that cost no recording; where there are enough, time is dearer.
    bench = Bench(spec, frames, threads, mirrored=len(frames) < FEW)
    network = Network(model, bench, steps(on_progress, 'observe', 3 * len(bench)))
    names = list(METHODS) if method == 'auto' else [method]
    agreements, plans = {}, {}
    for number, name in enumerate(names):
        on_progress('ranges', number / len(names))
        plans[name] = make_plan(network, name)
        everything = network.with_int8(plans[name][0], set(network.layers))
        agreements[name] = measured.get(f'method {name}', partial(network.agreement, everything))
    chosen = max(names, key=lambda name: agreements[name])
    plan, scalings = plans[chosen]
    round_weights(network, plan, on_progress)
    on_frame = steps(on_progress, 'biases', len(bench))
    errors = local_errors(bench, model, network.layers, plan, network.shapes, on_frame)
    correct_biases(model, errors, plan)
    costs = sensitivities(network, plan, chosen, measured, on_progress)
    order = float_first(network, costs, errors)
    mixtures = Mixtures(network, plan, order, score, measured, chosen)
    point = mixtures.choose(target, on_progress)
    if accuracy is not None:
        mixtures.show(point, accuracy, on_progress)
    return Quantization(
        mixtures.model(point),
        chosen,
        agreements,
        _report(network, scalings, costs, set(point.floats)),
        tuple(mixtures.curve),
        accuracy and accuracy.floats,
        tuple(inside_bodies(model.graph)),
    )


def _report(
    network: Network,
    scalings: Mapping[str, Scaling],
    costs: Mapping[str, float],
    floats: Set[str],
) -> tuple[Layer, ...]:
    layers = []
    for node in network.model.graph.node:
        name = node.name
        if name in network.unfit:
            why = network.unfit[name]
            layers.append(Layer(name, node.op_type, network.macs[name], False, None, why, None))
        if name not in network.layers:
            continue
        scaling = scalings[network.inputs[name][0]]
        int8 = name not in floats
        cost = f'costs {100 * costs[name]:.1f} % of the agreement by itself'
        histogram = Histogram(scaling.counts, scaling.largest, scaling.threshold if int8 else None)
        layers.append(
            Layer(
                name, node.op_type, network.macs[name], int8, costs[name],
                '' if int8 else cost, histogram,
            )
        )  # fmt: skip
    return tuple(layers)
