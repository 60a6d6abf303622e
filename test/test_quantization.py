# SPDX-License-Identifier: Apache-2.0
"""INT8, all steps together: what is chosen, what is kept, what it does to real detectors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from networks import (
    Seen,
    all_int8,
    conv,
    depthwise_network,
    network,
)
from onnx import TensorProto, helper, numpy_helper

from trt_perception.build.agreement import agreement
from trt_perception.build.quantization.bench import Bench
from trt_perception.build.quantization.graph import prepare
from trt_perception.build.quantization.integers import in_integers
from trt_perception.build.quantization.measurements import Measurements
from trt_perception.build.quantization.mixing import Accuracy
from trt_perception.build.quantization.network import Network
from trt_perception.build.quantization.planning import make_plan
from trt_perception.build.quantization.quantize import quantize
from trt_perception.build.quantization.ranges import METHODS
from trt_perception.build.quantization.result import Quantization
from trt_perception.build.quantization.weights import quantized, scales
from trt_perception.core import Detections, Frame, ModelSpec
from trt_perception.runtime.host.onnx_runtime import open_session
from trt_perception.runtime.model_file import load_spec
from trt_perception.runtime.precision import has_integer_kernels

# The search


def test_what_was_measured_is_not_measured_again(tmp_path: Path) -> None:
    path = tmp_path / 'measurements.json'
    first = Measurements(path, 'a')
    assert first.get('x', lambda: 0.5) == 0.5
    assert Measurements(path, 'a').get('x', lambda: pytest.fail('measured again')) == 0.5
    assert Measurements(path, 'a').resumed == 1
    assert Measurements(path, 'another question').get('x', lambda: 0.7) == 0.7
    path.write_text('{')
    assert Measurements(path, 'a').get('x', lambda: 0.9) == 0.9


def detections(*rows: tuple[float, float, int]) -> Detections:
    """Boxes 10 wide at x, with score and class."""
    boxes = np.array([[x, 0, x + 10, 10] for x, _, _ in rows], np.float32).reshape(-1, 4)
    return Detections(
        boxes,
        np.array([s for _, s, _ in rows], np.float32),
        np.array([c for _, _, c in rows], np.int32),
    )


def test_agreement() -> None:
    one = detections((0, 0.8, 0), (50, 0.4, 1))
    assert agreement([one], [one]) == pytest.approx(1)
    assert agreement([detections()], [detections()]) == 1
    assert agreement([one], [detections()]) == 0
    assert agreement([one], [detections((0, 0.8, 1), (50, 0.4, 0))]) == 0  # other classes
    assert agreement([one], [detections((0, 0.4, 0), (50, 0.4, 1))]) == pytest.approx(0.8 / 1.2)
    # A third off: overlap 2/4 of the boxes' union... 20/3 in common of 40/3.
    moved = agreement([detections((0, 1, 0))], [detections((10 / 3, 1, 0))])
    assert moved == pytest.approx(0.5, abs=1e-3)
    assert agreement([one], [detections((0, 0.8, 0), (50, 0.4, 1), (80, 0.3, 0))]) < 0.81


def test_an_activation_of_which_nothing_but_zeros_was_sampled() -> None:
    counts = np.zeros(2048, np.int64)
    counts[0] = 9
    for name, method in METHODS.items():
        assert method(counts, 1.0) > 0, name


@pytest.fixture
def colors() -> tuple[onnx.ModelProto, ModelSpec, list[Frame]]:
    """A detector of one box whose class is the colour of the picture, with two convolutions."""
    generator = np.random.default_rng(0)
    mix = generator.normal(size=(3, 3))
    box = np.array([32, 32, 40, 24], np.float32).reshape(1, 4, 1)
    nodes = [
        conv('mix', 'images', 'w0', pads=[1, 1, 1, 1]),
        conv('unmix', 'mix_out', 'w1'),
        helper.make_node('GlobalAveragePool', ['unmix_out'], ['mean'], 'pool'),
        helper.make_node('Reshape', ['mean', 'column'], ['scores'], 'reshape'),
        helper.make_node('Concat', ['box', 'scores'], ['output0'], 'concat', axis=1),
    ]
    kernel = np.zeros((3, 3, 3, 3))
    kernel[:, :, 1, 1] = mix
    weights = {'w0': kernel, 'w1': np.linalg.inv(mix)[:, :, None, None], 'box': box}
    graph = helper.make_graph(
        nodes,
        'colors',
        [helper.make_tensor_value_info('images', TensorProto.FLOAT, [1, 3, 64, 64])],
        [helper.make_tensor_value_info('output0', TensorProto.FLOAT, [1, 7, 1])],
        [
            *(numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()),
            numpy_helper.from_array(np.array([1, 3, 1]), 'column'),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    model.metadata_props.add(key='names', value="{0: 'red', 1: 'green', 2: 'blue'}")
    spec = ModelSpec('yolov8', 'images', 64, 64, 'float32', ('output0',), 3)
    pictures = []
    for color in ((220, 20, 30), (20, 210, 40), (10, 30, 230)) * 2:
        noisy = np.array(color) + generator.normal(0, 10, (64, 64, 3))
        pictures.append(Frame.from_array(np.clip(noisy, 0, 255).astype(np.uint8)))
    return model, spec, pictures


def test_a_detector_is_quantized_and_a_rerun_measures_nothing(
    colors: tuple[onnx.ModelProto, ModelSpec, list[Frame]], tmp_path: Path
) -> None:
    model, spec, pictures = colors
    phases: list[str] = []
    file = tmp_path / 'measurements.json'

    def stop(phase: str, share: float) -> None:
        assert 0 <= share <= 1
        phases.append(phase)
        if phase == 'sensitivity':
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize(model, spec, pictures, Measurements(file, 'q'), on_progress=stop)
    kept = Measurements(file, 'q').resumed
    assert kept >= 4  # one of each method
    done = quantize(model, spec, pictures, Measurements(file, 'q'), target=0.9)
    assert Measurements(file, 'q').resumed > kept
    assert set(done.methods) == set(METHODS)
    assert done.int8_share == 1
    assert all(layer.int8 and layer.reason == '' for layer in done.layers)
    assert done.curve[0].int8_share == 1 and done.curve[0].agreement > 0.9
    bench = Bench(spec, pictures)
    assert agreement(bench.detect(model), bench.detect(done.model)) > 0.9
    assert {p.key for p in done.model.metadata_props} == {p.key for p in model.metadata_props}

    measured = Measurements(file, 'q')
    quantize(model, spec, pictures, measured, target=0.9)
    assert measured.resumed == Measurements(file, 'q').resumed


def test_layers_leave_int8_until_the_target_is_met(
    colors: tuple[onnx.ModelProto, ModelSpec, list[Frame]],
) -> None:
    model, spec, pictures = colors
    asked = []

    def score(candidate: onnx.ModelProto) -> float:
        asked.append(sum(n.op_type == 'QuantizeLinear' for n in candidate.graph.node))
        return 1 - asked[-1] / 10

    done = quantize(model, spec, pictures, Measurements(), score=score, method='minmax', target=0.9)
    assert asked == [2, 1]
    assert 0 < done.int8_share < 1
    assert [point.score for point in done.curve] == [0.8, 0.9]
    assert [layer.reason == '' for layer in done.layers] == [layer.int8 for layer in done.layers]
    assert list(done.methods) == ['minmax']


def test_the_accuracy_of_some_mixtures_is_shown_and_chooses_nothing(
    colors: tuple[onnx.ModelProto, ModelSpec, list[Frame]], tmp_path: Path
) -> None:
    model, spec, pictures = colors
    measured: list[int] = []
    told: list[float] = []

    def measure(candidate: onnx.ModelProto, on_share: Callable[[float], None]) -> float:
        on_share(0.5)
        measured.append(sum(n.op_type == 'QuantizeLinear' for n in candidate.graph.node))
        return 1 - measured[-1] / 10

    def on_progress(phase: str, share: float) -> None:
        told.extend([share] if phase == 'draw the curve' else [])

    def once(name: str) -> Quantization:
        return quantize(
            model, spec, pictures, Measurements(tmp_path / 'm.json', 'q'), method='minmax',
            score=lambda _: 1.0, accuracy=Accuracy(name, 0.95, measure), on_progress=on_progress,
        )  # fmt: skip

    done = once('a')
    # The mixture that was taken, and the one with as much in float as the curve goes to.
    assert measured == [2, 1]
    assert [point.map for point in done.curve] == [0.8, 0.9]
    assert (done.float_map, done.int8_share) == (0.95, 1)
    assert told == sorted(told) and told[-1] == 1
    assert once('a') and measured == [2, 1]
    assert once('other pictures') and measured == [2, 1] * 2


def test_where_nothing_meets_the_target_nothing_is_in_int8(
    colors: tuple[onnx.ModelProto, ModelSpec, list[Frame]],
) -> None:
    model, spec, pictures = colors
    done = quantize(
        model, spec, pictures, Measurements(), score=lambda _: 0.0, method='minmax', target=0.9
    )
    assert done.int8_share == 0


def test_a_network_that_plain_int8_ruins(assets: Path) -> None:
    """Depthwise: 1.7 of 34 mAP are left of it by plain quantization."""
    path = assets / 'models' / 'yolox_nano_416.onnx'
    spec = load_spec(path, 'coco')
    files = sorted((assets / 'data' / 'coco_ccby_bysa' / 'images' / 'train2017').glob('*.jpg'))[:4]
    pictures = [Frame.from_compressed(np.fromfile(f, np.uint8)) for f in files]
    bench = Bench(spec, pictures)
    seen = Network(prepare(onnx.load(path)), bench, lambda: None)
    plan, _ = make_plan(seen, 'mse')
    model = seen.with_int8(plan, set(seen.layers))
    assert sum(layer.depthwise for layer in seen.layers.values()) == 30
    assert seen.agreement(model) > 0.55
    integers, count = in_integers(model)
    assert count == len(seen.layers)
    # What rounds to one side here rounds to the other there, and it grows from layer to layer.
    assert seen.agreement(integers) > 0.55
    plan.divisors.clear()
    for tensor in plan.thresholds:
        plan.thresholds[tensor] = float(seen.seen[tensor, 1].largest.max())
    for name, weight in seen.weights.items():
        scale = scales(weight, 0)
        plan.weights[name] = quantized(weight, scale, 0), scale
    assert seen.agreement(seen.with_int8(plan, set(seen.layers))) < 0.15


def test_weights_that_are_dequantized_beforehand_are_the_same_numbers() -> None:
    seen = Seen(depthwise_network(np.random.default_rng(0)))
    model = all_int8(seen, make_plan(seen, 'mse')[0])
    assert not has_integer_kernels(model.graph)
    content = model.SerializeToString()
    feeds = next(iter(seen.bench.inputs()))
    (folded,), (unfolded,) = (
        open_session(content, fold_weights=fold).run(['y'], feeds) for fold in (True, False)
    )
    np.testing.assert_allclose(folded, unfolded, rtol=1e-4, atol=1e-4)


def test_models_made_for_integer_kernels_are_left_to_them() -> None:
    weight = np.random.default_rng(0).normal(size=(4, 3, 1, 1))
    seen = Seen(network([conv('only', 'x', 'w', out='y')], w=weight))
    graph = all_int8(seen, make_plan(seen, 'mse')[0]).graph
    assert not has_integer_kernels(graph)
    (quantizer,) = (n for n in graph.node if n.op_type == 'QuantizeLinear')
    graph.node.append(helper.make_node('QuantizeLinear', ['y', *quantizer.input[1:]], ['z']))
    assert has_integer_kernels(graph)
    assert not has_integer_kernels(seen.model.graph)
