# SPDX-License-Identifier: Apache-2.0
"""A model that takes one image made into one that takes any number."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import numpy_helper


def free_batch(model: Path, path: Path) -> Path:
    """Written to ``path``; every reshape to one image keeps the batch instead."""
    proto = onnx.load(str(model))
    graph = proto.graph
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = 'batch'
    del graph.value_info[:]
    constants = {i.name: i for i in graph.initializer}
    constants |= {n.output[0]: n.attribute[0].t for n in graph.node if n.op_type == 'Constant'}
    for node in graph.node:
        if node.op_type == 'Reshape':
            shape = numpy_helper.to_array(constants[node.input[1]]).copy()
            if shape[0] == 1:
                shape[0] = 0  # as the input has it
                constant = constants[node.input[1]]
                constant.CopyFrom(numpy_helper.from_array(shape, constant.name))
    onnx.save(proto, str(path))
    return path
