# SPDX-License-Identifier: Apache-2.0
"""Write a trained network as ONNX, laid out and annotated as YOLOv8 exports are."""

from __future__ import annotations

import argparse
import io
import sys
import warnings
from pathlib import Path

from command import imports, run

with imports():
    import numpy as np
    import onnx
    import onnxruntime
    import torch
    from checkpoint import Trained, load
    from network import STRIDES, Deployed

    from trt_perception.core import PerceptionError
    from trt_perception.core.files import check_writable, write_atomically
    from trt_perception.runtime.onnx_file import read_signature

_OPSET = 17
#: ONNX Runtime may differ from PyTorch by so much, or by this share of a value over 1 (pixels).
TOLERANCE = 1e-4


def export(trained: Trained, path: Path) -> float:
    """Write the file, and compare what it computes with the network that it was made from.

    The input is ``images`` (1, 3, height, width), RGB in 0..1; the output ``output0``
    (1, 4 + classes, N): centre and size in pixels of the input, then a score for each class.

    Returns:
        The largest difference found: absolute, or relative for values over 1.

    Raises:
        PerceptionError: they disagree, and nothing was written; or the file cannot be written.
    """
    check_writable(path)
    network = Deployed(trained.detector).eval()
    model = _convert(network)
    onnx.helper.set_model_props(model, _notes(trained))
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString()
    difference = _difference(data, network)
    if not difference <= TOLERANCE:
        raise PerceptionError(
            f'the exported network differs from PyTorch by {difference:.1e}, more than'
            f' {TOLERANCE:.0e}; nothing was written'
        )
    write_atomically(path, data)
    return difference


def _convert(network: Deployed) -> onnx.ModelProto:
    data = io.BytesIO()
    with warnings.catch_warnings():
        # The newer exporter needs onnxscript and writes opset 18; this one folds the normalisation
        # into the convolutions and leaves nothing but standard operators.
        warnings.simplefilter('ignore', DeprecationWarning)
        torch.onnx.export(
            network,
            (torch.zeros(1, 3, network.detector.height, network.detector.width),),
            data,
            dynamo=False,
            opset_version=_OPSET,
            input_names=['images'],
            output_names=['output0'],
        )
    return onnx.load_from_string(data.getvalue())


def _notes(trained: Trained) -> dict[str, str]:
    """What Ultralytics writes into a file too, and `trt_perception` reads."""
    detector, names = trained
    return {
        'description': 'Detector of the trt_perception example custom_dataset',
        'license': 'Apache-2.0',
        'task': 'detect',
        'stride': str(STRIDES[-1]),
        'batch': '1',
        'imgsz': repr([detector.height, detector.width]),
        'names': repr(dict(enumerate(names))),
    }


def _difference(data: bytes, network: Deployed) -> float:
    random = torch.Generator().manual_seed(0)
    session = onnxruntime.InferenceSession(data, providers=['CPUExecutionProvider'])
    worst = 0.0
    for _ in range(3):
        shape = 1, 3, network.detector.height, network.detector.width
        images = torch.rand(shape, generator=random)
        with torch.inference_mode():
            wanted = network(images).numpy()
        (found,) = session.run(None, {'images': images.numpy()})
        error = np.abs(found - wanted) / np.maximum(1, np.abs(wanted))
        worst = float(np.maximum(worst, error.max()))  # unlike max, it lets no NaN pass
    return worst


def main() -> int:
    """Read the arguments and export; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('model', type=Path, help='model.pt that train.py wrote')
    parser.add_argument('onnx', type=Path, help='file to write')
    given = parser.parse_args()
    try:
        difference = export(load(given.model), given.onnx)
        signature = read_signature(given.onnx)
    except PerceptionError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    print(f'{signature.inputs[0]} -> {signature.outputs[0]}')
    print(f'{given.onnx.stat().st_size / 1e6:.2f} MB, {difference:.1e} from PyTorch at most')
    return 0


if __name__ == '__main__':
    run(main)
