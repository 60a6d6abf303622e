# SPDX-License-Identifier: Apache-2.0
"""Floor 4: the command line. It wires, it does not compute; a module is a sub-command."""
