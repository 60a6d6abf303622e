# SPDX-License-Identifier: Apache-2.0
"""Floor 3: how well it goes."""
