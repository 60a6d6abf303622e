#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The shipped model, from nothing: render, train, export, measure. Takes an output folder; needs a
# GPU, and trt_perception and tools/desk/requirements-training.txt in the Python that `python3` is.
set -eu
here=$(dirname "$0")
out=${1:?give an output folder}
export PYTHONUNBUFFERED=1

python3 "$here/generate.py" "$out/data" --train 7680 --sequences 0
python3 "$here/train.py" --train "$out/data/train" --validation "$out/data/calibration" \
    --output "$out/training" --epochs 98 --seed 0
python3 "$here/export.py" "$out/training/model.pt" "$out/warehouse.onnx"
python3 "$here/card.py" "$out/warehouse.onnx" "$out/data/test" | tee "$out/card.md"
python3 "$here/card.py" "$out/warehouse.onnx" "$out/data/test" --limit 100 | tee -a "$out/card.md"
python3 -m trt_perception.cli.main quantize "$out/warehouse.onnx" \
    --calibration "$out/data/calibration/images" \
    --eval "$out/data/test/instances.json" --images "$out/data/test/images"
python3 "$here/card.py" "$out/warehouse_int8.onnx" "$out/data/test" | tee -a "$out/card.md"
python3 "$here/card.py" "$out/warehouse_int8.onnx" "$out/data/test" --limit 100 | tee -a "$out/card.md"
