# SPDX-License-Identifier: Apache-2.0
"""Build engines and keep them: the same model, TensorRT, GPU and wishes give the same engine."""
