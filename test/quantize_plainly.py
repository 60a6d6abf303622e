# SPDX-License-Identifier: Apache-2.0
"""The command ``trt-perception`` with `plain_quantizer` in the place of ours: a process of its own.

    python quantize_plainly.py FLOATS quantize MODEL ...

FLOATS is how many of the last convolutions stay in float; ``ruin`` gives a model that sees nothing.
"""

from __future__ import annotations

import functools
import sys
from types import ModuleType

import plain_quantizer

from trt_perception.cli.main import main


def stand_in(name: str, **members: object) -> None:
    module = ModuleType(name)
    vars(module).update(members)
    sys.modules[f'trt_perception.build.quantization.{name}'] = module


if __name__ == '__main__':
    ruin = sys.argv[1] == 'ruin'
    last = 0 if ruin else int(sys.argv[1])
    quantize = functools.partial(
        plain_quantizer.quantize, floats=lambda names: names[len(names) - last :], ruin=ruin
    )
    stand_in('quantize', quantize=quantize)
    stand_in('measurements', Measurements=lambda path, question: path)
    sys.exit(main(sys.argv[2:]))
