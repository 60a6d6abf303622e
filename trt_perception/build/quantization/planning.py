# SPDX-License-Identifier: Apache-2.0
"""Everything in INT8: ranges, scales and weights."""

from __future__ import annotations

import numpy as np

from trt_perception.build.quantization.insertion import Plan
from trt_perception.build.quantization.layers import channel_axis, spread
from trt_perception.build.quantization.network import Network
from trt_perception.build.quantization.progress import Progress, steps
from trt_perception.build.quantization.rounding import observe_moments, rounded
from trt_perception.build.quantization.scaling import Consumer, Scaling, choose
from trt_perception.build.quantization.weights import quantized, scales


def make_plan(network: Network, method: str) -> tuple[Plan, dict[str, Scaling]]:
    """Plan by one of the methods of the ranges, and how each activation is scaled."""
    consumers: dict[str, list[Consumer]] = {}
    axes: dict[str, int] = {}
    undividable: set[str] = set()
    for name, layer in network.layers.items():
        axis = channel_axis(layer)
        for tensor in network.inputs[name]:
            taken = consumers.setdefault(tensor, [])
            # Without constant weights nothing makes up for it; nor does a layer that numbers the
            # channels along another axis.
            if axis != axes.setdefault(tensor, axis) or not layer.weight:
                undividable.add(tensor)
            else:
                taken.append((layer, network.weights[name], network.variance(name)))
    scalings = {
        tensor: choose(
            network.seen[tensor, axes[tensor]], taken, method, divide=tensor not in undividable
        )
        for tensor, taken in consumers.items()
    }
    plan = Plan(
        {tensor: scaling.threshold for tensor, scaling in scalings.items()},
        {t: s.divisor for t, s in scalings.items() if s.divisor is not None},
        axes,
        {},
    )
    for name, weight in network.weights.items():
        layer, tensor = network.layers[name], network.inputs[name][0]
        divisor = plan.divisors.get(tensor, np.ones(1, np.float32))
        seen = network.taken(name).power
        divisor = np.broadcast_to(divisor, seen.shape)
        weight = weight * spread(divisor, weight, layer)
        power = spread(seen / divisor**2, weight, layer)
        scale = scales(weight, layer.output_axis, power)
        plan.weights[name] = quantized(weight, scale, layer.output_axis), scale
    return plan, scalings


def round_weights(network: Network, plan: Plan, on_progress: Progress) -> None:
    """Round the weights anew, each making good for the ones before."""
    step = steps(on_progress, 'weights', 2 * len(network.bench))
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
