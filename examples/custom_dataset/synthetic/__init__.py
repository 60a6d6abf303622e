# SPDX-License-Identifier: Apache-2.0
"""A robot's world, drawn and labelled: meshes, textures, a z-buffer and a camera with faults."""
