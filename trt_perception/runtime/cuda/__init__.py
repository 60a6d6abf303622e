# SPDX-License-Identifier: Apache-2.0
"""The GPU path: a frame goes in, only the boxes that were asked for come back.

`launch` says what is run, `preprocess` and `decode` say with which arguments, `compiler` makes the
kernels for the GPU that is there, `device` and `memory` own what CUDA hands out, and a `lane` is
all of it for one frame in flight. Nothing here is imported before a GPU is asked for.
"""
