# SPDX-License-Identifier: Apache-2.0
"""TensorRT's own names, whichever TensorRT there is: ``from ... import api as trt``.

It is looked for when the first name is used. Type checkers see the names of TensorRT 10.13; what
other releases lack or add is told apart in a `differences` module, and nowhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tensorrt import *  # noqa: F403
else:
    from trt_perception.runtime.tensorrt.library import library

    def __getattr__(name: str) -> Any:
        return getattr(library().module, name)
