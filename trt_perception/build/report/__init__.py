# SPDX-License-Identifier: Apache-2.0
"""What was measured, as one page that opens anywhere and as JSON."""
