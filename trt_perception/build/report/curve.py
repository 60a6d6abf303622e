# SPDX-License-Identifier: Apache-2.0
"""What a share of the multiply-adds in INT8 costs, as a part of a report."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trt_perception.build.quantization.result import CurvePoint, Quantization
from trt_perception.build.report import charts, page


def section(quantization: Quantization) -> str:
    """The mixtures that were measured: their accuracy, where there were labels, and agreement."""
    agreed = _chart(quantization, quantization.curve, lambda p: p.agreement, 'agreement', None)
    title = 'What a share in INT8 costs'
    if quantization.float_map is None:
        return page.section(
            title,
            'Each ring is a mixture of precisions that was measured: how far its detections agree'
            ' with those of the floats, box by box, on the calibration frames (in %; stricter than'
            ' the gate), over the share of the multiply-adds in INT8. The filled one was taken; the'
            ' line joins the best ones.',
            page.box(agreed),
        )
    return page.section(
        title,
        'Each ring is a mixture of precisions that was measured, over the share of the'
        ' multiply-adds in INT8: its mAP50-95 in %, the dashed line being FP32, and how far its'
        ' detections agree with those of the floats, box by box, in % (stricter than the gate). The'
        ' filled one was taken, and the accuracies measured after that; the line joins the best'
        ' ones.',
        page.box(page.titled('mAP50-95 on labelled pictures', accuracy(quantization))),
        page.box(page.titled('agreement on the calibration frames', agreed)),
    )


def accuracy(quantization: Quantization) -> str:
    """mAP50-95 over the share in INT8, as SVG; of the mixtures of which it was measured."""
    measured = [p for p in quantization.curve if p.map is not None]
    level = quantization.float_map
    return _chart(quantization, measured, lambda p: p.map or 0.0, 'mAP50-95', level)


def _chart(
    quantization: Quantization,
    points: Sequence[CurvePoint],
    height: Callable[[CurvePoint], float],
    what: str,
    level: float | None,
) -> str:
    chosen = min(
        range(len(points)),
        key=lambda k: (abs(points[k].int8_share - quantization.int8_share), -k),
    )
    shown = []
    for p in points:
        told = f'{100 * p.int8_share:.1f} % in INT8: agreement {p.agreement:.4f}'
        if p.map is not None:
            told += f', mAP50-95 {p.map:.4f}'
        if p.score is not None:
            told += f', the gate found {p.score:.4f}'
        told += f'; {len(p.floats)} layers in float'
        shown.append(charts.Point(p.int8_share, height(p), told))
    return charts.curve(shown, chosen, f'share in INT8 and {what}', 'in INT8', level)
