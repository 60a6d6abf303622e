# SPDX-License-Identifier: Apache-2.0
"""The reference path, on the CPU: OpenCV and ONNX Runtime."""
