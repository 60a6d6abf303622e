# SPDX-License-Identifier: Apache-2.0
"""The root of every error that is meant to be read by a user."""

from __future__ import annotations


class PerceptionError(Exception):
    """A mistake from outside (message, file, parameter, model).

    Its text is one line that names the thing, its value and the cure, so that a node can log it
    and a command can print it without a traceback.
    """


class FrameError(PerceptionError):
    """An image that cannot be used; the text says why. ``kind`` is a short name to count it by."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def one_line(error: BaseException) -> str:
    """What a library's error says, or its type where it says nothing, on one line."""
    return ' '.join(str(error).split()) or type(error).__name__
