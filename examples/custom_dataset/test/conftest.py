# SPDX-License-Identifier: Apache-2.0
"""What the tests of the trainer share: its modules, and a few rendered pictures."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

EXAMPLE = Path(__file__).resolve().parents[1]
ROOT = EXAMPLE.parents[1]
sys.path.insert(0, str(EXAMPLE))
sys.path.append(str(ROOT / 'test'))

# The same sums on every machine; and threads that wait for each other, where others want the
# cores too, take twenty times as long as one.
torch.set_num_threads(1)


@pytest.fixture(scope='session')
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 pictures to train on and 4 others."""
    import generate

    folder = tmp_path_factory.mktemp('rendered')
    generate.main([
        str(folder), '--train', '16', '--calibration', '0', '--test', '4', '--sequences', '0',
        '--jobs', '1',
    ])  # fmt: skip
    return folder
