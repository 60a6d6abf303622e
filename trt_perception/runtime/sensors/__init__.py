# SPDX-License-Identifier: Apache-2.0
"""The board's sensors: heat, clocks, over-current, power, fan; files of the kernel, and NVML."""
