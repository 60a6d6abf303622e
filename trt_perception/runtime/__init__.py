# SPDX-License-Identifier: Apache-2.0
"""Floor 2: run a model on a frame."""
