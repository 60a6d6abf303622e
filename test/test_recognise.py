# SPDX-License-Identifier: Apache-2.0
"""What a model file, the YAML beside it and its labels say; every file here is a real one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from models import LAYOUTS, constant_detector, ultralytics_metadata, write_network

from trt_perception.core import ModelSpec, PerceptionError, SpecError
from trt_perception.core.labels import COCO
from trt_perception.core.model_spec import OVERRIDES, parse_names, parse_overrides
from trt_perception.core.recognise import metadata_names
from trt_perception.runtime.model_file import load_spec, read_labels
from trt_perception.runtime.onnx_file import ModelFileError, read_signature

CLASSES = ('car', 'person', 'traffic light')


def refusal(model: Path, labels: str = '') -> str:
    """The one line that a user reads."""
    with pytest.raises(PerceptionError) as caught:
        load_spec(model, labels)
    text = str(caught.value)
    assert '\n' not in text
    assert str(model) in text or labels
    return text


def beside(model: Path, text: str) -> Path:
    model.with_suffix('.yaml').write_text(text, encoding='utf-8')
    return model


def network(path: Path, *shapes: tuple[int, ...], **write) -> Path:
    """A network with outputs a, b, ... of these shapes."""
    outputs = {
        name: np.zeros(shape, np.float32) for name, shape in zip('abcd', shapes, strict=False)
    }
    return write_network(path, outputs, **write)


# From the file alone


#: What the layouts imply beyond the defaults.
IMPLIED = {
    'yolox': {'color': 'bgr', 'scale': 1.0, 'resize': 'letterbox_top_left'},
    'yolox_raw': {'color': 'bgr', 'scale': 1.0, 'resize': 'letterbox_top_left'},
    'end_to_end': {'nms': False},
    'efficient_nms': {
        'nms': False,
        'outputs': ('num_dets', 'det_boxes', 'det_scores', 'det_classes'),
    },
    'detr': {'nms': False, 'resize': 'stretch', 'outputs': ('pred_logits', 'pred_boxes')},
    'detr_softmax': {
        'nms': False,
        'resize': 'stretch',
        'outputs': ('pred_logits', 'pred_boxes'),
        'mean': (0.485, 0.456, 0.406),
        'std': (0.229, 0.224, 0.225),
    },
    'detr_end_to_end': {
        'nms': False,
        'resize': 'stretch',
        'outputs': ('labels', 'boxes', 'scores'),
        'size_input': 'orig_target_sizes',
    },
    'rtdetr_ultralytics': {'nms': False, 'resize': 'stretch'},
}


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('dtype', ['float32', 'float16'])
@pytest.mark.parametrize('dynamic', [False, True])
def test_every_layout_from_the_file_alone(tmp_path, layout, dtype, dynamic):
    model = constant_detector(
        tmp_path / 'm.onnx', classes=CLASSES, layout=layout, width=96, height=64, dtype=dtype,
        dynamic=dynamic,
    )  # fmt: skip
    expected = {
        'layout': layout,
        'input_name': 'images',
        'width': 96,
        'height': 64,
        'dtype': dtype,
        'outputs': ('output0',),
        'num_classes': 3,
        'class_names': CLASSES,
        **IMPLIED.get(layout, {}),
    }
    assert load_spec(model) == ModelSpec(**expected)


@pytest.mark.parametrize('layout', ['yolov8', 'yolov5', 'yolox', 'yolox_raw', 'detr'])
@pytest.mark.parametrize('count', [1, 2, 3, 80, 365])
def test_any_number_of_classes_without_names(tmp_path, layout, count):
    # A larger input, so that no row of one class can be taken for one of an end-to-end head.
    model = constant_detector(
        tmp_path / 'm.onnx', classes=['x'] * count, layout=layout, width=640, height=384,
        metadata={},
    )  # fmt: skip
    spec = load_spec(model)
    assert (spec.layout, spec.num_classes, spec.class_names) == (layout, count, ())
    assert spec.class_name(0) == '0'
    assert load_spec(model, 'coco' if count == 80 else '').num_classes == count


@pytest.mark.parametrize('layout', ['efficient_nms', 'detr_end_to_end'])
def test_where_only_names_can_tell_how_many_classes(tmp_path, layout):
    model = constant_detector(tmp_path / 'm.onnx', layout=layout, metadata={})
    assert load_spec(model).num_classes == 0
    assert load_spec(model, 'coco').num_classes == 80
    assert load_spec(model, 'coco').class_name(2) == 'car'
    assert load_spec(model, 'coco').class_name(80) == '80'


def test_outputs_in_another_order_are_put_right(tmp_path):
    rows = np.zeros((1, 20), np.float32)
    boxes = np.zeros((1, 20, 4), np.float32)
    labels = np.zeros((1, 20), np.int64)
    model = write_network(tmp_path / 'm.onnx', {'s': rows, 'l': labels, 'b': boxes}, sizes=True)
    assert load_spec(model).outputs == ('l', 'b', 's')
    four = {'c': labels.astype(np.int32), 's': rows, 'n': np.zeros((1, 1), np.int32), 'b': boxes}
    assert load_spec(write_network(model, four)).outputs == ('n', 'b', 's', 'c')
    two = {'b': boxes, 'l': np.zeros((1, 20, 7), np.float32)}
    assert load_spec(write_network(model, two, telling='TopK')).outputs == ('l', 'b')


def test_four_classes_of_detr_are_told_by_the_name(tmp_path):
    same = np.zeros((1, 20, 4), np.float32)
    model = tmp_path / 'm.onnx'
    spec = load_spec(write_network(model, {'boxes': same, 'x': same}, telling='TopK'))
    assert (spec.outputs, spec.num_classes) == (('x', 'boxes'), 4)
    refusal(write_network(model, {'y': same, 'x': same}, telling='TopK'))


def test_weights_among_the_inputs_are_no_inputs(tmp_path):
    path = constant_detector(tmp_path / 'm.onnx', classes=CLASSES)
    model = onnx.load(str(path))
    model.graph.input.append(
        onnx.helper.make_tensor_value_info('output0_value', onnx.TensorProto.FLOAT, (1, 7, 84))
    )
    onnx.save(model, str(path))
    assert load_spec(path).layout == 'yolov8'


def test_free_channels_and_undeclared_outputs(tmp_path):
    path = constant_detector(tmp_path / 'm.onnx', classes=CLASSES, dynamic=True)
    model = onnx.load(str(path))
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = 'channels'
    # A convolution, which runs with three channels only.
    weight = np.zeros((1, 3, 1, 1), np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, 'weight'))
    model.graph.node.append(onnx.helper.make_node('Conv', ['images', 'weight'], ['unused']))
    model.graph.output[0].type.tensor_type.ClearField('shape')
    onnx.save(model, str(path))
    spec = load_spec(path)
    assert (spec.layout, spec.num_classes) == ('yolov8', 3)


# Ambiguous


def settled(model: Path) -> set[str]:
    """The layouts that a refusal offers; each of its YAML lines must really settle it."""
    text = refusal(model)
    lines = re.findall(r'"(layout: \w+)"', text)
    for line in lines:
        assert load_spec(beside(model, line)).layout == line.removeprefix('layout: ')
    model.with_suffix('.yaml').unlink()
    return {line.removeprefix('layout: ') for line in lines}


def test_six_columns_are_two_classes_or_an_answer(tmp_path):
    model = network(tmp_path / 'm.onnx', (1, 300, 6))
    assert settled(model) == {'end_to_end', 'rtdetr_ultralytics'}
    # Names settle it, unless they are two.
    named = network(model, (1, 300, 6), metadata=ultralytics_metadata(CLASSES, 64, 64))
    assert load_spec(named).layout == 'end_to_end'
    named = network(model, (1, 300, 6), metadata=ultralytics_metadata(CLASSES[:2], 64, 64))
    assert settled(named) == {'end_to_end', 'rtdetr_ultralytics'}


def test_logits_may_have_a_column_for_nothing(tmp_path):
    model = network(tmp_path / 'm.onnx', (1, 100, 81), (1, 100, 4))
    assert settled(model) == {'detr', 'detr_softmax'}
    assert load_spec(model, 'coco').layout == 'detr_softmax'
    query_picker = network(model, (1, 100, 81), (1, 100, 4), telling='TopK')
    assert load_spec(query_picker).layout == 'detr'


def test_a_square_of_cells_and_classes(tmp_path):
    model = network(tmp_path / 'm.onnx', (1, 84, 84))  # 64x64 pixels have 84 cells
    assert settled(model) == {'yolov8', 'yolox_raw'}
    assert load_spec(model, 'coco').layout == 'yolov8'


def test_one_class_on_few_cells(tmp_path):
    assert settled(network(tmp_path / 'm.onnx', (1, 252, 6))) == {'yolov5', 'end_to_end'}


def test_names_that_fit_no_reading_settle_nothing(tmp_path):
    model = network(tmp_path / 'm.onnx', (1, 84, 84))
    (tmp_path / 'seven.txt').write_text('a\nb\nc\nd\ne\nf\ng\n')
    assert '"layout: yolov8" or "layout: yolox_raw"' in refusal(model, str(tmp_path / 'seven.txt'))


# The size of the input


def test_a_free_size_needs_a_word(tmp_path):
    model = constant_detector(tmp_path / 'm.onnx', width=96, dynamic=True, metadata={})
    text = refusal(model)
    assert 'leaves its size free' in text
    line = re.findall(r'"(input_size: .*?)"', text)[0]
    assert load_spec(beside(model, line)).width == 640 or 'no known layout' in refusal(model)
    spec = load_spec(beside(model, 'input_size: [96, 64]'))
    assert (spec.width, spec.height) == (96, 64)


@pytest.mark.parametrize('imgsz', ['[64, 96]', '(64, 96)', '[64,96]'])
def test_imgsz_is_height_and_width(tmp_path, imgsz):
    metadata = {**ultralytics_metadata(CLASSES, 0, 0), 'imgsz': imgsz}
    model = constant_detector(
        tmp_path / 'm.onnx', classes=CLASSES, width=96, dynamic=True, metadata=metadata
    )
    assert (load_spec(model).width, load_spec(model).height) == (96, 64)


def test_imgsz_may_be_one_number(tmp_path):
    model = constant_detector(tmp_path / 'm.onnx', dynamic=True, metadata={'imgsz': '64'})
    assert (load_spec(model).width, load_spec(model).height) == (64, 64)


@pytest.mark.parametrize(
    'imgsz',
    ['', '[64', '[64]', '[0, 64]', '[-1, 64]', '["a", "b"]', '[64.5, 64]', '[1e9, 64]',
     '[999999999, 64]', 'None', '{64: 64}', '[[64, 64], 3]', '-' * 5000 + '1', '__import__("os")'],
)  # fmt: skip
def test_imgsz_that_is_none(tmp_path, imgsz):
    model = constant_detector(tmp_path / 'm.onnx', dynamic=True, metadata={'imgsz': imgsz})
    assert 'leaves its size free' in refusal(model)


def test_a_fixed_size_is_not_overridden(tmp_path):
    model = constant_detector(tmp_path / 'm.onnx', width=96)
    assert load_spec(beside(model, 'input_size: [96, 64]')).width == 96
    text = refusal(beside(model, 'input_size: [64, 96]'))
    assert 'input_size: [64, 96] does not fit the input images float32 1x3x64x96' in text


def test_half_a_fixed_size(tmp_path):
    answer = np.zeros((1, 7, 126), np.float32)  # cells of 96x64
    inputs = {'images': ('float32', (1, 3, 64, 'width'))}
    model = write_network(tmp_path / 'm.onnx', {'a': answer}, inputs=inputs)
    assert 'leaves its size free' in refusal(model)
    assert load_spec(beside(model, 'input_size: [96, 64]')).width == 96
    assert 'does not fit the input' in refusal(beside(model, 'input_size: [96, 96]'))


# What is refused


@pytest.mark.parametrize(
    ('inputs', 'words'),
    [
        ({'x': ('float32', (1, 64, 64, 3))}, 'channels last; export it as NCHW'),
        ({'x': ('uint8', (1, 3, 64, 64))}, 'only float32 and float16 inputs are supported'),
        ({'x': ('float64', (1, 3, 64, 64))}, 'only float32 and float16 inputs are supported'),
        ({'x': ('float32', (4, 3, 64, 64))}, 'batch 4; export it with batch 1'),
        ({'x': ('float32', (1, 1, 64, 64))}, r'is not (1, 3, height, width)'),
        ({'x': ('float32', (1, 3, 64))}, 'needs one image input of 4 dimensions'),
        (
            {'x': ('float32', (1, 3, 64, 64)), 'y': ('float32', (1, 3, 64, 64))},
            'needs one image input of 4 dimensions, it has x float32 1x3x64x64, y float32',
        ),
        (
            {'x': ('float32', (1, 3, 64, 64)), 'mask': ('int64', (1, 64, 64))},
            'nothing to feed the input mask int64 1x64x64',
        ),
    ],
)
def test_inputs_that_are_no_image(tmp_path, inputs, words):
    assert words in refusal(network(tmp_path / 'm.onnx', (1, 7, 84), inputs=inputs))


def test_other_tasks_are_named(tmp_path):
    metadata = ultralytics_metadata(CLASSES, 64, 64, task='segment')
    model = network(tmp_path / 'm.onnx', (1, 39, 84), (1, 32, 16, 16), metadata=metadata)
    assert "the model's task is 'segment'" in refusal(model)
    bare = network(model, (1, 39, 84), (1, 32, 16, 16))
    assert 'no known layout fits the outputs a float32 1x39x84, b float32 1x32x16x16' in refusal(
        bare
    )


@pytest.mark.parametrize(
    'shapes',
    [
        [(1, 1000)],
        [(1, 2, 64, 64)],
        [(1, 44, 8401)],
        [(1, 4, 84)],
        [(2, 7, 84)],
        [(1, 300, 4)],
        [()],
    ],
)
def test_outputs_of_no_detector(tmp_path, shapes):
    text = refusal(network(tmp_path / 'm.onnx', *shapes))
    assert 'no known layout fits the outputs a float32' in text
    assert 'yolov8, yolov5' in text


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (None, 'is not a file; give the path of an ONNX model'),
        (b'', 'is not an ONNX network: it has no input or output'),
        (b'hello, this is no model\n' * 50, 'is not a readable ONNX file'),
        (bytes(range(256)) * 20, 'is not a readable ONNX file'),
    ],
)
def test_files_that_are_no_model(tmp_path, content, words):
    path = tmp_path / 'm.onnx'
    if content is not None:
        path.write_bytes(content)
    assert words in refusal(path)


def test_a_folder_is_no_model(tmp_path):
    assert 'is not a file' in refusal(tmp_path)
    assert 'is not a file' in refusal(Path(''))


def test_a_truncated_model(tmp_path):
    path = constant_detector(tmp_path / 'm.onnx')
    path.write_bytes(path.read_bytes()[:-40])
    assert 'is not a readable ONNX file' in refusal(path)


def test_a_network_that_does_not_run(tmp_path):
    """Its free sizes have to be read off a run."""
    path = constant_detector(tmp_path / 'm.onnx', dynamic=True)
    model = onnx.load(str(path))
    model.graph.node[0].op_type = 'NoSuchOperator'
    onnx.save(model, str(path))
    assert 'NoSuchOperator' in refusal(path)
    path = constant_detector(tmp_path / 'm.onnx', dynamic=True)
    model = onnx.load(str(path))
    shape = onnx.numpy_helper.from_array(np.array([1, 2, 3]), 'shape')
    model.graph.initializer.append(shape)
    model.graph.node.append(onnx.helper.make_node('Reshape', ['images', 'shape'], ['unused']))
    onnx.save(model, str(path))
    assert 'does not run with a 64x64 input' in refusal(path)


def test_the_signature_says_what_the_file_says(tmp_path):
    metadata = ultralytics_metadata(CLASSES, 64, 64)
    path = network(tmp_path / 'm.onnx', (1, 7, 84), metadata=metadata, telling='Exp')
    signature = read_signature(path)
    assert str(signature.inputs[0]) == 'images float32 1x3x64x64'
    assert str(signature.outputs[0]) == 'a float32 1x7x84'
    assert signature.metadata == metadata
    assert signature.operators == {'Identity', 'Exp'}


# Names


def test_names_of_the_metadata(tmp_path):
    assert metadata_names({}) == ()
    assert metadata_names({'names': "{0: 'a', 1: \"it's\"}"}) == ('a', "it's")
    assert metadata_names({'names': "['a', 'b']"}) == ('a', 'b')
    assert metadata_names({'names': "{0: 'Fußgänger', 1: '汽车'}"}) == ('Fußgänger', '汽车')


@pytest.mark.parametrize(
    'names',
    [
        '', '{', 'None', '5', 'car', "'car'", "{1: 'a'}", "{0: 'a', 2: 'b'}", "{0: 'a', 'x': 'b'}",
        "{'0': 'a'}", "{0: 'a', 1: 'a'}", '{0: None}', "{0: ['a']}", '{0: True}', "{[]: 'a'}",
        "{0: __import__('os').system('true')}", '[' * 500, '-' * 5000 + '1', "{0: ''}",
        "{0: 'a\\nb'}", "{0: '\\x1b[31mred'}", "{0: 'a\\0'}", "{0: '\\ud800'}", "{0: 'a'}\0",
    ],
)  # fmt: skip
def test_hostile_names_are_refused_with_the_cure(tmp_path, names):
    metadata = {**ultralytics_metadata(CLASSES, 64, 64), 'names': names}
    model = network(tmp_path / 'm.onnx', (1, 7, 84), metadata=metadata)
    text = refusal(model)
    assert 'names in the model metadata' in text
    assert 'labels file' in text
    assert text.isprintable()
    assert len(text) < 500
    # The cure works.
    (tmp_path / 'labels.txt').write_text('\n'.join(CLASSES))
    assert load_spec(model, str(tmp_path / 'labels.txt')).class_names == CLASSES
    assert load_spec(beside(model, 'classes: [a, b, c]')).class_names == ('a', 'b', 'c')


VISIBLE = st.text(st.characters(exclude_categories=('C', 'Z')), min_size=1, max_size=9)


@given(st.lists(VISIBLE, unique=True, max_size=9))
def test_names_as_ultralytics_writes_them(names):
    assert metadata_names(ultralytics_metadata(names, 64, 64)) == tuple(names)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.integers() | st.text(), inner),
        max_leaves=8,
    )
)
def test_names_are_read_or_refused(value):
    try:
        names = parse_names(value)
    except ValueError:
        return
    assert len(set(names)) == len(names) == len(value)
    assert all(name.isprintable() and name.encode() for name in names)


def test_too_few_names(tmp_path):
    model = constant_detector(tmp_path / 'm.onnx', classes=CLASSES)
    words = '2 class names for a model of 3 classes; give one name per class'
    (tmp_path / 'two.txt').write_text('a\nb\n')
    assert words in refusal(model, str(tmp_path / 'two.txt'))
    assert words in refusal(beside(model, 'classes: [a, b]'))
    wrong = ultralytics_metadata(CLASSES[:2], 64, 64)
    assert words in refusal(network(tmp_path / 'n.onnx', (1, 7, 84), metadata=wrong))


def test_labels_are_stronger_than_the_yaml_and_the_yaml_than_the_file(tmp_path):
    model = constant_detector(tmp_path / 'm.onnx', classes=CLASSES)
    assert load_spec(model).class_names == CLASSES
    assert load_spec(beside(model, 'classes: [a, b, c]')).class_names == ('a', 'b', 'c')
    (tmp_path / 'labels.txt').write_text('x\ny\nz')
    assert load_spec(model, str(tmp_path / 'labels.txt')).class_names == ('x', 'y', 'z')


@pytest.mark.parametrize(
    ('name', 'text'),
    [
        ('l.txt', 'car\nperson\ntraffic light\n'),
        ('l.names', '\n car \r\nperson\n\ntraffic light'),
        ('l.yaml', '[car, person, traffic light]'),
        ('l.yml', 'path: x\nnames:\n  0: car\n  1: person\n  2: traffic light\nnc: 3\n'),
        ('l.yaml', 'names: [car, person, traffic light]'),
    ],
)
def test_labels_files(tmp_path, name, text):
    (tmp_path / name).write_bytes(text.encode())
    assert read_labels(str(tmp_path / name)) == CLASSES


def test_coco_labels():
    assert read_labels('coco') == COCO
    assert len(set(COCO)) == 80
    assert (COCO[0], COCO[9], COCO[79]) == ('person', 'traffic light', 'toothbrush')


@pytest.mark.parametrize(
    ('name', 'content'),
    [
        (None, b''), ('l.txt', b'car\ncar\n'), ('l.txt', b'\xff\xfe\x00'),
        ('l.yaml', b'{names: 5}'),
        ('l.yaml', b'[a, no]'), ('l.yaml', b'[a, ~]'), ('l.yaml', b'names: {0: a, x: b}'),
        ('l.yaml', b'a: [unclosed'), ('l.yaml', b'\xff'), ('l.yaml', b''), ('l.yaml', b'{a: 1}'),
        ('l.yaml', b'[' * 500), ('l.txt', b'a\x1b[2J\n'),
    ],
)  # fmt: skip
def test_labels_that_are_none(tmp_path, name, content):
    path = tmp_path / (name or 'absent.txt')
    if name:
        path.write_bytes(content)
    with pytest.raises(ModelFileError) as caught:
        read_labels(str(path))
    assert str(path) in str(caught.value)
    assert str(caught.value).isprintable()


# The YAML beside the model


GOOD = {
    'layout': ('yolov8', {'layout': 'yolov8'}),
    'input_size': ([64, 32], {'width': 64, 'height': 32}),
    'classes': ({0: 'a', 1: 'b'}, {'class_names': ('a', 'b')}),
    'outputs': (['a'], {'outputs': ('a',)}),
    'color': ('bgr', {'color': 'bgr'}),
    'scale': ('1/255', {'scale': 1 / 255}),
    'mean': ([0.485, 0, '1/2'], {'mean': (0.485, 0.0, 0.5)}),
    'std': ([1, 0.5, 58.395], {'std': (1.0, 0.5, 58.395)}),
    'resize': ('stretch', {'resize': 'stretch'}),
    'pad_value': (0, {'pad_value': 0}),
    'nms': (False, {'nms': False}),
}
BAD = {
    'layout': [None, 5, ['yolov8']],
    'input_size': [None, 640, [640], [640, 640, 3], [0, 640], [640, -1], [640.0, 640], ['a', 'b'],
                   [True, True], [16385, 640], '640x640'],
    'classes': [None, 'car', 5, [None], [True], [['a']], ['a', 'a'], {1: 'a'}, {0: 'a', 'b': 'c'},
                {0: 'a', 0.5: 'b'}, ['a\n'], [''], ['\ud800']],
    'outputs': [None, 'a', [5], [None], {'a': 1}],
    'color': [None, 'RGB', 'gbr', 5, ['rgb'], True],
    'scale': [None, 'fast', 0, -1, True, [1], '1/0', float('nan'), float('inf'), '1e999', 10**400],
    'mean': [None, 0, [0, 0], [0, 0, 0, 0], ['a', 0, 0], [None, 0, 0], [float('nan'), 0, 0],
             [float('inf'), 0, 0], [10**400, 0, 0], [True, 0, 0], 'abc'],
    'std': [None, 1, [1, 1], [1, 0, 1], [1, -1, 1], [1, float('nan'), 1], [[1], 1, 1]],
    'resize': [None, 'crop', 'Letterbox', 5, []],
    'pad_value': [None, -1, 256, 0.5, '0', True, [0]],
    'nms': [None, 0, 1, 'yes', [True]],
}  # fmt: skip


def test_every_key_is_tested():
    assert set(GOOD) == set(BAD) == set(OVERRIDES)


@pytest.mark.parametrize('key', OVERRIDES)
def test_good_values(key):
    value, fields = GOOD[key]
    assert parse_overrides({key: value}) == fields


@pytest.mark.parametrize(('key', 'value'), [(k, v) for k, values in BAD.items() for v in values])
def test_bad_values_are_named_in_one_line(key, value):
    with pytest.raises(SpecError) as caught:
        parse_overrides({key: value})
    text = str(caught.value)
    assert text.startswith(f'{key}: ')
    assert text.isprintable()
    assert len(text) < 300


@given(
    st.sampled_from(OVERRIDES),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=6,
    ),
)
def test_any_value_is_taken_or_refused(key, value):
    try:
        fields = parse_overrides({key: value})
    except SpecError as error:
        assert str(error).startswith(f'{key}: ')
        return
    assert fields


def test_an_unknown_key_is_named_with_the_known_ones():
    with pytest.raises(SpecError, match="unknown key 'colour'; known are layout, input_size, "):
        parse_overrides({'colour': 'rgb'})
    with pytest.raises(SpecError, match="unknown key '5'"):
        parse_overrides({5: 'rgb'})


def test_everything_can_be_overridden(tmp_path):
    model = network(
        tmp_path / 'm.onnx', (1, 7, 84), (1, 84, 7), dynamic=True,
        metadata=ultralytics_metadata(CLASSES, 32, 32),
    )  # fmt: skip
    text = """
        layout: yolox
        input_size: [64, 64]
        classes: [a, b]
        outputs: [b]
        color: bgr
        scale: 1/127.5
        mean: [1, 1, 1]
        std: [1, 2, 3]
        resize: stretch
        pad_value: 0
        nms: false
    """
    model = write_network(
        model, {'a': np.zeros((1, 7, 84), np.float32), 'b': np.zeros((1, 84, 7), np.float32)},
        dynamic=True, telling='Exp',
    )  # fmt: skip
    assert load_spec(beside(model, text)) == ModelSpec(
        layout='yolox', input_name='images', width=64, height=64, dtype='float32', outputs=('b',),
        num_classes=2, class_names=('a', 'b'), color='bgr', scale=1 / 127.5, mean=(1.0, 1.0, 1.0),
        std=(1.0, 2.0, 3.0), resize='stretch', pad_value=0, nms=False,
    )  # fmt: skip


def test_outputs_choose_among_several(tmp_path):
    model = network(tmp_path / 'm.onnx', (1, 7, 84), (1, 8, 84), (1, 64, 8, 8))
    assert 'no known layout fits' in refusal(model)
    assert load_spec(beside(model, 'outputs: [b]')).num_classes == 4
    assert load_spec(beside(model, 'outputs: [a]')).outputs == ('a',)
    text = refusal(beside(model, 'outputs: [z]'))
    assert "outputs: the model has no ['z'], it has a, b, c" in text
    assert 'no known layout' in refusal(beside(model, 'outputs: []'))


def test_outputs_keep_the_roles_that_the_layout_sees(tmp_path):
    model = network(tmp_path / 'm.onnx', (1, 20, 3), (1, 20, 4), (1, 9), telling='TopK')
    assert load_spec(beside(model, 'outputs: [b, a]')).outputs == ('a', 'b')


def test_a_layout_by_name_is_stronger_than_what_the_operators_hint_at(tmp_path):
    model = network(tmp_path / 'm.onnx', (1, 84, 8))
    assert load_spec(model).layout == 'yolox_raw'
    assert load_spec(beside(model, 'layout: yolox')).layout == 'yolox'
    model = network(tmp_path / 'n.onnx', (1, 84, 8), telling='Exp')
    assert load_spec(model).layout == 'yolox'
    assert load_spec(beside(model, 'layout: yolox_raw')).layout == 'yolox_raw'
    model = network(tmp_path / 'o.onnx', (1, 20, 8), (1, 20, 4), telling='TopK')
    assert load_spec(model).layout == 'detr'
    assert load_spec(beside(model, 'layout: detr_softmax')).num_classes == 7


def test_a_layout_that_does_not_fit(tmp_path):
    model = constant_detector(tmp_path / 'm.onnx')
    assert "'yolo' is not one of yolov8, yolov5" in refusal(beside(model, 'layout: yolo'))
    text = refusal(beside(model, 'layout: detr'))
    assert 'layout: detr does not fit the outputs output0 float32 1x6x84' in text
    assert 'm.yaml' in text


@pytest.mark.parametrize(
    'content',
    [b'- a\n- b\n', b'just text', b'5', b'a: [1', b'a: b: c', b'\xff\xfe\x00', b'? {a: b}\n: c\n',
     b'x: 2024-99-99', b'[' * 500, b'!!python/object:os.system {}', b'\tlayout: yolov8'],
)  # fmt: skip
def test_files_that_are_no_overrides(tmp_path, content):
    model = constant_detector(tmp_path / 'm.onnx')
    model.with_suffix('.yaml').write_bytes(content)
    with pytest.raises(PerceptionError) as caught:
        load_spec(model)
    assert 'm.yaml' in str(caught.value)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('text', ['', '# nothing\n', '---\n', '{}'])
def test_an_empty_yaml_says_nothing(tmp_path, text):
    model = constant_detector(tmp_path / 'm.onnx')
    expected = load_spec(model)
    assert load_spec(beside(model, text)) == expected


# ModelSpec


@pytest.mark.parametrize('layout', LAYOUTS)
def test_round_trip(tmp_path, layout):
    spec = load_spec(constant_detector(tmp_path / 'm.onnx', classes=CLASSES, layout=layout))
    assert ModelSpec.from_dict(spec.to_dict()) == spec
    assert ModelSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert ModelSpec.from_dict(yaml.safe_load(yaml.safe_dump(spec.to_dict()))) == spec
