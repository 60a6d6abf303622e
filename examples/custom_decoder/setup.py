# SPDX-License-Identifier: Apache-2.0
"""All of it stands in setup.cfg."""

from setuptools import setup

setup()
