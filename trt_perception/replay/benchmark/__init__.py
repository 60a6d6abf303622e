# SPDX-License-Identifier: Apache-2.0
"""How fast a detector is on this machine."""
