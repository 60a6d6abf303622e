# SPDX-License-Identifier: Apache-2.0
"""Floor 4: the command line. It wires, it does not compute; `main` names the sub-commands."""
