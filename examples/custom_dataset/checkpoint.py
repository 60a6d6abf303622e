# SPDX-License-Identifier: Apache-2.0
"""A trained network on disk, with what it takes to build it again."""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

import torch
from network import Detector

from trt_perception.core import PerceptionError
from trt_perception.core.errors import one_line
from trt_perception.core.files import write_atomically


class Trained(NamedTuple):
    """A network and the names of its classes."""

    detector: Detector
    names: tuple[str, ...]


def save(path: Path, trained: Trained) -> None:
    """Write a network to a file, whole or not at all."""
    detector, names = trained
    data = io.BytesIO()
    content = {
        'names': list(names),
        'size': [detector.width, detector.height],
        'weights': {name: value.cpu() for name, value in detector.state_dict().items()},
    }
    torch.save(content, data)
    write_atomically(path, data.getvalue())


def load(path: Path) -> Trained:
    """Read a network from a file, ready to detect.

    Raises:
        PerceptionError: there is none, or it is none that `save` wrote.
    """
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
        detector = Detector(len(content['names']), *content['size'])
        detector.load_state_dict(content['weights'])
    except OSError as error:
        raise PerceptionError(f"'{path}': {error.strerror}; give what train.py wrote") from None
    except Exception as error:  # whatever unpickling something else does
        raise PerceptionError(
            f"'{path}' is not what train.py of this version wrote: {one_line(error)}"
        ) from None
    return Trained(detector.eval(), tuple(content['names']))
