# SPDX-License-Identifier: Apache-2.0
"""TensorRT 10.3 to 11 and TensorRT-RTX behind one set of names.

`library` finds it, `api` holds its names, `plan` and `manifest` what lies on disk. Nothing here is
imported before it is asked for, and nothing of TensorRT before the first name of `api` is used.
"""
