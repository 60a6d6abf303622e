# SPDX-License-Identifier: Apache-2.0
"""From an ONNX model to an engine that keeps its accuracy: calibrate, quantize, gate, build."""
