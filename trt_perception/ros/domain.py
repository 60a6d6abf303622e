# SPDX-License-Identifier: Apache-2.0
"""A ROS domain that is nobody else's on this machine."""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from trt_perception.core import PerceptionError

#: Above it the operating system gives a domain's ports to others, too.
_LAST = 101
# Two that begin at once begin elsewhere, and a domain is not used again right away.
_candidates = itertools.count(os.getpid())


@contextmanager
def free_domain() -> Iterator[int]:
    """Find a domain that nobody on this machine is in, and keep it until the end of the block.

    All in a domain share the port on which DDS looks for others: who can have it alone is the only
    one there.

    Raises:
        PerceptionError: all are taken.
    """
    for number in itertools.islice(_candidates, _LAST):
        domain = number % _LAST + 1
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as port:
            try:
                port.bind(('', 7400 + 250 * domain))
            except OSError:
                continue
            # Only now: DDS may share it from here on, but the next who looks cannot have it alone.
            port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            yield domain
            return
    raise PerceptionError(f'ROS domains 1 to {_LAST} are all in use on this machine')
