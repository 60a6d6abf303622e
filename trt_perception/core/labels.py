# SPDX-License-Identifier: Apache-2.0
"""Class names: COCO's, for the many models that are exported without their own; and spelling."""

from __future__ import annotations

import re

_COCO = (
    'person bicycle car motorcycle airplane bus train truck boat traffic_light fire_hydrant'
    ' stop_sign parking_meter bench bird cat dog horse sheep cow elephant bear zebra giraffe'
    ' backpack umbrella handbag tie suitcase frisbee skis snowboard sports_ball kite baseball_bat'
    ' baseball_glove skateboard surfboard tennis_racket bottle wine_glass cup fork knife spoon bowl'
    ' banana apple sandwich orange broccoli carrot hot_dog pizza donut cake chair couch'
    ' potted_plant bed dining_table toilet tv laptop mouse remote keyboard cell_phone microwave'
    ' oven toaster sink refrigerator book clock vase scissors teddy_bear hair_drier'
    ' toothbrush'
)
#: The 80 classes of COCO, in the order that every 80-class export uses.
COCO: tuple[str, ...] = tuple(name.replace('_', ' ') for name in _COCO.split())


def plain_name(name: str) -> str:
    """A class name with its spelling apart: 'Traffic_light' is 'traffic light'."""
    return re.sub(r'[\s_-]+', ' ', name).strip().casefold()
