# SPDX-License-Identifier: Apache-2.0
"""INT8 by explicit Q/DQ: where it goes, with which scales, and which layers keep their floats."""
