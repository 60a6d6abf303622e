# SPDX-License-Identifier: Apache-2.0
"""What stands about in the world: the classes to detect, and what is like them but is none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from synthetic.bank import Bank
from synthetic.objects.barrel import barrel
from synthetic.objects.board import board
from synthetic.objects.cone import cone
from synthetic.objects.forklift import forklift
from synthetic.objects.pallet import pallet
from synthetic.objects.person import person
from synthetic.objects.thing import Thing

#: The classes, in the order of their category ids.
CATEGORIES = ('pallet', 'barrel', 'traffic_cone', 'person', 'fiducial_board', 'forklift')

#: How one of each class is made.
MAKERS: dict[str, Callable[[np.random.Generator, Bank, int], Thing]] = {
    'pallet': pallet,
    'barrel': barrel,
    'traffic_cone': cone,
    'person': person,
    'fiducial_board': board,
    'forklift': forklift,
}
