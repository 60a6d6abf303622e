# SPDX-License-Identifier: Apache-2.0
"""The report: one page that needs nothing else, and whose figures are those that were measured."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from trt_perception.build.calibration import collect
from trt_perception.build.gate import Comparison
from trt_perception.build.quantization.result import CurvePoint, Histogram, Layer, Quantization
from trt_perception.build.report import charts, page, pictures
from trt_perception.build.report.quantization import QuantizeRun
from trt_perception.core import Detections, Frame, ModelSpec
from trt_perception.runtime.gate_result import GateResult

SPEC = ModelSpec('yolov8', 'images', 64, 64, 'float32', ('out',), 2, ('<car>', 'person'))


class Page(HTMLParser):
    """What a browser would make of it: text, and all that is opened and not closed."""

    VOID = ('meta', 'img', 'wbr')

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.links: list[str] = []
        self.broken = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.broken = tag == 'wbr'
        self.links += [v or '' for k, v in attrs if k in ('src', 'href')]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, (self.open, tag)
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] not in ('style', 'title'):
            if self.broken:
                data = self.texts.pop() + data
            self.texts.append(data)
        self.broken = False


def layer(number: int, sensitivity: float | None, reason: str = '') -> Layer:
    counts = np.array([100, 50, 10, 0, 1], np.int64)
    seen = Histogram(counts, 5.0, None if reason else 3.0)
    return Layer(f'/model.{number}/<conv>', 'Conv', 1000, not reason, sensitivity, reason, seen)


@pytest.fixture
def run(tmp_path: Path) -> QuantizeRun:
    folder = tmp_path / 'pictures'
    folder.mkdir()
    for n in range(12):
        image = np.random.default_rng(n).integers(0, 255, (6, 8, 3), np.uint8)
        image = cv2.resize(image, (1600, 1200), interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(folder / f'{n:02d}.png'), image)
    (folder / '99 & more.jpg').write_bytes(b'')
    calibration = collect(folder, tmp_path, held_out=3)
    box = np.array([[100, 100, 900, 700]], np.float32)
    one = Detections(box, np.array([0.9], np.float32), np.array([0], np.int32))
    gate = GateResult(
        'agreement', 0.9796, 0.98, (0.96, 0.99), 3, 3,
        {'float_found_by_int8': 1.0, 'int8_found_by_float': 1.0, 'mean_score_shift': 0.02,
         'p95_score_shift': 0.07},
        'frames of <drive>', 'ONNX Runtime', 'ab12', warnings=('too few & too dark',),
    )  # fmt: skip
    layers = (layer(0, 0.02, 'costs <2 %'), layer(1, 0.001), layer(2, None), layer(3, 0.05))
    curve = (CurvePoint(1.0, 0.91, ()), CurvePoint(0.75, 0.99, (layers[0].name,), map=0.4))
    quantization = Quantization(None, 'mse', {'mse': 0.91, 'minmax': 0.6}, layers, curve, 0.41)
    frames = calibration.held_out
    comparison = Comparison(gate, frames, [one] * 3, [one, Detections.empty(), one])
    return QuantizeRun(
        Path('<m>.onnx'), Path('out/m_int8.onnx'), False, SPEC, calibration, quantization,
        comparison, 12_000_000, 3_500_000, 12.3, 'a machine', {'python': '3.x'},
    )  # fmt: skip


def text_of(run: QuantizeRun) -> str:
    shown = Page(run.to_html())
    assert shown.open == []
    return ' '.join(' '.join(shown.texts).split())


def test_it_needs_nothing_else(run):
    shown = Page(run.to_html())
    assert shown.links and all(link.startswith('data:image/jpeg;base64,') for link in shown.links)
    html = run.to_html()
    for word in ('http:', 'https:', '@import', 'url(', '<script', '<link'):
        assert word not in html
    assert 'color-scheme: light dark' in html
    assert '<meta name="viewport"' in html
    for link in shown.links:
        data = np.frombuffer(base64.b64decode(link.partition(',')[2]), np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)
        assert image is not None and image.shape[1] <= 1024


def test_the_verdict_comes_first(run):
    text = text_of(run)
    assert text.startswith('Gate failed <m>.onnx in INT8 keeps 97.9 % of its detections')
    assert 'At least 98 % was asked; m_int8.onnx was not written.' in text
    assert '96.0 to 99.0' in text
    assert '75.0 % of the multiply-adds are in INT8' in text
    assert '12.0 → 3.5 MB' in text
    passed = dataclasses.replace(run.comparison.result, target=0.9)
    passing = dataclasses.replace(
        run, written=True, comparison=dataclasses.replace(run.comparison, result=passed)
    )
    assert text_of(passing).startswith('Gate passed')
    assert text_of(dataclasses.replace(run, written=True)).startswith(
        'Gate failed, accepted all the same'
    )


def test_accuracy_is_told_as_such(run):
    figures = {'map_float': 0.5, 'map_int8': 0.49, 'map50_float': 0.7, 'map50_int8': 0.6996,
               'map50_share': 0.999}  # fmt: skip
    gate = dataclasses.replace(run.comparison.result, measure='map', figures=figures, interval=None)
    text = text_of(
        dataclasses.replace(run, comparison=dataclasses.replace(run.comparison, result=gate))
    )
    assert '50.0 → 49.0 mAP50-95' in text
    assert '70.0 → 70.0 mAP50' in text
    assert 'confidence' not in text


def test_everything_is_told(run):
    text = text_of(run)
    for words in (
        'too few & too dark', 'frames are few to calibrate with', '99 & more.jpg',
        'frames of <drive>', 'costs <2 %', 'mse; agreement with all layers in INT8: mse 0.9100',
        '3 of 4 layers multiply in INT8', 'a machine', 'python 3.x', 'sha256 ab12',
        'The 1 frames of 3 in which the two differ most', '12 seen, 0 left out as alike',
        'mAP50-95 on labelled pictures', 'the dashed line being FP32',
    ):  # fmt: skip
        assert words in text, words
    # The most sensitive layer first.
    order = [text.index(f'/model.{n}/<conv> Conv') for n in (3, 0, 1, 2)]
    assert order == sorted(order)


def test_nothing_to_show_is_said(run):
    same = dataclasses.replace(run.comparison, int8=run.comparison.floats)
    bare = dataclasses.replace(
        run, comparison=same, quantization=Quantization(None, 'mse', {}, (layer(0, None),), ())
    )
    bare = dataclasses.replace(
        bare, quantization=dataclasses.replace(
            bare.quantization, layers=(dataclasses.replace(layer(0, None), input=None),)
        )
    )  # fmt: skip
    assert 'They agree in every frame' in text_of(bare)


def test_json_holds_the_same(run):
    data = json.loads(json.dumps(run.to_dict()))
    assert data['int8_share'] == 0.75
    assert data['output'] == {'path': 'out/m_int8.onnx', 'written': False, 'bytes': 3_500_000}
    assert GateResult.from_dict(data['gate']) == run.comparison.result
    assert data['calibration']['sha256'] == run.calibration.sha256
    assert data['layers'][0] == {
        'name': '/model.0/<conv>', 'op_type': 'Conv', 'macs': 1000, 'int8': False,
        'sensitivity': 0.02, 'reason': 'costs <2 %', 'input': {'largest': 5.0, 'threshold': None},
    }  # fmt: skip
    assert data['curve'][1] == {
        'int8_share': 0.75, 'agreement': 0.99, 'score': None, 'map': 0.4,
        'floats': ['/model.0/<conv>'],
    }  # fmt: skip
    assert data['float_map'] == 0.41
    assert ModelSpec.from_dict(data['spec']) == SPEC


# Charts and pictures


def drawn(svg: str) -> ElementTree.Element:
    root = ElementTree.fromstring(svg)
    _, _, width, height = (float(v) for v in root.attrib['viewBox'].split())
    for mark in root.iter():
        for name, value in mark.attrib.items():
            if name in ('x', 'cx', 'x1', 'x2'):
                assert 0 <= float(value) <= width
            if name in ('y', 'cy', 'y1', 'y2'):
                assert 0 <= float(value) <= height
    return root


def test_a_curve():
    points = [charts.Point(1, 0.5, 'a & b'), charts.Point(0.6, 0.99, 'c'), charts.Point(1, 1, 'd')]
    root = drawn(charts.curve(points, 1, 'what', 'in INT8'))
    circles = [(float(c.attrib['cx']), float(c.attrib['cy'])) for c in root.iter('circle')]
    assert circles[0][0] == circles[2][0] > circles[1][0]
    assert circles[2][1] < circles[1][1] < circles[0][1]
    assert [c.attrib['class'] for c in root.iter('circle')] == ['ring', 'one', 'ring']
    # The first is worse than the third, and no better in anything.
    (line,) = root.iter('polyline')
    assert line.attrib['points'].split()[-1].split(',') == [str(v) for v in circles[2]]
    assert len(line.attrib['points'].split()) == 1
    assert next(root.iter('title')).text == 'a & b'


@pytest.mark.parametrize('figure', [1.0, 0.999, 0.9, 0.5, 0.0])
def test_a_curve_of_one_point(figure):
    drawn(charts.curve([charts.Point(figure, figure, '')], 0, 'what', 'x'))


def test_a_curve_below_and_above_the_floats():
    points = [charts.Point(1, 0.36, ''), charts.Point(0.8, 0.413, '')]
    root = drawn(charts.curve(points, 0, 'what', 'x', 0.41))
    below, above = (float(c.attrib['cy']) for c in root.iter('circle'))
    (level,) = (m for m in root.iter('line') if m.attrib['class'] == 'mark')
    assert above < float(level.attrib['y1']) == float(level.attrib['y2']) < below


def test_bars_are_as_high_as_what_they_show():
    shown = [charts.Bar(0.5, 'one', ''), charts.Bar(0.25, 'two', ''), charts.Bar(0, 'one', '')]
    rectangles = list(drawn(charts.bars(shown, 'what', 'x')).iter('rect'))
    heights = [float(r.attrib['height']) for r in rectangles]
    assert heights[0] == pytest.approx(2 * heights[1])
    assert heights[2] == 1
    drawn(charts.bars([charts.Bar(0, 'one', '')], 'what', 'x'))
    drawn(charts.bars([], 'what', 'x'))


def test_a_histogram_counts_everything_and_marks_what_is_clipped():
    counts = np.zeros(2048, np.int64)
    counts[[0, 1024, 2047]] = 999, 99, 9
    root = drawn(charts.histogram(counts, 10.0, 5.0, 'what'))
    clipped, *bars = root.iter('rect')
    filled = [float(b.attrib['height']) for b in bars if float(b.attrib['height'])]
    assert filled == pytest.approx([filled[0], filled[0] * 2 / 3, filled[0] / 3], abs=0.1)
    (mark,) = (m for m in root.iter('line') if m.attrib['class'] == 'mark')
    assert float(mark.attrib['x1']) == pytest.approx(float(clipped.attrib['x']), abs=0.1)
    for threshold in (None, 10.0, 20.0):
        drawn(charts.histogram(counts[:3], 10.0, threshold, 'what'))
    drawn(charts.histogram(np.zeros(4, np.int64), 0.0, 0.0, 'what'))


def test_detections_are_drawn_where_they_are():
    frame = Frame.from_array(np.zeros((1000, 1440, 3), np.uint8))
    boxes = np.array([[200, 200, 1200, 800], [10, 10, 60, 60]], np.float32)
    found = Detections(boxes, np.array([0.9, 0.1], np.float32), np.array([1, 1], np.int32))
    data = np.frombuffer(pictures.detected(frame, found, SPEC, 0.25), np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert image.shape == (500, 720, 3)
    assert image[400, 300].max() > 100 and image[300, 100].max() > 100  # edges of the box
    assert image[250, 350].max() < 30  # its middle
    assert image[:45, :45].max() < 30  # the doubtful one


@pytest.mark.parametrize('number', [1, 5, 9, 200])
def test_a_contact_sheet(number):
    frames = [Frame.from_array(np.full((48, 200, 3), n, np.uint8)) for n in range(number)]
    shown, data = pictures.contact_sheet(frames)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert shown == min(number, 64)
    assert image.shape[:2] == (80 * -(-shown // 8), 128 * min(shown, 8))
    assert image[40, 64].mean() == pytest.approx(0, abs=3)


def test_text_is_text():
    for part in (
        page.page('<b>', '<b>', True, []), page.lead('<b>'), page.section('<b>', '<b>'),
        page.cards([page.Card('<b>', '<b>')]), page.notes(['<b>']), page.titled('<b>', '', '<b>'),
        page.key(('one', '<b>')), page.folded('<b>', ''), page.table(['<b>'], []),
        page.picture(b'', '"<b>'),
    ):  # fmt: skip
        body = re.sub(r'<style>.*</style>|<b>&lt;b&gt;</b>', '', part, flags=re.DOTALL)
        assert '<b>' not in body and '&lt;b&gt;' in part
