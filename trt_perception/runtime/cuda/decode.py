# SPDX-License-Identifier: Apache-2.0
"""The decode kernels in numbers: what they need, how they are launched, how their result is read.

Four launches a frame: each row's scores (`score_columns` or `score_rows`) make a list of candidates
in the device's memory, `take_best` sorts the best of them, `overlaps` compares these and `suppress`
writes the result, the same as the decoders of `core` and `runtime.select` give.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trt_perception.core import Detections, Geometry, ModelSpec, Selection
from trt_perception.core.decoders import pyramid
from trt_perception.runtime.cuda.launch import Launch, pointer
from trt_perception.runtime.engine import EngineError

#: Candidates that are sorted and suppressed; of more, the best.
CAPACITY = 4096
#: Classes that a filter can name.
MOST_CLASSES = 4096

#: What the last kernel writes. ``passed`` candidates reached the threshold and the filters; the
#: first ``count`` rows hold detections, the others what they held before.
RESULT = np.dtype(
    [
        ('count', np.uint32),
        ('passed', np.uint32),
        ('stamps', np.uint64, 4),
        ('padding', np.uint64),
        ('boxes', np.float32, (CAPACITY, 4)),
        ('scores', np.float32, CAPACITY),
        ('class_ids', np.int32, CAPACITY),
    ]
)

_COLUMNS, _SHARES = 32, 8
_LANES, _TEAMS = 32, 4
_SORTING = 1024
_TILE, _PARTS = 64, 4
_TILE_BLOCKS = 128
_ANY = 2**31 - 1


class Output(NamedTuple):
    """One output of the network, of one image.

    Attributes:
        shape: (..., A, B).
        dtype: ``float32`` or ``float16``.
    """

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class _Layout:
    """Where the numbers of a layout are.

    Attributes:
        before: elements of a row before its class scores.
        columns: a row is a column, so that rows are neighbours in memory.
        objectness: the element before the class scores multiplies them.
        logits: class scores stand alone and before their sigmoid; boxes are the second output.
        cells: centres and sizes are relative to the cells of a pyramid.
        queries: boxes are in 0..1 of the input, and of all candidates only the best are looked at,
            as many as there are rows.
    """

    before: int
    columns: bool = False
    objectness: bool = False
    logits: bool = False
    cells: bool = False
    queries: bool = False


_LAYOUTS = {
    'yolov8': _Layout(4, columns=True),
    'yolov5': _Layout(5, objectness=True),
    'yolox': _Layout(5, objectness=True),
    'yolox_raw': _Layout(5, objectness=True, cells=True),
    'detr': _Layout(0, logits=True, queries=True),
    'rtdetr_ultralytics': _Layout(4, queries=True),
}


# The structures of kernels/candidates.h and kernels/decode.cu.


class _Classes(ctypes.Structure):
    _fields_ = (('words', ctypes.c_uint32 * (MOST_CLASSES // 32)),)


class _Boxes(ctypes.Structure):
    _fields_ = (
        ('data', ctypes.c_void_p),
        ('half', ctypes.c_int),
        ('row_step', ctypes.c_int),
        ('step', ctypes.c_int),
        ('cells', ctypes.c_int),
        ('strides', ctypes.c_int * 4),
        ('width', ctypes.c_int),
        ('height', ctypes.c_int),
        ('scale_x', ctypes.c_float),
        ('scale_y', ctypes.c_float),
    )


class _Placement(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_double) for name in (
            'scale_x', 'scale_y', 'left', 'top', 'offset_x', 'offset_y',
            'source_width', 'source_height',
        )),
        *((name, ctypes.c_float) for name in (
            'region_left', 'region_top', 'region_right', 'region_bottom',
        )),
    )  # fmt: skip


class _Scores(ctypes.Structure):
    _fields_ = (
        ('data', ctypes.c_void_p),
        *((name, ctypes.c_int) for name in (
            'half', 'rows', 'classes', 'row_step', 'step', 'objectness', 'logits', 'multi_label',
            'rows_a_block',
        )),
        ('threshold', ctypes.c_float),
        ('floor', ctypes.c_float),
    )  # fmt: skip


class _Filter(ctypes.Structure):
    _fields_ = (('place', _Placement), ('classes', _Classes), ('early', ctypes.c_int))


class _List(ctypes.Structure):
    _fields_ = (('count', ctypes.c_void_p), ('keys', ctypes.c_void_p))


def supported(layout: str, outputs: Sequence[Output] = ()) -> bool:
    """Whether the kernels decode a layout; the host must where not.

    Args:
        layout: of the network.
        outputs: in the order of ``spec.outputs``; without them only the layout is looked at.
    """
    if layout not in _LAYOUTS:
        return False
    if not outputs:
        return True
    rows, classes = _rows_and_classes(_LAYOUTS[layout], outputs)
    floats = all(o.dtype in ('float32', 'float16') for o in outputs)
    return floats and 0 < classes <= MOST_CLASSES and 0 < rows * classes < 2**31


class DecodePlan:
    """How one network's outputs are decoded on the device.

    Attributes:
        buffers: bytes of device memory by name, to be had once and zeroed once: every frame leaves
            them ready for the next. ``stamps`` are four unsigned 64-bit integers, of which the
            preprocessing writes the first two.
    """

    def __init__(self, spec: ModelSpec, outputs: Sequence[Output], *, multi_label: bool) -> None:
        """Plan.

        Args:
            spec: of a network whose layout is `supported`.
            outputs: in the order of ``spec.outputs``.
            multi_label: make room for `Selection.multi_label`; it takes rows times classes.

        Raises:
            EngineError: the outputs cannot be decoded on the device.
        """
        if not supported(spec.layout, outputs):
            sizes = ', '.join(f'{o.dtype} {"x".join(map(str, o.shape))}' for o in outputs)
            raise EngineError(
                f"outputs {sizes} of layout '{spec.layout}' cannot be decoded on the GPU;"
                ' decode them on the host'
            )
        self._spec = spec
        self._outputs = tuple(outputs)
        self._layout = _LAYOUTS[spec.layout]
        self._rows, self._classes = _rows_and_classes(self._layout, outputs)
        self._multi_label = multi_label
        self._strides: tuple[int, ...] = ()
        if self._layout.cells:
            strides = pyramid(self._rows, spec.width, spec.height)
            if strides is None:
                raise EngineError(
                    f'{self._rows} cells fit no pyramid of a {spec.width}x{spec.height} input;'
                    " correct 'layout' or 'input_size' in the YAML beside the model"
                )
            self._strides = strides
        passing = self._rows * (self._classes if multi_label else 1)
        self.buffers = {
            'counts': 2 * 4,
            'stamps': 4 * 8,
            'keys': passing * 8,
            'boxes': CAPACITY * 16,
            'scores': CAPACITY * 4,
            'class_ids': CAPACITY * 4,
            **({'overlaps': CAPACITY * CAPACITY // 8} if spec.nms else {}),
        }

    def launches(
        self,
        selection: Selection,
        geometry: Geometry,
        addresses: Mapping[str, int],
        outputs: Sequence[int],
        result: int,
    ) -> list[Launch]:
        """The kernels of one frame, to run one after the other.

        Args:
            selection: ``multi_label`` only if the plan made room for it.
            geometry: of the frame in the network's input.
            addresses: of the `buffers`, each a multiple of 16.
            outputs: addresses of the outputs of this image.
            result: address of a `RESULT`, a multiple of 16.
        """
        if selection.multi_label and not self._multi_label:
            raise EngineError('the buffers have no room for multi_label; plan with multi_label')
        scores = self._scores(selection, outputs[0])
        boxes = self._boxes(outputs)
        filtering = _filter(selection, geometry, early=not self._layout.queries)
        keys = _List(addresses['counts'], addresses['keys'])
        counts, stamps = pointer(addresses['counts']), pointer(addresses['stamps'])
        taken_count = pointer(addresses['counts'] + 4)
        taken = [pointer(addresses[name]) for name in ('boxes', 'scores', 'class_ids')]
        most = self._rows if self._layout.queries else _ANY
        words = pointer(addresses['overlaps'] if self._spec.nms else 0)
        if self._layout.columns:
            grid, block = -(-self._rows // _COLUMNS), (_COLUMNS, _SHARES, 1)
        else:
            grid, block = -(-self._rows // scores.rows_a_block), (_LANES * _TEAMS, 1, 1)
        score = 'score_columns' if self._layout.columns else 'score_rows'
        compare = Launch(
            'overlaps', (_TILE_BLOCKS, 1, 1), (_TILE * _PARTS, 1, 1),
            (ctypes.c_float(selection.iou_threshold), taken_count, taken[0], taken[2], words),
        )  # fmt: skip
        return [
            Launch(score, (grid, 1, 1), block, (scores, boxes, filtering, keys, stamps)),
            Launch(
                'take_best', (1, 1, 1), (_SORTING, 1, 1),
                (boxes, filtering, keys, ctypes.c_int(self._classes), ctypes.c_int(most),
                 taken_count, *taken),
            ),
            *([compare] if self._spec.nms else []),
            Launch(
                'suppress', (1, 1, 1), (_TILE * _PARTS, 1, 1),
                (filtering.place, ctypes.c_int(min(selection.max_detections, CAPACITY)),
                 ctypes.c_uint32(most), *taken, words, counts, stamps, pointer(result)),
            ),
        ]  # fmt: skip

    def _scores(self, selection: Selection, output: int) -> _Scores:
        layout, half = self._layout, self._outputs[0].dtype == 'float16'
        steps = (1, self._rows) if layout.columns else (layout.before + self._classes, 1)
        return _Scores(
            data=output + layout.before * steps[1] * (2 if half else 4),
            half=half,
            rows=self._rows,
            classes=self._classes,
            row_step=steps[0],
            step=steps[1],
            objectness=layout.objectness,
            logits=layout.logits,
            multi_label=selection.multi_label,
            # Few rows of a grid have an object, and a thread finds out; every query is looked at.
            rows_a_block=_LANES * _TEAMS if layout.objectness else _TEAMS,
            threshold=selection.score_threshold,
            floor=_lowest_logit(selection.score_threshold),
        )

    def _boxes(self, outputs: Sequence[int]) -> _Boxes:
        layout, spec = self._layout, self._spec
        if layout.logits:
            row_step, step = 4, 1
        elif layout.columns:
            row_step, step = 1, self._rows
        else:
            row_step, step = layout.before + self._classes, 1
        return _Boxes(
            data=outputs[-1],
            half=self._outputs[-1].dtype == 'float16',
            row_step=row_step,
            step=step,
            cells=layout.cells,
            strides=(ctypes.c_int * 4)(*self._strides),
            width=spec.width,
            height=spec.height,
            scale_x=spec.width if layout.queries else 1,
            scale_y=spec.height if layout.queries else 1,
        )


def read_result(record: NDArray[Any]) -> tuple[Detections, int, NDArray[np.uint64]]:
    """What a frame gave, copied out of a `RESULT`.

    Args:
        record: an array of one `RESULT`, of shape ().

    Returns:
        The detections; how many candidates were one too many for the `CAPACITY` and were left out,
        the worst; the four stamps in nanoseconds of the GPU's clock.
    """
    count = int(record['count'])
    found = Detections(
        record['boxes'][:count].copy(),
        record['scores'][:count].copy(),
        record['class_ids'][:count].copy(),
    )
    return found, max(int(record['passed']) - CAPACITY, 0), record['stamps'].copy()


def stamp_launch(stamps: int, index: int) -> Launch:
    """What writes the time into one of four stamps, for outputs that no kernel decodes."""
    return Launch('stamp', (1, 1, 1), (1, 1, 1), (pointer(stamps + 8 * index),))


def _rows_and_classes(layout: _Layout, outputs: Sequence[Output]) -> tuple[int, int]:
    rows, elements = outputs[0].shape[-2:]
    if layout.columns:
        rows, elements = elements, rows
    return rows, elements - layout.before


def _filter(selection: Selection, geometry: Geometry, *, early: bool) -> _Filter:
    region = geometry.region
    wanted = np.ones(MOST_CLASSES, bool)
    if selection.class_ids is not None:
        wanted[:] = False
        wanted[[c for c in selection.class_ids if 0 <= c < MOST_CLASSES]] = True
    bits = np.packbits(wanted, bitorder='little').tobytes()
    return _Filter(
        _Placement(
            region.width / geometry.width, region.height / geometry.height,
            geometry.left, geometry.top, region.x, region.y,
            geometry.source_width, geometry.source_height,
            region.x, region.y, region.x + region.width, region.y + region.height,
        ),
        _Classes.from_buffer_copy(bits),
        early,
    )  # fmt: skip


def _lowest_logit(score: float) -> float:
    # A little below, for what rounding may add.
    score -= 1e-6
    return -math.inf if score <= 0 else math.inf if score >= 1 else math.log(score / (1 - score))
