# SPDX-License-Identifier: Apache-2.0
"""Small real ONNX networks for tests: detectors whose answer is known before they run.

`constant_detector` sees the same objects in every image, `color_detector` tells red, green and
blue images apart. Both are files like any other: the package reads, recognises and runs them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

#: All layouts that `raw_outputs` can write, each with the rows or cells of its own.
LAYOUTS = (
    'yolov8', 'yolov5', 'yolox', 'yolox_raw', 'end_to_end', 'efficient_nms',
    'detr', 'detr_softmax', 'detr_end_to_end', 'rtdetr_ultralytics',
)  # fmt: skip

#: Operators that tell two readings of the same shapes apart; the network has one, unused.
_TELLING = {'yolox': 'Exp', 'detr': 'TopK'}
_QUERIES = 300
_STRIDES = (8, 16, 32)


def constant_detector(
    path: Path,
    boxes: Sequence[Sequence[float]] = ((8, 8, 40, 24),),
    scores: Sequence[float] = (0.9,),
    class_ids: Sequence[int] = (0,),
    *,
    classes: Sequence[str] = ('car', 'person'),
    layout: str = 'yolov8',
    width: int = 64,
    height: int = 64,
    dtype: str = 'float32',
    dynamic: bool = False,
    metadata: Mapping[str, str] | None = None,
    work: int = 0,
) -> Path:
    """Write a detector that sees the same objects in every image.

    Args:
        path: the file to write.
        boxes: (N, 4) x1, y1, x2, y2 in network pixels.
        scores, class_ids: (N,).
        classes: names; written into the file as Ultralytics does, unless ``metadata`` is given.
        layout: one of `LAYOUTS`.
        width, height: of the input; multiples of 32 for the layouts with cells.
        dtype: of the input and of the floating-point outputs, ``float32`` or ``float16``.
        dynamic: leave batch, input and output sizes free in the file.
        metadata: the file's notes instead of the usual ones; {} for none.
        work: so many products of two 512x512 matrices before the answer, for a slow inference
            (several milliseconds each on one core).

    Returns:
        ``path``.
    """
    outputs = raw_outputs(layout, boxes, scores, class_ids, len(classes), width, height)
    return write_network(
        path,
        outputs,
        width=width,
        height=height,
        dtype=dtype,
        dynamic=dynamic,
        metadata=ultralytics_metadata(classes, width, height) if metadata is None else metadata,
        telling=_TELLING.get(layout, ''),
        sizes=layout == 'detr_end_to_end',
        work=work,
    )


def color_detector(path: Path, *, width: int = 64, height: int = 64) -> Path:
    """Write a detector of one box, the whole input, scored by its mean of red, green and blue.

    The classes are ``red``, ``green`` and ``blue``: a wrong order of colours is a wrong class.
    The layout is ``end_to_end``, (1, 3, 6), one row a class.
    """
    image = helper.make_node('ReduceMean', ['images'], ['mean'], axes=[2, 3], keepdims=0)
    score = helper.make_node('Reshape', ['mean', 'column'], ['score'])
    answer = helper.make_node('Concat', ['box', 'score', 'class'], ['output0'], axis=2)
    constants = {
        'column': np.array([1, 3, 1], np.int64),
        'box': np.array([[[0, 0, width, height]] * 3], np.float32),
        'class': np.array([[[0], [1], [2]]], np.float32),
    }
    inputs = [_value('images', 'float32', (1, 3, height, width))]
    outputs = [_value('output0', 'float32', (1, 3, 6))]
    metadata = ultralytics_metadata(('red', 'green', 'blue'), width, height)
    return _save(path, [image, score, answer], inputs, outputs, constants, metadata)


def ultralytics_metadata(
    classes: Sequence[str], width: int, height: int, task: str = 'detect'
) -> dict[str, str]:
    """The notes that Ultralytics writes into an ONNX file."""
    return {
        'task': task,
        'stride': '32',
        'batch': '1',
        'imgsz': repr([height, width]),
        'names': repr(dict(enumerate(classes))),
    }


def cells(width: int, height: int) -> list[tuple[int, int, int]]:
    """Column, row and stride of every cell, in the order of the YOLO heads."""
    return [
        (column, row, stride)
        for stride in _STRIDES
        for row in range(height // stride)
        for column in range(width // stride)
    ]


def raw_outputs(
    layout: str,
    boxes: Sequence[Sequence[float]],
    scores: Sequence[float],
    class_ids: Sequence[int],
    num_classes: int,
    width: int,
    height: int,
) -> dict[str, np.ndarray]:
    """What a network of this layout gives when it sees these objects, by output name.

    Object i takes row, query or cell i; the others see nothing.
    """
    xyxy = np.array(boxes, np.float64).reshape(-1, 4)
    score = np.array(scores, np.float64)
    label = np.array(class_ids, np.int64)
    n = np.arange(len(xyxy))
    cxcywh = np.hstack(((xyxy[:, :2] + xyxy[:, 2:]) / 2, xyxy[:, 2:] - xyxy[:, :2]))
    unit = cxcywh / [width, height, width, height]
    grid = cells(width, height)

    if layout == 'yolov8':
        raw = np.zeros((1, 4 + num_classes, len(grid)))
        raw[0, :4, n] = cxcywh
        raw[0, 4 + label, n] = score
        return {'output0': raw}
    if layout in ('yolov5', 'yolox', 'yolox_raw'):
        raw = np.zeros((1, len(grid) * (3 if layout == 'yolov5' else 1), 5 + num_classes))
        for i in n:
            raw[0, i, :4] = cxcywh[i]
            if layout == 'yolox_raw':
                column, row, stride = grid[i]
                raw[0, i, :2] = cxcywh[i, :2] / stride - (column, row)
                raw[0, i, 2:4] = np.log(cxcywh[i, 2:] / stride)
        raw[0, n, 4] = 1
        raw[0, n, 5 + label] = score
        return {'output0': raw}
    if layout == 'end_to_end':
        raw = np.zeros((1, _QUERIES, 6))
        raw[0, n] = np.hstack((xyxy, score[:, None], label[:, None]))
        return {'output0': raw}
    if layout == 'rtdetr_ultralytics':
        raw = np.zeros((1, _QUERIES, 4 + num_classes))
        raw[0, n, :4] = unit
        raw[0, n, 4 + label] = score
        return {'output0': raw}
    if layout in ('detr', 'detr_softmax'):
        nothing = layout == 'detr_softmax'
        logits = np.full((1, _QUERIES, num_classes + nothing), -20.0)
        located = np.zeros((1, _QUERIES, 4))
        located[0, n] = unit
        if nothing:
            logits[0, :, -1] = 0
            logits[0, n, -1] = np.log(1 - score)
            logits[0, n, label] = np.log(score)
        else:
            logits[0, n, label] = np.log(score / (1 - score))
        return {'pred_logits': logits, 'pred_boxes': located}

    rows = {'boxes': np.zeros((1, _QUERIES, 4)), 'scores': np.zeros((1, _QUERIES))}
    rows['boxes'][0, n] = xyxy
    rows['scores'][0, n] = score
    labels = np.zeros((1, _QUERIES), np.int64)
    labels[0, n] = label
    if layout == 'detr_end_to_end':
        return {'labels': labels, **rows}
    if layout == 'efficient_nms':
        count = np.array([[len(n)]], np.int32)
        classes = labels.astype(np.int32)
        return {
            'num_dets': count, 'det_boxes': rows['boxes'], 'det_scores': rows['scores'],
            'det_classes': classes,
        }  # fmt: skip
    raise ValueError(f"no layout '{layout}'")


def write_network(
    path: Path,
    outputs: Mapping[str, np.ndarray],
    *,
    width: int = 64,
    height: int = 64,
    dtype: str = 'float32',
    dynamic: bool = False,
    metadata: Mapping[str, str] | None = None,
    telling: str = '',
    sizes: bool = False,
    work: int = 0,
    inputs: Mapping[str, tuple[str, Sequence[int | str | None]]] | None = None,
) -> Path:
    """Write a network that ignores the image and gives these arrays.

    Args:
        outputs: by name; floats are written as ``dtype``, integers as they are.
        telling: an operator type to have in the graph.
        sizes: also take ``orig_target_sizes`` (1, 2) int64.
        inputs: dtype and shape by name, instead of the usual image input.

    The other arguments are those of `constant_detector`.
    """
    nodes, constants = [], {}
    declared = []
    for name, array in outputs.items():
        array = array.astype(dtype) if array.dtype.kind == 'f' else array
        constants[f'{name}_value'] = array
        nodes.append(helper.make_node('Identity', [f'{name}_value'], [name]))
        shape = [f'{name}_{k}' for k in range(array.ndim)] if dynamic else array.shape
        declared.append(_value(name, array.dtype.name, shape))
    if inputs is None:
        image = ('batch', 3, 'height', 'width') if dynamic else (1, 3, height, width)
        inputs = {'images': (dtype, image)}
    if sizes:
        inputs = {**inputs, 'orig_target_sizes': ('int64', (1, 2))}
    if telling:
        constants['told'] = np.zeros(4, dtype)
        constants['one'] = np.ones(1, np.int64)
        taken = {'TopK': ['told', 'one']}.get(telling, ['told'])
        given = {'TopK': ['best', 'where']}.get(telling, ['best'])
        nodes.append(helper.make_node(telling, taken, given))
    if work:
        slow = next(i for i, array in enumerate(outputs.values()) if array.dtype.kind == 'f')
        name = list(outputs)[slow]
        nodes[slow] = helper.make_node('Add', [f'{name}_value', 'nothing'], [name])
        nodes = [*_matrix_products(work, dtype, constants), *nodes]
    taken_in = [_value(name, kind, shape) for name, (kind, shape) in inputs.items()]
    return _save(path, nodes, taken_in, declared, constants, metadata or {})


def _matrix_products(
    count: int, dtype: str, constants: dict[str, np.ndarray]
) -> list[onnx.NodeProto]:
    """Nodes that make ``nothing``, a zero that takes ``count`` matrix products to find out."""
    constants['rounds'] = np.array(count, np.int64)
    constants['matrix'] = np.full((512, 512), 1 / 512, np.float32)
    constants['zero'] = np.zeros(1, np.float32)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    body = helper.make_graph(
        [
            helper.make_node('Identity', ['go_in'], ['go_out']),
            helper.make_node('MatMul', ['product_in', 'matrix'], ['product_out']),
        ],
        'round',
        [
            _value('round', 'int64', ()),
            _value('go_in', 'bool', ()),
            _value('product_in', 'float32', (512, 512)),
        ],
        [_value('go_out', 'bool', ()), _value('product_out', 'float32', (512, 512))],
    )
    return [
        # The image takes part, so that nothing can be worked out before there is one.
        helper.make_node('Cast', ['images'], ['floats'], to=TensorProto.FLOAT),
        helper.make_node('ReduceMean', ['floats'], ['level'], keepdims=0),
        helper.make_node('Add', ['matrix', 'level'], ['start']),
        helper.make_node('Loop', ['rounds', '', 'start'], ['product'], body=body),
        helper.make_node('ReduceMean', ['product'], ['level_out'], keepdims=0),
        helper.make_node('Mul', ['level_out', 'zero'], ['nothing_yet']),
        helper.make_node('Cast', ['nothing_yet'], ['nothing'], to=kind),
    ]


def _value(name: str, dtype: str, shape: Sequence[int | str | None]) -> onnx.ValueInfoProto:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor_value_info(name, kind, list(shape))


def _save(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: Mapping[str, np.ndarray],
    metadata: Mapping[str, str],
) -> Path:
    weights = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, 'detector', inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path
