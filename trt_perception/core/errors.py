# SPDX-License-Identifier: Apache-2.0
"""The root of every error that is meant to be read by a user."""


class PerceptionError(Exception):
    """A mistake from outside (message, file, parameter, model).

    Its text is one line that names the thing, its value and the cure, so that a node can log it
    and a command can print it without a traceback.
    """
