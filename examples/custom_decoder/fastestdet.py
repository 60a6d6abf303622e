# SPDX-License-Identifier: Apache-2.0
"""FastestDet: one output (1, 5 + classes, rows, columns), one box a cell."""

import numpy as np

from trt_perception.core import Candidates
from trt_perception.core.decoders import corners, pick


class FastestDet:
    """Score: objectness and class, unequally weighed. Centre by tanh, size by sigmoid."""

    layout = 'fastestdet'

    def recognise(self, signature, width, height):
        shapes = [output.shape for output in signature.outputs]
        if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][2:] != (height // 16, width // 16):
            return None
        return {'num_classes': shapes[0][1] - 5, 'color': 'bgr', 'resize': 'stretch'}

    def decode(self, outputs, spec, selection):
        channels, rows, columns = outputs[0][0].shape
        cells = outputs[0][0].reshape(channels, -1).T
        scores = cells[:, :1] ** 0.6 * cells[:, 5:] ** 0.4
        keep, class_ids = pick(scores, selection)
        x, y, w, h = cells[keep, 1:5].T
        center_x = (keep % columns + np.tanh(x)) / columns * spec.width
        center_y = (keep // columns + np.tanh(y)) / rows * spec.height
        width, height = spec.width / (1 + np.exp(-w)), spec.height / (1 + np.exp(-h))
        boxes = corners(np.stack((center_x, center_y, width, height), axis=1))
        return Candidates(boxes, scores[keep, class_ids], class_ids)
