# SPDX-License-Identifier: Apache-2.0
"""What all commands here do alike: what goes wrong costs one line, and Ctrl-C none."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn


@contextlib.contextmanager
def imports() -> Iterator[None]:
    """Around a command's imports: say where what is missing comes from."""
    try:
        yield
    except ModuleNotFoundError as error:
        _fail(f"{error}; 'make training' and 'source .venv/setup.bash' bring what is needed")
    except KeyboardInterrupt:
        sys.exit(130)


def run(main: Callable[[], int]) -> NoReturn:
    """Run a command to its end, with exit code 2 for what the system refuses, 130 for Ctrl-C."""
    try:
        sys.exit(main())
    except OSError as error:
        path = error.filename2 or error.filename  # the second is what was to be made
        name = f"'{path}': " if path else ''
        _fail(f'{name}{error.strerror}; give another file or folder')
    except KeyboardInterrupt:
        sys.exit(130)


def whole(low: int) -> Callable[[str], int]:
    """A type of whole numbers from ``low`` to a billion."""

    def parse(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= 10**9:
            raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of {low} to 10^9")
        return int(text)

    return parse


def _fail(text: str) -> NoReturn:
    print(f'error: {text}', file=sys.stderr)
    sys.exit(2)
