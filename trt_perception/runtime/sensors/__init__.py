# SPDX-License-Identifier: Apache-2.0
"""The board's sensors: heat, clocks, over-current, power, fan; files of the kernel, and NVML."""

from trt_perception.runtime.sensors.clocks import Clock
from trt_perception.runtime.sensors.fan import Fan
from trt_perception.runtime.sensors.sensors import Sample, Sensors

__all__ = ['Clock', 'Fan', 'Sample', 'Sensors']
